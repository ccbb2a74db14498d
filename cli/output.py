"""How commands speak: readable by default, JSON with `--json`, errors on one line with what to do.

Exit codes: 0 done, 1 refused or failed with the reason, 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PIPE_COLUMNS: Final = 240
"""Width of a table that goes to a file or another program, where no terminal says one."""

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Say why on standard error and exit with 1."""
    error_console.print(f"[bold red]chartchain:[/] {_escape(message)}")
    raise typer.Exit(1)


def show(data: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: its fields as lines, or as a JSON object."""
    if as_json:
        print_json(data)
        return
    width = max((len(name) for name in data), default=0)
    for name, value in data.items():
        console.print(f"[dim]{name.replace('_', ' '):<{width}}[/]  {_escape(_format(value))}")


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str, nothing: str = "none") -> None:
    """Many things of one kind: a table, or a JSON array. `nothing` is said when there are none."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        console.print(f"{title}: {nothing}")
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_escape(_format(value)) for value in row.values()))
    target = console if console.is_terminal else Console(highlight=False, width=PIPE_COLUMNS)
    target.print(table)


def print_json(data: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Any]:
    """A bar on standard error while at a terminal, silent otherwise; call the yielded function to advance."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    disabled = not error_console.is_terminal
    with Progress(*columns, console=error_console, transient=True, disable=disabled) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count=1: progress.advance(task, count)


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_format(item) for item in value) or "none"
    return "-" if value is None or value == "" else str(value)


def _escape(text: str) -> str:
    """Square brackets in data are text, and control characters never reach the terminal."""
    cleaned = "".join(
        character if character.isprintable() or character == "\n" else "?" for character in text
    )
    return cleaned.replace("[", "\\[")
