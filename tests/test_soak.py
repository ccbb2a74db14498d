"""The long runs go on where they ended, and say what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import soak

TEST_FILE = """
import os
import pytest

def test_holds():
    pass

@pytest.mark.skip
def test_cannot_be_run():
    pass

def test_holds_sometimes():
    assert os.path.exists({switch!r})
"""


@pytest.mark.slow
def test_what_has_passed_is_not_run_again_and_what_failed_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    switch, sound, broken = tmp_path / "switch", tmp_path / "test_sound.py", tmp_path / "test_broken.py"
    sound.write_text("def test_holds():\n    pass\n")
    broken.write_text(TEST_FILE.format(switch=str(switch)))
    series = [soak.Series(file.stem, (str(file), "-p", "no:cacheprovider")) for file in (sound, broken)]
    monkeypatch.setattr(soak, "list_series", lambda: series)
    monkeypatch.setattr(soak, "describe_commit", lambda: "a-commit")
    assert soak.main(tmp_path) == 1
    outcomes = [soak.Outcome.read(tmp_path / "a-commit" / f"{item.name}.xml") for item in series]
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    assert [outcome.is_passed for outcome in outcomes if outcome] == [True, False]
    assert (outcomes[1].tests, outcomes[1].failed, outcomes[1].skipped) == (3, 1, 1)
    sound.unlink()
    switch.touch()
    assert soak.main(tmp_path) == 0
    assert "test_broken" in capsys.readouterr().out


def test_a_run_that_did_not_end_came_to_nothing(tmp_path: Path) -> None:
    assert soak.Outcome.read(tmp_path / "none.xml") is None
