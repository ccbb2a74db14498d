"""Where the figures of a long run go: a file, standard output, or nowhere.

Invariant: with `--json -` the one document is all that standard output gets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.output import console, error_console, print_json

JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="Write the figures here as JSON; - is standard output.")
]


@dataclass(frozen=True, slots=True)
class JsonTarget:
    """The value of `--json FILE`; None when it was not given."""

    path: Path | None

    @classmethod
    def open(cls, path: Path | None) -> JsonTarget:
        """Raises OSError when the file cannot be written: before the run, not after its minutes."""
        target = cls(path)
        if path is not None and not target.is_standard_output:
            existed = path.exists()
            path.open("ab").close()
            if not existed:
                path.unlink()
        return target

    @property
    def is_standard_output(self) -> bool:
        return str(self.path) == "-"

    @property
    def words(self) -> Console:
        """Where everything that is said in words goes."""
        return error_console if self.is_standard_output else console

    def write(self, figures: object) -> None:
        if self.is_standard_output:
            print_json(figures)
        elif self.path is not None:
            self.path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
