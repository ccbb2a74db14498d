"""The daemon: builds one node from its folder and runs it; the one place that knows all rooms.

    python -m node --config NODE_FOLDER/node.toml

It starts in this order: settings, keys, disks (ledger, journal, vault), network, consensus, gateway. It ends
cleanly on SIGTERM and SIGINT. Whatever goes wrong with a disk, and whatever halts the replica, ends the
process at once: a node that cannot trust its disk must not go on talking (rule P7).

Where blocks alone do not help it leaves off, fetches a snapshot with the links only, and starts again on
that.

Exit codes: 0 stopped on request, 1 could not start, 2 wrong usage, 3 had to stop; the reason is on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from config.errors import ConfigError, Fault
from config.log import configure_logging
from config.node_check import check_node
from config.node_identity import NodeIdentity, choose_identity, list_identities
from config.settings import NodeSettings, compute_replica_settings, load_node_settings
from consensus.driver import Driver, ReplicaHalted
from consensus.head import Head
from consensus.journal import Journal, JournalCorrupt, JournalFailed
from consensus.journal_entries import JournalContent, decode_entries
from consensus.journal_records import OverrideRecord
from consensus.replica import Replica
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from contracts.nodes import get_node
from crypto.encoding import EncodingError
from crypto.key_files import KeyFileError, read_key_file
from crypto.signatures import SigningKey, verify_signature
from gateway.app import build_gateway
from gateway.ports import Readiness
from gateway.server import start_gateway
from gateway.waiting import build_waiting_gateway
from ledger.block_sync import SyncBlock, serve_blocks
from ledger.chain import Chain
from ledger.contract_set import load_built_in
from ledger.errors import LedgerError, StoreFailed
from ledger.snapshot_keeper import SnapshotKeeper
from ledger.snapshot_shelf import SnapshotShelf
from ledger.speculation import CommittedBlock
from network.block_sync import BlockSync
from network.bodies import BodyFetcher
from network.collector import NodeCollector
from network.equivocation_reports import EquivocationReports
from network.joining import JoinFolders, Joining, JoinPolicy
from network.known_nodes import KnownNodes
from network.ledger_application import LedgerApplication
from network.link_ports import LinkHandlers, PeerAddress
from network.links import Links
from network.readiness import find_obstacle
from network.relay import TransactionRelay
from network.requests import RequestKind
from network.snapshot_serving import SnapshotServer
from network.tls import LinkTls, TlsSetupFailed, build_gateway_client_context, build_gateway_server_context
from vault.errors import VaultError
from vault.key_ring import KeyRing
from vault.vault import Vault

EXIT_OK: Final = 0
EXIT_NOT_STARTED: Final = 1
EXIT_HALTED: Final = 3
NEEDS_SNAPSHOT: Final = -1
"""Of `run_node` alone: the node is to join by a snapshot, then to run again."""
NEEDS_RESTART: Final = -2
"""Likewise: another key of the node takes over."""
DESCRIPTORS_WANTED: Final = 16_384
CLOSE_TIMEOUT_SECONDS: Final = 5.0
GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Rarer collections: nearly all that a block allocates is freed by counting references."""

_CANNOT_START: Final = (
    ConfigError,
    KeyFileError,
    LedgerError,
    JournalCorrupt,
    JournalFailed,
    VaultError,
    TlsSetupFailed,
    EncodingError,
    OSError,
)
"""What may be wrong before a node runs; each message says where, what was found and what to do."""

