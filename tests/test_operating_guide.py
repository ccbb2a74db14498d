"""What docs/operating.md quotes as seen on a running system is what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
GAP = "…"
"""Stands for a value in a quotation, as in the texts found in the code."""
OF_LEVELDB = {"block checksum mismatch", "Corruption"}


def find_quotations() -> list[str]:
    """Every quotation in the first column of the table of faults."""
    table = PAGE.split("## Faults and what to do\n", 1)[1].split("\n## ", 1)[0]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    return [quoted for cell in first_cells for quoted in re.findall(r"`([^`]+)`", cell)]


def find_texts() -> Iterator[str]:
    """Every text that the code can say, with a gap for each value, and the names of its classes."""
    for path in ROOT.glob("**/*.py"):
        if {".venv", "tests", "build"} & set(path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.JoinedStr(values=parts):
                    yield "".join(map(show, parts))
                case ast.Constant(value=str(text)):
                    yield text
                case ast.ClassDef(name=name):
                    yield name


def show(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else GAP


TEXTS = "\n".join(find_texts())


@pytest.mark.parametrize("quoted", find_quotations())
def test_quotation_is_a_text_of_the_code(quoted: str) -> None:
    assert quoted in TEXTS or quoted in OF_LEVELDB


def test_table_quotes_the_faults_that_matter() -> None:
    assert len(find_quotations()) >= 8


def test_every_command_that_is_shown_exists() -> None:
    from typer.main import get_command

    from cli.main import app

    command: object = get_command(app)
    for line in re.findall(r"^chartchain ([^\n#]*)", PAGE, flags=re.MULTILINE):
        found = command
        for word in line.split():
            if not hasattr(found, "commands"):
                break
            assert word in found.commands, line
            found = found.commands[word]
