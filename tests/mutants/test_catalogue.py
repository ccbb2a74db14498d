"""Recall: every bug of the catalogue is caught; without it the same seed, or the same test, finds nothing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants import agreement, execution, joining, liveness, membership, persistence, view_changes
from tests.mutants.checks import CheckFailed, Hunt, NamedTest
from tests.mutants.mutant import Edit, EditDoesNotFit, Mutant

ROOT = Path(__file__).parents[2]
ROOMS = (agreement, view_changes, liveness, execution, membership, joining, persistence)
MUTANTS: tuple[Mutant, ...] = tuple(mutant for room in ROOMS for mutant in room.MUTANTS)
MUTANTS_MIN = 40


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_bug_is_caught(mutant: Mutant) -> None:
    check = mutant.caught_by
    with pytest.MonkeyPatch.context() as patch:
        mutant.apply(patch)
        finding = check.find()
    assert finding is not None, f"nothing catches {mutant.name} ({mutant.rule}): {mutant.history}"
    if isinstance(check, Hunt):
        assert check.find_again(finding) is None, f"seed {finding.where} fails without the bug too"


def test_there_are_enough_bugs_and_no_two_share_a_name() -> None:
    assert len(MUTANTS) >= MUTANTS_MIN
    assert [name for name, count in Counter(m.name for m in MUTANTS).items() if count > 1] == []


def test_every_bug_breaks_a_rule_of_the_protocol_and_every_rule_is_broken_by_one() -> None:
    rules = set(re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
    assert {mutant.rule for mutant in MUTANTS} == rules


def test_every_bug_says_where_it_was_seen() -> None:
    assert [mutant.name for mutant in MUTANTS if len(mutant.history) < 30] == []


def test_an_edit_that_no_longer_fits_the_code_is_an_error() -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EditDoesNotFit, match="found 0 times"):
        Edit("consensus.quorum:Quorum.size", "no such text", "").apply(patch)


@pytest.mark.parametrize("check", [Hunt(("no_exception",)), NamedTest("consensus/test_quorum.py")], ids=str)
@pytest.mark.parametrize("nonsense", ["no_such_name", "size; size = 1", "self.no_such_field", "self + 1"])
def test_an_edit_that_is_no_valid_code_catches_nothing(
    check: Hunt | NamedTest, nonsense: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NameError, UnboundLocalError, AttributeError and TypeError, in turn."""
    Edit("consensus.quorum:Quorum.size", "return ", f"{nonsense}; return ").apply(monkeypatch)
    with pytest.raises(CheckFailed, match="no valid code"):
        check.find()
