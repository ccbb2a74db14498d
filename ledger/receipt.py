"""A receipt: how one transaction ended, where, and what it emitted.

The history tree of RFC 6962 has one leaf for each receipt, in ledger order, so whoever holds a certified
header can be shown any receipt without trusting who shows it.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from contracts.context import Event
from crypto import tags
from crypto.encoding import decode_as, encode
from crypto.hashing import Digest, compute_digest
from crypto.merkle import compute_leaf_hash

OK: Final = "ok"
"""The code of a receipt whose calls were all carried out."""

RECEIPT_BYTES_MAX: Final = 134_217_728
"""Above what 64 calls' results and events can come to; every call's share is bounded by its own budget."""


class Receipt(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The result of one included transaction."""

    format_version: Annotated[int, Meta(ge=1, le=1)]
    transaction_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    height: int
    index: int
    """Position in its block, from 0."""
    code: str
    """`ok`, or the code of the call that failed; then nothing was written and nothing emitted."""
    results: tuple[bytes, ...]
    """Encoded results, one for each call; empty when failed."""
    events: tuple[Event, ...]

    def compute_digest(self) -> Digest:
        return compute_digest(tags.RECEIPT, encode(self))

    def compute_history_leaf_hash(self) -> Digest:
        """The leaf in the history tree: transaction id and receipt digest under their tag."""
        return compute_history_leaf_hash(self.transaction_id, encode(self))


def compute_history_leaf_hash(transaction_id: bytes, receipt_bytes: bytes) -> Digest:
    """The leaf of a receipt that is already encoded."""
    digest = compute_digest(tags.RECEIPT, receipt_bytes)
    return compute_leaf_hash(tags.HISTORY_LEAF + transaction_id + digest)


def decode_receipt(receipt_bytes: bytes) -> Receipt:
    """Raises EncodingError when the bytes are not the canonical encoding of a receipt."""
    return decode_as(Receipt, receipt_bytes, size_max=RECEIPT_BYTES_MAX)
