"""Each habit of a lying replica alone: it shows itself, is refused, and breaks nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from simulation.cast import HABITS, LOSSES, FaultyReplica, Part
from simulation.run import run_seed
from simulation.settings import LedgerKind, SimulationSettings

FOUR = SimulationSettings(replica_count=4, fault_kinds=("crash", "partition", "loss"))
SHOWN_BY = {
    "equivocate": "byzantine_equivocate",
    "double_vote": "byzantine_double_vote",
    "silent_to_some": "byzantine_silent_to_some",
    "withhold": "byzantine_withhold",
    "wrong_root": "byzantine_wrong_root",
    "replay": "byzantine_replay",
    "view_storm": "byzantine_view_storm",
    "wild_views": "byzantine_wild_vote",
    "forge": "byzantine_forge",
    "lie": "byzantine_lie",
    "lying_sync": "byzantine_sync_",
    "delay": "byzantine_delay",
    "almost_too_slow": "byzantine_almost_too_slow",
    "garble": "byzantine_garble",
    "two_views": "byzantine_two_view_changes",
}


def run(settings: SimulationSettings, seeds: range) -> Counter[str]:
    """The faults of all these seeds, none of which may break an invariant."""
    faults: Counter[str] = Counter()
    for seed in seeds:
        result = run_seed(seed, settings)
        assert not result.violations, result.violations[0].format()
        faults.update(result.faults)
    return faults


def liar(*habits: str) -> FaultyReplica:
    return FaultyReplica(part=Part.BYZANTINE, habits=habits)


@pytest.mark.slow
@pytest.mark.parametrize("habit", HABITS)
def test_every_habit_shows_itself_and_breaks_nothing(habit: str) -> None:
    faults = run(replace(FOUR, parts=(liar(habit),)), range(12))
    assert any(kind.startswith(SHOWN_BY[habit]) for kind in faults), faults


@pytest.mark.slow
@pytest.mark.parametrize("habit", ["equivocate", "wrong_root", "lying_sync", "forge", "two_views"])
def test_liars_break_nothing_on_the_real_ledger_either(habit: str) -> None:
    settings = replace(FOUR, parts=(liar(habit),), ledger=LedgerKind.CHAIN, transactions=10)
    faults = run(settings, range(3))
    assert faults["byzantine"] == 3


@pytest.mark.slow
def test_two_liars_of_seven_with_all_habits_break_nothing() -> None:
    seven = replace(FOUR, replica_count=7, parts=(liar(*HABITS[::2]), liar(*HABITS[1::2])))
    faults = run(seven, range(4))
    assert faults["refusals"] > 0


def test_twins_contradict_each_other_and_break_nothing() -> None:
    faults = run(replace(FOUR, parts=(FaultyReplica(part=Part.TWINS),)), range(24))
    assert faults["evidence"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_p6_a_replica_that_forgets_beside_a_liar_that_answers_falsely_recovers(loss: str) -> None:
    forgetful = FaultyReplica(part=Part.FORGETFUL, loss=loss)
    settings = replace(FOUR, replica_count=7, parts=(liar("lying_sync", "lie"), forgetful))
    faults = run(settings, range(6))
    assert faults[f"crash_losing_{loss}"] > 0
    assert any(kind.startswith("byzantine_sync_") for kind in faults), faults
