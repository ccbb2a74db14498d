"""The parts of a running node and how they are joined: who is told of what, and who asks whom."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from config.settings import compute_replica_settings
from consensus.driver import Driver
from consensus.head import Head
from consensus.journal_records import JournalRecord, OverrideRecord
from consensus.replica import Replica
from consensus.replica_set import Height, ReplicaId
from contracts.nodes import get_node
from crypto.signatures import verify_signature
from daemon.clock_watch import ClockWatch
from daemon.contract_watch import ContractWatch
from daemon.disks import Disks
from daemon.key_handover import KeyHandover
from daemon.lifetime import Ending, Lifetime
from daemon.node_links import build_links
from ledger.block_sync import SyncBlock, serve_blocks
from ledger.errors import StoreFailed
from ledger.snapshot_keeper import SnapshotKeeper
from ledger.snapshot_shelf import SnapshotShelf
from network.block_sync import BlockSync
from network.bodies import BodyFetcher
from network.collector import NodeCollector
from network.equivocation_reports import EquivocationReports
from network.join_policy import JoinPolicy
from network.known_nodes import KnownNodes
from network.ledger_application import LedgerApplication
from network.link_ports import LinkHandlers
from network.relay import TransactionRelay
from network.requests import RequestKind
from network.snapshot_serving import SnapshotServer

_log = structlog.get_logger("node")


class Parts:
    """Replica, network and snapshots of one node upon its disks. Made and used on the event loop."""

    def __init__(self, disks: Disks, lifetime: Lifetime) -> None:
        """`lifetime` is told of what ends the node. Raises TlsSetupFailed."""
        settings, chain = disks.settings, disks.chain
        found = disks.take_journal_content()
        _warn_of_overrides(found.records)
        self._disks = disks
        self._lifetime = lifetime
        self.links = build_links(settings, disks.identity, chain.replica_set, chain.chain_id)
        self.relay = TransactionRelay(
            chain=chain,
            links=self.links,
            on_pending=self._on_pending,
            on_failure=lifetime.halt,
            settings=settings.network.relay,
        )
        self.equivocation_reports = EquivocationReports(
            ledger=chain,
            submit=self.relay.submit,
            institution_key=disks.institution_key,
            on_failure=lifetime.halt,
        )
        self.bodies = BodyFetcher(
            links=self.links,
            relay=self.relay,
            get_body=lambda signed_hash: self.application.get_body(signed_hash),
            settings=settings.network.fetch,
        )
        self.application = LedgerApplication(
            chain,
            body_source=self.bodies,
            writer=disks.writer,
            on_pending=self._on_pending,
            settings=settings.application,
        )
        self.block_sync = self._build_block_sync()
        self.driver = self._build_driver(found.records)
        self.clock_watch = ClockWatch(
            chain,
            delay_ms_max=settings.consensus.view_timeout_ms,
            get_certified_height=lambda: self.driver.status.certified_height,
            is_syncing=lambda: self.block_sync.is_running,
        )
        shelf = SnapshotShelf(settings.folder.snapshots_directory)
        self.snapshots = SnapshotKeeper(
            chain, shelf, settings.snapshots, on_failure=lifetime.halt_from_thread
        )
        self.snapshot_server = SnapshotServer(
            shelf,
            lambda: chain.archive,
            find_institution=self._find_institution,
            on_failure=lifetime.halt,
            settings=settings.network.fetch,
        )
        for proposal, bodies in found.proposals:
            self.application.restore(proposal, bodies)
        self._follow_blocks()
        self._serve_peers()

    def build_collector(self) -> NodeCollector:
        """What the parts have counted, for metrics."""
        return NodeCollector(
            self.driver,
            self.links,
            self.relay,
            self.block_sync,
            self.bodies,
            self.snapshots,
            self.snapshot_server,
            self.equivocation_reports,
        )

    async def start(self) -> None:
        """Listen to peers and dial them. Raises OSError when the address cannot be had."""
        await self.links.start(
            LinkHandlers(
                on_consensus=self.driver.post_message,
                on_transactions=self.relay.on_transactions,
                on_oldest=self.relay.on_oldest,
                on_connected=self._on_connected,
            )
        )
        self.relay.start()

    async def close(self) -> None:
        """What the replica used, once that has come to rest; `snapshots` has a thread and is closed apart."""
        await self.block_sync.close()
        await self.equivocation_reports.close()
        await self.relay.close()
        await self.links.close()

    def _build_block_sync(self) -> BlockSync:
        chain, settings = self._disks.chain, self._disks.settings.network.fetch
        return BlockSync(
            links=self.links,
            chain=chain,
            apply=self.application.apply_synced,
            serve=self._serve_blocks,
            on_synced=lambda *synced: self.driver.post_chain_synced(*synced),
            on_failure=self._lifetime.halt,
            join_policy=JoinPolicy(self.links, chain.genesis, lambda: chain.head.height, settings=settings),
            on_join=lambda: self._lifetime.end(Ending.FOR_SNAPSHOT),
            settings=settings,
        )

    def _build_driver(self, records: Sequence[JournalRecord]) -> Driver:
        disks, settings = self._disks, self._disks.settings
        return Driver(
            replica=_build_replica(disks, self.application, records),
            replica_id=disks.replica,
            application=self.application,
            transport=self.links,
            block_sync=self.block_sync,
            relay=self.relay,
            journal=disks.journal,
            writer=disks.writer,
            settings=settings.driver,
            on_evidence=self.equivocation_reports.report,
            on_refusal=lambda sender, reason: _log.warning("refused", replica=sender, reason=reason),
        )

    def _follow_blocks(self) -> None:
        """What a committed block may change: who has a link, and which key this node speaks with."""
        chain, lifetime = self._disks.chain, self._lifetime
        known = KnownNodes(lambda: chain.state, lambda: chain.replica_set, self.links.update_nodes)
        handover = KeyHandover(
            self._disks.settings.folder,
            own_key=self._disks.identity.key.public_key,
            get_named_key=lambda: chain.replica_set.get_public_key(self._disks.replica),
            on_handover=lambda: lifetime.end(Ending.FOR_NEW_KEY),
        )
        chain.subscribe(known.on_block)
        chain.subscribe(ContractWatch(chain).on_block)
        chain.subscribe(self.clock_watch.on_block)
        chain.subscribe(handover.on_block)

    def _serve_peers(self) -> None:
        """What peers may ask for."""
        self.links.serve(RequestKind.BODIES, self.bodies.on_request)
        self.links.serve(RequestKind.BLOCKS, self.block_sync.on_request)
        self.links.serve(RequestKind.SNAPSHOT, self.snapshot_server.on_request)

    def _serve_blocks(self, height: int, count_max: int, bytes_max: int) -> list[SyncBlock]:
        try:
            return serve_blocks(self._disks.chain, height, count_max=count_max, bytes_max=bytes_max)
        except StoreFailed as error:
            self._lifetime.halt(error)
            raise

    def _find_institution(self, replica: ReplicaId) -> bytes:
        """Whose node it is; empty for one that the ledger does not know."""
        row = get_node(self._disks.chain.state, replica)
        return b"" if row is None else row.institution

    def _on_pending(self, oldest: bytes | None) -> None:
        self.driver.post_oldest_pending(oldest)

    def _on_connected(self, replica: ReplicaId) -> None:
        self.driver.post_peer_connected(replica)
        self.relay.send_pending(replica)


def _warn_of_overrides(records: Sequence[JournalRecord]) -> None:
    """What an operator has answered for, at every start again (rule P6)."""
    for record in records:
        if isinstance(record, OverrideRecord):
            _log.warning(
                "silence was ended", height=record.height, at_ms=record.time_ms, reason=record.reason
            )


def _build_replica(disks: Disks, application: LedgerApplication, records: Sequence[JournalRecord]) -> Replica:
    """The replica where ledger and journal left it."""
    chain = disks.chain
    return Replica(
        settings=compute_replica_settings(disks.settings.consensus, chain.genesis.parameters),
        chain_id=chain.chain_id,
        replica_id=disks.replica,
        public_key=disks.identity.key.public_key,
        signer=disks.identity.key.sign,
        verify=verify_signature,
        replica_set=chain.replica_set,
        head=Head(
            height=Height(chain.head.height),
            digest=chain.head.digest,
            certificate=chain.head.certificate,
            closing=chain.epoch.closing,
        ),
        compute_digest=application.compute_digest,
        journal=records,
        journal_missing=disks.journal.is_missing,
    )
