"""A flooding member costs the others at most 30 % of what they do without it, and no memory without bound.

A node orders as fast as its processor allows, so what a flood takes of that processor it takes of throughput.
It is measured in two ways, each with and without the flood: how much of its processor the node that leads
loses under the same moderate load, with all that the flooder has spent on it, and a processor for that if the
machine can spare one; and how many transactions all honest nodes order, as fast as they can, for each second
that they compute, with the flood divided among them and a flooder that takes what time they leave.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import ssl
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from bench.load import LoadGenerator
from bench.machine import CpuMark, get_cpu_seconds, get_resident_bytes
from bench.processes import LocalProcesses
from bench.workload import AnchorWorkload
from config.local_network import LocalNetwork, create_local_network
from crypto.key_files import read_key_file
from ledger.genesis import Parameters
from ledger.transaction import encode_transaction
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.flooding_peer import flood

pytestmark = pytest.mark.timeout(600)

LOG = logging.getLogger(__name__)
COST_MAX = 0.3
RATE_KEPT_MIN = 0.7
SHARE_KEPT_MIN = 0.7
WAIT_BLOCKS_MAX = 4
"""The block that is under way, one that began before the transaction came, its own, and one for bad luck."""
RESIDENT_BYTES_MAX = 250_000_000
"""Of each daemon."""
COMMIT_SECONDS_MAX = 30
"""For twenty transactions in a flood."""
STRANGERS = tuple(f"127.0.1.{number}" for number in range(1, 101))
"""Addresses of loopback from which nobody else sends."""
REFUSALS = {(400, "malformed"), (429, "too_many_requests"), (503, "too_many_bodies")}
"""What a client may be told that sends nothing of sense, and too often."""
FLOODER = 3
TRANSACTIONS = 6_000
RATED_TRANSACTIONS = 1_500
ROUNDS = 3
MEASURED_SECONDS = 6.0
BATCH = 50
BATCH_SECONDS = 0.25
KINDS = (
    "garbage",
    "proposals",
    "statuses",
    "votes",
    "view_changes",
    "requests",
    "strangers_transactions",
)


@pytest.fixture
def network(tmp_path: Path) -> LocalNetwork:
    # The turn never passes to the flooder: what a dead primary costs is measured elsewhere.
    parameters = Parameters(state_buckets_log2=8, blocks_per_primary=1_000_000)
    return create_local_network(tmp_path / "network", parameters=parameters)


@pytest.fixture
def low_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one address may ask of a gateway: less than what this machine's clients can."""
    monkeypatch.setenv("CHARTCHAIN_GATEWAY__REQUESTS_PER_SECOND_MAX", "50")
    monkeypatch.setenv("CHARTCHAIN_GATEWAY__REQUESTS_BURST", "200")


