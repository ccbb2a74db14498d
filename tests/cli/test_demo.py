"""The demo is the newcomer's acceptance test, so it is one here too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.demo.play import STEPS
from cli.main import app

SHARED = Path(__file__).parents[3] / "shared" / "data" / "fhir"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    real = sorted(SHARED.rglob("*.json"))
    bundles = [word for path in real for word in ("--bundle", str(path))]
    figures = tmp_path / "demo.json"
    result = CliRunner().invoke(app, ["demo", "--patients", "8", "--json", str(figures), *bundles])
    assert result.exit_code == 0, result.output
    written = json.loads(figures.read_text())
    assert [step["name"] for step in written["steps"]] == [name for name, _, _ in STEPS]
    assert all(step["ok"] and step["seconds"] >= 0 for step in written["steps"])
    assert len(written["heights"]) == 4
    assert len(set(written["heights"].values())) == 1
    assert len(set(written["state_roots"].values())) == 1
    for path in real:
        assert path.name in result.output
