"""`chartchain simulate`: the consensus core under virtual time, one seed or many."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from cli.output import console, fail, print_json, progress_bar
from simulation.result import RunResult, compute_summary
from simulation.run import run_seeds
from simulation.settings import Signatures, SimulationSettings


def simulate(
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Replay this seed, and print its trace digest.")
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=10_000_000, help="How many seeds to run.")
    ] = 200,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="The first of them.")] = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=256, help="Processes that run seeds at the same time.")
    ] = max(1, os.cpu_count() or 1),
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", min=1, max=31, help="Replicas; drawn from the seed unless given."),
    ] = None,
    real_signatures: Annotated[
        bool, typer.Option("--real-signatures", help="Sign with Ed25519 instead of the fast stand-in.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the outcome here as JSON; - is standard output.")
    ] = None,
) -> None:
    """Run replicas on a faulty network and faulty disks, and check what must hold; a seed fixes all."""
    settings = SimulationSettings(
        replica_count=replicas,
        signatures=Signatures.ED25519 if real_signatures else Signatures.STAND_IN,
    )
    chosen = range(first_seed, first_seed + seeds) if seed is None else range(seed, seed + 1)
    with progress_bar("simulating", len(chosen)) as advance:

        def on_result(result: RunResult) -> None:
            for violation in result.violations:
                typer.echo(violation.format(), err=True)
            advance()

        results = run_seeds(chosen, settings, jobs=min(jobs, len(chosen)), on_result=on_result)
    summary = compute_summary(results)
    if json_file is None or str(json_file) != "-":
        _print(results, summary)
    if json_file is not None:
        if str(json_file) == "-":
            print_json(summary)
        else:
            json_file.write_text(json.dumps(summary, indent=2) + "\n")
    broken = [violation for result in results for violation in result.violations]
    if broken:
        first = broken[0]
        fail(
            f"{len(broken)} of {len(results)} seeds broke an invariant, first seed {first.seed}: "
            f"{first.invariant}; replay it with chartchain simulate --seed {first.seed}"
        )


def _print(results: list[RunResult], summary: dict[str, object]) -> None:
    blocks, transactions = summary["blocks"], summary["transactions"]
    virtual_seconds = sum(result.virtual_ms for result in results) / 1_000
    rows = [
        ("seeds", f"{results[0].seed} to {results[-1].seed}" if len(results) > 1 else str(results[0].seed)),
        ("violations", str(sum(len(result.violations) for result in results))),
        (
            "agreed on",
            f"{blocks:,} blocks, {transactions:,} transactions in {virtual_seconds:,.0f} virtual s",
        ),
        ("time", f"{summary['milliseconds_per_seed']} ms a seed"),
    ]
    if "trace_digest" in summary:
        rows.append(("trace digest", str(summary["trace_digest"])))
    for name, text in rows:
        console.print(f"[dim]{name:<14}[/] {text}")
    faults = summary["faults"]
    if isinstance(faults, dict):
        shown = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in faults.items())
        console.print(f"[dim]{'injected':<14}[/] {shown or 'nothing'}")
