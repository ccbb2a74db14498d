"""Four daemons under traffic: paused, killed at every sync, with failing disks and clocks that jump."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.processes import LocalProcesses, NodeProcess
from config.local_network import LocalNetwork, create_local_network
from ledger.genesis import Parameters
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import NetworkAudit, stop_and_audit
from tests.end_to_end.system_call_faults import (
    INPUT_OUTPUT_ERROR,
    KILL,
    attach,
    compute_prefix,
    list_open_files,
)
from tests.end_to_end.traffic import Traffic, run_traffic
from tests.end_to_end.wall_clocks import WallClock

pytestmark = pytest.mark.timeout(900)

HALTED = 3
DAY_SECONDS = 86_400
KILLS = 20
ERRORS = 5
"""One after the other, at one store."""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNetwork:
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=500, blocks_per_primary=20)
    return create_local_network(tmp_path / "network", parameters=parameters)


@pytest.fixture
def processes(network: LocalNetwork) -> Iterator[LocalProcesses]:
    with LocalProcesses.of_network(network) as running:
        yield running


async def wait_end(node: NodeProcess, seconds: float = 30.0) -> int:
    assert node.process is not None
    return await asyncio.to_thread(node.process.wait, seconds)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param((2, 7), marks=pytest.mark.slow, id="some"),
        pytest.param(range(1, 41), marks=pytest.mark.soak, id="every"),
    ],
)
async def test_rules_P1_to_P3_killed_at_every_sync_nobody_contradicts_itself(
    network: LocalNetwork, processes: LocalProcesses, counts: Sequence[int]
) -> None:
    """The victim is started under a tracer that kills it upon entering its n-th fdatasync."""
    victim, audit = processes.nodes[1], NetworkAudit(network)
    processes.start()
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients, clients.urls[2:]) as traffic:
        await traffic.wait_progress()
        victim.kill()
        for count in counts:
            # What it signed is read now: the journal is cut short as soon as it goes on.
            audit.journals.gather(network.nodes[1].folder.journal_directory)
            victim.command_prefix = compute_prefix("fdatasync", KILL, when=count)
            victim.start()
            assert await wait_end(victim) == -signal.SIGKILL
        audit.journals.gather(network.nodes[1].folder.journal_directory)
        victim.command_prefix = ()
        victim.start()
        await processes.wait_ready()
        await traffic.wait_progress(8)
    await stop_and_audit(network, processes, traffic, audit=audit)


@pytest.mark.parametrize(
    ("call", "store", "suffix", "times"),
    [
        pytest.param("fdatasync", "journal", ".segment", ERRORS, marks=pytest.mark.soak),
        pytest.param("write", "journal", ".segment", ERRORS, marks=pytest.mark.soak),
        pytest.param("fdatasync", "ledger", ".log", ERRORS, marks=pytest.mark.soak),
        pytest.param("write", "ledger", ".log", ERRORS, marks=pytest.mark.soak),
        pytest.param("write", "ledger", ".log", 1, marks=pytest.mark.slow),
    ],
)
async def test_rule_P7_a_disk_error_stops_the_daemon_with_the_reason_and_it_restarts_clean(
    network: LocalNetwork, processes: LocalProcesses, call: str, store: str, suffix: str, times: int
) -> None:
    victim, audit = processes.nodes[2], NetworkAudit(network)
    processes.start()
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients, clients.urls[:2]) as traffic:
        for number in range(times):
            await traffic.wait_progress()
            (path,) = list_open_files(victim, victim.directory / "data" / store, suffix)
            with attach(victim, call, INPUT_OUTPUT_ERROR, path=path):
                assert await wait_end(victim) == HALTED
            audit.journals.gather(network.nodes[2].folder.journal_directory)
            halts = [line["reason"] for line in read_log(victim) if line["event"] == "halted"]
            assert len(halts) == number + 1
            assert "Input/output error" in halts[-1]
            victim.start()
            await processes.wait_ready()
        await traffic.wait_progress()
    await stop_and_audit(network, processes, traffic, audit=audit)


@pytest.mark.soak
async def test_rule_E3_a_clock_that_jumps_a_day_delays_the_chain_and_does_not_stop_it(
    network: LocalNetwork, processes: LocalProcesses, tmp_path: Path
) -> None:
    clocks = [WallClock(tmp_path / f"clock-{number}") for number in range(4)]
    for node, clock in zip(processes.nodes, clocks, strict=True):
        node.command_prefix = clock.command_prefix
    processes.start()
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        await traffic.wait_progress()
        for seconds, told in ((-DAY_SECONDS, "behind"), (DAY_SECONDS, "ahead of")):
            primary = (await clients.get_status(clients.urls[0]))["primary"]
            victim = processes.nodes[primary]
            clocks[primary].shift(seconds)
            await wait_told(clients, victim, told)
            # Who is behind refuses the others' proposals; the proposals of who is ahead are refused by them.
            refusing = [node for node in processes.nodes if (node is victim) is (seconds < 0)]
            await wait_refused(refusing)
            await traffic.wait_progress(4)
            clocks[primary].shift(0)
            await processes.wait_ready()
        for clock in clocks:  # All together: block time then goes on by the millisecond.
            clock.shift(-60)
        await traffic.wait_progress(4)
    await stop_and_audit(network, processes, traffic)


async def wait_told(clients: Clients, node: NodeProcess, side: str) -> None:
    """Until the node says that its clock is a day off, where it is asked and in one line of its log."""
    said = re.compile(rf"this node's clock is 86[34]\d\d s {side} ")
    is_told, lines = False, list[str]()
    async with asyncio.timeout(120):
        while not (is_told and lines):
            await asyncio.sleep(0.2)
            is_told = bool(said.match(await clients.get_readiness(node.gateway_url)))
            told = [line["reason"] for line in read_log(node) if line["event"] == "clock is off"]
            lines = [reason for reason in told if said.match(reason)]
    assert len(lines) == 1


async def wait_refused(nodes: Sequence[NodeProcess]) -> None:
    """Until each has logged that it refused a proposal that is a day ahead of its own clock."""
    refusal = re.compile(r"proposal .*: block, time_ms: (\d+) found, (\d+) ± \d+ expected")
    async with asyncio.timeout(120):
        for node in nodes:
            ahead_ms = 0
            while ahead_ms < DAY_SECONDS * 500:
                await asyncio.sleep(0.2)
                reasons = [line["reason"] for line in read_log(node) if line["event"] == "refused"]
                found = filter(None, map(refusal.fullmatch, reasons))
                ahead_ms = max((int(match[1]) - int(match[2]) for match in found), default=0)


def read_log(node: NodeProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.log_path.read_text().splitlines() if line.startswith("{")]


@pytest.mark.soak
async def test_rule_P4_nodes_that_pause_and_are_killed_again_and_again_lose_nothing(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    """A paused primary wakes up in a view that the others have left."""
    source, audit = random.Random(1), NetworkAudit(network)
    processes.start()
    await processes.wait_ready()
    async with open_clients(network) as clients, run_traffic(clients) as traffic:
        await traffic.wait_progress()
        for _ in range(KILLS):
            await pause_primary(processes, traffic)
            victim, node = source.choice(list(zip(processes.nodes, network.nodes, strict=True)))
            victim.kill()
            audit.journals.gather(node.folder.journal_directory)
            await asyncio.sleep(source.uniform(0, 1))
            victim.start()
            await processes.wait_ready()
        await traffic.wait_progress(8)
    await stop_and_audit(network, processes, traffic, audit=audit)


async def pause_primary(processes: LocalProcesses, traffic: Traffic) -> None:
    status = await traffic.clients.get_status(traffic.clients.urls[0])
    primary = processes.nodes[status["primary"]]
    assert primary.process is not None
    primary.process.send_signal(signal.SIGSTOP)
    try:
        # Longer than a view timeout, so that the others go on without it.
        await asyncio.sleep(2.5)
    finally:
        primary.process.send_signal(signal.SIGCONT)
    await traffic.wait_progress()
