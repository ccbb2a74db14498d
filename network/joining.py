"""Joining by a snapshot: how a node that needs one comes by it; when it needs one says `network.join_policy`.

Peers may offer what they do not give, or take back what they offered once it was begun: then they are set
aside, whatever they offer next, until nobody else offers anything. So each of them costs one fetch in a
round, or one more for each twentieth of what is missing that it does give, and one honest peer with a
snapshot has its turn in every round.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from consensus.replica_set import ReplicaId
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
from network.snapshot_sync import Offer, SnapshotSync, SnapshotUnavailable

RETRY_SECONDS: Final = 1.0
"""Before peers are asked again when none gives what is missing."""
FETCHED_PERCENT_MIN: Final = 5
"""Of the parts that were missing; who offered a snapshot of which a whole fetch brought less is set aside."""

_log = structlog.get_logger("network.joining")


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
        self._links = links
        self._genesis = genesis
        self._folders = folders
        self._contract_set = contract_set
        self._store_settings = store_settings
        self._sync = SnapshotSync(links, genesis, settings=settings)
        self._pacer = Pacer(rest_seconds=0)
        self._set_aside: set[ReplicaId] = set()
        """Peers that offered what nobody gave, or that they took back."""
        self._begun_from: set[ReplicaId] = set()
        """Peers that offered the snapshot that was begun, since this node's start."""
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
            offer = await self._choose()
            height = offer.snapshot.height
            self._stage = f"snapshot of height {height}"
            try:
                return await self._take(offer.snapshot)
            except SnapshotUnavailable as error:
                _log.warning("snapshot not complete", height=height, reason=str(error))
                if self._sync.counters.fetched_percent < FETCHED_PERCENT_MIN:
                    self._set_aside |= offer.peers
                await asyncio.sleep(RETRY_SECONDS)

    async def _choose(self) -> Offer:
        """The snapshot that was begun if somebody still offers it, otherwise the best of the others."""
        while True:
            peers = [peer for peer in self._links.connected if peer not in self._set_aside]
            begun = self._read_begun()
            if begun is not None:
                for offer in await self._sync.find_offers(peers, height=begun.height):
                    if offer.snapshot.header == begun.header:
                        self._begun_from |= offer.peers
                        return offer
            # Who took it back could offer it anew each time, and have nothing but it begun.
            self._set_aside |= self._begun_from
            self._begun_from.clear()
            offers = await self._sync.find_offers([peer for peer in peers if peer not in self._set_aside])
            if offers:
                best = max(offers, key=self._rank)
                if begun is None or best.snapshot.header != begun.header:
                    self._begin(best.snapshot)
                self._begun_from |= best.peers
                return best
            # Nothing else is on offer: those that got nowhere may have been down, or asked too often.
            self._set_aside.clear()
            await asyncio.sleep(RETRY_SECONDS)

    def _rank(self, offer: Offer) -> tuple[bool, int]:
        """A snapshot that an honest peer has, for all that is known, comes first; then the newer one."""
        faults_max = max(self._genesis.replica_set.quorum.faults_max, offer.faults_max)
        return len(offer.peers) > faults_max, offer.snapshot.height

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
