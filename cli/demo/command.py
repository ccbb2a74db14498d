"""`chartchain demo`: prints each step with what it proves, and a summary at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.processes import ProcessFailed
from cli.demo.play import STEPS, DemoResult, StepResult, play
from cli.demo.stage import BundleOutcome
from cli.json_target import JsonFileOption, JsonTarget
from cli.output import fail


def demo(
    further_bundles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", exists=True, dir_okay=False, help="Further FHIR R4 bundles."),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE...", exists=True, dir_okay=False, help="FHIR R4 bundles to take in; one or more."
        ),
    ] = None,
    patients: Annotated[
        int, typer.Option(min=0, max=500, help="How many synthetic patients; the child is always there.")
    ] = 25,
    json_file: JsonFileOption = None,
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the network and the proof files in this new folder."),
    ] = None,
) -> None:
    """Carry patients' records the whole way on a throw-away network of four daemons.

    Synthetic patients, and real ones with `--bundle FILE...`: with `--patients 0` instead of synthetic ones.
    """
    target = JsonTarget.open(json_file)
    if keep is not None and keep.exists() and any(keep.iterdir()):
        fail(f"{keep}: not empty; name a new folder for --keep")
    words = target.words
    words.print("[bold]chartchain demo[/]: two hospitals, a primary-care institution, a regulator\n")
    try:
        result = asyncio.run(
            play(
                bundles=_drop_repeated([*(bundle or ()), *(further_bundles or ())]),
                synthetic_patients=patients,
                keep=keep,
                on_start=lambda number, title: words.print(f"[bold]{number:>2}. {title}[/]"),
                on_end=lambda step: _print_step(step, words),
            )
        )
    except ProcessFailed as error:
        fail(str(error))
    if not target.is_standard_output:
        _print_summary(result, words)
    target.write(result.to_json())
    if keep is not None:
        words.print(
            f"kept in {keep}: verify a file yourself with `chartchain evidence verify FILE --genesis DIGEST`"
        )
    if not result.went_through:
        fail(f"step {len(result.steps)} of {len(STEPS)} did not see what it must see")
    broken = [outcome for outcome in result.bundles if outcome.is_broken]
    if broken:
        names = ", ".join(outcome.file for outcome in broken)
        fail(f"{len(broken)} of {len(result.bundles)} bundles were refused: {names}; step 2 says why")


def _drop_repeated(paths: list[Path]) -> tuple[Path, ...]:
    """A file that was named twice is taken in once."""
    return tuple({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def _print_step(result: StepResult, words: Console) -> None:
    mark = "[green]·[/]" if result.ok else "[red]✗[/]"
    for line in result.lines:
        words.print(f"    {mark} {escape(line)}")
    words.print(f"      [dim]{result.seconds:.1f} s[/]\n")


def _print_summary(result: DemoResult, words: Console) -> None:
    steps = Table(title="Summary", title_justify="left", title_style="bold", header_style="dim")
    for column in ("step", "result", "seconds"):
        steps.add_column(column, justify="right" if column == "seconds" else "left")
    for step in result.steps:
        steps.add_row(step.title, _mark(ok=step.ok), f"{step.seconds:.1f}")
    steps.add_row("[bold]all[/]", _mark(ok=result.went_through), f"{result.seconds:.1f}")
    words.print(steps)
    nodes = Table(header_style="dim")
    for column in ("node", "height", "state root"):
        nodes.add_column(column)
    for name, height in result.heights.items():
        nodes.add_row(name, str(height), f"{result.state_roots[name][:32]}…")
    if result.heights:
        words.print(nodes)
    if result.bundles:
        words.print(_build_bundle_table(result.bundles))


def _build_bundle_table(bundles: tuple[BundleOutcome, ...]) -> Table:
    table = Table(header_style="dim")
    table.add_column("bundle", overflow="fold")
    table.add_column("result")
    for outcome in bundles:
        refused = "[red]refused[/]" if outcome.is_broken else "left out"
        result = f"{refused}: {escape(outcome.refused)}" if outcome.refused else f"{outcome.records} records"
        table.add_row(escape(outcome.file), result)
    return table


def _mark(*, ok: bool) -> str:
    return "[green]ok[/]" if ok else "[red]failed[/]"
