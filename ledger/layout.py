"""Where everything lies in the database: one letter for each table, then big-endian numbers or hashes.

| key | row |
|---|---|
| `g` | the genesis, canonical encoding |
| `o` | the head: an array of its height (8 bytes) and the frontier of the history tree |
| `b` | the base: the lowest height whose block is held (8 bytes); no row while that is 1 |
| `h` height | header bytes |
| `c` height | certificate, canonical encoding; none for height 0 |
| `t` height | the block's signed transactions, an array of byte strings |
| `r` height | the block's receipts, an array of byte strings |
| `i` transaction id | height (8 bytes) and index in its block (4 bytes) |
| `s` state key | a state row |
| `k` bucket (4 bytes) | the bucket's sorted entries: key hash and value hash, 64 bytes each |
| `l` leaf number (8 bytes) | history leaf hashes of one block, the first having that number |
| `e` epoch (8 bytes) | the change that closed it: header, certificate, next replica set |
| `u` level (1 byte) number (8 bytes) | one interior hash of the history tree over 256, 65,536, … leaves |

Rows of `l`, `u` and `e` are never pruned, so that old receipts stay provable after their blocks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from crypto.encoding import decode_as, encode

GENESIS: Final = b"g"
HEAD: Final = b"o"
BASE: Final = b"b"
STATE: Final = b"s"
LEAVES: Final = b"l"
INTERIOR: Final = b"u"
BUCKET: Final = b"k"
PRUNED_TABLES: Final = (b"h", b"c", b"t", b"r", b"i")
"""Tables in which the rows of old blocks may be deleted."""

ROW_BYTES_MAX: Final = 1 << 32
"""No row that a node writes is longer; what was written was checked before."""

_HEIGHT_BYTES: Final = 8
_INDEX_BYTES: Final = 4


def compute_header_key(height: int) -> bytes:
    return b"h" + height.to_bytes(_HEIGHT_BYTES, "big")


def compute_certificate_key(height: int) -> bytes:
    return b"c" + height.to_bytes(_HEIGHT_BYTES, "big")


def compute_epoch_key(epoch: int) -> bytes:
    return b"e" + epoch.to_bytes(8, "big")


def compute_transactions_key(height: int) -> bytes:
    return b"t" + height.to_bytes(_HEIGHT_BYTES, "big")


def compute_receipts_key(height: int) -> bytes:
    return b"r" + height.to_bytes(_HEIGHT_BYTES, "big")


def compute_position_key(transaction_id: bytes) -> bytes:
    return b"i" + transaction_id


def compute_bucket_key(bucket: int) -> bytes:
    return BUCKET + bucket.to_bytes(4, "big")


def compute_leaves_key(number: int) -> bytes:
    return LEAVES + number.to_bytes(8, "big")


def compute_interior_key(level: int, number: int) -> bytes:
    return INTERIOR + bytes((level,)) + number.to_bytes(8, "big")


def encode_position(height: int, index: int) -> bytes:
    return height.to_bytes(_HEIGHT_BYTES, "big") + index.to_bytes(_INDEX_BYTES, "big")


def decode_position(row: bytes) -> tuple[int, int]:
    """Height and index in the block."""
    return int.from_bytes(row[:_HEIGHT_BYTES], "big"), int.from_bytes(row[_HEIGHT_BYTES:], "big")


class _Items(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    items: tuple[bytes, ...]


def encode_items(items: Sequence[bytes]) -> bytes:
    """A row of many byte strings."""
    return encode(_Items(tuple(items)))


def decode_items(row: bytes) -> tuple[bytes, ...]:
    return decode_as(_Items, row, size_max=ROW_BYTES_MAX).items
