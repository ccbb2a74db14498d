"""The demo is the newcomer's acceptance test, so it is one here too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.demo.play import STEPS, DemoResult, StepResult
from cli.demo.stage import BundleOutcome
from cli.main import app
from records.synthetic import generate_patients
from tests.extra_data import list_extra_files

STAFF = {"resourceType": "Practitioner", "id": "staff"}


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["demo", *words], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    """With bundles of our own instead of synthetic patients, two of one name, one named twice."""
    first, second = (tmp_path / name / "chart.json" for name in ("first", "second"))
    for path, patient in zip((first, second), generate_patients(11, 2), strict=True):
        path.parent.mkdir()
        path.write_bytes(patient.bundle)
    staff = tmp_path / "staff.json"
    staff.write_text(
        json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": STAFF}]})
    )
    bundles = [first, second, first, staff, *list_extra_files("fhir")]
    result = run("--patients", "0", "--json", "-", "--bundle", *map(str, bundles))
    assert result.exit_code == 0, result.stderr
    written = json.loads(result.stdout)
    assert [step["name"] for step in written["steps"]] == [name for name, _, _ in STEPS]
    assert all(step["ok"] and step["seconds"] >= 0 for step in written["steps"])
    assert len(written["heights"]) == 4
    assert len(set(written["heights"].values())) == 1
    assert len(set(written["state_roots"].values())) == 1
    outcomes = written["bundles"]
    assert [row["file"] for row in outcomes[:3]] == ["chart.json", "chart.json", "staff.json"]
    assert len(outcomes) == len(bundles) - 1
    assert [row["refused"] for row in outcomes[:3]] == ["", "", "no_patient"]
    counted = int(written["steps"][1]["lines"][0].split()[0])
    child = len(json.loads(generate_patients(20_261, 1)[0].bundle)["entry"])
    assert counted == child + sum(row["records"] for row in outcomes)


def play_with(*outcomes: BundleOutcome) -> Callable[..., Any]:
    """A play in which every step goes well and the bundles end like this."""

    async def play(**_: object) -> DemoResult:
        steps = tuple(
            StepResult(name=name, ok=True, seconds=0.1, title=title, lines=()) for name, title, _ in STEPS
        )
        return DemoResult(steps=steps, heights={}, state_roots={}, bundles=outcomes, seconds=1.0)

    return play


def test_a_broken_bundle_is_shown_at_the_end_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = (
        BundleOutcome(file="good.json", records=3),
        BundleOutcome(file="torn.json", refused="not_json"),
    )
    monkeypatch.setattr("cli.demo.command.play", play_with(*outcomes))
    result = run()
    assert result.exit_code == 1
    assert "refused: not_json" in result.stdout
    assert "1 of 2 bundles were refused: torn.json" in result.stderr


def test_staff_without_a_patient_is_left_out_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cli.demo.command.play", play_with(BundleOutcome(file="staff.json", refused="no_patient"))
    )
    result = run()
    assert result.exit_code == 0
    assert "left out: no_patient" in result.stdout
