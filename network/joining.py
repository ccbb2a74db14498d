"""Joining by a snapshot: when a node needs one, and how it comes by it.

A node that is a little behind fetches blocks. It needs a snapshot where the blocks that it lacks are pruned
at every peer, and spares itself much time where it has no block at all and the others have thousands. Whoever
decides has verified a manifest that is ahead of the node's own head; so nobody can send a node to join in
vain.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from crypto.encoding import encode
from ledger.chunk_file import ChunkFile
from ledger.contract_set import ContractSet
from ledger.errors import SnapshotRefused
from ledger.genesis import Genesis
from ledger.pacing import Pacer
from ledger.settings import StoreSettings
from ledger.snapshot import VerifiedManifest, decode_manifest, verify_manifest
from ledger.snapshot_export import CHUNKS_FILE, MANIFEST_FILE, publish, write_manifest
from ledger.snapshot_install import install_snapshot
from network.link_ports import LinkRequests
from network.settings import FetchSettings
from network.snapshot_sync import SnapshotSync, SnapshotUnavailable

RETRY_SECONDS: Final = 1.0
"""Before peers are asked again when none gives what is missing."""

_log = structlog.get_logger("network.joining")


class JoinPolicy:
    """Whether a running node should leave off and join by a snapshot; on the event loop."""

    def __init__(
        self,
        links: LinkRequests,
        genesis: Genesis,
        *,
        settings: FetchSettings | None = None,
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._settings = settings or FetchSettings()
        self._sync = SnapshotSync(links, genesis, settings=self._settings)
        self._clock_ms = clock_ms
        self._next_ms = 0
        self._stuck_height = -1
        self._stuck_since_ms = 0

    async def should_join(self, *, height: int, target: int, is_stuck: bool) -> bool:
        """With the head at `height` and blocks known to be final up to `target`."""
        is_far_behind = height == 0 and target >= self._settings.join_blocks_min
        now_ms = self._clock_ms()
        if is_stuck and height != self._stuck_height:
            self._stuck_height, self._stuck_since_ms = height, now_ms
        is_stuck = is_stuck and now_ms - self._stuck_since_ms >= self._settings.join_wait_ms
        if not (is_stuck or is_far_behind) or now_ms < self._next_ms:
            return False
        self._next_ms = now_ms + self._settings.join_retry_ms
        newest = await self._sync.find_newest()
        return newest is not None and newest.height > height


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFolders:
    """Where a joining node keeps what it fetches, and where that goes in the end."""

    joining: Path
    ledger: Path
    snapshots: Path


class Joining:
    """One node's joining, from finding a snapshot to a ledger that opens; on the event loop.

    The ledger must not be open. What was fetched for a snapshot that peers still offer is used again.
    """

    def __init__(
        self,
        links: LinkRequests,
        genesis: Genesis,
        folders: JoinFolders,
        *,
        contract_set: ContractSet,
        store_settings: StoreSettings,
        settings: FetchSettings | None = None,
    ) -> None:
        self._genesis = genesis
        self._folders = folders
        self._contract_set = contract_set
        self._store_settings = store_settings
        self._sync = SnapshotSync(links, genesis, settings=settings)
        self._pacer = Pacer(rest_seconds=0)
        self._stage = "looking for a snapshot"

    @property
    def progress(self) -> str:
        """For readiness."""
        counters = self._sync.counters
        return f"joining: {self._stage}, {counters.parts} of {counters.parts_expected} parts are verified"

    def stop(self) -> None:
        """End an installation under way; `run` then raises WorkStopped."""
        self._pacer.stop()

    async def run(self) -> int:
        """Return with the height of the ledger once it is in its place.

        Raises WorkStopped, StoreFailed, OSError.
        """
        while True:
            snapshot = await self._choose()
            self._stage = f"snapshot of height {snapshot.height}"
            try:
                return await self._take(snapshot)
            except SnapshotUnavailable as error:
                _log.warning("snapshot not complete", height=snapshot.height, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _choose(self) -> VerifiedManifest:
        """The snapshot that was begun if somebody still offers it, otherwise the newest."""
        while True:
            begun = self._read_begun()
            if begun is not None and await self._sync.is_offered(begun):
                return begun
            newest = await self._sync.find_newest()
            if newest is not None:
                self._begin(newest)
                return newest
            await asyncio.sleep(RETRY_SECONDS)

    def _read_begun(self) -> VerifiedManifest | None:
        path = self._folders.joining / MANIFEST_FILE
        try:
            return verify_manifest(decode_manifest(path.read_bytes()), self._genesis)
        except (OSError, SnapshotRefused):
            return None

    def _begin(self, snapshot: VerifiedManifest) -> None:
        shutil.rmtree(self._folders.joining, ignore_errors=True)
        self._folders.joining.mkdir(parents=True)
        write_manifest(self._folders.joining, snapshot.manifest)
        _log.info("snapshot begun", height=snapshot.height, bytes=len(encode(snapshot.manifest)))

    async def _take(self, snapshot: VerifiedManifest) -> int:
        folders = self._folders
        with ChunkFile(folders.joining / CHUNKS_FILE) as chunks:
            await self._sync.fetch(snapshot, chunks)
            self._stage = f"installing the snapshot of height {snapshot.height}"
            while True:
                try:
                    await asyncio.to_thread(self._install, snapshot, chunks)
                    break
                except SnapshotRefused as error:
                    # The disk gave other bytes than it was given; what is missing now comes again.
                    _log.warning("snapshot part damaged", height=snapshot.height, reason=str(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    await self._sync.fetch(snapshot, chunks)
        # From here on this node can give it to others.
        folders.snapshots.mkdir(parents=True, exist_ok=True)
        publish(folders.joining, folders.snapshots / str(snapshot.height))
        _log.info("joined", height=snapshot.height, base=snapshot.base)
        return snapshot.height

    def _install(self, snapshot: VerifiedManifest, chunks: ChunkFile) -> None:
        install_snapshot(
            snapshot,
            chunks,
            ledger_directory=self._folders.ledger,
            contract_set=self._contract_set,
            settings=self._store_settings,
            pacer=self._pacer,
        )
