"""Four daemons as real processes: TLS, LevelDB, journals; killed, wiped, damaged and filled up."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from bench.processes import LocalProcesses, NodeProcess
from bench.workload import AnchorWorkload
from config.local_network import LocalNetwork, create_local_network
from crypto.key_files import read_key_file
from ledger.genesis import Parameters
from ledger.transaction import SignedTransaction, decode_transaction, encode_transaction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TAKEN = {"accepted", "duplicate", "already_committed"}


class Clients:
    """Signs transactions, sends them to any gateway that answers, and asks how they ended."""

    def __init__(self, session: aiohttp.ClientSession, network: LocalNetwork) -> None:
        self._session = session
        self.urls = network.gateway_urls
        node = network.nodes[0]
        self._workload = AnchorWorkload(
            key=read_key_file(node.folder.institution_key_file),
            institution=node.institution,
            chain_id=network.chain_id,
            aliases=(secrets.token_bytes(16),),
        )

    def sign(self, count: int) -> list[SignedTransaction]:
        """Transactions that all succeed once the folder is open: it is the first of the first list."""
        expires_ms = time.time_ns() // 1_000_000 + 300_000
        return [decode_transaction(data) for data in self._workload.sign_anchors(count, expires_ms)]

    async def open_folder(self) -> SignedTransaction:
        (opening,) = self._workload.sign_aliases(time.time_ns() // 1_000_000 + 300_000)
        await self.commit([opening], self.urls[0])
        return opening

    async def submit(self, transactions: Sequence[SignedTransaction], url: str) -> None:
        """Raises ConnectionError unless this gateway has taken them all."""
        body = msgpack.packb([encode_transaction(item) for item in transactions])
        headers = {"Content-Type": "application/msgpack"}
        try:
            async with self._session.post(f"{url}/v1/transactions", data=body, headers=headers) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(f"{url}: {error!r}") from error
        codes = {result["code"] for result in answer.get("results", ())} or {answer.get("code")}
        if not codes <= TAKEN:
            raise ConnectionError(f"{url}: {codes}")

    async def get_end(self, transaction: SignedTransaction, url: str, wait_ms: int = 2_000) -> str:
        path = f"{url}/v1/transactions/{transaction.transaction_id.hex()}"
        try:
            async with self._session.get(path, params={"wait_ms": wait_ms}) as response:
                return str((await response.json(content_type=None)).get("end"))
        except (aiohttp.ClientError, TimeoutError):
            return "unreachable"

    async def commit(self, transactions: Sequence[SignedTransaction], url: str) -> None:
        """Send the same bytes, at one gateway after the other, until all are committed."""
        urls = [url, *(other for other in self.urls if other != url)]
        async with asyncio.timeout(60):
            for attempt in range(1_000):
                url = urls[attempt % len(urls)]
                try:
                    await self.submit(transactions, url)
                except ConnectionError:
                    await asyncio.sleep(0.05)
                    continue
                ends = [await self.get_end(item, url) for item in (transactions[-1], *transactions)]
                if all(end == "committed" for end in ends):
                    return

    async def get_readiness(self, url: str) -> str:
        """`ready`, or why not."""
        try:
            async with self._session.get(f"{url}/readyz") as response:
                answer = await response.json(content_type=None)
                return "ready" if answer["ready"] else str(answer["reason"])
        except (aiohttp.ClientError, TimeoutError):
            return "unreachable"

    async def get_status(self, url: str) -> dict[str, Any]:
        async with self._session.get(f"{url}/v1/status") as response:
            status: dict[str, Any] = await response.json(content_type=None)
            return status

    async def read_metrics(self, url: str) -> dict[str, float]:
        async with self._session.get(f"{url}/metrics") as response:
            lines = [line for line in (await response.text()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def wait_agreement(self, urls: Sequence[str], history_size: int) -> list[dict[str, Any]]:
        """Every node's status once all stand at one height and so many transactions are committed."""
        async with asyncio.timeout(60):
            while True:
                statuses = [await self.get_status(url) for url in urls]
                heights = {status["height"] for status in statuses}
                if len(heights) == 1 and statuses[0]["history_size"] >= history_size:
                    return statuses
                await asyncio.sleep(0.05)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNetwork:
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=500)
    return create_local_network(tmp_path / "network", parameters=parameters)


@pytest.fixture
def processes(network: LocalNetwork) -> Iterator[LocalProcesses]:
    with LocalProcesses.of_network(network) as running:
        running.start()
        yield running


@asynccontextmanager
async def open_clients(network: LocalNetwork) -> AsyncIterator[Clients]:
    tls = ssl.create_default_context(cafile=str(network.ca_file))
    timeout = aiohttp.ClientTimeout(total=20)
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Clients(session, network)


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
        await clients.open_folder()
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


async def test_rule_P6_a_damaged_journal_is_refused_and_wiped_data_mean_silence_before_the_next_vote(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    victim = processes.nodes[1]
    async with open_clients(network) as clients:
        await clients.open_folder()
        await clients.commit(clients.sign(10), clients.urls[0])
        victim.kill()
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
        await clients.commit(clients.sign(10), clients.urls[1])
        check_agreement(await clients.wait_agreement(clients.urls, 21), 21)


def check_damaged_journal_is_refused(victim: NodeProcess) -> None:
    (segment,) = (victim.directory / "data" / "journal").glob("*.segment")
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
            await clients.open_folder()
            sent = 1 + await fill_up(clients, victim)
            resize(data / "journal", "50m")
            victim.start()
            await processes.wait_ready()
            resize(data / "ledger", "300k")
            sent += await fill_up(clients, victim)
            resize(data / "ledger", "50m")
            victim.start()
            await processes.wait_ready()
            check_agreement(await clients.wait_agreement(clients.urls, sent), sent)


async def fill_up(clients: Clients, victim: NodeProcess) -> int:
    """Commit through another node until the victim's disk is full; how many it took."""
    sent = 0
    async with asyncio.timeout(60):
        while victim.is_running:
            await clients.commit(clients.sign(100), clients.urls[0])
            sent += 100
    assert wait_end(victim) == 3
    tail = victim.read_log_tail()
    assert '"event": "halted"' in tail
    assert "No space left on device" in tail
    return sent
