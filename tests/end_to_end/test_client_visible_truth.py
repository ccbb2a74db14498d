"""What concurrent clients see under faults is what one ledger would tell that does one thing at a time."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from bench.processes import LocalProcesses, NodeProcess
from config.local_network import LocalNetwork, create_local_network
from contracts.grants import PairEntry, pairs
from ledger.genesis import Parameters
from ledger.proofs import ProvedState, decode_proof, verify_proof
from tests.end_to_end.clients import open_clients
from tests.end_to_end.histories import Race, open_race
from tests.end_to_end.ledger_audit import audit_network
from tests.end_to_end.linearizability import check_linearizable
from tests.end_to_end.models import GrantState, RecordState, carry_out_grant, carry_out_record
from tests.end_to_end.namespaces import NodeNamespaces

pytestmark = pytest.mark.timeout(600)


PARAMETERS = Parameters(state_buckets_log2=8, idle_block_interval_ms=500, blocks_per_primary=20)


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons started by the test change views sooner."""
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")


@pytest.fixture
def network(tmp_path: Path, timeouts: None) -> LocalNetwork:
    return create_local_network(tmp_path / "network", parameters=PARAMETERS)


@pytest.mark.parametrize(
    "rounds", [pytest.param(1, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.soak)]
)
async def test_histories_of_grants_and_records_are_linearizable_while_nodes_pause_and_die(
    network: LocalNetwork, processes: LocalProcesses, rounds: int
) -> None:
    await processes.wait_ready()
    async with open_race(network, seed=rounds) as race:
        for number in range(rounds):
            await asyncio.sleep(1.0)
            await pause(processes.nodes[number % 4], seconds=1.5)
            victim = processes.nodes[(number + 2) % 4]
            victim.kill()
            await asyncio.sleep(1.0)
            victim.start()
            await processes.wait_ready()
        await wait_contradictions(race)
        await check_proofs_after_a_pause(network, processes, race)
    await check_all(network, processes, race)


@pytest.mark.soak
async def test_histories_are_linearizable_on_a_network_that_is_cut_one_way_and_lossy(
    tmp_path: Path, timeouts: None
) -> None:
    with NodeNamespaces(4) as namespaces, namespaces.as_client():
        network = create_local_network(tmp_path / "network", hosts=namespaces.hosts, parameters=PARAMETERS)
        with LocalProcesses.of_network(network) as processes:
            namespaces.place(processes)
            processes.start()
            await processes.wait_ready()
            async with open_race(network, seed=1) as race:
                for number in range(6):
                    away, others = number % 4, [other for other in range(4) if other != number % 4]
                    namespaces.partition([away], others)
                    await asyncio.sleep(3.0)
                    namespaces.heal()
                    namespaces.drop(others[0], away)
                    namespaces.drop(others[1], others[2])
                    await asyncio.sleep(3.0)
                    namespaces.heal()
                    namespaces.lose(0.2)
                    await asyncio.sleep(3.0)
                    namespaces.heal()
                await wait_contradictions(race)
            await check_all(network, processes, race)


async def check_proofs_after_a_pause(network: LocalNetwork, processes: LocalProcesses, race: Race) -> None:
    """A gateway that was away is asked for what the others acknowledged meanwhile: with `min_height` its
    proof is not older than that, and shows every revocation."""
    regulator = race.callers[-1].clients[0]
    await pause(processes.nodes[-1], seconds=1.0)
    revoked = [
        grant
        for grant, history in race.grants.items()
        if any((done.action, done.result) == ("revoke", "ok") for done in history)
    ]
    heights = [(await caller.clients[0].get_status()).height for caller in race.callers[:-1]]
    entries: dict[bytes, PairEntry] = {}
    for caller in race.callers:
        data = await regulator.get_grant_proof(
            race.alias.hex(), institution=caller.node.institution.hex(), min_height=max(heights)
        )
        proved = verify_proof(decode_proof(data), network.chain_id)
        assert isinstance(proved, ProvedState)
        assert proved.block.header.height >= max(heights)
        if proved.row is not None:
            entries |= {entry.grant: entry for entry in pairs.decode_row(proved.row).entries}
    assert revoked
    assert all(entries[grant].closed_height for grant in revoked)


async def check_all(network: LocalNetwork, processes: LocalProcesses, race: Race) -> None:
    check_histories(race)
    async with open_clients(network) as clients:
        await clients.wait_agreement(clients.urls, 0)
    processes.stop()
    audit_network(network, [item for caller in race.callers for item in caller.acknowledged])


async def pause(node: NodeProcess, *, seconds: float) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    node.process.send_signal(signal.SIGCONT)


def check_histories(race: Race) -> None:
    """Every grant and every record by itself."""
    for grant_history in race.grants.values():
        check_linearizable(grant_history, carry_out_grant, GrantState())
    for record_history in race.records.values():
        check_linearizable(record_history, carry_out_record, RecordState())


async def wait_contradictions(race: Race) -> None:
    """Until the race was one: requests that exclude each other have met."""
    wanted = {"ok", "allowed", "revoked", "grant_exists", "already_revoked", "anchor_exists", "not_in_anchor"}
    async with asyncio.timeout(60):
        while True:
            if wanted <= race.count_results().keys():
                return
            await asyncio.sleep(0.2)
