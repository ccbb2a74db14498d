"""Catching up: committed blocks for a node that missed them, and what that node checks.

The certificate stands for everything that a quorum checked before it voted, the clients' signatures
included; so these are not verified again. The block is executed all the same: a node whose results differ
from certified ones must stop (rule E2).

The first block of an epoch that the institutions opened comes with their statement, and opens that epoch at a
node that lags behind: what the operators of the others were given as a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from consensus.certificates import Certificate, InvalidCertificate
from crypto.encoding import EncodingError, decode_as, encode
from ledger.block import HEADER_BYTES_MAX, Header, compute_header_digest, decode_header
from ledger.block_rules import verify_before_execution
from ledger.epochs import EpochChange
from ledger.errors import BlockRefused, EpochUnknown, ProofRefused, ResultsDiffer
from ledger.transaction import TRANSACTION_BYTES_MAX, TransactionRefused, decode_transaction

if TYPE_CHECKING:
    from ledger.archive import Archive
    from ledger.chain import Chain
    from ledger.speculation import PendingCommit

SYNC_BLOCK_BYTES_MAX: Final = 8_388_608
"""Above the largest block that any genesis allows, with its certificate."""

BLOCKS_PER_ANSWER_MAX: Final = 256

RECOVERIES_MAX: Final = 64
"""Above one block; with more, whoever lags behind them needs their files or a snapshot."""


class SyncBlock(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A committed block as one node gives it to another."""

    header: Annotated[bytes, Meta(max_length=HEADER_BYTES_MAX)]
    certificate: Certificate
    transactions: tuple[Annotated[bytes, Meta(max_length=TRANSACTION_BYTES_MAX)], ...]
    """Signed bytes in block order."""
    recoveries: Annotated[tuple[EpochChange, ...], Meta(max_length=RECOVERIES_MAX)] = ()
    """With the first block of an epoch that the institutions opened, how they did; before it, how they opened
    those that have no block."""


def encode_sync_block(block: SyncBlock) -> bytes:
    return encode(block)


def decode_sync_block(data: bytes) -> SyncBlock:
    """Raises EncodingError; what the block says is not checked yet."""
    return decode_as(SyncBlock, data, size_max=SYNC_BLOCK_BYTES_MAX)


def serve_blocks(chain: Chain, height_from: int, *, count_max: int, bytes_max: int) -> list[SyncBlock]:
    """Committed blocks from `height_from` up, as many as fit, one at least if there is any.

    None at all where the first is pruned here: whoever asks needs another node, or a snapshot.
    """
    blocks: list[SyncBlock] = []
    height_from = max(1, height_from)
    if height_from < chain.archive.get_base():
        return blocks
    left = bytes_max
    for height in range(height_from, chain.head.height + 1):
        if len(blocks) >= min(count_max, BLOCKS_PER_ANSWER_MAX):
            break
        header, certificate = chain.archive.get_header_bytes(height), chain.get_certificate(height)
        assert header is not None
        assert certificate is not None
        transactions = chain.archive.get_signed_transactions(height)
        left -= len(header) + sum(map(len, transactions))
        if left < 0 and blocks:
            break
        recoveries = _list_recoveries(chain.archive, certificate)
        blocks.append(SyncBlock(header, certificate, transactions, recoveries))
    return blocks


def _list_recoveries(archive: Archive, certificate: Certificate) -> tuple[EpochChange, ...]:
    """How the institutions opened the epoch of a block, and those before it that have none.

    Nothing where they did not, or this is not its first block.
    """
    found: list[EpochChange] = []
    for epoch in range(certificate.epoch - 1, -1, -1):
        change = archive.get_epoch_change(epoch)
        if change is None or change.recovery is None or change.certificate.height + 1 != certificate.height:
            break
        found.append(change)
    return tuple(reversed(found[:RECOVERIES_MAX]))


def begin_sync_commit(chain: Chain, block: SyncBlock) -> PendingCommit:
    """Verify and execute the next block; then `write` it and `Chain.finish_commit`.

    Recoveries that come with it are opened first, and only for a block that the last one's replica set has
    certified.

    Raises BlockRefused when the peer gave something else than the certified next block, EpochUnknown when
    that cannot be known here, ResultsDiffer when it is certified and this node finds other results: then it
    must halt.
    """
    try:
        header = decode_header(block.header)
        transactions = tuple(map(decode_transaction, block.transactions))
    except (EncodingError, TransactionRefused) as error:
        raise BlockRefused("encoding", str(error), "a header and signed transactions") from error
    digest = compute_header_digest(block.header)
    certificate = block.certificate
    if (certificate.height, certificate.digest) != (header.height, digest):
        raise BlockRefused("certificate", certificate.digest, digest)
    recoveries = _verify_recoveries(chain, header, block.recoveries)
    replica_set = recoveries[-1].replica_set if recoveries else chain.replica_set
    signed_hashes = [transaction.signed_hash for transaction in transactions]
    verify_before_execution(
        header, signed_hashes, head=chain.head, replica_set=replica_set, chain_id=chain.chain_id
    )
    try:
        certificate.verify(chain.chain_id, replica_set)
    except InvalidCertificate as error:
        raise BlockRefused("certificate", str(error), "a quorum of the replica set") from error
    if recoveries:
        chain.recover(*recoveries)
    if chain.get_speculation(digest) is None:
        try:
            chain.reproduce(header, transactions)
        except BlockRefused as error:
            raise ResultsDiffer(
                f"height {header.height} is certified as {digest.hex()} by replicas "
                f"{sorted(vote.replica for vote in certificate.signatures)}, but executing it here gives: "
                f"{error}; stop this node and compare its software with theirs"
            ) from error
    return chain.begin_commit(digest, certificate)


def _verify_recoveries(chain: Chain, header: Header, shown: Sequence[EpochChange]) -> tuple[EpochChange, ...]:
    """The recoveries by which this block follows the head; none where it does without.

    Those of epochs that are open here already, by a file, are passed over. Raises BlockRefused for one that a
    majority of the institutions has not made for this head, EpochUnknown where it is missing.
    """
    present = chain.replica_set.epoch
    if header.height != chain.head.height + 1 or header.epoch <= present:
        return ()
    recoveries = tuple(change for change in shown if change.replica_set.epoch > present)
    if not recoveries:
        raise EpochUnknown(header.height, header.epoch, present)
    try:
        chain.verify_recoveries(recoveries)
    except ProofRefused as error:
        raise BlockRefused("recovery", str(error), "a majority of the institutions, for this head") from error
    return recoveries
