"""Four daemons as real processes: TLS, LevelDB, journals; killed, wiped, damaged and filled up."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.processes import LocalProcesses, NodeProcess
from config.local_network import LocalNetwork, create_local_network
from ledger.genesis import Parameters
from ledger.transaction import SignedTransaction
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import NetworkAudit, audit_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

JOURNAL_BYTES_OF_SOME_VOTES = 1_000


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNetwork:
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=500)
    return create_local_network(tmp_path / "network", parameters=parameters)


def wait_end(node: NodeProcess, seconds: float = 30.0) -> int:
    assert node.process is not None
    return node.process.wait(seconds)


def check_agreement(statuses: Sequence[dict[str, Any]], history_size: int) -> None:
    assert len({status["state_root"] for status in statuses}) == 1
    assert len({status["history_root"] for status in statuses}) == 1
    assert {status["history_size"] for status in statuses} == {history_size}  # None lost, none doubled.


async def test_four_daemons_commit_what_comes_in_over_http_agree_on_the_state_and_stop_cleanly(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients:
        await clients.open_folder()
        batches = [clients.sign(50) for _ in network.nodes]
        await asyncio.gather(
            *(clients.commit(batch, url) for batch, url in zip(batches, clients.urls, strict=True))
        )
        check_agreement(await clients.wait_agreement(clients.urls, 201), 201)
        metrics = await clients.read_metrics(clients.urls[0])
    assert metrics["chartchain_links_connected"] == 3
    assert metrics["chartchain_relay_submitted_total"] >= 50
    assert metrics["chartchain_consensus_journal_syncs_total"] > 0
    assert metrics["chartchain_consensus_messages_undecodable_total"] == 0
    assert metrics['chartchain_links_penalties_total{replica="1"}'] == 0
    await check_clean_stop(processes.nodes)


def stop_and_audit(
    network: LocalNetwork,
    processes: LocalProcesses,
    transactions: Iterable[SignedTransaction],
    audit: NetworkAudit | None = None,
) -> None:
    processes.stop()
    audit_network(network, [item.transaction_id for item in transactions], audit=audit)


async def check_clean_stop(nodes: Sequence[NodeProcess]) -> None:
    """On SIGTERM, on SIGINT, and when whoever started the daemon is gone."""
    first, second, third = (node.process for node in nodes[:3])
    assert first is not None
    assert second is not None
    assert third is not None
    assert third.stdin is not None
    first.terminate()
    second.send_signal(signal.SIGINT)
    third.stdin.close()
    assert [wait_end(node) for node in nodes[:3]] == [0, 0, 0]
    for node in nodes[:3]:
        log = node.log_path.read_text()
        assert "Traceback" not in log
        assert "halted" not in log


async def test_rule_P4_the_primary_is_killed_under_load_and_nothing_is_lost_or_doubled(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients:
        opening = await clients.open_folder()
        batches = [clients.sign(25) for _ in range(24)]
        primary = processes.nodes[(await clients.get_status(clients.urls[0]))["primary"]]

        async def send(number: int) -> None:
            for batch in batches[number::4]:
                await clients.commit(batch, clients.urls[number])

        async def kill_and_restart() -> None:
            await asyncio.sleep(0.3)
            primary.kill()
            await asyncio.sleep(1.0)
            primary.start()

        await asyncio.gather(kill_and_restart(), *map(send, range(4)))
        await processes.wait_ready()
        check_agreement(await clients.wait_agreement(clients.urls, 601), 601)
    stop_and_audit(network, processes, itertools.chain([opening], *batches))


async def test_rule_P4_all_daemons_killed_at_once_come_back_with_everything_acknowledged(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    async with open_clients(network) as clients:
        await clients.open_folder()
        acknowledged: list[SignedTransaction] = []
        for _ in range(2):
            batch = clients.sign(20)
            await clients.commit(batch, clients.urls[1])
            acknowledged += batch
            unanswered = clients.sign(20)
            await clients.submit(unanswered, clients.urls[2])  # Killed with these on their way.
            for node in processes.nodes:
                node.kill()
            processes.start()
            await processes.wait_ready()
            await clients.commit(unanswered, clients.urls[3])
            acknowledged += unanswered
        statuses = await clients.wait_agreement(clients.urls, 81)
        check_agreement(statuses, 81)
        for url in clients.urls:
            assert {await clients.get_end(item, url, 0) for item in acknowledged} == {"committed"}
    stop_and_audit(network, processes, acknowledged)


async def test_rule_P6_a_damaged_journal_is_refused_and_wiped_data_mean_silence_before_the_next_vote(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    victim, audit = processes.nodes[1], NetworkAudit(network)
    async with open_clients(network) as clients:
        sent = [await clients.open_folder(), *clients.sign(10)]
        await clients.commit(sent[1:], clients.urls[0])
        await wait_for_votes(victim)
        victim.kill()
        audit.gather(network.nodes[1])
        check_damaged_journal_is_refused(victim)
        shutil.rmtree(victim.directory / "data" / "journal")
        shutil.rmtree(victim.directory / "data" / "ledger")
        victim.start()
        reasons = {""}
        async with asyncio.timeout(60):
            while "ready" not in reasons:
                victim.check_running()
                reasons.add(await clients.get_readiness(victim.gateway_url))
                await asyncio.sleep(0.01)
        assert any("journal is missing: silent until" in reason for reason in reasons)
        sent += clients.sign(10)
        await clients.commit(sent[11:], clients.urls[1])
        check_agreement(await clients.wait_agreement(clients.urls, 21), 21)
    stop_and_audit(network, processes, sent, audit)


async def wait_for_votes(victim: NodeProcess) -> None:
    """Until the node has voted more than once: one that was behind follows at first, and journals nothing."""
    async with asyncio.timeout(60):
        while get_segment(victim).stat().st_size < JOURNAL_BYTES_OF_SOME_VOTES:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def get_segment(victim: NodeProcess) -> Path:
    (segment,) = (victim.directory / "data" / "journal").glob("*.segment")
    return segment


def check_damaged_journal_is_refused(victim: NodeProcess) -> None:
    segment = get_segment(victim)
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data)
    victim.start()
    assert wait_end(victim) == 1
    tail = victim.read_log_tail()
    assert "node: cannot start:" in tail
    assert "damaged at byte" in tail
    assert "yet a good frame follows" in tail
    assert "Traceback" not in tail


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A tmpfs in the place of a folder, with the folder's files."""
    kept = path.with_name(path.name + "-kept")
    path.rename(kept)
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=False, capture_output=True
    )
    if made.returncode:
        path.rmdir()
        kept.rename(path)
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        shutil.copytree(kept, path, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def resize(path: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
async def test_rule_P7_a_full_disk_stops_the_daemon_with_the_reason_and_it_restarts_clean(
    network: LocalNetwork,
) -> None:
    data = network.nodes[3].directory / "data"
    (data / "ledger").mkdir()
    with (
        small_disk(data / "journal", "60k"),
        small_disk(data / "ledger", "50m"),
        LocalProcesses.of_network(network) as processes,
    ):
        victim = processes.nodes[3]
        processes.start()
        await processes.wait_ready()
        async with open_clients(network) as clients:
            sent = [await clients.open_folder()]
            sent += await fill_up(clients, victim)
            resize(data / "journal", "50m")
            victim.start()
            await processes.wait_ready()
            resize(data / "ledger", "300k")
            sent += await fill_up(clients, victim)
            resize(data / "ledger", "50m")
            victim.start()
            await processes.wait_ready()
            check_agreement(await clients.wait_agreement(clients.urls, len(sent)), len(sent))
        stop_and_audit(network, processes, sent)


async def fill_up(clients: Clients, victim: NodeProcess) -> list[SignedTransaction]:
    """Commit through another node until the victim's disk is full; what it took."""
    sent: list[SignedTransaction] = []
    async with asyncio.timeout(60):
        while victim.is_running:
            batch = clients.sign(100)
            await clients.commit(batch, clients.urls[0])
            sent += batch
    assert wait_end(victim) == 3
    tail = victim.read_log_tail()
    assert '"event": "halted"' in tail
    assert "No space left on device" in tail
    return sent
