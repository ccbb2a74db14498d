"""Whatever can go wrong in a run, and whatever is checked, has its line in docs/simulation.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation import byzantine
from simulation.cast import HABITS, LOSSES, Part
from simulation.checkers import INVARIANTS
from simulation.faults import KINDS
from simulation.profiles import PROFILES

PAGE = (Path(__file__).parents[2] / "docs/simulation.md").read_text()


@pytest.mark.parametrize(
    "name",
    [*KINDS, *HABITS, *INVARIANTS, *(part.value for part in Part), *(profile.name for profile in PROFILES)],
)
def test_everything_that_is_drawn_or_checked_has_a_line(name: str) -> None:
    assert f"| `{name}` | " in PAGE


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_told(loss: str) -> None:
    assert f"`{loss}`" in PAGE


@pytest.mark.parametrize("habit", HABITS)
def test_the_liar_says_what_its_habits_are(habit: str) -> None:
    assert f"\n    {habit} " in (byzantine.__doc__ or "")
