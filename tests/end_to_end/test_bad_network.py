"""Four daemons, each in a network namespace of its own, on a network that is cut, one-way, lossy or slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import LocalProcesses
from config.local_network import LocalNetwork, create_local_network
from ledger.genesis import Parameters
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import stop_and_audit
from tests.end_to_end.namespaces import NodeNamespaces
from tests.end_to_end.traffic import run_traffic

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def namespaces() -> Iterator[NodeNamespaces]:
    with NodeNamespaces(4) as made, made.as_client():
        yield made


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespaces: NodeNamespaces) -> LocalNetwork:
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=500)
    return create_local_network(tmp_path / "network", hosts=namespaces.hosts, parameters=parameters)


@pytest.fixture
def processes(network: LocalNetwork, namespaces: NodeNamespaces) -> Iterator[LocalProcesses]:
    with LocalProcesses.of_network(network) as running:
        namespaces.place(running)
        running.start()
        yield running


@pytest.mark.slow
async def test_partitions_and_one_way_drops_delay_commits_and_lose_nothing(
    network: LocalNetwork, processes: LocalProcesses, namespaces: NodeNamespaces
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        await traffic.wait_progress()
        primary = (await clients.get_status(clients.urls[0]))["primary"]
        others = [number for number in range(4) if number != primary]
        namespaces.partition([primary], others)
        await traffic.wait_progress()
        namespaces.heal()
        namespaces.drop(others[0], others[1])
        await traffic.wait_progress()
        namespaces.heal()
        namespaces.partition([0, 1], [2, 3])
        await check_nothing_commits(clients, seconds=1.0)
        namespaces.heal()
        await traffic.wait_progress(8)
    await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
async def test_lost_packets_delay_commits_and_lose_nothing(
    network: LocalNetwork, processes: LocalProcesses, namespaces: NodeNamespaces, share: float
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        await traffic.wait_progress()
        namespaces.lose(share)
        await traffic.wait_progress(40, timeout_seconds=240)
        namespaces.heal()
        await traffic.wait_progress(8)
    await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_loss_on_narrow_links_delays_commits_and_loses_nothing(
    network: LocalNetwork, processes: LocalProcesses, namespaces: NodeNamespaces
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        namespaces.limit_rate(2_000)
        await traffic.wait_progress()
        namespaces.lose(0.1)
        await traffic.wait_progress()
        namespaces.heal()
        await traffic.wait_progress(4)
    await stop_and_audit(network, processes, traffic)


async def check_nothing_commits(clients: Clients, *, seconds: float) -> None:
    """No half of the network reaches a quorum: no head moves once what was on its way has arrived."""
    await asyncio.sleep(0.5)
    before = [(await clients.get_status(url))["height"] for url in clients.urls]
    await asyncio.sleep(seconds)
    assert [(await clients.get_status(url))["height"] for url in clients.urls] == before
