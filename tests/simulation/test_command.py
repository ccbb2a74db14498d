"""`chartchain simulate` says what was run, what broke and how to see it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import cli.simulate
from cli.simulate import simulate
from simulation.result import RunResult, Violation


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def main() -> None:
        """Keeps `simulate` a sub-command."""

    app.command("simulate")(simulate)
    return app


def test_one_seed_writes_its_trace_digest(app: typer.Typer, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    outcome = CliRunner().invoke(app, ["simulate", "--seed", "4", "--json", str(file)])
    assert outcome.exit_code == 0, outcome.output
    written = json.loads(file.read_text())
    assert written["seeds"] == 1
    assert written["violations"] == []
    assert written["milliseconds_per_seed"] > 0
    assert len(written["trace_digest"]) == 64
    assert written["trace_digest"] in outcome.output


def test_many_seeds_go_to_standard_output_as_json(app: typer.Typer) -> None:
    command = ["simulate", "--seeds", "2", "--first-seed", "3", "--jobs", "1", "--json", "-"]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    written = json.loads(outcome.stdout)
    assert written["seeds"] == 2
    assert written["violations"] == []
    assert "trace_digest" not in written


def test_failing_seed_is_told_with_invariant_transcript_and_replay(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    violation = Violation(
        seed=12, invariant="agreement", text="two blocks", time_ms=7, transcript=("first line", "last line")
    )
    result = RunResult(
        seed=12,
        violations=(violation,),
        trace_digest="0" * 64,
        replica_count=4,
        blocks=1,
        transactions=1,
        views=0,
        virtual_ms=7,
        milliseconds=1.0,
        faults={"loss": 1},
    )

    def run_seeds(seeds: object, settings: object, *, jobs: int, on_result: object) -> list[RunResult]:
        assert callable(on_result)
        on_result(result)
        return [result]

    monkeypatch.setattr(cli.simulate, "run_seeds", run_seeds)
    outcome = CliRunner().invoke(app, ["simulate", "--seed", "12"])
    assert outcome.exit_code == 1
    for expected in ("first line", "last line", "seed 12", "agreement", "chartchain simulate --seed 12"):
        assert expected in outcome.output


def test_wrong_usage_exits_with_2(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["simulate", "--seeds", "0"]).exit_code == 2
