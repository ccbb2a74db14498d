"""Authorization: grants, revocation, requests with each reason of refusal, outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec
import pytest

from contracts import authorization
from contracts.accesses import RefusalReason
from contracts.calls import authorization as calls
from contracts.calls.folders import EndMandate, FreezeAlias, RegisterAlias, SuspendMandate
from contracts.calls.registry import ReinstateInstitution, SuspendInstitution, SuspendMember
from contracts.catalog import CONTRACTS, find_institution
from contracts.grants import GRANTS_PER_PAIR_MAX, GrantRow, PairEntry, PairRow, pairs
from crypto.encoding import decode

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

HOUR_MS = 3_600_000
YEAR_MS = 366 * 24 * HOUR_MS
ALLOWED = ("allowed",)


def get_grant(ledger: Ledger, name: str = "grant") -> GrantRow:
    row = authorization.get_grant(ledger.state, ledger.make_id(name))
    assert row is not None
    return row


def ask(ledger: Ledger, **changes: object) -> object:
    """The answer to the doctor's request."""
    return ledger.run(ledger.other, ledger.make_request(**changes))


def give(ledger: Ledger, **changes: object) -> None:
    """The custodian's grant to the doctor."""
    ledger.run(ledger.clinic, ledger.make_grant(**changes))


def revoke(ledger: Ledger) -> calls.Revoke:
    return calls.Revoke(ledger.make_id("grant"))


# Grants


def test_custodian_grants_and_the_grantee_hears_of_it(folder: Ledger) -> None:
    give(folder)
    row = get_grant(folder)
    assert (row.granted_by, row.uses, row.closed_height) == (folder.clinic.institution, 0, 0)
    (event,) = folder.events
    assert set(event.audience) == {
        folder.hospital.institution,
        folder.clinic.institution,
        folder.other.institution,
    }
    assert [grant for grant, _ in authorization.list_grants(folder.state, row.alias)] == [
        folder.make_id("grant")
    ]


def test_custodial_grant_is_the_custodians_only(folder: Ledger) -> None:
    for sender in (folder.hospital, folder.other, folder.regulator):
        assert folder.fail(sender, folder.make_grant()) == "not_permitted"
    assert folder.fail(folder.make_key("stranger"), folder.make_grant()) == "unknown_sender"


