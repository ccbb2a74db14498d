"""How long commits stop, and that they resume without an operator: a dead primary, a time without a quorum.

An hour without a quorum passes in tests/simulation/test_rules.py, where time is simulated; here outages are
shorter and the processes real.
The figures are logged: `pytest --log-cli-level=INFO`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.processes import LocalProcesses
from config.local_network import LocalNetwork, create_local_network
from consensus.settings import ReplicaSettings
from ledger.genesis import Parameters
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import stop_and_audit
from tests.end_to_end.namespaces import NodeNamespaces
from tests.end_to_end.traffic import Traffic, run_traffic

pytestmark = pytest.mark.timeout(600)

LOG = logging.getLogger(__name__)
VIEW_TIMEOUT_SECONDS = ReplicaSettings().view_timeout_ms / 1_000
RESUME_SECONDS_MAX = 30.0
PARAMETERS = Parameters(state_buckets_log2=8)


@pytest.fixture
def network(tmp_path: Path) -> LocalNetwork:
    return create_local_network(tmp_path / "network", parameters=PARAMETERS)


@pytest.fixture
def processes(network: LocalNetwork) -> Iterator[LocalProcesses]:
    with LocalProcesses.of_network(network) as running:
        running.start()
        yield running


@pytest.mark.parametrize(
    ("kills_max", "judge"),
    [
        pytest.param(3, min, marks=pytest.mark.slow, id="once"),
        pytest.param(7, statistics.median, marks=pytest.mark.soak, id="median"),
    ],
)
async def test_rule_L1_a_dead_primary_costs_at_most_two_view_timeouts(
    network: LocalNetwork, processes: LocalProcesses, kills_max: int, judge: Callable[[list[float]], float]
) -> None:
    """Measured by clients of the other gateways, with default timeouts: the longest time without a commit.

    A machine that is busy with other things may stretch one of these times, hence more than one try.
    """
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        gaps: list[float] = []
        for _ in range(kills_max):
            await traffic.wait_progress(8)
            primary = processes.nodes[(await clients.get_status(clients.urls[0]))["primary"]]
            killed = time.monotonic()
            primary.kill()
            await traffic.wait_progress(20)
            gaps.append(traffic.compute_longest_gap(killed))
            primary.start()
            await processes.wait_ready()
            if judge is min and gaps[-1] <= 2 * VIEW_TIMEOUT_SECONDS:
                break
    LOG.info("seconds without a commit after the primary was killed: %s", sorted(gaps))
    assert judge(gaps) <= 2 * VIEW_TIMEOUT_SECONDS
    await stop_and_audit(network, processes, traffic)


@pytest.mark.parametrize(
    "outage_seconds", [pytest.param(2, marks=pytest.mark.slow), pytest.param(120, marks=pytest.mark.soak)]
)
async def test_rule_L1_commits_resume_when_paused_nodes_go_on(
    network: LocalNetwork, processes: LocalProcesses, outage_seconds: int
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients, clients.urls[:2]) as traffic:
        await traffic.wait_progress()
        signal_all(processes, signal.SIGSTOP)
        try:
            await check_outage(clients, outage_seconds)
        finally:
            signal_all(processes, signal.SIGCONT)
        await check_resumed(traffic)
    await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_rule_L1_commits_resume_when_dead_nodes_come_back(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients, clients.urls[:2]) as traffic:
        await traffic.wait_progress()
        for node in processes.nodes[2:]:
            node.kill()
        await check_outage(clients, 60)
        processes.start()
        await check_resumed(traffic)
    await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_rule_L1_commits_resume_when_a_partition_heals(tmp_path: Path) -> None:
    """Long enough for every connection to be given up and dialled again in vain."""
    with NodeNamespaces(4) as namespaces, namespaces.as_client():
        network = create_local_network(tmp_path / "network", hosts=namespaces.hosts, parameters=PARAMETERS)
        with LocalProcesses.of_network(network) as processes:
            namespaces.place(processes)
            processes.start()
            await processes.wait_ready()
            async with open_clients(network) as clients, run_traffic(clients) as traffic:
                await traffic.wait_progress()
                namespaces.partition([0, 1], [2, 3])
                await check_outage(clients, 60)
                namespaces.heal()
                await check_resumed(traffic)
            await stop_and_audit(network, processes, traffic)


def signal_all(processes: LocalProcesses, number: signal.Signals) -> None:
    """Two of four: those left have no quorum."""
    for node in processes.nodes[2:]:
        assert node.process is not None
        node.process.send_signal(number)


async def check_outage(clients: Clients, seconds: float) -> None:
    """No block meanwhile, and what clients sent keeps waiting."""
    await asyncio.sleep(1.0)
    before = await clients.get_status(clients.urls[0])
    await asyncio.sleep(seconds)
    after = await clients.get_status(clients.urls[0])
    assert after["height"] == before["height"]
    assert after["pending"] > 0


async def check_resumed(traffic: Traffic) -> None:
    seconds = await traffic.wait_progress(1, timeout_seconds=RESUME_SECONDS_MAX)
    LOG.info("commits resumed after %.1f s", seconds)
