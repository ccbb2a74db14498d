"""Whether a running node should leave off and join by a snapshot; on the event loop.

A node that is a little behind fetches blocks. It needs a snapshot where the blocks that it lacks are pruned
at every peer, and spares itself much time where it has no block at all and the others have thousands.

Joining ends the life of a replica, so nothing that a peer merely says brings it about. A node is stuck only
when more peers than may be faulty have no block above its head, the others give less than a batch in the time
that it waits, and a manifest that the genesis vouches for has its window begin above the block that the node
lacks next. Such a manifest proves that the others are ahead by the longest expiry of a transaction, and
whoever has pruned that block has one. All of it is compared with the head as it is then: a block that commits
while a peer holds its answer back sends nobody away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ledger.genesis import Genesis
from network.link_ports import LinkRequests
from network.settings import FetchSettings
from network.snapshot_sync import SnapshotSync


class JoinPolicy:
    """`network.block_sync.JoinPolicy`, by the manifests that peers offer."""

    def __init__(
        self,
        links: LinkRequests,
        genesis: Genesis,
        get_height: Callable[[], int],
        *,
        settings: FetchSettings | None = None,
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        """`get_height` tells the head's height as it is when it is called."""
        self._links = links
        self._get_height = get_height
        self._settings = settings or FetchSettings()
        self._sync = SnapshotSync(links, genesis, settings=self._settings)
        self._clock_ms = clock_ms
        self._next_ms = 0
        self._waiting_height = -self._settings.sync_blocks_max
        self._waiting_since_ms = 0
        self._looking: asyncio.Task[tuple[int, int]] | None = None
        self._shown = 0, 0
        """The greatest lower end of a window that a verified manifest has shown, and how many may be faulty
        in the newest set that it names."""

    async def is_far_behind(self, target: int) -> bool:
        """Whether this node has no block, and a snapshot spares it more of them than it would rather fetch.

        Nobody is asked unless blocks are said to be final up to so high a `target`.
        """
        blocks_min = self._settings.join_blocks_min
        if self._get_height() > 0 or target < blocks_min or not self._is_due():
            return False
        offers = await self._sync.find_offers(self._links.connected)
        return self._get_height() == 0 and any(offer.snapshot.height >= blocks_min for offer in offers)

    def needs_snapshot(self, declined: int, faults_max: int) -> bool:
        """Whether this node is stuck; to be asked each time that peers have had no block above its head.

        So many have `declined`, and `faults_max` of the replica set that the node knows may be faulty; where
        a newer set is smaller, that one's count. Peers are asked for manifests beside whoever asks here, who
        is told the next time.
        """
        height, now_ms = self._get_height(), self._clock_ms()
        if height - self._waiting_height >= self._settings.sync_blocks_max:
            self._waiting_height, self._waiting_since_ms = height, now_ms
        if now_ms - self._waiting_since_ms < self._settings.join_wait_ms:
            return False
        if self._looking is not None and self._looking.done():
            self._shown = max(self._shown, self._looking.result())
            self._looking = None
        base, faults_max_then = self._shown
        if base > height + 1 and declined > min(faults_max, faults_max_then):
            return True
        if self._looking is None and self._is_due():
            self._looking = asyncio.create_task(self._find_base())
        return False

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _find_base(self) -> tuple[int, int]:
        offers = await self._sync.find_offers(self._links.connected)
        return max(((offer.snapshot.base, offer.faults_max) for offer in offers), default=(0, 0))

    def _is_due(self) -> bool:
        """Whether peers may be asked for manifests again; if so, it is not for a while afterwards."""
        now_ms = self._clock_ms()
        if now_ms < self._next_ms:
            return False
        self._next_ms = now_ms + self._settings.join_retry_ms
        return True