def test_own_key_grant_is_the_patients_only(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    ledger.register_alias(patient=patient)
    ledger.register_member()
    call = ledger.make_grant(assurance="own_key")
    assert ledger.fail(ledger.clinic, call) == "not_permitted"
    assert ledger.fail(patient, ledger.make_grant()) == "unknown_sender"
    ledger.run(patient, call)
    assert get_grant(ledger).granted_by == b""


def test_own_key_of_a_suspended_holder_takes_back_and_gives_nothing(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    ledger.register_alias(patient=patient)
    ledger.register_member()
    ledger.run(patient, ledger.make_grant(assurance="own_key"))
    ledger.run(ledger.regulator, SuspendInstitution(ledger.hospital.institution, "breach"))
    assert find_institution(ledger.state, patient.public_key) == ledger.hospital.institution
    more = ledger.make_grant("more", assurance="own_key")
    assert ledger.fail(patient, more) == "holder_suspended"
    ledger.run(ledger.clinic, ledger.make_grant("by the custodian"))
    ledger.run(patient, revoke(ledger))
    ledger.run(ledger.regulator, ReinstateInstitution(ledger.hospital.institution))
    ledger.run(patient, more)


def test_patients_key_of_another_alias_grants_nothing(folder: Ledger) -> None:
    patient = folder.make_key("patient")
    folder.register_alias("second", patient=patient)
    assert folder.fail(patient, folder.make_grant(assurance="own_key")) == "not_permitted"


def test_grant_id_is_unique(folder: Ledger) -> None:
    give(folder)
    assert folder.fail(folder.clinic, folder.make_grant()) == "grant_exists"


def test_grant_names_an_alias_and_a_grantee_of_the_ledger(folder: Ledger) -> None:
    def fail(**changes: object) -> str:
        return folder.fail(folder.clinic, folder.make_grant(**changes))

    assert fail(alias=folder.make_id("nothing")) == "alias_unknown"
    assert fail(institution=folder.make_id("nothing")) == "institution_unknown"
    assert fail(member=folder.make_id("nobody")) == "member_unknown"
    assert fail(institution=folder.clinic.institution) == "member_unknown"
    folder.run(folder.regulator, SuspendInstitution(folder.other.institution, "breach"))
    assert fail() == "grantee_suspended"


@pytest.mark.parametrize(
    ("from_ms", "until_ms"),
    [(0, 0), (HOUR_MS, 0), (-2 * HOUR_MS, -HOUR_MS), (0, YEAR_MS + HOUR_MS), (YEAR_MS, YEAR_MS + HOUR_MS)],
    ids=["empty", "reversed", "over", "too long", "too far ahead"],
)
def test_grant_outside_its_term_is_refused(folder: Ledger, from_ms: int, until_ms: int) -> None:
    now = folder.time_ms
    call = folder.make_grant(from_ms=now + from_ms, until_ms=now + until_ms)
    assert folder.fail(folder.clinic, call) == "bad_arguments"


@pytest.mark.parametrize(
    "changes",
    [
        {"member": bytes(15)},
        {"mandate": bytes(15)},
        {"classes": ("laboratory_reports", "allergies")},
        {"assurance": "own_key", "mandate": bytes(16)},
    ],
)
def test_grant_of_a_wrong_form_is_refused(folder: Ledger, changes: dict[str, object]) -> None:
    assert folder.fail(folder.clinic, folder.make_grant(**changes)) == "bad_arguments"


def test_originals_are_granted_for_care_only(folder: Ledger) -> None:
    call = folder.make_grant(purpose="research")
    assert folder.fail(folder.clinic, call) == "profile_not_for_purpose"


def test_frozen_alias_gives_no_grants_but_lets_them_be_revoked(folder: Ledger) -> None:
    give(folder)
    folder.run(folder.hospital, FreezeAlias(folder.make_id("alias"), "dispute"))
    assert folder.fail(folder.clinic, folder.make_grant("second")) == "alias_frozen"
    folder.run(folder.clinic, revoke(folder))


def test_grant_by_mandate_needs_it_active_and_within_scope(folder: Ledger) -> None:
    mandate = folder.make_mandate().mandate
    call = folder.make_grant(mandate=mandate)
    assert folder.fail(folder.clinic, call) == "mandate_inactive"
    folder.run(folder.clinic, folder.make_mandate())
    beyond = msgspec.structs.replace(call, classes=("allergies", "laboratory_reports"))
    assert folder.fail(folder.clinic, beyond) == "beyond_mandate"
    folder.register_alias("second")
    of_another = msgspec.structs.replace(call, alias=folder.make_id("second"))
    assert folder.fail(folder.clinic, of_another) == "mandate_inactive"
    folder.run(folder.clinic, call)
    folder.run(folder.clinic, EndMandate(mandate, "majority"))
    later = msgspec.structs.replace(call, grant=folder.make_id("later"))
    assert folder.fail(folder.clinic, later) == "mandate_inactive"


def test_pair_row_has_a_bound(folder: Ledger) -> None:
    alias, doctor = folder.make_id("alias"), folder.make_id("doctor")
    entries = tuple(PairEntry(bytes(16), 1, 2) for _ in range(GRANTS_PER_PAIR_MAX - 1))
    folder.state.rows[pairs.compute_state_key(alias + doctor)] = pairs.encode_row(PairRow(entries))
    give(folder)
    assert folder.fail(folder.clinic, folder.make_grant("second")) == "too_many_grants"
    folder.run(folder.clinic, revoke(folder))


# Revocation


@pytest.mark.parametrize("founder", ["hospital", "clinic"])
def test_holder_and_custodian_revoke(folder: Ledger, founder: str) -> None:
    sender = getattr(folder, founder)
    give(folder)
    folder.run(sender, revoke(folder))
    row = get_grant(folder)
    assert (row.closed_height, row.closed_by) == (folder.height, sender.institution)
    assert folder.fail(sender, revoke(folder)) == "already_revoked"


def test_patients_own_key_revokes_what_the_custodian_granted(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    ledger.register_alias(patient=patient)
    ledger.register_member()
    give(ledger)
    ledger.run(patient, revoke(ledger))
    assert get_grant(ledger).closed_by == b""


def test_nobody_else_revokes(folder: Ledger) -> None:
    give(folder)
    patient = folder.make_key("patient")
    folder.register_alias("second", patient=patient)
    assert folder.fail(folder.other, revoke(folder)) == "not_permitted"
    assert folder.fail(folder.regulator, revoke(folder)) == "not_permitted"
    assert folder.fail(patient, revoke(folder)) == "unknown_sender"
    assert folder.fail(folder.clinic, calls.Revoke(folder.make_id("nothing"))) == "grant_unknown"


# Requests


def test_request_stands_alone_in_its_transaction() -> None:
    assert CONTRACTS["authorization"].alone_methods == {"authorize"}


def test_allowed_request_is_recorded_with_all_that_the_holder_needs(folder: Ledger) -> None:
    give(folder)
    assert ask(folder, ephemeral_key=b"k" * 32, details=b"d" * 32) == ALLOWED
    alias = folder.make_id("alias")
    ((height, ticket, row),) = authorization.list_accesses(folder.state, alias)
    assert (height, ticket) == (folder.height, folder.transaction_id)
    assert row.is_allowed
    assert (row.institution, row.member) == (folder.other.institution, folder.make_id("doctor"))
    assert (row.anchors, row.purpose) == ((folder.make_id("record"),), "care")
    assert (row.ephemeral_key, row.details) == (b"k" * 32, b"d" * 32)
    assert authorization.get_access(folder.state, alias, height, ticket) == row
    assert [reader for reader, _ in authorization.list_readers(folder.state, alias)] == [row.institution]
    assert get_grant(folder).uses == 1


def test_refused_request_is_recorded_and_uses_nothing(folder: Ledger) -> None:
    give(folder)
    assert ask(folder, purpose="research") == ("refused", "purpose_not_granted")
    ((_, _, row),) = authorization.list_accesses(folder.state, folder.make_id("alias"))
    assert row.refusal == "purpose_not_granted"
    assert get_grant(folder).uses == 0
    assert authorization.list_readers(folder.state, folder.make_id("alias")) == []


def test_request_for_an_unknown_alias_is_recorded_under_the_requester(folder: Ledger) -> None:
    unknown = folder.make_id("nothing")
    assert ask(folder, alias=unknown) == ("refused", "unknown_alias")
    assert authorization.list_accesses(folder.state, unknown) == []
    ((_, _, row),) = authorization.list_accesses(folder.state, folder.other.institution)
    assert row.refusal == "unknown_alias"
    assert not any(unknown in key + data for key, data in folder.state.rows.items())
    (event,) = folder.events
    assert event.audience == (folder.other.institution,)
    assert unknown not in event.fields


def test_event_of_a_request_goes_to_holder_custodian_and_requester(folder: Ledger) -> None:
    give(folder)
    ask(folder)
    (event,) = folder.events
    assert set(event.audience) == {
        folder.hospital.institution,
        folder.clinic.institution,
        folder.other.institution,
    }
    fields = decode(event.fields, size_max=1_000)
    assert isinstance(fields, tuple)
    assert fields[:2] == (folder.make_id("alias"), folder.transaction_id)
    assert fields[-1] == "allowed"


def test_request_of_a_stranger_or_suspended_institution_writes_nothing(folder: Ledger) -> None:
    give(folder)
    assert folder.fail(folder.make_key("stranger"), folder.make_request()) == "unknown_sender"
    folder.run(folder.regulator, SuspendInstitution(folder.other.institution, "breach"))
    assert folder.fail(folder.other, folder.make_request()) == "institution_suspended"


def test_grant_of_a_request_is_empty_or_whole(folder: Ledger) -> None:
    assert folder.fail(folder.other, folder.make_request(grant=bytes(3))) == "bad_arguments"


def prepare_refusal(folder: Ledger, reason: str) -> dict[str, object]:
    """Bring about what `reason` names after a good grant; how the request differs from the usual one."""
    doctor, alias = folder.make_id("doctor"), folder.make_id("alias")
    match reason:
        case "unknown_alias":
            return {"alias": folder.make_id("nothing")}
        case "member_unknown":
            return {"member": folder.make_id("nobody")}
        case "member_suspended":
            folder.run(folder.other, SuspendMember(doctor, "left"))
        case "alias_frozen":
            folder.run(folder.hospital, FreezeAlias(alias, "dispute"))
        case "no_grant":
            return {"grant": b""}
        case "grant_of_other_folder":
            second = folder.register_alias("second")
            give(folder, grant=folder.make_id("elsewhere"), alias=second)
            return {"grant": folder.make_id("elsewhere")}
        case "not_grantee":
            return {"member": folder.register_member("colleague")}
        case "revoked":
            folder.run(folder.clinic, revoke(folder))
        case "not_started":
            later = folder.time_ms + HOUR_MS
            give(folder, grant=folder.make_id("later"), from_ms=later, until_ms=later + HOUR_MS)
            return {"grant": folder.make_id("later")}
        case "expired":
            folder.time_ms = get_grant(folder).until_ms - 1
        case "used_up":
            give(folder, grant=folder.make_id("once"), uses_max=1)
            assert ask(folder, grant=folder.make_id("once")) == ALLOWED
            return {"grant": folder.make_id("once")}
        case "mandate_inactive":
            mandate = folder.make_mandate().mandate
            folder.run(folder.clinic, folder.make_mandate())
            give(folder, grant=folder.make_id("guardian's"), mandate=mandate)
            assert ask(folder, grant=folder.make_id("guardian's")) == ALLOWED
            folder.run(folder.clinic, SuspendMandate(mandate, "court"))
            return {"grant": folder.make_id("guardian's")}
        case "purpose_not_granted":
            return {"purpose": "court"}
        case "no_anchors":
            return {"anchors": ()}
        case "unknown_anchor":
            return {"anchors": (folder.make_id("record"), folder.make_id("nothing"))}
        case "class_not_granted":
            summary = folder.anchor("summary", "discharge_summaries")
            return {"anchors": (folder.make_id("record"), summary)}
    return {}


@pytest.mark.parametrize("reason", get_args(RefusalReason))
def test_each_reason_refuses(folder: Ledger, reason: str) -> None:
    give(folder)
    changes = prepare_refusal(folder, reason)
    assert ask(folder, **changes) == ("refused", reason)


def test_grant_of_another_folder_is_not_recorded_beside_the_alias(folder: Ledger) -> None:
    changes = prepare_refusal(folder, "grant_of_other_folder")
    elsewhere = folder.make_id("elsewhere")
    assert ask(folder, **changes) == ("refused", "grant_of_other_folder")
    ((_, _, row),) = authorization.list_accesses(folder.state, folder.make_id("alias"))
    assert row.grant == b""
    assert not any(elsewhere in event.fields for event in folder.events)


def test_anchor_of_another_alias_is_unknown(folder: Ledger) -> None:
    second = folder.register_alias("second")
    give(folder, alias=second)
    request = folder.make_request(alias=second)
    assert folder.run(folder.other, request) == ("refused", "unknown_anchor")


def test_grant_is_good_from_its_first_to_its_last_millisecond(folder: Ledger) -> None:
    begin = folder.time_ms + HOUR_MS
    give(folder, from_ms=begin, until_ms=begin + HOUR_MS)
    answers = []
    for time_ms in (begin - 1, begin, begin + HOUR_MS - 1, begin + HOUR_MS):
        folder.time_ms = time_ms - 1  # The next transaction's block is a millisecond later.
        answers.append(ask(folder))
    assert answers == [("refused", "not_started"), ALLOWED, ALLOWED, ("refused", "expired")]


def test_grant_to_an_institution_serves_any_of_its_clinicians_and_nobody_else(folder: Ledger) -> None:
    give(folder, member=b"")
    colleague = folder.register_member("colleague")
    clerk = folder.register_member("clerk", role="clerk")
    stranger = folder.register_member("stranger", founder=folder.clinic)
    assert ask(folder) == ALLOWED
    assert ask(folder, member=colleague) == ALLOWED
    assert ask(folder, member=clerk) == ("refused", "not_grantee")
    assert ask(folder, member=stranger) == ("refused", "member_unknown")
    assert folder.run(folder.clinic, folder.make_request(member=stranger)) == ("refused", "not_grantee")


def test_grant_to_a_named_clerk_serves_the_clerk(folder: Ledger) -> None:
    clerk = folder.register_member("clerk", role="clerk")
    give(folder, member=clerk)
    assert ask(folder, member=clerk) == ALLOWED


def test_uses_are_counted_to_their_bound(folder: Ledger) -> None:
    give(folder, uses_max=2)
    assert [ask(folder) for _ in range(3)] == [ALLOWED, ALLOWED, ("refused", "used_up")]
    assert get_grant(folder).uses == 2


def test_live_grants_are_found_for_a_member(folder: Ledger) -> None:
    def find(member: str = "doctor", institution: bytes = folder.other.institution) -> set[bytes]:
        found = authorization.list_live_grants(
            folder.state,
            alias=folder.make_id("alias"),
            institution=institution,
            member=folder.make_id(member),
            time_ms=folder.time_ms,
        )
        return {grant for grant, _ in found}

    give(folder)
    give(folder, grant=folder.make_id("all"), member=b"")
    assert find() == {folder.make_id("grant"), folder.make_id("all")}
    assert find("colleague") == {folder.make_id("all")}
    assert find(institution=folder.clinic.institution) == set()
    folder.run(folder.clinic, revoke(folder))
    assert find() == {folder.make_id("all")}
    folder.time_ms += HOUR_MS
    assert find() == set()


# Outcomes


def make_outcome(ledger: Ledger, outcome: calls.Outcome = "delivered") -> calls.ReportOutcome:
    return calls.ReportOutcome(ledger.make_id("alias"), ledger.height, ledger.transaction_id, outcome)


@pytest.mark.parametrize("outcome", ["delivered", "failed"])
def test_outcome_is_told_once_by_the_requester(folder: Ledger, outcome: calls.Outcome) -> None:
    give(folder)
    ask(folder)
    call = make_outcome(folder, outcome)
    assert folder.fail(folder.hospital, call) == "not_permitted"
    folder.run(folder.other, call)
    row = authorization.get_access(folder.state, call.alias, call.height, call.ticket)
    assert row is not None
    assert (row.outcome, row.outcome_height) == (outcome, folder.height)
    assert folder.fail(folder.other, call) == "outcome_known"


def test_outcome_needs_an_allowed_request(folder: Ledger) -> None:
    assert folder.fail(folder.other, make_outcome(folder)) == "ticket_unknown"
    ask(folder)
    assert folder.fail(folder.other, make_outcome(folder)) == "ticket_refused"


def test_holder_that_is_its_own_custodian_is_told_once(ledger: Ledger) -> None:
    alias, own = ledger.make_id("alias"), ledger.hospital
    ledger.run(own, RegisterAlias(alias, own.institution, b"", b""))
    ledger.register_member(founder=own)
    ledger.run(own, ledger.make_grant(institution=own.institution))
    (event,) = ledger.events
    assert event.audience == (own.institution,)
