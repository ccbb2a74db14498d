"""How long commits stop, and that they resume without an operator: a dead primary, a time without a quorum.

Outages last OUTAGE_SECONDS, an environment variable: a minute unless it says otherwise, an hour with 3600.
An hour also passes in tests/simulation/test_rules.py, where time is simulated.
The figures are logged: `pytest --log-cli-level=INFO`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.machine import CpuMark, get_resident_bytes
from bench.processes import LocalProcesses
from config.local_network import LocalNetwork, create_local_network
from consensus.settings import ReplicaSettings
from ledger.genesis import Parameters
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import NetworkAudit, stop_and_audit
from tests.end_to_end.namespaces import NodeNamespaces
from tests.end_to_end.pauses import standing_still
from tests.end_to_end.traffic import Traffic, run_traffic

OUTAGE_SECONDS = int(os.environ.get("OUTAGE_SECONDS", "60"))
pytestmark = pytest.mark.timeout(600 + OUTAGE_SECONDS)

LOG = logging.getLogger(__name__)
VIEW_TIMEOUT_SECONDS = ReplicaSettings().view_timeout_ms / 1_000
RESUME_SECONDS_MAX = 30.0
WAITING_CORES_MAX = 0.1
"""What a node computes while it waits for a quorum, on average and with its clients' polling."""
WAITING_BYTES_MAX = 200 << 20
"""Resident memory of a node that waits."""
PARAMETERS = Parameters(state_buckets_log2=8)
PATIENT = Parameters(state_buckets_log2=8, expiry_window_ms_max=(OUTAGE_SECONDS + 600) * 1_000)
"""What was sent before the outage can still be committed after it."""
IMPATIENT = Parameters(state_buckets_log2=8, expiry_window_ms_max=min(600, OUTAGE_SECONDS // 2) * 1_000)
"""It cannot: clients sign anew."""


@pytest.fixture
def network(tmp_path: Path) -> LocalNetwork:
    return create_local_network(tmp_path / "network", parameters=PARAMETERS)


@pytest.mark.parametrize(
    ("kills_max", "judge"),
    [
        pytest.param(3, min, marks=pytest.mark.slow, id="once"),
        pytest.param(7, max, marks=pytest.mark.soak, id="always"),
    ],
)
async def test_rule_L1_a_dead_primary_costs_at_most_two_view_timeouts(
    network: LocalNetwork, processes: LocalProcesses, kills_max: int, judge: Callable[[list[float]], float]
) -> None:
    """Measured by clients of the other gateways, with default timeouts: the longest time without a commit.

    A machine that is busy with other things may stretch one of these times, hence more than one try, of which
    one must do; in the soak each must.
    """
    audit = NetworkAudit(network)
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        gaps: list[float] = []
        for _ in range(kills_max):
            await traffic.wait_progress(8)
            number = (await clients.get_status(clients.urls[0]))["primary"]
            primary = processes.nodes[number]
            killed = time.monotonic()
            primary.kill()
            await traffic.wait_progress(20)
            gaps.append(traffic.compute_longest_gap(killed))
            audit.journals.gather(network.nodes[number].folder.journal_directory)
            primary.start()
            await processes.wait_ready()
            if judge is min and gaps[-1] <= 2 * VIEW_TIMEOUT_SECONDS:
                break
    LOG.info("seconds without a commit after the primary was killed: %s", sorted(gaps))
    assert judge(gaps) <= 2 * VIEW_TIMEOUT_SECONDS
    await stop_and_audit(network, processes, traffic, audit=audit)


@pytest.mark.slow
async def test_rule_L1_commits_resume_when_nodes_were_paused_for_a_moment(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients, clients.urls[:2]) as traffic:
        await traffic.wait_progress()
        with standing_still(*processes.nodes[2:]):
            assert await check_outage(clients, processes, 2) > 0
        await check_resumed(traffic)
    await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_rule_L1_commits_resume_when_paused_nodes_go_on(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network", parameters=IMPATIENT)
    with LocalProcesses.of_network(network) as processes:
        processes.start()
        await processes.wait_ready()
        async with open_clients(network) as clients:
            clients.expiry_ms = IMPATIENT.expiry_window_ms_max // 2
            async with run_traffic(clients, clients.urls[:2]) as traffic:
                traffic.timeout_seconds += OUTAGE_SECONDS
                await traffic.wait_progress()
                with standing_still(*processes.nodes[2:]):
                    await check_outage(clients, processes, OUTAGE_SECONDS)
                await check_resumed(traffic)
        await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_rule_L1_commits_resume_when_dead_nodes_come_back(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network", parameters=PATIENT)
    with LocalProcesses.of_network(network) as processes:
        processes.start()
        await processes.wait_ready()
        async with open_clients(network) as clients:
            clients.expiry_ms += OUTAGE_SECONDS * 1_000
            async with run_traffic(clients, clients.urls[:2]) as traffic:
                traffic.timeout_seconds += OUTAGE_SECONDS
                await traffic.wait_progress()
                for node in processes.nodes[2:]:
                    node.kill()
                assert await check_outage(clients, processes, OUTAGE_SECONDS) > 0
                processes.start()
                await check_resumed(traffic)
        await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_rule_L1_commits_resume_when_a_partition_heals(tmp_path: Path) -> None:
    """Long enough for every connection to be given up and dialled again in vain."""
    with NodeNamespaces(4) as namespaces, namespaces.as_client():
        network = create_local_network(tmp_path / "network", hosts=namespaces.hosts, parameters=PATIENT)
        with LocalProcesses.of_network(network) as processes:
            namespaces.place(processes)
            processes.start()
            await processes.wait_ready()
            async with open_clients(network) as clients:
                clients.expiry_ms += OUTAGE_SECONDS * 1_000
                async with run_traffic(clients) as traffic:
                    traffic.timeout_seconds += OUTAGE_SECONDS
                    await traffic.wait_progress()
                    namespaces.partition([0, 1], [2, 3])
                    assert await check_outage(clients, processes, OUTAGE_SECONDS) > 0
                    namespaces.heal()
                    await check_resumed(traffic)
            await stop_and_audit(network, processes, traffic)


@pytest.mark.soak
async def test_rule_L2_a_dead_primary_does_not_stop_an_idle_ledger_for_good(tmp_path: Path) -> None:
    """Were block time to stand still for an expiry window, nothing that is signed would be taken any more."""
    window_ms = 5_000
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=500, expiry_window_ms_max=window_ms)
    network = create_local_network(tmp_path / "network", parameters=parameters)
    with LocalProcesses.of_network(network) as processes:
        processes.start()
        await processes.wait_ready()
        async with open_clients(network) as clients:
            clients.expiry_ms = window_ms // 2
            opening = await clients.open_folder()
            primary = (await clients.get_status(clients.urls[0]))["primary"]
            processes.nodes[primary].kill()
            await asyncio.sleep(2 * window_ms / 1_000)
            traffic = Traffic(clients, acknowledged=[opening])
            working = asyncio.create_task(traffic.run([clients.urls[primary - 1]]))
            await traffic.wait_progress(3)
            traffic.stop()
            await working
        processes.start()
        await processes.wait_ready()
        await stop_and_audit(network, processes, traffic)


async def check_outage(clients: Clients, processes: LocalProcesses, seconds: float) -> int:
    """No block meanwhile, and the first two nodes wait at little cost; what is pending at the first.

    Of an outage of seconds not even the beginning is over: what it costs is not judged.
    """
    await asyncio.sleep(1.0)
    before = await clients.get_status(clients.urls[0])
    survivors = [node.process_id for node in processes.nodes[:2]]
    begin = CpuMark.now(survivors)
    await asyncio.sleep(seconds)
    cores = CpuMark.now(survivors).compute_cores_since(begin) / len(survivors)
    resident = [get_resident_bytes(process_id) for process_id in survivors]
    LOG.info("%d s without a quorum: %.3f cores a node, %s MiB", seconds, cores, [n >> 20 for n in resident])
    after = await clients.get_status(clients.urls[0])
    assert after["height"] == before["height"]
    assert max(resident) <= WAITING_BYTES_MAX
    assert seconds < OUTAGE_SECONDS or cores <= WAITING_CORES_MAX
    return int(after["pending"])


async def check_resumed(traffic: Traffic) -> None:
    seconds = await traffic.wait_progress(1, timeout_seconds=RESUME_SECONDS_MAX)
    LOG.info("commits resumed after %.1f s", seconds)