_log = structlog.get_logger("node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """What a node keeps, opened and checked; nothing runs yet."""

    settings: NodeSettings
    identity: NodeIdentity
    institution_key: SigningKey
    chain: Chain
    journal: Journal
    journal_content: JournalContent
    vault: Vault
    writer: ThreadPoolExecutor
    """The one thread that writes journal and ledger, so that their order holds."""

    @classmethod
    def open(cls, settings: NodeSettings) -> Disks:
        """Raises one of _CANNOT_START, and leaves nothing open then."""
        folder = settings.folder
        genesis = check_node(settings)
        with contextlib.ExitStack() as stack:
            chain = Chain.open(folder.ledger_directory, genesis, settings.ledger)
            stack.callback(chain.close)
            journal = Journal.open(folder.journal_directory, settings.journal)
            stack.callback(journal.close)
            vault = Vault.open(
                folder.vault_directory,
                holder=settings.node.institution,
                key_ring=KeyRing.open(folder.key_ring_file),
                settings=settings.vault,
            )
            stack.callback(vault.close)
            content = decode_entries(journal.entries)
            own = get_node(chain.state, settings.node.replica)
            identity = choose_identity(folder, None if own is None else own.public_key)
            stack.pop_all()
        return cls(
            settings=settings,
            identity=identity,
            institution_key=read_key_file(folder.institution_key_file),
            chain=chain,
            journal=journal,
            journal_content=content,
            vault=vault,
            writer=ThreadPoolExecutor(1, thread_name_prefix="writer"),
        )

    def close(self) -> None:
        """Only once no other thread uses a disk any more: a database closed under a reader crashes."""
        self.writer.shutdown()
        self.vault.close()
        self.journal.close()
        self.chain.close()


class Node:
    """One running node: the parts and how they are joined. Made and used on the event loop."""

    def __init__(self, disks: Disks) -> None:
        settings, chain = disks.settings, disks.chain
        self._disks = disks
        self._settings = settings
        self._replica_id = ReplicaId(settings.node.replica)
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self.is_started = False
        self.needs_snapshot = self.needs_restart = False
        self.links = build_links(settings, disks.identity, chain.replica_set, chain.chain_id)
        self.relay = TransactionRelay(
            chain=chain,
            links=self.links,
            on_pending=self._on_pending,
            on_failure=self.halt,
            settings=settings.network.relay,
        )
        self.equivocation_reports = EquivocationReports(
            ledger=chain,
            submit=self.relay.submit,
            institution_key=disks.institution_key,
            on_failure=self.halt,
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
        self.block_sync = BlockSync(
            links=self.links,
            chain=chain,
            apply=self.application.apply_synced,
            serve=self._serve_blocks,
            on_synced=lambda *synced: self.driver.post_chain_synced(*synced),
            on_failure=self.halt,
            join_policy=JoinPolicy(self.links, chain.genesis, settings=settings.network.fetch),
            on_join=self._leave_for_snapshot,
            settings=settings.network.fetch,
        )
        self.driver = self._build_driver()
        shelf = SnapshotShelf(settings.folder.snapshots_directory)
        self.snapshots = SnapshotKeeper(chain, shelf, settings.snapshots, on_failure=self._halt_from_thread)
        self.snapshot_server = SnapshotServer(
            shelf, lambda: chain.archive, on_failure=self.halt, settings=settings.network.fetch
        )
        self._gateway: web.AppRunner | None = None
        known = KnownNodes(lambda: chain.state, lambda: chain.replica_set, self.links.update_nodes)
        chain.subscribe(known.on_block)
        chain.subscribe(self._on_block)

    def halt(self, error: BaseException) -> None:
        """Something that the node must not outlive."""
        if not self._failure.done():
            self._failure.set_exception(error)

    def _halt_from_thread(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self.halt, error)

    def stop(self) -> None:
        self._stopped.set()

    def _leave_for_snapshot(self) -> None:
        self.needs_snapshot = True
        self.stop()

    async def run(self) -> None:
        """Run until `stop`. Raises what halted the node; OSError when an address cannot be had."""
        for proposal, bodies in self._disks.journal_content.proposals:
            self.application.restore(proposal, bodies)
        self.links.serve(RequestKind.BODIES, self.bodies.on_request)
        self.links.serve(RequestKind.BLOCKS, self.block_sync.on_request)
        self.links.serve(RequestKind.SNAPSHOT, self.snapshot_server.on_request)
        handlers = LinkHandlers(
            on_consensus=self.driver.post_message,
            on_transactions=self.relay.on_transactions,
            on_connected=self._on_connected,
        )
        driving = asyncio.create_task(self.driver.run())
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await self.links.start(handlers)
            self.relay.start()
            await self._start_gateway()
            self.is_started = True
            _log.info("started", height=self._disks.chain.head.height, chain=self._disks.chain.chain_id.hex())
            _warn_of_few_replicas(self._disks.chain)
            await asyncio.wait((driving, stopping, self._failure), return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._failure, driving):
                if ended.done():
                    ended.result()
        finally:
            stopping.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await self._close(driving)
            # Whatever else hangs: no disk is closed under the thread that writes snapshots.
            self.snapshots.close()

    def get_readiness(self) -> Readiness:
        """Whether clients may be sent here, and if not, why."""
        status, chain = self.driver.status, self._disks.chain
        reason = self.links.copy_reason or find_obstacle(
            status,
            connected=sum(map(chain.replica_set.has, self.links.connected)),
            quorum=chain.replica_set.quorum,
            block_age_ms=time.time_ns() // 1_000_000 - chain.head.header.time_ms,
            block_age_ms_max=chain.genesis.parameters.expiry_window_ms_max,
        )
        return Readiness(
            is_ready=not reason,
            reason=reason,
            epoch=status.epoch,
            view=status.view,
            primary=status.primary,
            replica=self._replica_id,
        )

    # Joining the parts

    def _build_driver(self) -> Driver:
        chain, journal = self._disks.chain, self._disks.journal
        replica = Replica(
            settings=compute_replica_settings(self._settings.consensus, chain.genesis.parameters),
            chain_id=chain.chain_id,
            replica_id=self._replica_id,
            public_key=self._disks.identity.key.public_key,
            signer=self._disks.identity.key.sign,
            verify=verify_signature,
            replica_set=chain.replica_set,
            head=Head(
                height=Height(chain.head.height),
                digest=chain.head.digest,
                certificate=chain.head.certificate,
                closing=chain.epoch.closing,
            ),
            compute_digest=self.application.compute_digest,
            journal=self._disks.journal_content.records,
            journal_missing=journal.is_missing,
        )
        return Driver(
            replica=replica,
            replica_id=self._replica_id,
            application=self.application,
            transport=self.links,
            block_sync=self.block_sync,
            relay=self.relay,
            journal=journal,
            writer=self._disks.writer,
            settings=self._settings.driver,
            on_evidence=self.equivocation_reports.report,
            on_refusal=lambda sender, reason: _log.warning("refused", replica=sender, reason=reason),
        )

    async def _start_gateway(self) -> None:
        settings, folder = self._settings, self._settings.folder
        try:
            application = build_gateway(
                chain=self._disks.chain,
                submit=self.relay.submit,
                vault=self._disks.vault,
                institution_key=self._disks.institution_key,
                settings=settings.gateway,
                readiness=self.get_readiness,
                client_tls=build_gateway_client_context(folder.ca_file),
                halt=self.halt,
                collectors=(
                    NodeCollector(
                        self.driver,
                        self.links,
                        self.relay,
                        self.block_sync,
                        self.bodies,
                        self.snapshots,
                        self.snapshot_server,
                        self.equivocation_reports,
                    ),
                ),
            )
        except ValueError as error:
            fault = Fault(key="-", found=str(error), expected="the institution's key on this ledger")
            path = folder.institution_key_file
            raise ConfigError(path, (fault,), "use the key that was registered last") from error
        tls = build_gateway_server_context(folder.gateway_certificate_file, folder.gateway_key_file)
        self._gateway = await start_gateway(application, settings=settings.gateway, tls=tls)

    async def _close(self, driving: asyncio.Task[None]) -> None:
        """Clients first, then the replica, then the network."""
        if self._gateway is not None:
            await self._gateway.cleanup()
        self.driver.stop()
        await asyncio.wait((driving,))
        if not driving.cancelled():
            driving.exception()
        await self.block_sync.close()
        await self.equivocation_reports.close()
        await self.relay.close()
        await self.links.close()

    def _serve_blocks(self, height: int, count_max: int, bytes_max: int) -> list[SyncBlock]:
        try:
            return serve_blocks(self._disks.chain, height, count_max=count_max, bytes_max=bytes_max)
        except StoreFailed as error:
            self.halt(error)
            raise

    def _on_pending(self, oldest: bytes | None) -> None:
        self.driver.post_oldest_pending(oldest)

    def _on_block(self, block: CommittedBlock) -> None:
        """Where a new epoch names the key that is prepared here, the node starts again with it."""
        if block.header.next_replica_set_digest == block.header.replica_set_digest:
            return
        own = self._disks.identity.key.public_key
        named = self._disks.chain.replica_set.get_public_key(self._replica_id)
        if named in (None, own):
            return
        try:
            has_key = any(
                identity.key.public_key == named for identity in list_identities(self._settings.folder)
            )
        except KeyFileError as error:
            _log.warning("the next key cannot be used", reason=str(error))
            return
        _log.info("this replica has another key", height=block.header.height, is_here=has_key)
        if has_key:
            self.needs_restart = True
            self.stop()

    def _on_connected(self, replica: ReplicaId) -> None:
        self.driver.post_peer_connected(replica)
        self.relay.send_pending(replica)


def build_links(
    settings: NodeSettings, identity: NodeIdentity, replica_set: ReplicaSet, chain_id: bytes
) -> Links:
    """The node's links to the members of a replica set. Raises TlsSetupFailed."""
    folder = settings.folder
    return Links(
        replica=ReplicaId(settings.node.replica),
        replica_set=replica_set,
        chain_id=chain_id,
        tls=LinkTls.load(
            ca_file=folder.ca_file,
            certificate_file=identity.certificate_file,
            key_file=identity.key_file,
        ),
        signing_key=identity.key,
        listen_host=settings.node.link_host,
        listen_port=settings.node.link_port,
        addresses=tuple(
            PeerAddress(replica=ReplicaId(peer.replica), host=peer.host, port=peer.port)
            for peer in settings.peers
        ),
        settings=settings.network.links,
    )


def _warn_of_few_replicas(chain: Chain) -> None:
    quorum = chain.replica_set.quorum
    if quorum.faults_max == 0:
        _log.warning("no fault is tolerated", replicas=quorum.replica_count, expected="4 or more")


def _log_overrides(content: JournalContent) -> None:
    """What an operator has answered for, at every start again (rule P6)."""
    for record in content.records:
        if isinstance(record, OverrideRecord):
            _log.warning(
                "silence was ended", height=record.height, at_ms=record.time_ms, reason=record.reason
            )


def raise_descriptor_limit() -> None:
    """As many file descriptors as the system allows: doors and database are bounded far below that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, DESCRIPTORS_WANTED) if hard != resource.RLIM_INFINITY else DESCRIPTORS_WANTED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run_node(settings: NodeSettings, *, stops_with_stdin: bool) -> int:
    """Open and run one node until it ends; the process's exit code. Raises what kept it from starting."""
    raise_descriptor_limit()
    _log.info("opening", folder=str(settings.folder.directory))
    disks = Disks.open(settings)
    try:
        _log_overrides(disks.journal_content)
        node = Node(disks)
        _stop_on_request(node.stop, stops_with_stdin=stops_with_stdin)
        # What was made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            await node.run()
        except Exception as error:
            if not node.is_started:
                raise
            is_defect = not isinstance(error, (ReplicaHalted, *_CANNOT_START))
            _log.critical("halted", reason=f"{type(error).__name__}: {error}", exc_info=is_defect)
            return EXIT_HALTED
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()
        disks.close()
    if node.needs_restart:
        return NEEDS_RESTART
    return NEEDS_SNAPSHOT if node.needs_snapshot else EXIT_OK


async def join_by_snapshot(settings: NodeSettings, *, stops_with_stdin: bool) -> bool:
    """Put a snapshot's ledger in the place of the node's own; False when told to stop before it is there.

    Raises like `run_node`.
    """
    folder, genesis = settings.folder, check_node(settings)
    identity = choose_identity(folder, None)
    links = build_links(settings, identity, genesis.replica_set, genesis.compute_chain_id())
    joining = Joining(
        links,
        genesis,
        JoinFolders(
            joining=folder.joining_directory,
            ledger=folder.ledger_directory,
            snapshots=folder.snapshots_directory,
        ),
        contract_set=load_built_in(),
        store_settings=settings.ledger.store,
        settings=settings.network.fetch,
    )
    gateway = await start_gateway(
        build_waiting_gateway(lambda: joining.progress),
        settings=settings.gateway,
        tls=build_gateway_server_context(folder.gateway_certificate_file, folder.gateway_key_file),
    )
    stopped = asyncio.Event()
    _stop_on_request(stopped.set, stops_with_stdin=stops_with_stdin)
    await links.start(LinkHandlers.deaf())
    running, stopping = asyncio.create_task(joining.run()), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        return running.done()
    finally:
        joining.stop()
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        await links.close()
        await gateway.cleanup()


def run_until_stopped(settings: NodeSettings, *, stops_with_stdin: bool) -> int:
    """Run the node; again where it has a new key, and after joining by a snapshot where it needs one.

    Returns the process's exit code.
    """
    while True:
        code = asyncio.run(run_node(settings, stops_with_stdin=stops_with_stdin))
        if code == NEEDS_SNAPSHOT:
            if not asyncio.run(join_by_snapshot(settings, stops_with_stdin=stops_with_stdin)):
                return EXIT_OK
        elif code != NEEDS_RESTART:
            return code


def _stop_on_request(stop: Callable[[], None], *, stops_with_stdin: bool) -> None:
    """On SIGTERM, on SIGINT, and when whoever started this node closes its standard input."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 4_096):
            stop()

    if stops_with_stdin:
        loop.add_reader(sys.stdin.fileno(), on_stdin)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit code."""
    parser = argparse.ArgumentParser(prog="node", description="Run one node of a chartchain network.")
    parser.add_argument("--config", type=Path, required=True, help="the node's node.toml")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input is closed")
    options = parser.parse_args(arguments)
    try:
        settings = load_node_settings(options.config)
        configure_logging(settings.log.level)
        structlog.contextvars.bind_contextvars(node=settings.node.name)
        return run_until_stopped(settings, stops_with_stdin=options.stop_with_stdin)
    except _CANNOT_START as error:
        sys.stderr.write(f"node: cannot start: {error}\n")
        return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main())
