"""A consortium of four nodes with real keys, certificates and TLS, on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consensus.replica_set import Member, ReplicaId, ReplicaSet
from crypto.hashing import compute_digest
from crypto.key_files import write_key_file
from crypto.signatures import SigningKey
from ledger.genesis import Parameters
from ledger.snapshot_shelf import SnapshotShelf
from network.certificates import KeyPair, create_authority, issue_node_certificate
from network.link_ports import LinkHandlers, PeerAddress
from network.links import Links
from network.settings import LinkSettings
from network.tls import LinkTls
from tests.ledger.conftest import Kit
from tests.ledger.snapshot_source import WINDOW_MS, Source, make_source

CHAIN_ID = b"c" * 32
HOST = "127.0.0.1"

FAST = LinkSettings(
    backoff_ms=10,
    backoff_ms_max=50,
    ban_ms=150,
    close_timeout_ms=200,
    connect_timeout_ms=2_000,
    frame_bytes_max=262_144,
)
"""Settings with short waits."""


@dataclass
class Consortium:
    """Keys, certificates and the replica set of four nodes, all in files."""

    directory: Path
    authority: KeyPair
    keys: tuple[SigningKey, ...]
    replica_set: ReplicaSet

    def get_key_file(self, replica: int) -> Path:
        return self.directory / f"node-{replica}.pem"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def load_tls(self, replica: int, *, certificate: bytes | None = None) -> LinkTls:
        """The node's TLS, with another certificate than its own if one is given."""
        path = self.directory / f"certificate-{replica}-{'own' if certificate is None else 'other'}.pem"
        if certificate is None:
            certificate = issue_node_certificate(self.authority, self.keys[replica], f"node-{replica}")
        path.write_bytes(certificate)
        return LinkTls.load(ca_file=self.ca_file, certificate_file=path, key_file=self.get_key_file(replica))


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    directory = tmp_path_factory.mktemp("consortium")
    authority = create_authority("test consortium")
    (directory / "ca.pem").write_bytes(authority.certificate_pem)
    keys = tuple(SigningKey(compute_digest(b"node", bytes([replica]))) for replica in range(4))
    for replica, key in enumerate(keys):
        write_key_file(directory / f"node-{replica}.pem", key)
    members = tuple(
        Member(replica=replica, public_key=key.public_key, institution=bytes([replica]) * 16)
        for replica, key in enumerate(keys)
    )
    return Consortium(directory, authority, keys, ReplicaSet(epoch=0, members=members))


@dataclass
class Inbox:
    """What came in at one node."""

    consensus: list[tuple[int, bytes]] = field(default_factory=list)
    transactions: list[tuple[int, list[bytes]]] = field(default_factory=list)
    oldest: list[tuple[int, bytes]] = field(default_factory=list)
    connected: list[int] = field(default_factory=list)

    @property
    def handlers(self) -> LinkHandlers:
        return LinkHandlers(
            on_consensus=lambda replica, message: self.consensus.append((replica, message)),
            on_transactions=lambda replica, signed: self.transactions.append((replica, signed)),
            on_oldest=lambda replica, signed: self.oldest.append((replica, signed)),
            on_connected=self.connected.append,
        )


StartLinks = Callable[..., Awaitable[tuple[Links, Inbox]]]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def wait_for() -> WaitFor:
    """Wait until a condition holds, half a minute at most."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - the conditions are other parts' state
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
async def start_links(consortium: Consortium) -> AsyncIterator[StartLinks]:
    """Starts the links of a node; lower ids dial higher ones, so start the highest first."""
    started: dict[int, Links] = {}

    async def start(
        replica: int,
        *,
        tls: LinkTls | None = None,
        settings: LinkSettings = FAST,
        chain_id: bytes = CHAIN_ID,
        replica_set: ReplicaSet | None = None,
        port: int = 0,
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> tuple[Links, Inbox]:
        addresses = tuple(
            PeerAddress(replica=ReplicaId(other), host=HOST, port=links.listen_port)
            for other, links in started.items()
            if other > replica
        )
        links = Links(
            replica=ReplicaId(replica),
            replica_set=replica_set or consortium.replica_set,
            chain_id=chain_id,
            tls=tls or consortium.load_tls(replica),
            signing_key=consortium.keys[replica],
            listen_host=HOST,
            listen_port=port,
            addresses=addresses,
            settings=settings,
            clock_ms=clock_ms,
        )
        inbox = Inbox()
        await links.start(inbox.handlers)
        if replica in started:
            closed.append(started[replica])
        started[replica] = links
        return links, inbox

    closed: list[Links] = []
    yield start
    for links in (*started.values(), *closed):
        await links.close()


@pytest.fixture
def fast() -> LinkSettings:
    return FAST


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    kit = Kit(tmp_path / "kit", parameters=Parameters(state_buckets_log2=8, expiry_window_ms_max=WINDOW_MS))
    made = make_source(kit, tmp_path / "snapshots")
    yield made
    made.shelf.close()
    for chain in kit.chains:
        chain.close()


@pytest.fixture
def grow(source: Source) -> Iterator[Callable[[], Source]]:
    """Makes the same ledger one block longer, with a snapshot of that block only."""
    made: list[Source] = []

    def commit_one() -> Source:
        expires_ms = source.chain.head.header.time_ms + WINDOW_MS
        source.kit.commit(source.chain, source.kit.note(b"one more", "x", expires_ms=expires_ms))
        folder = source.kit.directory / f"only-{source.chain.head.height}"
        made.append(Source(source.kit, source.chain, SnapshotShelf(folder)))
        return made[-1]

    yield commit_one
    for grown in made:
        grown.shelf.close()
