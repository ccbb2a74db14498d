"""Recovery: the institutions open an epoch when the replicas can not, because too many of them are gone.

A statement names the last block and the next set. It counts when a majority of those institutions has
signed it that have a voice in the state of that block, which the file proves itself; so it verifies
offline, with nothing but the genesis digest. It stands in the chain of epochs for good, and every proof
that leads through it says so: nobody can take it for a change that the replicas themselves certified.

What it cannot do: bring back blocks that the lost replicas had certified and nobody else has.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from consensus.replica_set import ReplicaSet
from contracts.electorate import KEY, ElectorateRow, electorate
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.signatures import InvalidSignature, SigningKey, verify_signature
from ledger.block import Header, compute_header_digest
from ledger.bucket_proofs import BucketEntry, BucketSiblings, verify_bucket
from ledger.errors import ProofRefused
from ledger.state_tree import BucketProof

INSTITUTIONS_MAX: Final = 1_000
ELECTORATE_STATE_KEY: Final = electorate.compute_state_key(KEY)


class InstitutionSignature(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    institution: Annotated[bytes, Meta(min_length=16, max_length=16)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    """Tag RECOVERY, over `compute_statement_bytes`, by the institution's open key."""


class Recovery(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Who opened the epoch in the replicas' place, and the proof that they may."""

    signatures: Annotated[tuple[InstitutionSignature, ...], Meta(max_length=INSTITUTIONS_MAX)]
    """In ascending order of the institutions."""
    electorate: bytes
    """The row as the state of the last block has it."""
    count: int
    entries: Annotated[tuple[BucketEntry, ...], Meta(max_length=2)]
    siblings: Annotated[tuple[BucketSiblings, ...], Meta(max_length=6)]

    @property
    def signers(self) -> tuple[bytes, ...]:
        return tuple(item.institution for item in self.signatures)


def compute_statement_bytes(header_bytes: bytes, header: Header, following: ReplicaSet) -> bytes:
    """What an institution signs: chain, height and digest of the last block, and the next set."""
    return encode((header.chain_id, header.height, compute_header_digest(header_bytes), following))


def sign_recovery(
    recovery: Recovery, header_bytes: bytes, header: Header, following: ReplicaSet, key: SigningKey
) -> Recovery:
    """The recovery with one more signature. Raises ProofRefused for a key that has no voice."""
    row = decode_electorate(recovery)
    owners = [institution for institution, public_key in row.active if public_key == key.public_key]
    if not owners:
        raise ProofRefused("recovery", f"key {key.public_key.hex()} is no active institution's open key")
    message = compute_statement_bytes(header_bytes, header, following)
    added = {item.institution: item for item in recovery.signatures}
    added[owners[0]] = InstitutionSignature(owners[0], key.sign(tags.RECOVERY, message))
    return Recovery(
        signatures=tuple(added[institution] for institution in sorted(added)),
        electorate=recovery.electorate,
        count=recovery.count,
        entries=recovery.entries,
        siblings=recovery.siblings,
    )


def verify_recovery(
    recovery: Recovery, header_bytes: bytes, header: Header, following: ReplicaSet, *, buckets_log2: int
) -> None:
    """Return when a majority of those who had a voice after this certified block signed the statement.

    Raises ProofRefused.
    """
    bucket = BucketProof(count=recovery.count, entries=recovery.entries, siblings=recovery.siblings)
    verify_bucket(
        bucket,
        state_key=ELECTORATE_STATE_KEY,
        row=recovery.electorate,
        root=header.state_root,
        buckets_log2=buckets_log2,
    )
    row, signers = decode_electorate(recovery), recovery.signers
    if list(signers) != sorted(set(signers)):
        raise ProofRefused("recovery", "an institution is named twice or out of order")
    keys, message = dict(row.active), compute_statement_bytes(header_bytes, header, following)
    for item in recovery.signatures:
        public_key = keys.get(item.institution)
        if public_key is None:
            raise ProofRefused("recovery", f"institution {item.institution.hex()} has no voice")
        try:
            verify_signature(public_key, tags.RECOVERY, message, item.signature)
        except InvalidSignature as error:
            raise ProofRefused("recovery", f"institution {item.institution.hex()}: {error}") from error
    if not row.is_majority(signers):
        raise ProofRefused(
            "recovery", f"{len(signers)} of {len(row.active)} institutions signed: no majority of them"
        )


def decode_electorate(recovery: Recovery) -> ElectorateRow:
    """Raises ProofRefused; whether the row is the state's is checked by `verify_recovery`."""
    try:
        return decode_as(ElectorateRow, recovery.electorate, size_max=65_536)
    except EncodingError as error:
        raise ProofRefused("recovery", str(error)) from error
