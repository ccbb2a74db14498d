"""Deleting old blocks: the disk shrinks, and what was proved of them stays proved.

Gone are headers, certificates, transactions, receipts and positions of the blocks below the base. State
stays, and so do the leaf hashes and interior hashes of the history tree: a receipt that somebody holds
verifies as before, and a path to the root of today can be given for it.

Invariant: the rows of one height go in one batch together with the mark of the new base, so at every moment
all blocks from the base up are whole and nothing of those below is left.
"""

from __future__ import annotations

from typing import Final

from ledger import layout
from ledger.archive import Archive
from ledger.pacing import Pacer
from ledger.store import Store
from ledger.transaction import compute_transaction_id

DELETES_MAX: Final = 2_000
"""Rows deleted in one batch, those of one block at least."""


def prune_blocks(store: Store, *, base: int, pacer: Pacer) -> int:
    """Delete all blocks below height `base`; how many there were. Raises StoreFailed, WorkStopped.

    The caller has seen to it that a snapshot stands for them and that no transaction in them can come again.
    """
    archive = Archive(store.snapshot())
    first = height = archive.get_base()
    while height < base:
        deletes: list[bytes] = []
        while height < base and len(deletes) < DELETES_MAX:
            deletes += _list_block_keys(archive, height)
            height += 1
        store.write([(layout.BASE, height.to_bytes(8, "big"))], deletes)
        pacer.pause()
    return max(0, height - first)


def compact_pruned(store: Store) -> None:
    """Give back the room of what `prune_blocks` deleted. Raises StoreFailed.

    Rows that somebody can still see stay: call it when no view of the time before the deletion is in use.
    """
    for table in layout.PRUNED_TABLES:
        store.compact(table)


def _list_block_keys(archive: Archive, height: int) -> list[bytes]:
    return [
        layout.compute_header_key(height),
        layout.compute_certificate_key(height),
        layout.compute_transactions_key(height),
        layout.compute_receipts_key(height),
        *(
            layout.compute_position_key(compute_transaction_id(signed))
            for signed in archive.get_signed_transactions(height)
        ),
    ]
