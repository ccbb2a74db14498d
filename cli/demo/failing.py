"""Step 5: the primary is killed in the middle of the load; nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from typing import Final

import aiohttp

from bench.load import LoadGenerator, LoadReport
from bench.workload import AnchorWorkload
from cli.demo.stage import Stage, expect
from client.client import Client
from client.errors import ClientError
from config.local_network import LocalNode
from ledger.transaction import compute_transaction_id

TRANSACTIONS: Final = 3_000
WORKERS: Final = 6
BATCH: Final = 25
KILL_AFTER: Final = 600
CATCH_UP_SECONDS: Final = 60
EXPIRES_IN_MS: Final = 300_000


async def kill_primary(stage: Stage) -> list[str]:
    """SIGKILL to the primary's daemon while transactions pour in; then it comes back."""
    officer = await stage.connect_officer(stage.hospital)
    laboratory = (await officer.register_patient("laboratory-system")).alias
    before = await officer.get_status()
    workload = AnchorWorkload(
        key=stage.get_officer(stage.hospital).key,
        institution=stage.hospital.institution,
        chain_id=stage.network.chain_id,
        aliases=(bytes.fromhex(laboratory),),
    )
    signed = list(workload.sign_anchors(TRANSACTIONS, time.time_ns() // 1_000_000 + EXPIRES_IN_MS))
    victim = next(node for node in stage.network.nodes if node.replica == before.primary)
    survivors = [node for node in stage.network.nodes if node is not victim]
    context = ssl.create_default_context(cafile=str(stage.network.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        load = LoadGenerator(session, [node.gateway_url for node in survivors])
        running = asyncio.create_task(load.run(iter(signed), workers=WORKERS, batch_size=BATCH))
        while load.report.committed < KILL_AFTER and not running.done():
            await asyncio.sleep(0.005)
        committed_before = load.report.committed
        stage.get_process(victim).kill()
        pause = await _watch_longest_pause(load, running)
        await running
    witness = await stage.connect_officer(survivors[0])
    after = await witness.get_status()
    expect(committed_before < TRANSACTIONS, "the load was over before the primary was killed")
    await _check_once(witness, signed, before.height)
    stage.get_process(victim).start()
    await stage.processes.wait_ready()
    caught_up = await _wait_catch_up(stage, victim, after.height)
    return [
        f"replica {before.primary} ({victim.name}) was killed with SIGKILL after {committed_before} of "
        f"{TRANSACTIONS} transactions",
        f"a view change followed (now view {after.view}); commits paused for {pause:.1f} s",
        f"all {TRANSACTIONS} are in the blocks {before.height + 1}–{after.height}, each exactly once",
        f"the killed node came back and caught up to height {caught_up} with the same state root",
    ]


async def _watch_longest_pause(load: LoadGenerator, running: asyncio.Task[LoadReport]) -> float:
    """The longest time without a commit, in seconds, from now until the load is over."""
    seen, since, longest = load.report.committed, time.monotonic(), 0.0
    while not running.done():
        await asyncio.sleep(0.005)
        if load.report.committed > seen:
            seen, since = load.report.committed, time.monotonic()
        longest = max(longest, time.monotonic() - since)
    return longest


async def _check_once(witness: Client, signed: list[bytes], first_height: int) -> None:
    """Each transaction stands in the blocks above `first_height` exactly once."""
    counts: Counter[str] = Counter()
    status = await witness.get_status()
    for height in range(first_height + 1, status.height + 1):
        counts.update((await witness.get_block(height)).transactions)
    wanted = [compute_transaction_id(item).hex() for item in signed]
    lost = [name for name in wanted if counts[name] == 0]
    doubled = [name for name in wanted if counts[name] > 1]
    expect(not lost, f"{len(lost)} transactions were acknowledged and lost, the first is {lost[:1]}")
    expect(not doubled, f"{len(doubled)} transactions were committed twice, the first is {doubled[:1]}")


async def _wait_catch_up(stage: Stage, victim: LocalNode, height: int) -> int:
    """The victim's height once it is at least `height` and its block there is that of the others."""
    client, other = await stage.connect_officer(victim), await stage.connect_officer(stage.regulator)
    if victim is stage.regulator:
        other = await stage.connect_officer(stage.hospital)
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        try:
            status = await client.get_status()
            if status.height >= height:
                block, expected = await client.get_block(height), await other.get_block(height)
                expect(block.digest == expected.digest, f"{victim.name} has another block at height {height}")
                return status.height
            seen = f"height {status.height}"
        except ClientError as error:
            seen = str(error)
        expect(
            time.monotonic() < deadline, f"{victim.name} did not catch up to height {height} in time: {seen}"
        )
        await asyncio.sleep(0.1)
