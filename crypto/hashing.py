"""SHA-256 digests, the only hash function of the ledger."""

from __future__ import annotations

from hashlib import sha256 as _sha256
from typing import NewType

DIGEST_BYTES = 32

Digest = NewType("Digest", bytes)
"""32 bytes of SHA-256."""

ZERO_DIGEST = Digest(bytes(DIGEST_BYTES))


def compute_digest(*parts: bytes) -> Digest:
    """SHA-256 over the parts one after another, without separators: callers fix the layout."""
    return Digest(_sha256(b"".join(parts)).digest())
