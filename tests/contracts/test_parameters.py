"""Parameters of the contracts change by vote: named, within their ranges, above a height."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest

from contracts.calls import governance as calls
from contracts.calls.changes import ParameterName, ParametersChange, ParameterValue, ReplicaSetChange
from contracts.errors import CallFailed
from contracts.monitoring import list_alerts
from contracts.parameters import RANGES, ParametersRow, get_parameters
from contracts.schedule import get_scheduled

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

TERM_DAYS = 300
"""How long the mandates of these tests last."""
DAY_MS = 86_400_000


def make_proposal(ledger: Ledger, name: str = "proposal", /, **values: Any) -> calls.Propose:
    """Effective five heights from the next one."""
    change = ParametersChange(values=tuple(ParameterValue(key, values[key]) for key in sorted(values)))  # type: ignore[arg-type]
    return calls.Propose(ledger.make_id(name), change, ledger.height + 6)


def adopt(ledger: Ledger, proposal: calls.Propose) -> None:
    ledger.run(ledger.hospital, proposal)
    ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True))
    assert ledger.run(ledger.regulator, calls.Vote(proposal.proposal, True)) is True


def reach(ledger: Ledger, height: int) -> None:
    while ledger.height < height:
        ledger.run(ledger.hospital)


def get(ledger: Ledger) -> ParametersRow:
    row = get_parameters(ledger.state)
    assert row is not None
    return row


def test_every_parameter_has_a_name_and_a_range() -> None:
    assert set(get_args(ParameterName)) == RANGES.keys() == set(ParametersRow.__struct_fields__)
    assert all(1 <= low < high <= 2**53 for low, high in RANGES.values())


def test_named_parameters_change_above_the_height_and_the_others_stay(ledger: Ledger) -> None:
    before = get(ledger)
    proposal = make_proposal(ledger, ticket_age_ms_max=60_000, alert_refusals_per_hour=7)
    adopt(ledger, proposal)
    reach(ledger, proposal.due_height - 1)
    assert get(ledger) == before
    reach(ledger, proposal.due_height)
    after = get(ledger)
    assert (after.ticket_age_ms_max, after.alert_refusals_per_hour) == (60_000, 7)
    assert after.mandate_term_ms_max == before.mandate_term_ms_max
    assert get_scheduled(ledger.state, "parameters") is None


def test_a_call_goes_by_the_parameters_of_its_own_block(folder: Ledger) -> None:
    proposal = make_proposal(folder, mandate_term_ms_max=(TERM_DAYS - 1) * DAY_MS)
    adopt(folder, proposal)
    reach(folder, proposal.due_height - 1)
    folder.run(folder.clinic, folder.make_mandate("before"))  # In the block of that very height.
    assert folder.height == proposal.due_height
    with pytest.raises(CallFailed):
        folder.run(folder.clinic, folder.make_mandate("after"))


@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_value_beyond_its_range_is_refused_before_the_vote(ledger: Ledger, name: str) -> None:
    low, high = RANGES[name]
    for value in (low - 1, high + 1):
        if value:
            assert ledger.fail(ledger.hospital, make_proposal(ledger, **{name: value})) == "out_of_range"
    for number, value in enumerate((low, high)):
        ledger.run(ledger.hospital, make_proposal(ledger, str(number), **{name: value}))


def test_names_are_in_order_and_something_changes(ledger: Ledger) -> None:
    age = ParameterValue("ticket_age_ms_max", 60_000)
    refusals = ParameterValue("alert_refusals_per_hour", 7)
    for values in ((age, refusals), (age, age), ()):
        call = calls.Propose(ledger.make_id("p"), ParametersChange(values=values), ledger.height + 6)
        assert ledger.fail(ledger.hospital, call) == "bad_arguments"
    same = make_proposal(ledger, ticket_age_ms_max=get(ledger).ticket_age_ms_max)
    assert ledger.fail(ledger.hospital, same) == "no_change"


def test_one_change_of_parameters_at_a_time_and_the_others_lapse_with_it(ledger: Ledger) -> None:
    other = make_proposal(ledger, "other", alert_refusals_per_hour=9)
    ledger.run(ledger.other, calls.Propose(other.proposal, other.change, ledger.height + 50))
    proposal = make_proposal(ledger, ticket_age_ms_max=60_000)
    adopt(ledger, proposal)
    assert ledger.fail(ledger.clinic, calls.Vote(other.proposal, True)) == "change_scheduled"
    third = make_proposal(ledger, "third", alert_refusals_per_hour=8)
    assert ledger.fail(ledger.clinic, third) == "change_scheduled"
    # The replica set is another subject and does not wait.
    removal = calls.Propose(ledger.make_id("set"), ReplicaSetChange(remove=(1,)), ledger.height + 20)
    adopt(ledger, removal)
    reach(ledger, proposal.due_height)
    assert ledger.fail(ledger.clinic, calls.Vote(other.proposal, True)) == "proposal_lapsed"
    adopt(ledger, make_proposal(ledger, "fourth", alert_refusals_per_hour=8))


def test_two_subjects_may_change_with_one_block(ledger: Ledger) -> None:
    height = ledger.height + 20
    set_change = calls.Propose(ledger.make_id("set"), ReplicaSetChange(remove=(1,)), height)
    values = make_proposal(ledger, ticket_age_ms_max=60_000)
    adopt(ledger, set_change)
    adopt(ledger, calls.Propose(values.proposal, values.change, height))
    reach(ledger, height)
    assert get(ledger).ticket_age_ms_max == 60_000
    assert get_scheduled(ledger.state, "replica_set") is None


def test_a_lower_number_of_refusals_raises_the_alert_once_in_the_hour(folder: Ledger) -> None:
    reports = folder.make_request(grant=folder.make_id("none"))

    def refuse() -> int:
        assert folder.run(folder.other, reports) == ("refused", "no_grant")
        return len([row for _, row in list_alerts(folder.state) if row.kind == "refusals"])

    raise_limit = make_proposal(folder, alert_refusals_per_hour=5)
    adopt(folder, raise_limit)
    reach(folder, raise_limit.due_height)
    assert [refuse() for _ in range(4)] == [0, 0, 0, 0]
    lower_limit = make_proposal(folder, "lower", alert_refusals_per_hour=2)
    adopt(folder, lower_limit)
    reach(folder, lower_limit.due_height)
    assert [refuse() for _ in range(3)] == [1, 1, 1]
