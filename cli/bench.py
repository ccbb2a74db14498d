"""`chartchain bench`: figures from four real daemons on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bench.load import LoadFailed
from bench.processes import ProcessFailed
from bench.result import BenchResult
from bench.run import BenchSettings, run_bench
from cli.json_target import JsonFileOption, JsonTarget
from cli.output import console, fail, progress_bar

bench_app = typer.Typer(help="Throughput, latency and memory of real daemons.", no_args_is_help=True)


@bench_app.callback()
def bench() -> None:
    """Keeps `run` a sub-command, so that others can stand beside it."""


@bench_app.command("run")
def run(
    transactions: Annotated[
        int, typer.Option(min=1_000, max=2_000_000, help="How many to commit.")
    ] = 100_000,
    workers: Annotated[int, typer.Option(min=1, max=200, help="Clients that send at the same time.")] = 14,
    batch: Annotated[int, typer.Option(min=1, max=500, help="Transactions in one request.")] = 120,
    lone: Annotated[int, typer.Option(min=1, max=1_000, help="Single transactions to time.")] = 40,
    json_file: JsonFileOption = None,
) -> None:
    """Commit pre-signed evidence transactions sent over HTTP, with everything on."""
    settings = BenchSettings(
        transactions=transactions, workers=workers, batch_size=batch, lone_transactions=lone
    )
    target = JsonTarget.open(json_file)
    try:
        with progress_bar("committing", transactions) as advance:
            result = asyncio.run(run_bench(settings, on_committed=advance, say=target.words.print))
    except (ProcessFailed, LoadFailed) as error:
        fail(str(error))
    if not target.is_standard_output:
        _print(result)
    target.write(result.to_json())
    if not result.state_roots_equal:
        fail("the nodes do not agree on the state root: this is a defect, please report it")


def _print(result: BenchResult) -> None:
    rows = [
        ("committed", f"{result.transactions_committed:,} transactions in {result.seconds:.1f} s"),
        ("rate", f"{result.committed_per_second:,.0f} a second"),
        (
            "ceiling",
            (
                f"{result.ceiling_per_second:,.0f} a second: {result.cores} cores ÷ "
                f"({result.nodes} nodes × {result.verification_us:.1f} µs a verification)"
            ),
        ),
        ("ratio", f"{result.ceiling_ratio:.2f} of the ceiling"),
        (
            "latency under load",
            f"p50 {result.latency_ms.p50} ms, p95 {result.latency_ms.p95} ms, p99 {result.latency_ms.p99} ms",
        ),
        ("lone transaction", f"{result.lone_latency_ms} ms (median)"),
        ("memory", f"{result.rss_bytes_max / 2**20:.0f} MiB in the largest node"),
        (
            "cores used",
            f"{result.cores_used:.2f} of {result.cores}, {result.client_cores_used:.2f} of it by the load",
        ),
        ("state roots", "equal" if result.state_roots_equal else "DIFFERENT"),
    ]
    for name, text in rows:
        console.print(f"[dim]{name:<20}[/] {text}")
    if result.warning:
        console.print(f"[yellow]note[/]                 {result.warning}")
