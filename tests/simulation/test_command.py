"""`chartchain simulate` says what was run, what broke and how to see it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import cli.simulate
from cli.simulate import simulate
from simulation.result import RunResult, Violation
from simulation.run import run_seeds
from simulation.settings import SimulationSettings

ROOT = Path(__file__).parents[2]


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


def test_run_goes_on_until_the_chain_has_the_blocks_asked_for(app: typer.Typer) -> None:
    command = ["simulate", "--seed", "3", "--replicas", "4", "--blocks", "50", "--json", "-"]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["blocks"] >= 50


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
        ledger="light",
        replica_count=4,
        blocks=1,
        transactions=1,
        views=0,
        virtual_ms=7,
        milliseconds=1.0,
        faults={"loss": 1},
        coverage={},
        elements=(),
    )

    def break_one(
        seeds: object, settings: SimulationSettings, *, jobs: int, with_digests: bool
    ) -> Iterator[RunResult]:
        yield result

    monkeypatch.setattr(cli.simulate, "run_seeds", break_one)
    outcome = CliRunner().invoke(app, ["simulate", "--seed", "12", "--replicas", "4"])
    assert outcome.exit_code == 1
    replay = "chartchain simulate --seed 12 --replicas 4"
    for expected in ("first line", "last line", "seed 12", "agreement", replay):
        assert expected in outcome.output


@pytest.mark.slow
def test_second_start_runs_only_the_seeds_that_are_left(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[range] = []

    def record(
        seeds: range, settings: SimulationSettings, *, jobs: int, with_digests: bool
    ) -> Iterator[RunResult]:
        started.append(seeds)
        return run_seeds(seeds, settings, jobs=jobs, with_digests=with_digests)

    monkeypatch.setattr(cli.simulate, "run_seeds", record)
    progress, whole, parts = tmp_path / "progress.json", tmp_path / "whole.json", tmp_path / "parts.json"
    common = ["simulate", "--jobs", "1", "--first-seed", "20"]
    for arguments in (
        ["--seeds", "5", "--json", str(whole)],
        ["--seeds", "2", "--resume", str(progress)],
        ["--seeds", "5", "--resume", str(progress), "--json", str(parts)],
    ):
        outcome = CliRunner().invoke(app, [*common, *arguments])
        assert outcome.exit_code == 0, outcome.output
    assert started == [range(20, 25), range(20, 22), range(22, 25)]
    together, apart = json.loads(whole.read_text()), json.loads(parts.read_text())
    for name in ("seeds", "blocks", "transactions", "faults", "violations"):
        assert together[name] == apart[name]


def test_progress_of_other_seeds_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    progress = str(tmp_path / "progress.json")
    command = ["simulate", "--jobs", "1", "--seeds", "1", "--resume", progress]
    assert CliRunner().invoke(app, command).exit_code == 0
    outcome = CliRunner().invoke(app, [*command, "--first-seed", "1"])
    assert outcome.exit_code == 1
    assert "another series" in outcome.output


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_terminated_series_keeps_what_it_has_done_and_leaves_no_process(tmp_path: Path) -> None:
    progress = tmp_path / "progress.json"
    command = [
        sys.executable,
        "-c",
        "from cli.main import main; main()",
        "simulate",
        "--seeds",
        "100000",
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        [*command, "--resume", str(progress)],
        cwd=ROOT,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not progress.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert json.loads(progress.read_text())["report"]["seeds"] > 0
    while is_group_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_group_alive(process.pid)


def test_wrong_usage_exits_with_2(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["simulate", "--seeds", "0"]).exit_code == 2
