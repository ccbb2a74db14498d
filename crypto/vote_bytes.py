"""The bytes that a replica's vote signs: consensus makes them, contracts verify them as evidence.

They stand here because neither room may know the other, and two layouts could come to differ.
"""

from __future__ import annotations

import struct
from typing import Final

VOTE_BYTES: Final = 89
_LAYOUT: Final = struct.Struct(">32sQQQB32s")


def compute_vote_bytes(
    chain_id: bytes, epoch: int, height: int, view: int, phase: int, digest: bytes
) -> bytes:
    """The 89 bytes under the tag VOTE. `phase` is 0 for PRE-PREPARE, 1 for PREPARE, 2 for COMMIT."""
    return _LAYOUT.pack(chain_id, epoch, height, view, phase, digest)
