"""Daemons that join by a snapshot: where blocks are pruned, past a liar, and on after being killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bench.processes import LocalProcesses, NodeProcess
from config.local_network import LocalNetwork, create_local_network
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.genesis import Parameters
from ledger.snapshot_shelf import list_heights
from tests.end_to_end.clients import Clients, TransactionsExpired, open_clients
from tests.end_to_end.ledger_audit import NetworkAudit, audit_network

pytestmark = pytest.mark.timeout(300)

EXPIRY_MS = 4_000
ATTEMPTS_MAX = 5
PRUNED = "chartchain_snapshots_pruned_blocks_total"
WRITTEN = "chartchain_snapshots_written_total"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNetwork:
    """Snapshots often, nothing kept that is older than they need, transactions that soon expire."""
    settings = {
        "CONSENSUS__VIEW_TIMEOUT_MS": "1000",
        "SNAPSHOTS__KEPT_MAX": "2",
        "SNAPSHOTS__KEEP_BLOCKS": "1",
    }
    settings["SNAPSHOTS__INTERVAL_BLOCKS"] = "60"
    for name, value in settings.items():
        monkeypatch.setenv(f"CHARTCHAIN_{name}", value)
    parameters = Parameters(
        state_buckets_log2=8, idle_block_interval_ms=100, expiry_window_ms_max=EXPIRY_MS + 500
    )
    return create_local_network(tmp_path / "network", parameters=parameters)


async def prune_and_wipe(
    clients: Clients, processes: LocalProcesses, network: LocalNetwork, audit: NetworkAudit
) -> int:
    """Commit something, wait until nobody has the first blocks any more, wipe the last node; how much is
    committed. The audit knows what the node had signed."""
    victim = processes.nodes[3]
    await processes.wait_ready()
    clients.expiry_ms = EXPIRY_MS
    await clients.open_folder()
    for _ in range(4):
        await clients.commit(clients.sign(25), clients.urls[0])
    async with asyncio.timeout(60):
        for url in clients.urls:
            while not (await clients.read_metrics(url))[PRUNED]:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
    wipe(victim, network, audit)
    return 101


def wipe(victim: NodeProcess, network: LocalNetwork, audit: NetworkAudit) -> None:
    """It is killed and has lost all but its keys and its vault; the audit knows what it had signed."""
    victim.kill()
    audit.gather(network.nodes[3])
    for name in ("ledger", "journal", "snapshots"):
        shutil.rmtree(victim.directory / "data" / name)


async def watch(
    clients: Clients, victim: NodeProcess, is_wanted: Callable[[str], bool], timeout_seconds: float = 60
) -> list[str]:
    """Every reason that it gave for not being ready, `ready` where it was, up to the first that is wanted."""
    reasons: list[str] = []
    deadline = time.monotonic() + timeout_seconds
    while True:
        victim.check_running()
        reason = await clients.get_readiness(victim.gateway_url)
        if reason not in reasons[-1:]:
            reasons.append(reason)
        if is_wanted(reason):
            return reasons
        assert time.monotonic() < deadline, reasons
        await asyncio.sleep(0.005)


async def watch_until_ready(clients: Clients, victim: NodeProcess) -> list[str]:
    return await watch(clients, victim, lambda reason: reason == "ready")


def read_log(node: NodeProcess, event: str) -> list[dict[str, Any]]:
    lines = [line for line in node.log_path.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


@contextlib.asynccontextmanager
async def falsified_snapshots(node: NodeProcess) -> AsyncIterator[None]:
    """While this lasts every snapshot of the node has false state in it, with the right checksums."""
    shelf, seen = node.directory / "data" / "snapshots", set[int]()

    async def falsify() -> None:
        while True:
            for height in set(list_heights(shelf)) - seen:
                seen.add(height)
                with ChunkFile(shelf / str(height) / "chunks") as chunks:
                    for subtree in range(256):
                        chunk = chunks.read(ChunkKind.STATE, subtree)
                        if chunk is not None:
                            chunks.append(ChunkKind.STATE, subtree, chunk[:-1] + bytes((chunk[-1] ^ 1,)))
            await asyncio.sleep(0.01)

    falsifying = asyncio.create_task(falsify())
    try:
        yield
    finally:
        falsifying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await falsifying


@contextlib.asynccontextmanager
async def work(clients: Clients) -> AsyncIterator[None]:
    """A transaction now and then, so that the turn of a silent primary ends by the others' timers."""

    async def commit_one_by_one() -> None:
        while True:
            await clients.commit(clients.sign(1), clients.urls[0])
            await asyncio.sleep(0.2)

    working = asyncio.create_task(commit_one_by_one())
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@pytest.mark.slow
async def test_rule_P6_a_wiped_node_joins_by_snapshot_past_a_liar_and_is_silent_first(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    liar, victim, audit = processes.nodes[0], processes.nodes[3], NetworkAudit(network)
    async with open_clients(network) as clients:
        committed = await prune_and_wipe(clients, processes, network, audit)
        recent = clients.sign(20)
        await clients.commit(recent, clients.urls[0])
        async with falsified_snapshots(liar):
            victim.start()
            reasons = await watch_until_ready(clients, victim)
        assert any(reason.startswith("joining: ") for reason in reasons)
        assert any("the journal is missing: silent until" in reason for reason in reasons), reasons
        assert len(read_log(victim, "joined")) == 1
        refused = read_log(victim, "snapshot part refused")
        assert {entry["replica"] for entry in refused} == {0}
        assert all("state chunk" in entry["reason"] for entry in refused)
        # What is in the window counts once, whoever is sent it again; and the joined node takes part.
        with contextlib.suppress(ConnectionError, TransactionsExpired):
            await clients.submit(recent, victim.gateway_url)
        last = clients.sign(10)
        await clients.commit(last, victim.gateway_url)
        statuses = await clients.wait_agreement(clients.urls, committed + 30)
        assert {status["history_size"] for status in statuses} == {committed + 30}
        assert len({(status["state_root"], status["history_root"]) for status in statuses}) == 1
    processes.stop()
    audit_network(network, [item.transaction_id for item in last], audit=audit)


@pytest.mark.soak
async def test_a_joining_node_that_is_killed_goes_on_with_what_it_had(
    network: LocalNetwork, processes: LocalProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, audit = processes.nodes[3], NetworkAudit(network)
    for node in processes.nodes[:3]:
        node.stop()
    monkeypatch.setenv("CHARTCHAIN_NETWORK__FETCH__SNAPSHOT_REQUESTS_MAX", "1")
    monkeypatch.setenv("CHARTCHAIN_NETWORK__FETCH__ANSWER_BYTES_MAX", "131072")
    processes.start()
    async with open_clients(network) as clients:
        await prune_and_wipe(clients, processes, network, audit)
        held = await kill_while_fetching(clients, victim, network, audit)
        begun, joined_before = read_log(victim, "snapshot begun"), len(read_log(victim, "joined"))
        # However many snapshots are written while it is away, the one that it was fetching stays.
        written = {url: (await clients.read_metrics(url))[WRITTEN] for url in clients.urls[:3]}
        async with asyncio.timeout(120):
            for url, count in written.items():
                while (await clients.read_metrics(url))[WRITTEN] < count + 3:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        victim.start()
        async with work(clients):
            reasons = await watch_until_ready(clients, victim)
        continued = [parts for parts in map(parse_parts, reasons) if parts]
        assert continued[0] >= held
        assert read_log(victim, "snapshot begun") == begun
        joined = read_log(victim, "joined")[joined_before:]
        assert [entry["height"] for entry in joined] == [begun[-1]["height"]]
        statuses = await clients.wait_agreement(clients.urls, 101)
        assert len({status["state_root"] for status in statuses}) == 1
    processes.stop()
    audit_network(network, (), audit=audit)


async def kill_while_fetching(
    clients: Clients, victim: NodeProcess, network: LocalNetwork, audit: NetworkAudit
) -> int:
    """Start the wiped node, and kill it while it has some parts of a snapshot: how many at least.

    An idle machine may fetch them all between two looks; then it is wiped once more.
    """
    for _ in range(ATTEMPTS_MAX):
        victim.start()
        reasons = await watch(clients, victim, lambda reason: reason == "ready" or parse_parts(reason) > 0)
        if held := parse_parts(reasons[-1]):
            victim.kill()
            return held
        wipe(victim, network, audit)
    raise AssertionError(f"in {ATTEMPTS_MAX} attempts it was never seen fetching")


def parse_parts(reason: str) -> int:
    """How many parts of a snapshot are there, by what /readyz says; 0 while none is."""
    words = reason.split()
    return int(words[words.index("of", 4) - 1]) if reason.startswith("joining: snapshot") else 0