class Load:
    """Anchors through the honest nodes' gateways, as fast as they commit."""

    def __init__(self, network: LocalNetwork, session: aiohttp.ClientSession) -> None:
        node = network.nodes[0]
        self._session = session
        self._urls = network.gateway_urls[:FLOODER]
        self._workload = AnchorWorkload(
            key=read_key_file(node.folder.institution_key_file),
            institution=node.institution,
            chain_id=network.chain_id,
            aliases=tuple(secrets.token_bytes(16) for _ in range(8)),
        )

    async def open_folders(self) -> None:
        opening = [encode_transaction(item) for item in self._workload.sign_aliases(compute_expiry_ms())]
        await LoadGenerator(self._session, self._urls[:1]).run(iter(opening), workers=1, batch_size=8)

    async def measure(self, process_id: int) -> float:
        """Seconds that this process computed for each second under a load of 200 transactions a second."""
        signed = self._workload.sign_anchors(
            int(MEASURED_SECONDS / BATCH_SECONDS) * BATCH, compute_expiry_ms()
        )
        generator = LoadGenerator(self._session, self._urls)
        begin, mark = time.monotonic(), CpuMark.now([process_id])
        for number in itertools.count(1):
            batch = list(itertools.islice(signed, BATCH))
            if not batch:
                break
            await generator.run(iter(batch), workers=3, batch_size=BATCH // 3 + 1)
            await asyncio.sleep(begin + number * BATCH_SECONDS - time.monotonic())
        return CpuMark.now([process_id]).compute_cores_since(mark)

    async def measure_rate(self, process_ids: Sequence[int]) -> float:
        """Transactions committed for each second that these processes computed."""
        signed = list(self._workload.sign_anchors(RATED_TRANSACTIONS, compute_expiry_ms()))
        begin = get_cpu_seconds(process_ids)
        await LoadGenerator(self._session, self._urls).run(iter(signed), workers=6, batch_size=BATCH)
        return RATED_TRANSACTIONS / (get_cpu_seconds(process_ids) - begin)

    async def commit_backlogged(self, count: int) -> None:
        """So many, with some hundreds waiting at each gateway all the time."""
        signed = self._workload.sign_anchors(count, compute_expiry_ms())
        await LoadGenerator(self._session, self._urls).run(signed, workers=42, batch_size=50)


async def wait_heard(clients: Clients, replicas: Sequence[int] = (0,), *, flooder: int = FLOODER) -> None:
    """Until these nodes have received a good deal more from the flooder, or have cut it off."""
    name = f'chartchain_links_bytes_received_total{{replica="{flooder}"}}'
    cuts = f'chartchain_links_cuts_total{{replica="{flooder}"}}'
    urls = [clients.urls[replica] for replica in replicas]
    before = [(await clients.read_metrics(url))[name] for url in urls]
    async with asyncio.timeout(90):
        for url, known in zip(urls, before, strict=True):
            while True:
                metrics = await clients.read_metrics(url)
                if metrics[name] > known + 10_000 or metrics[cuts]:
                    break
                await asyncio.sleep(0.1)


def compute_expiry_ms() -> int:
    return time.time_ns() // 1_000_000 + 300_000


@asynccontextmanager
async def open_load(network: LocalNetwork, processes: LocalProcesses) -> AsyncIterator[tuple[Load, Clients]]:
    """Work for a network whose FLOODER is down, its place to be taken by a flood; and clients of it."""
    await processes.wait_ready()
    tls = ssl.create_default_context(cafile=str(network.ca_file))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
        open_clients(network) as clients,
    ):
        load = Load(network, session)
        await load.open_folders()
        processes.nodes[FLOODER].kill()
        yield load, clients


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
async def test_rule_D1_a_flooding_member_costs_at_most_30_percent(
    network: LocalNetwork, processes: LocalProcesses, kind: str
) -> None:
    async with open_load(network, processes) as (load, clients):
        primary = processes.nodes[0].process_id
        await load.measure(primary)
        quiet, flooded, flooding = [], [], []
        for _ in range(ROUNDS):  # In turns: the machine has other things to do, too.
            quiet.append(await load.measure(primary))
            with flood(network.nodes[FLOODER], kind) as flooder:
                await wait_heard(clients)
                mark = CpuMark.now([flooder])
                flooded.append(await load.measure(primary))
                flooding.append(CpuMark.now([flooder]).compute_cores_since(mark))
    cost = statistics.mean(flooded) - statistics.mean(quiet)
    resident = check_resident_bytes(processes)
    LOG.info("%s: costs %.1f %% of a processor, %d MB resident", kind, 100 * cost, resident // 1_000_000)
    LOG.info("quiet %s, flooded %s, the flooder had %s processors", quiet, flooded, flooding)
    assert cost <= COST_MAX


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
async def test_rule_D1_a_flooding_member_leaves_the_others_70_percent_of_their_rate(
    network: LocalNetwork, processes: LocalProcesses, kind: str
) -> None:
    async with open_load(network, processes) as (load, clients):
        honest = processes.process_ids
        await load.measure_rate(honest)
        quiet, flooded = [], []
        for _ in range(ROUNDS):
            quiet.append(await load.measure_rate(honest))
            with flood(network.nodes[FLOODER], kind, to_all=True, niceness=19):
                await wait_heard(clients, range(FLOODER))
                flooded.append(await load.measure_rate(honest))
    kept = statistics.median(flooded) / statistics.median(quiet)
    resident = check_resident_bytes(processes)
    LOG.info("%s: %.0f %% of the rate kept, %d MB resident", kind, 100 * kept, resident // 1_000_000)
    LOG.info("quiet %s, flooded %s", list(map(round, quiet)), list(map(round, flooded)))
    assert kept >= RATE_KEPT_MIN


@pytest.mark.soak
async def test_rule_D1_an_institution_that_floods_with_its_own_transactions_starves_nobody(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    """They are admitted, ordered and fail, and so cost what anybody's do.

    All the same, of two institutions whose transactions always wait, each has half of what is ordered; and
    whoever sends a single transaction has it in one of the next blocks.
    """
    async with open_load(network, processes) as (load, clients):
        await clients.open_folder()
        with flood(network.nodes[FLOODER], "own_transactions", to_all=True):
            await wait_heard(clients)
            waits = [await count_blocks(clients) for _ in range(10)]
            before = await clients.get_status(clients.urls[0])
            await load.commit_backlogged(TRANSACTIONS)
            after = await clients.get_status(clients.urls[0])
    ordered = after["history_size"] - before["history_size"]
    LOG.info("%d of %d ordered are others'; alone after %s blocks", TRANSACTIONS, ordered, waits)
    assert ordered >= 1.1 * TRANSACTIONS, "a flood worth the name"
    assert TRANSACTIONS / ordered >= SHARE_KEPT_MIN / 2
    assert max(waits) <= WAIT_BLOCKS_MAX
    check_resident_bytes(processes)


async def count_blocks(clients: Clients) -> int:
    """By how many blocks the ledger grew from before a transaction was sent to where it stands."""
    status = await clients.get_status(clients.urls[0])
    (transaction,) = clients.sign(1)
    await clients.commit([transaction], clients.urls[0])
    return await clients.get_height(transaction, clients.urls[0]) - int(status["height"])


@pytest.mark.slow
async def test_rule_D1_commits_go_on_while_a_member_floods(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    await processes.wait_ready()
    processes.nodes[FLOODER].kill()
    async with open_clients(network) as clients:
        await clients.open_folder()
        with flood(network.nodes[FLOODER], "statuses"):
            await wait_heard(clients)
            await clients.commit(clients.sign(200), clients.urls[0])
    check_resident_bytes(processes)


@pytest.mark.soak
@pytest.mark.usefixtures("low_rates")
@pytest.mark.parametrize("addresses", [STRANGERS[:1], STRANGERS], ids=["one-address", "an-address-each"])
async def test_rule_D1_a_hundred_flooding_clients_are_refused_and_commits_go_on(
    network: LocalNetwork, processes: LocalProcesses, addresses: Sequence[str]
) -> None:
    """Strangers ask as fast as they can, at every gateway, with bodies that are refused only once read.

    At one address they soon have what one address may; at a hundred they have whatever the gateways can do.
    """
    await processes.wait_ready()
    async with open_clients(network) as clients:
        await clients.open_folder()
        async with flooding_clients(network, addresses) as refusals:
            for _ in range(5):
                await asyncio.sleep(1.0)
                await clients.commit(clients.sign(20), clients.urls[0], timeout_seconds=COMMIT_SECONDS_MAX)
            resident = check_resident_bytes(processes)
        statuses = await clients.wait_agreement(clients.urls, 101)
    LOG.info("at most %d MB resident, refused: %s", resident // 1_000_000, dict(refusals))
    assert {status["history_size"] for status in statuses} == {101}
    assert refusals.keys() <= REFUSALS
    assert len(addresses) > 1 or refusals[429, "too_many_requests"]


@pytest.mark.soak
@pytest.mark.parametrize("kinds", [("votes", "requests"), ("proposals", "view_changes")], ids="-and-".join)
async def test_rule_D1_two_of_seven_and_a_hundred_clients_flood_at_once_and_commits_go_on(
    tmp_path: Path, kinds: tuple[str, str]
) -> None:
    """All faults that seven tolerate, and the strangers with them."""
    parameters = Parameters(state_buckets_log2=8, blocks_per_primary=1_000_000)
    network = create_local_network(tmp_path / "network", node_count=7, parameters=parameters)
    honest = range(5)
    with LocalProcesses.of_network(network) as processes, ExitStack() as flooders:
        processes.start()
        await processes.wait_ready()
        async with open_clients(network) as clients:
            await clients.open_folder()
            for flooder, kind in zip((5, 6), kinds, strict=True):
                processes.nodes[flooder].kill()
                flooders.enter_context(flood(network.nodes[flooder], kind, to_all=True, niceness=19))
                await wait_heard(clients, honest, flooder=flooder)
            async with flooding_clients(network, STRANGERS) as refusals:
                seconds = []
                for _ in range(5):
                    begin = time.monotonic()
                    await clients.commit(
                        clients.sign(20), clients.urls[0], timeout_seconds=COMMIT_SECONDS_MAX
                    )
                    seconds.append(time.monotonic() - begin)
                resident = check_resident_bytes(processes)
            statuses = await clients.wait_agreement([clients.urls[replica] for replica in honest], 101)
    LOG.info("%s: %d MB resident, refused: %s", kinds, resident // 1_000_000, dict(refusals))
    LOG.info("twenty transactions each took %s s", [round(each, 1) for each in seconds])
    assert len({status["state_root"] for status in statuses}) == 1
    assert refusals.keys() <= REFUSALS


@asynccontextmanager
async def flooding_clients(
    network: LocalNetwork, addresses: Sequence[str], count: int = 100
) -> AsyncIterator[Counter[tuple[int, str]]]:
    """So many strangers at all gateways; by status and code, how often they were refused."""
    refusals: Counter[tuple[int, str]] = Counter()
    tls = ssl.create_default_context(cafile=str(network.ca_file))
    timeout = aiohttp.ClientTimeout(total=10)
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=tls, limit=0, local_addr=(address, 0)), timeout=timeout
                )
            )
            for address in addresses
        ]
        pairs = zip(itertools.cycle(sessions), itertools.cycle(network.gateway_urls), strict=False)
        flooding = [
            asyncio.create_task(ask_for_ever(session, url, refusals))
            for session, url in itertools.islice(pairs, count)
        ]
        try:
            yield refusals
        finally:
            for task in flooding:
                task.cancel()
            ends = await asyncio.gather(*flooding, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def ask_for_ever(session: aiohttp.ClientSession, url: str, refusals: Counter[tuple[int, str]]) -> None:
    """Send what is refused only once it was read, and look for what is not there."""
    body, headers = secrets.token_bytes(100_000), {"Content-Type": "application/msgpack"}
    while True:
        try:
            async with session.post(f"{url}/v1/transactions", data=body, headers=headers) as response:
                refusals[response.status, (await response.json(content_type=None))["code"]] += 1
            async with session.get(f"{url}/v1/transactions/{secrets.token_hex(32)}") as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.01)


def check_resident_bytes(processes: LocalProcesses) -> int:
    """The largest of the running daemons."""
    largest = max(get_resident_bytes(process_id) for process_id in processes.process_ids)
    assert largest <= RESIDENT_BYTES_MAX
    return largest
