"""A member that signs two blocks for one slot is found out by the others, and accused on the ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.processes import LocalProcesses
from client.client import Client
from client.models import AlertEntry
from config.local_network import LocalNetwork, create_local_network
from crypto.key_files import read_key_file
from ledger.genesis import Parameters
from tests.end_to_end.flooding_peer import flood

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LIAR = 1


@pytest.fixture
def network(tmp_path: Path) -> LocalNetwork:
    # Heights last: what the liar sends waits in its socket, and tells of a height that is still at work.
    parameters = Parameters(state_buckets_log2=8, blocks_per_primary=1_000_000)
    return create_local_network(tmp_path / "network", parameters=parameters)


async def wait_for_alerts(network: LocalNetwork, seconds: float) -> tuple[AlertEntry, ...]:
    """The regulator's alerts of two signatures for one slot, once there is one."""
    regulator = next(node for node in network.nodes if node.kind == "regulator")
    key = read_key_file(regulator.folder.institution_key_file)
    async with asyncio.timeout(seconds), Client(regulator.gateway_url, network.ca_file) as client:
        await client.login(key, regulator.institution.hex())
        while True:
            alerts = await client.list_alerts(open_only=True)
            if found := tuple(alert for alert in alerts if alert.kind == "equivocation"):
                return found
            await asyncio.sleep(0.2)


async def test_rule_E7_the_regulator_is_told_of_two_signatures_for_one_slot(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    processes.nodes[LIAR].kill()
    with flood(network.nodes[LIAR], "votes", niceness=10):
        (alert,) = await wait_for_alerts(network, 60)
    assert alert.institution == network.nodes[LIAR].institution.hex()
