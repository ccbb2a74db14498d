"""Sums over many runs, and a long series that goes on where it was ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from simulation.progress import Series, WrongProgress, load_report, save_report
from simulation.report import VIOLATIONS_MAX, Report
from simulation.result import RunResult, Violation
from simulation.run import run_seed
from simulation.settings import SimulationSettings

CODE = "c" * 64
SERIES = Series(first_seed=5, settings=SimulationSettings())


def make_result(seed: int, *, is_broken: bool = False) -> RunResult:
    found = Violation(seed=seed, invariant="agreement", text="two blocks", time_ms=7, transcript=("a line",))
    return RunResult(
        seed=seed,
        violations=(found,) if is_broken else (),
        trace_digest=f"{seed:064x}",
        ledger="light",
        replica_count=4,
        blocks=10,
        transactions=12,
        views=0,
        virtual_ms=3_000,
        milliseconds=20.0,
        faults={"loss": seed, "pause": 1},
        coverage={"agreement: prepared": seed},
        elements=(),
    )


def test_report_of_one_seed_names_its_trace_digest() -> None:
    result = run_seed(9)
    report = Report()
    report.add(result, CODE)
    summary = report.summarize()
    assert summary["seeds"] == 1
    assert summary["violations"] == []
    assert summary["trace_digest"] == result.trace_digest
    report.add(result, CODE)
    assert "trace_digest" not in report.summarize()


def test_report_adds_up_faults_times_and_violations() -> None:
    report = Report()
    for seed in range(4):
        report.add(make_result(seed, is_broken=seed == 2), CODE)
    summary = report.summarize()
    assert summary["code"] == {CODE: 4}
    assert summary["faults"] == {"loss": 0 + 1 + 2 + 3, "pause": 4}
    assert summary["milliseconds_per_seed"] == 20.0
    assert summary["violations"] == [{"seed": 2, "invariant": "agreement", "text": "two blocks"}]


def test_time_per_seed_is_that_of_the_light_ledger() -> None:
    report = Report()
    report.add(make_result(1), CODE)
    report.add(replace(make_result(2), ledger="chain", milliseconds=800.0), CODE)
    assert report.milliseconds_per_seed == 20.0
    assert report.ledgers["chain"].milliseconds_per_seed == 800.0


def test_report_does_not_grow_with_the_number_of_violations() -> None:
    report = Report()
    for seed in range(VIOLATIONS_MAX + 3):
        report.add(make_result(seed, is_broken=True), CODE)
    assert len(report.violations) == VIOLATIONS_MAX
    assert report.violation_count == VIOLATIONS_MAX + 3


def test_saved_report_is_read_as_it_was(tmp_path: Path) -> None:
    report = Report()
    report.add(make_result(5, is_broken=True), CODE)
    save_report(tmp_path / "progress.json", SERIES, report)
    assert load_report(tmp_path / "progress.json", SERIES) == report
    assert load_report(tmp_path / "none.json", SERIES) == Report()
    assert [file.name for file in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    "series",
    [
        Series(first_seed=6, settings=SimulationSettings()),
        Series(first_seed=5, settings=SimulationSettings(transactions=25)),
    ],
)
def test_progress_of_another_series_is_refused(tmp_path: Path, series: Series) -> None:
    save_report(tmp_path / "progress.json", SERIES, Report())
    with pytest.raises(WrongProgress, match="another series"):
        load_report(tmp_path / "progress.json", series)


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"report": {"seeds": "many"}})])
def test_file_that_is_no_progress_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(WrongProgress, match="no progress"):
        load_report(tmp_path / "progress.json", SERIES)
