"""`chartchain demo`: prints each step with what it proves, and a summary at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bench.processes import ProcessFailed
from cli.demo.play import STEPS, DemoResult, StepResult, play
from cli.output import console, fail


def demo(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="A FHIR R4 bundle to take in as well; may be repeated."
        ),
    ] = None,
    patients: Annotated[int, typer.Option(min=4, max=500, help="How many synthetic patients.")] = 25,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write steps, heights and state roots here.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the network and the proof files in this new folder."),
    ] = None,
) -> None:
    """Carry synthetic patients' records the whole way on a throw-away network of four daemons."""
    if keep is not None and keep.exists() and any(keep.iterdir()):
        fail(f"{keep}: not empty; name a new folder for --keep")
    console.print("[bold]chartchain demo[/]: two hospitals, a primary-care institution, a regulator\n")
    try:
        result = asyncio.run(
            play(
                bundles=tuple(bundle or ()),
                synthetic_patients=patients,
                keep=keep,
                on_start=lambda number, title: console.print(f"[bold]{number:>2}. {title}[/]"),
                on_end=_print_step,
            )
        )
    except ProcessFailed as error:
        fail(str(error))
    _print_summary(result)
    if json_file is not None:
        result.write_json(json_file)
    if keep is not None:
        console.print(
            f"kept in {keep}: verify a file yourself with `chartchain evidence verify FILE --genesis DIGEST`"
        )
    if not result.is_ok:
        fail(f"step {len(result.steps)} of {len(STEPS)} did not see what it must see")


def _print_step(result: StepResult) -> None:
    mark = "[green]·[/]" if result.ok else "[red]✗[/]"
    for line in result.lines:
        console.print(f"    {mark} {escape(line)}")
    console.print(f"      [dim]{result.seconds:.1f} s[/]\n")


def _print_summary(result: DemoResult) -> None:
    steps = Table(title="Summary", title_justify="left", title_style="bold", header_style="dim")
    for column in ("step", "result", "seconds"):
        steps.add_column(column, justify="right" if column == "seconds" else "left")
    for step in result.steps:
        steps.add_row(step.title, "[green]ok[/]" if step.ok else "[red]failed[/]", f"{step.seconds:.1f}")
    steps.add_row(
        "[bold]all[/]", "[green]ok[/]" if result.is_ok else "[red]failed[/]", f"{result.seconds:.1f}"
    )
    console.print(steps)
    nodes = Table(header_style="dim")
    for column in ("node", "height", "state root"):
        nodes.add_column(column)
    for name, height in result.heights.items():
        nodes.add_row(name, str(height), f"{result.state_roots[name][:32]}…")
    if result.heights:
        console.print(nodes)
