"""`bench run`: found a network, start its daemons, load them, measure, stop them."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

import aiohttp

from bench.load import LoadGenerator, LoadReport
from bench.machine import CpuMark, count_cores, get_resident_bytes, measure_verification_us
from bench.processes import LocalProcesses
from bench.result import BenchResult, Latency
from bench.workload import AnchorWorkload
from config.local_network import LocalNetwork, create_local_network
from crypto.key_files import read_key_file
from ledger.transaction import encode_transaction

NODES: Final = 4
ALIASES: Final = 50
"""Of each institution."""
EXPIRES_IN_MS: Final = 480_000
"""Within the genesis' window although block time lags behind the clock while the network idles."""
AGREE_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """How much load, and in what form."""

    transactions: int
    workers: int
    batch_size: int
    lone_transactions: int
    """Timed one at a time, before the load."""


async def run_bench(
    settings: BenchSettings, *, on_committed: Callable[[int], None], say: Callable[[str], None]
) -> BenchResult:
    """Run the whole benchmark in a temporary folder. Raises ProcessFailed or LoadFailed."""
    with tempfile.TemporaryDirectory(prefix="chartchain-bench-") as folder:
        network = create_local_network(Path(folder) / "network", node_count=NODES)
        with LocalProcesses.of_network(network) as processes:
            processes.start()
            await processes.wait_ready()
            context = ssl.create_default_context(cafile=str(network.ca_file))
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                return await _measure(settings, network, processes, session, on_committed, say)


async def _measure(
    settings: BenchSettings,
    network: LocalNetwork,
    processes: LocalProcesses,
    session: aiohttp.ClientSession,
    on_committed: Callable[[int], None],
    say: Callable[[str], None],
) -> BenchResult:
    urls = [node.gateway_url for node in processes.nodes]
    workloads = _make_workloads(network)
    expires_ms = int(time.time() * 1000) + EXPIRES_IN_MS
    aliases = [
        encode_transaction(alias) for workload in workloads for alias in workload.sign_aliases(expires_ms)
    ]
    await LoadGenerator(session, urls[:1]).run(iter(aliases), workers=1, batch_size=50)
    lone = workloads[0].sign_anchors(settings.lone_transactions, expires_ms)
    lone_ms = median(await LoadGenerator(session, urls).measure_lone(lone))
    say(f"signing {settings.transactions:,} transactions before the clock starts …")
    signed = _sign_all(workloads, settings.transactions, expires_ms)
    cores = count_cores()
    verifications_us = [await asyncio.to_thread(measure_verification_us, cores)]
    history_before = (await _get_status(session, urls[0]))["history_size"]
    load = await _run_load(settings, processes, session, iter(signed), on_committed)
    verifications_us.append(await asyncio.to_thread(measure_verification_us, cores))
    statuses = await _wait_agreement(session, urls)
    verification_us = mean(verifications_us)
    ceiling = cores / (NODES * verification_us * 1e-6)
    rate = load.report.committed / load.seconds
    return BenchResult(
        nodes=NODES,
        cores=cores,
        transactions_committed=load.report.committed,
        history_growth=min(status["history_size"] for status in statuses) - history_before,
        seconds=round(load.seconds, 2),
        committed_per_second=round(rate, 1),
        verification_us=round(verification_us, 2),
        ceiling_per_second=round(ceiling, 1),
        ceiling_ratio=round(rate / ceiling, 3),
        latency_ms=Latency.from_samples(load.report.latencies_ms),
        lone_latency_ms=round(lone_ms, 2),
        rss_bytes_max=max(get_resident_bytes(process_id) for process_id in processes.process_ids),
        state_roots_equal=len({status["state_root"] for status in statuses}) == 1,
        cores_used=round(load.cores_used, 2),
        client_cores_used=round(load.client_cores_used, 2),
        heights=tuple(status["height"] for status in statuses),
    )


@dataclass(frozen=True, slots=True)
class _Load:
    report: LoadReport
    seconds: float
    cores_used: float
    client_cores_used: float


async def _run_load(
    settings: BenchSettings,
    processes: LocalProcesses,
    session: aiohttp.ClientSession,
    signed: Iterator[bytes],
    on_committed: Callable[[int], None],
) -> _Load:
    generator = LoadGenerator(session, [node.gateway_url for node in processes.nodes])
    everybody, client = (*processes.process_ids, os.getpid()), (os.getpid(),)
    start, client_start = CpuMark.now(everybody), CpuMark.now(client)
    reporter = asyncio.create_task(_report(generator, on_committed))
    try:
        report = await generator.run(signed, workers=settings.workers, batch_size=settings.batch_size)
    finally:
        reporter.cancel()
    end, client_end = CpuMark.now(everybody), CpuMark.now(client)
    return _Load(
        report=report,
        seconds=end.wall_seconds - start.wall_seconds,
        cores_used=end.compute_cores_since(start),
        client_cores_used=client_end.compute_cores_since(client_start),
    )


async def _report(generator: LoadGenerator, on_committed: Callable[[int], None]) -> None:
    seen = 0
    while True:
        await asyncio.sleep(0.5)
        on_committed(generator.report.committed - seen)
        seen = generator.report.committed


def _make_workloads(network: LocalNetwork) -> list[AnchorWorkload]:
    """One for each institution that has patients: no single sender fills the mempool."""
    return [
        AnchorWorkload(
            key=read_key_file(node.folder.institution_key_file),
            institution=node.institution,
            chain_id=network.chain_id,
            aliases=tuple(secrets.token_bytes(16) for _ in range(ALIASES)),
        )
        for node in network.nodes
        if node.kind != "regulator"
    ]


def _sign_all(workloads: list[AnchorWorkload], count: int, expires_ms: int) -> list[bytes]:
    """`count` signed transactions, the institutions taking turns."""
    streams = [workload.sign_anchors(-(-count // len(workloads)), expires_ms) for workload in workloads]
    return [signed for turn in zip(*streams, strict=True) for signed in turn][:count]


async def _wait_agreement(session: aiohttp.ClientSession, urls: list[str]) -> list[dict[str, Any]]:
    """The status of every node once all stand at one height, or after AGREE_TIMEOUT_SECONDS as they are."""
    deadline = time.monotonic() + AGREE_TIMEOUT_SECONDS
    while True:
        statuses = [await _get_status(session, url) for url in urls]
        if len({status["height"] for status in statuses}) == 1 or time.monotonic() > deadline:
            return statuses
        await asyncio.sleep(0.2)


async def _get_status(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/v1/status") as response:
        status: dict[str, Any] = await response.json()
    return status
