"""What is scheduled is not made after all, by the same majority, until its height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.calls import governance as calls
from contracts.calls.changes import (
    Cancellation,
    Change,
    ContractActivation,
    ParametersChange,
    ParameterValue,
    ReplicaSetChange,
)
from contracts.parameters import get_parameters
from contracts.proposals import proposals
from contracts.replica_sets import get_replica_set
from contracts.versions import read_coming_versions, read_versions

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

PARAMETERS = ParametersChange(values=(ParameterValue("ticket_age_ms_max", 60_000),))
CHANGES: tuple[Change, ...] = (
    ReplicaSetChange(remove=(1,)),
    PARAMETERS,
    ContractActivation(contract="evidence", version=2),
)


def propose(ledger: Ledger, change: Change, ahead: int = 12) -> calls.Propose:
    call = calls.Propose(ledger.make_id(f"{ledger.height}"), change, ledger.height + ahead)
    ledger.run(ledger.hospital, call)
    return call


def adopt(ledger: Ledger, change: Change, ahead: int = 12) -> calls.Propose:
    call = propose(ledger, change, ahead)
    ledger.run(ledger.clinic, calls.Vote(call.proposal, True))
    assert ledger.run(ledger.regulator, calls.Vote(call.proposal, True)) is True
    return call


def reach(ledger: Ledger, height: int) -> None:
    while ledger.height < height:
        ledger.run(ledger.hospital)


def describe(ledger: Ledger) -> tuple[object, ...]:
    """Every subject that a height can change."""
    return get_replica_set(ledger.state), get_parameters(ledger.state), read_versions(ledger.state.get)


@pytest.mark.parametrize("change", CHANGES)
def test_a_cancelled_change_of_any_subject_is_never_made(ledger: Ledger, change: Change) -> None:
    before = describe(ledger)
    scheduled = adopt(ledger, change)
    adopt(ledger, Cancellation(proposal=scheduled.proposal))
    assert ledger.events[-1].name == "cancelled"
    row = proposals.get(ledger.state, scheduled.proposal)
    assert row is not None
    assert (row.cancelled_height, row.adopted_height > 0) == (ledger.height, True)
    reach(ledger, scheduled.due_height + 1)
    assert describe(ledger) == before
    assert ledger.fail(ledger.other, calls.Vote(scheduled.proposal, True)) == "already_adopted"
    again = adopt(ledger, change, ahead=4)
    reach(ledger, again.due_height)
    assert describe(ledger) != before


def test_the_block_of_the_height_itself_can_still_cancel(ledger: Ledger) -> None:
    scheduled = adopt(ledger, PARAMETERS, ahead=8)
    cancellation = propose(ledger, Cancellation(proposal=scheduled.proposal))
    ledger.run(ledger.clinic, calls.Vote(cancellation.proposal, True))
    reach(ledger, scheduled.due_height - 1)
    assert ledger.run(ledger.regulator, calls.Vote(cancellation.proposal, True)) is True
    assert ledger.height == scheduled.due_height
    found = get_parameters(ledger.state)
    assert found is not None
    assert found.ticket_age_ms_max == 30_000


def test_what_is_effective_or_only_proposed_cannot_be_cancelled(ledger: Ledger) -> None:
    open_one = propose(ledger, PARAMETERS, ahead=50)
    call = calls.Propose(ledger.make_id("c"), Cancellation(proposal=open_one.proposal), ledger.height + 9)
    assert ledger.fail(ledger.hospital, call) == "not_scheduled"
    scheduled = adopt(ledger, CHANGES[2], ahead=8)
    pending = propose(ledger, Cancellation(proposal=scheduled.proposal))
    ledger.run(ledger.clinic, calls.Vote(pending.proposal, True))
    reach(ledger, scheduled.due_height)
    assert ledger.fail(ledger.regulator, calls.Vote(pending.proposal, True)) == "not_scheduled"


def test_what_waited_for_the_cancelled_change_is_open_again(ledger: Ledger) -> None:
    waiting = propose(ledger, PARAMETERS, ahead=60)
    scheduled = adopt(
        ledger, ParametersChange(values=(ParameterValue("alert_refusals_per_hour", 9),)), ahead=20
    )
    assert ledger.fail(ledger.clinic, calls.Vote(waiting.proposal, True)) == "change_scheduled"
    adopt(ledger, Cancellation(proposal=scheduled.proposal))
    ledger.run(ledger.clinic, calls.Vote(waiting.proposal, True))
    assert ledger.run(ledger.regulator, calls.Vote(waiting.proposal, True)) is True


def test_only_the_change_that_was_named_is_cancelled(ledger: Ledger) -> None:
    kept, dropped = adopt(ledger, CHANGES[2], ahead=40), adopt(ledger, PARAMETERS, ahead=40)
    adopt(ledger, Cancellation(proposal=dropped.proposal))
    coming = read_coming_versions(ledger.state.get)
    assert coming is not None
    assert coming[0] == kept.due_height
