"""What an operator may choose about the ledger on one node; nothing here changes what blocks mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """LevelDB's own bounds."""

    write_buffer_bytes: int = 33_554_432
    """Writes that gather in memory before a table file is written; a larger buffer spares merging of tables,
    which took a sixth of the work of a loaded node at 8 MiB."""
    block_cache_bytes: int = 16_777_216
    """Uncompressed table blocks kept in memory."""
    open_files_max: int = 256
    """Table files held open at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MempoolSettings:
    """What may be outstanding on this node; beyond it a client is told to come back later."""

    transactions_max: int = 2_000
    """Transactions pending at once; saturated latency is this number divided by the rate."""
    bytes_max: int = 16_777_216
    """Their bodies and signatures together."""
    institution_transactions_max: int = 750
    """Pending transactions of one institution, with those of the patients whose keys it has registered. Other
    institutions have their part of the pool also while it is full."""
    relayed_factor: int = 2
    """The three bounds are so many times higher for what another node relays, having accepted it."""
    part_bytes_max: int = 262_144
    """What one institution may have of a block that this node proposes: about 700 anchors, or a quarter of a
    second of everybody's work."""
    refusals_max: int = 4_096
    """Refused transactions remembered by signed hash, so that a repeat costs no verification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """All of the ledger's settings."""

    store: StoreSettings = StoreSettings()
    mempool: MempoolSettings = MempoolSettings()
    cached_rows_max: int = 8_192
    """Committed state rows kept decoded-ready in memory for permission checks."""
    cached_row_bytes_max: int = 1_024
    """Rows longer than this are not kept in that cache."""
    known_senders_max: int = 1_024
    """Senders whose right to send is remembered until the next block."""
    speculations_max: int = 8
    """Executed blocks kept by digest until one of them commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """Snapshots for nodes that join, and what is deleted because of them."""

    interval_blocks: int = 10_000
    """A snapshot is written at every multiple of this height, alike on all nodes; 0 for never."""
    kept_max: int = 2
    """Snapshots that stay on the disk, one at least; the oldest gives way."""
    held_max: int = 2
    """Older ones that stay besides, each because a joining node of another institution is fetching it."""
    held_seconds: int = 3_600
    """How long a joining node may ask for nothing before what it was fetching may go."""
    held_blocks_max: int = 100_000
    """A snapshot goes in any case when it is so far below the head, with the blocks that only it needs."""
    keep_blocks: int = 0
    """Blocks that are kept; older ones are deleted once a snapshot stands for them. 0 to delete nothing."""
