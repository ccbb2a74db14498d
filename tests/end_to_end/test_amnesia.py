"""Daemons whose folder is rolled back, and daemons that run twice: found out, and silent until it is safe."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import LocalProcesses, NodeProcess
from config.local_network import LocalNetwork, LocalNode, create_local_network
from config.local_ports import choose_free_ports
from ledger.genesis import Parameters
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import NetworkAudit, audit_network
from tests.end_to_end.pauses import standing_still

SYNCS = "chartchain_consensus_journal_syncs_total"
RECEIVED = "chartchain_consensus_messages_received_total"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNetwork:
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=300)
    return create_local_network(tmp_path / "network", parameters=parameters)


async def watch(clients: Clients, url: str, wanted: str, seconds: float = 60) -> list[str]:
    """Every readiness of a node, in their order, until one that contains `wanted`."""
    seen: list[str] = []
    async with asyncio.timeout(seconds):
        while not seen or wanted not in seen[-1]:
            readiness = await clients.get_readiness(url)
            if readiness not in seen[-1:]:
                seen.append(readiness)
            await asyncio.sleep(0.005)
    return seen


async def wait_for_more(clients: Clients, url: str, name: str, than: float) -> None:
    async with asyncio.timeout(60):
        while (await clients.read_metrics(url))[name] <= than:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def test_rule_P6_a_folder_that_was_rolled_back_is_silent_until_it_is_safe(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    primary, second, victim, third = processes.nodes
    data, kept = victim.directory / "data", victim.directory / "kept"
    audit = NetworkAudit(network)
    async with open_clients(network) as clients:
        await processes.wait_ready()
        opening = await clients.open_folder()
        victim.stop()
        shutil.copytree(data, kept)
        victim.start()
        await processes.wait_ready()
        sent = clients.sign(20)
        with standing_still(third):
            with standing_still(second):
                # Two of four: the primary proposes, the victim votes, and nothing can become final of it.
                before = await clients.read_metrics(victim.gateway_url)
                await clients.submit(sent, primary.gateway_url)
                await wait_for_more(clients, victim.gateway_url, SYNCS, before[SYNCS])
                heard = await clients.read_metrics(primary.gateway_url)
                await wait_for_more(clients, primary.gateway_url, RECEIVED, heard[RECEIVED])
                victim.kill()
            audit.gather(network.nodes[2])
            shutil.rmtree(data)
            kept.rename(data)
            victim.start()
            seen = await watch(clients, victim.gateway_url, "silent until")
            assert "the journal lacks a" in seen[-1]
        await watch(clients, victim.gateway_url, "ready")
        await clients.commit(sent, victim.gateway_url)
        statuses = await clients.wait_agreement(clients.urls, 21)
        assert len({status["state_root"] for status in statuses}) == 1
    processes.stop()
    audit_network(network, [item.transaction_id for item in (opening, *sent)], audit=audit)


@contextlib.contextmanager
def running_copy(node: LocalNode, folder: Path) -> Iterator[NodeProcess]:
    """A copy of a node's folder that runs beside it, at other ports."""
    shutil.copytree(node.directory, folder)
    link_port, gateway_port = choose_free_ports(node.host, 2)
    text = (folder / "node.toml").read_text()
    text = text.replace(f"link_port = {node.link_port}", f"link_port = {link_port}")
    text = text.replace(f"\nport = {node.gateway_port}\n", f"\nport = {gateway_port}\n", 1)
    (folder / "node.toml").write_text(text)
    copied = NodeProcess(name="copy", directory=folder, gateway_url=f"https://{node.host}:{gateway_port}")
    copied.start()
    try:
        yield copied
    finally:
        copied.stop()


async def test_rule_P6_an_original_and_its_running_copy_find_each_other_out(
    network: LocalNetwork, processes: LocalProcesses, tmp_path: Path
) -> None:
    original = processes.nodes[0]
    async with open_clients(network) as clients:
        await processes.wait_ready()
        sent = [await clients.open_folder()]
        # So that the copy has a whole database: it is made while the original stands still.
        original.stop()
        with running_copy(network.nodes[0], tmp_path / "copy") as copied:
            original.start()
            wanted = "another process runs with this node's key"
            await asyncio.gather(
                watch(clients, original.gateway_url, wanted), watch(clients, copied.gateway_url, wanted)
            )
            peers = [await clients.read_metrics(url) for url in clients.urls[1:]]
            assert sum(metrics['chartchain_links_copies_total{replica="0"}'] for metrics in peers) >= 1
            warned = [
                node
                for node in processes.nodes[1:]
                if "two processes with one key" in node.log_path.read_text()
            ]
            assert warned
            # The others go on without the two.
            sent += clients.sign(10)
            await clients.commit(sent[1:], clients.urls[1])
        assert "this node runs twice" in original.log_path.read_text()
        # Once one of them is stopped, the other votes again after a start.
        original.stop()
        original.start()
        await watch(clients, original.gateway_url, "ready")
        sent += clients.sign(10)
        await clients.commit(sent[11:], clients.urls[0])
        statuses = await clients.wait_agreement(clients.urls, 21)
        assert len({status["state_root"] for status in statuses}) == 1
    processes.stop()
    audit_network(network, [item.transaction_id for item in sent])
