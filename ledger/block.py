"""A block: a header that commits to transactions, results and state, and the transactions themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto import tags
from crypto.encoding import decode_as, encode
from crypto.hashing import Digest, compute_digest
from crypto.merkle import compute_root
from ledger.transaction import SignedTransaction

FORMAT_VERSION: Final = 1
HEADER_BYTES_MAX: Final = 512

_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Header(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What a certificate certifies, by its digest. Field order is the format."""

    format_version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    chain_id: _Hash
    """Digest of the genesis."""
    epoch: _Counter
    """Which replica set orders this block; a change of the set opens the next epoch."""
    height: _Counter
    """0 for the genesis block, then one more each block."""
    parent_hash: _Hash
    """Digest of the header one below; zero for the genesis block."""
    time_ms: _Counter
    """Milliseconds since 1970-01-01 UTC; greater than the parent's."""
    proposer: Annotated[int, Meta(ge=0, le=65_535)]
    """Id of the replica that built the block, which need not be the primary that got it certified."""
    transaction_count: _Counter
    transactions_digest: _Hash
    """RFC 6962 root over the signed hashes, in block order."""
    history_root: _Hash
    """RFC 6962 root over every receipt so far, this block's included."""
    history_size: _Counter
    state_root: _Hash
    """Root over all state after this block."""
    replica_set_digest: _Hash
    """The replica set whose certificate makes this block final."""
    next_replica_set_digest: _Hash
    """The replica set of the next height."""

    def compute_digest(self) -> Digest:
        return compute_header_digest(encode(self))


@dataclass(frozen=True, slots=True)
class Block:
    """A header's bytes with the transactions it commits to."""

    header_bytes: bytes
    transactions: tuple[SignedTransaction, ...]


def compute_header_digest(header_bytes: bytes) -> Digest:
    """The block's identity; what votes and certificates name."""
    return compute_digest(tags.HEADER, header_bytes)


def compute_transactions_digest(signed_hashes: Sequence[bytes]) -> Digest:
    """RFC 6962 root with the signed hashes themselves as leaf hashes.

    A backup needs the same one when a proposal comes in, before it executes it, and after; so the last few
    are kept.
    """
    return _compute_root(tuple(signed_hashes))


@lru_cache(maxsize=8)
def _compute_root(leaf_hashes: tuple[bytes, ...]) -> Digest:
    return compute_root(leaf_hashes)


def decode_header(header_bytes: bytes) -> Header:
    """Raises EncodingError when the bytes are not the canonical encoding of a header."""
    return decode_as(Header, header_bytes, size_max=HEADER_BYTES_MAX)
