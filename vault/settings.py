"""Settings of the vault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSettings:
    """Bounds of one institution's vault."""

    content_bytes_max: int = 67_108_864
    """Largest original that is accepted, in bytes; it is sealed in memory."""
    batch_records_max: int = 10_000
    """Most records that one call stores; a bundle has at most 5,000 entries."""
    batch_bytes_max: int = 268_435_456
    """Most bytes of content that one call stores."""
    rewrap_rows_per_batch: int = 500
    """Rows re-sealed per write while keys rotate."""
