"""Which branches of the protocol runs go through."""

from __future__ import annotations

import pytest

from simulation.cast import FaultyReplica, Part
from simulation.coverage import BRANCHES
from simulation.report import Report
from simulation.run import run_seed, run_seeds
from simulation.settings import LedgerKind, SimulationSettings

CODE = "c" * 64
USUAL = SimulationSettings(ledger=LedgerKind.MIXED, changes=None)
LIARS = SimulationSettings(
    replica_count=4,
    parts=(
        FaultyReplica(part=Part.BYZANTINE, habits=("wild_views", "forge", "lie", "wrong_root", "garble")),
    ),
    fault_kinds=("crash", "pause"),
)
"""Runs that go through what most refusals are there for."""
NEVER = {"halt", "refused: PROPOSAL-REQUEST"}
"""What in 100,000 usual seeds no replica did: a whole one does not halt, and nobody asks wrongly."""
RARE = {
    *(
        f"PROPOSAL-{kind} heard while {mode}"
        for kind in ("REQUEST", "RESPONSE")
        for mode in ("silent", "starting")
    ),
    "PROPOSAL-RESPONSE heard while changing view",
    "PRE_PREPARE vote heard while silent",
    "refused: PROPOSAL-RESPONSE",
}
"""What fewer than one usual seed in a hundred goes through, and hardly any of LIARS."""


def test_perfect_run_goes_through_agreement_and_no_view_change() -> None:
    reached = run_seed(5, SimulationSettings(replica_count=4, faults=False)).coverage
    assert reached["agreement: proposed afresh"] > 0
    assert reached["agreement: committed"] == reached["agreement: durable"] > 0
    assert reached["COMMIT heard while in a view"] > 0
    assert not [name for name in reached if name.startswith("views:") or "changing view" in name]


def test_dead_primary_is_seen_in_the_branches_of_the_view_change() -> None:
    settings = SimulationSettings(replica_count=4, fault_kinds=("crash",), byzantine=False)
    report = Report()
    for seed in range(4):
        report.add(run_seed(seed, settings), CODE)
    assert report.coverage["views: asked for the next at a timeout"] > 0
    assert report.coverage["VIEW-CHANGE heard while changing view"] > 0


def test_report_lists_what_was_never_reached() -> None:
    report = Report()
    report.add(run_seed(5, SimulationSettings(replica_count=4, faults=False)), CODE)
    assert set(report.never_reached) == BRANCHES - report.coverage.keys()
    assert "views: joined more than f others" in report.never_reached


@pytest.mark.slow
def test_many_seeds_go_through_every_branch_but_these() -> None:
    report = Report()
    for settings, seeds in ((USUAL, range(5_000, 5_150)), (LIARS, range(50))):
        for result in run_seeds(seeds, settings):
            report.add(result, CODE)
    assert set(report.never_reached) <= NEVER | RARE
