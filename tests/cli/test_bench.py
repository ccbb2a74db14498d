"""Figures for programs are one JSON document and nothing else on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app


class Figures:
    """What a benchmark measured, as far as printing it as JSON asks."""

    state_roots_equal = True

    def to_json(self) -> dict[str, object]:
        return {"committed_per_second": 1_500.0}


def test_json_to_standard_output_has_nothing_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def measure(settings: Any, *, on_committed: Any, say: Callable[[str], None]) -> Figures:
        say("signing ...")
        return Figures()

    monkeypatch.setattr("cli.bench.run_bench", measure)
    result = CliRunner().invoke(app, ["bench", "run", "--json", "-"], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"committed_per_second": 1_500.0}
    assert "signing" in result.stderr
