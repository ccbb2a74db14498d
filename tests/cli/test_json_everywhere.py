"""Every command speaks to programs: `--json` is on each of them, and is all that standard output gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.json_target import JsonTarget
from cli.main import app

WITHOUT_JSON = {"node run": "becomes the daemon, whose log is JSON already"}


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the tree that does something, by its words."""
    if not hasattr(command, "commands"):
        yield name.strip(), command
        return
    for word, child in command.commands.items():
        yield from walk(child, f"{name} {word}")


COMMANDS = dict(walk(get_command(app)))


def test_the_tree_is_walked_whole() -> None:
    assert {"demo", "simulate", "bench run", "network up", "node doctor", "grant revoke"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_has_json(name: str) -> None:
    options = {word for parameter in COMMANDS[name].params for word in parameter.opts}
    assert ("--json" in options) != (name in WITHOUT_JSON)


@pytest.mark.parametrize("words", [["bench", "run"], ["demo"], ["simulate"]])
def test_a_file_that_cannot_be_written_is_refused_before_the_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("it ran")

    for name in ("cli.bench.run_bench", "cli.demo.command.play", "cli.simulate.run_seeds"):
        monkeypatch.setattr(name, refuse)
    result = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "absent" / "figures.json")])
    assert result.exit_code == 1
    assert "absent/figures.json: No such file or directory" in result.stderr


def test_looking_whether_a_file_can_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    JsonTarget.open(tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()
    (tmp_path / "old.json").write_text("{}")
    JsonTarget.open(tmp_path / "old.json").write({"seeds": 1})
    assert json.loads((tmp_path / "old.json").read_text()) == {"seeds": 1}
