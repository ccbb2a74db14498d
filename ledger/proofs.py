"""Proofs that anybody can check with nothing but the genesis digest: no node, no network.

A proof carries the genesis itself, so the digest leads to the first replica set, the changes of the set since
then to the set of the block's epoch, that set to the certificate, the certificate to a header, and the
header's roots to what is proved:

- a `ReceiptProof`: how one transaction ended, by the history root of its own block;
- a `StateProof`: the row under one state key at one height, or that there is none, by the state root.

A file is a magic line that names kind and version, then the canonical encoding. Verification raises
ProofRefused at the first step that fails, or returns what has been proved; it never returns a bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta, Struct

from consensus.certificates import Certificate
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import DIGEST_BYTES
from crypto.merkle import (
    PATH_LENGTH_MAX,
    ProofError,
    verify_inclusion,
)
from crypto.signatures import InvalidSignature
from ledger.block import HEADER_BYTES_MAX, Header, compute_header_digest
from ledger.bucket_proofs import BucketEntry, BucketSiblings, verify_bucket
from ledger.epochs import EpochChange, follow_epochs, list_recovery_heights, verify_certified_header
from ledger.errors import ProofRefused
from ledger.genesis import GENESIS_BYTES_MAX, Genesis, decode_genesis
from ledger.receipt import Receipt, compute_history_leaf_hash, decode_receipt
from ledger.state_tree import (
    BucketProof,
)
from ledger.transaction import (
    SignedTransaction,
    TransactionRefused,
    decode_transaction,
    verify_transaction_signature,
)

PROOF_BYTES_MAX: Final = 16_777_216
EPOCH_CHANGES_MAX: Final = 65_536
RECEIPT_MAGIC: Final = b"chartchain:receipt-proof:1\n"
STATE_MAGIC: Final = b"chartchain:state-proof:1\n"

_Hash = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
_Path = Annotated[tuple[_Hash, ...], Meta(max_length=PATH_LENGTH_MAX)]
_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_GenesisBytes = Annotated[bytes, Meta(max_length=GENESIS_BYTES_MAX)]
_HeaderBytes = Annotated[bytes, Meta(max_length=HEADER_BYTES_MAX)]
_EpochChanges = Annotated[tuple[EpochChange, ...], Meta(max_length=EPOCH_CHANGES_MAX)]


class ReceiptProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """How one transaction ended."""

    genesis: _GenesisBytes
    header: _HeaderBytes
    """Of the block that holds the transaction."""
    certificate: Certificate
    transaction: bytes
    """The signed bytes."""
    receipt: bytes
    """Canonical encoding."""
    leaf: _Counter
    """Number of the receipt in the history of the ledger, from 0."""
    path: _Path
    """RFC 6962 audit path to the block's history root."""
    epoch_changes: _EpochChanges = ()
    """Every change of the replica set since the genesis, up to the block's epoch."""

    def encode(self) -> bytes:
        """The bytes of a proof file."""
        return RECEIPT_MAGIC + encode(self)


class StateProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """The row under one state key after one block, or that there was none."""

    genesis: _GenesisBytes
    header: _HeaderBytes
    certificate: Certificate
    state_key: bytes
    row: bytes | None
    """None for a proof of absence."""
    count: _Counter
    """Entries in the key's bucket."""
    entries: Annotated[tuple[BucketEntry, ...], Meta(max_length=2)]
    """Index, entry and path within the bucket: the key's own, or its neighbours if it is absent."""
    siblings: Annotated[tuple[BucketSiblings, ...], Meta(max_length=6)]
    """The bucket's path to the state root: 15 hashes for each level."""
    epoch_changes: _EpochChanges = ()

    def encode(self) -> bytes:
        """The bytes of a proof file."""
        return STATE_MAGIC + encode(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedBlock:
    """What a genesis digest and a certificate establish about one block."""

    genesis: Genesis
    header: Header
    digest: bytes
    signers: tuple[int, ...]
    """Ids of the replicas whose votes the certificate holds."""
    recoveries: tuple[int, ...] = ()
    """Heights above which the institutions, not the replicas, decided who goes on; almost always none."""

    def describe(self) -> tuple[str, ...]:
        """The lines about the block that both kinds of proof have."""
        header = self.header
        return (
            f"block        height {header.height}, time {header.time_ms} ms",
            f"certified by replicas {', '.join(map(str, self.signers))} of epoch {header.epoch}",
            *(
                f"RECOVERED    above height {height} the replicas were replaced by vote of the institutions"
                for height in self.recoveries
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedReceipt:
    """A transaction and how it ended; `block.header` gives height and time."""

    block: CertifiedBlock
    transaction: SignedTransaction
    receipt: Receipt

    def describe(self) -> str:
        """Some lines for people."""
        calls = self.transaction.body.calls
        return "\n".join(
            (
                f"network      {self.block.genesis.network}",
                f"transaction  {self.transaction.transaction_id.hex()}",
                f"sender       {_name_sender(self.block.genesis, self.transaction.body.sender)}",
                f"calls        {', '.join(f'{call.contract}.{call.method}' for call in calls)}",
                f"result       {self.receipt.code}",
                *self.block.describe(),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedState:
    """The row that a state key had after a block, or None for proved absence."""

    block: CertifiedBlock
    state_key: bytes
    row: bytes | None

    def describe(self) -> str:
        """Some lines for people."""
        return "\n".join(
            (
                f"network      {self.block.genesis.network}",
                f"state key    {self.state_key.hex()}",
                f"row          {'absent' if self.row is None else f'{len(self.row)} bytes'}",
                f"state root   {self.block.header.state_root.hex()}",
                *self.block.describe(),
            )
        )


def decode_proof(data: bytes) -> ReceiptProof | StateProof:
    """The proof in a file's bytes. Raises ProofRefused when they are none of ours or not canonical."""
    try:
        if data.startswith(RECEIPT_MAGIC):
            return decode_as(ReceiptProof, data[len(RECEIPT_MAGIC) :], size_max=PROOF_BYTES_MAX)
        if data.startswith(STATE_MAGIC):
            return decode_as(StateProof, data[len(STATE_MAGIC) :], size_max=PROOF_BYTES_MAX)
    except EncodingError as error:
        raise ProofRefused("file", str(error)) from error
    # Nothing of the file is repeated: it may be anything, a patient's record among others.
    raise ProofRefused("file", "another kind of file found, a proof file of this version expected")


def verify_proof(proof: ReceiptProof | StateProof, genesis_digest: bytes) -> ProvedReceipt | ProvedState:
    """What a proof of either kind proves. Raises ProofRefused."""
    if isinstance(proof, ReceiptProof):
        return verify_receipt_proof(proof, genesis_digest)
    return verify_state_proof(proof, genesis_digest)


def verify_receipt_proof(proof: ReceiptProof, genesis_digest: bytes) -> ProvedReceipt:
    """The transaction and receipt proved on the ledger of `genesis_digest`. Raises ProofRefused."""
    block = verify_certified_block(proof, genesis_digest)
    try:
        transaction = decode_transaction(proof.transaction)
        verify_transaction_signature(transaction)
    except (TransactionRefused, InvalidSignature) as error:
        raise ProofRefused("transaction", str(error)) from error
    if transaction.body.chain_id != genesis_digest:
        raise ProofRefused("transaction", f"signed for chain {transaction.body.chain_id.hex()}")
    try:
        receipt = decode_receipt(proof.receipt)
    except EncodingError as error:
        raise ProofRefused("receipt", str(error)) from error
    if receipt.transaction_id != transaction.transaction_id:
        raise ProofRefused("receipt", f"of transaction {receipt.transaction_id.hex()}, not of the one shown")
    if receipt.height != block.header.height:
        raise ProofRefused("receipt", f"of height {receipt.height}, header of height {block.header.height}")
    leaf_hash = compute_history_leaf_hash(receipt.transaction_id, proof.receipt)
    try:
        verify_inclusion(
            leaf_hash=leaf_hash,
            index=proof.leaf,
            size=block.header.history_size,
            path=proof.path,
            root=block.header.history_root,
        )
    except ProofError as error:
        raise ProofRefused("history", str(error)) from error
    return ProvedReceipt(block=block, transaction=transaction, receipt=receipt)


def verify_state_proof(proof: StateProof, genesis_digest: bytes) -> ProvedState:
    """The row, or the absence, proved on the ledger of `genesis_digest`. Raises ProofRefused."""
    block = verify_certified_block(proof, genesis_digest)
    bucket = BucketProof(count=proof.count, entries=proof.entries, siblings=proof.siblings)
    verify_bucket(
        bucket,
        state_key=proof.state_key,
        row=proof.row,
        root=block.header.state_root,
        buckets_log2=block.genesis.parameters.state_buckets_log2,
    )
    return ProvedState(block=block, state_key=proof.state_key, row=proof.row)


def verify_certified_block(proof: ReceiptProof | StateProof, genesis_digest: bytes) -> CertifiedBlock:
    """The block that a quorum of its own epoch's replicas certified. Raises ProofRefused."""
    try:
        genesis = decode_genesis(proof.genesis)
    except EncodingError as error:
        raise ProofRefused("genesis", str(error)) from error
    chain_id = genesis.compute_chain_id()
    if chain_id != genesis_digest:
        raise ProofRefused("genesis", f"digest {chain_id.hex()} found, {genesis_digest.hex()} expected")
    replica_set = follow_epochs(genesis, proof.epoch_changes)
    certificate = proof.certificate
    header = verify_certified_header(proof.header, certificate, replica_set, chain_id, where="certificate")
    signers = tuple(sorted(vote.replica for vote in certificate.signatures))
    digest = compute_header_digest(proof.header)
    return CertifiedBlock(
        genesis=genesis,
        header=header,
        digest=digest,
        signers=signers,
        recoveries=list_recovery_heights(proof.epoch_changes),
    )


def _name_sender(genesis: Genesis, public_key: bytes) -> str:
    names = [item.name for item in genesis.institutions if item.public_key == public_key]
    return names[0] if names else f"key {public_key.hex()}"
