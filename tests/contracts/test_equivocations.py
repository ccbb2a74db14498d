"""Rule E7: conflicting signatures become evidence on the ledger; forged, equal or stale ones are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from consensus.certificates import Phase, compute_vote_bytes
from consensus.messages import Vote
from contracts.alerts import AlertRow, list_alerts
from contracts.calls.changes import KeyChange, ReplicaSetChange
from contracts.calls.governance import Propose
from contracts.calls.governance import Vote as GovernanceVote
from contracts.calls.monitoring import AcknowledgeAlert, ReportEquivocation, SignedVote
from contracts.calls.registry import SuspendInstitution
from contracts.equivocations import compute_slot_key, get_equivocation, is_accused
from crypto import tags
from crypto.encoding import encode

if TYPE_CHECKING:
    from crypto.signatures import SigningKey
    from tests.contracts.conftest import Ledger

FIRST, SECOND = bytes(31) + b"\x01", bytes(31) + b"\x02"


def sign_vote(ledger: Ledger, key: SigningKey, digest: bytes, **slot: int) -> SignedVote:
    """A COMMIT of replica 1 for height 7 in view 3, unless told otherwise."""
    values = {"epoch": 0, "height": 7, "view": 3, "phase": 2, "replica": 1} | slot
    numbers = (values["epoch"], values["height"], values["view"])
    phase = Phase(values["phase"])
    signed = compute_vote_bytes(ledger.chain_id, *numbers, phase, digest)
    return SignedVote(*numbers, phase, digest, values["replica"], key.sign(tags.VOTE, signed))


def make_report(ledger: Ledger, key: SigningKey | None = None, /, **slot: int) -> ReportEquivocation:
    key = key or ledger.make_key(f"node {slot.get('replica', 1)}")
    return ReportEquivocation(
        sign_vote(ledger, key, FIRST, **slot), sign_vote(ledger, key, SECOND, **slot), key.public_key
    )


def list_open(ledger: Ledger) -> list[AlertRow]:
    return [row for _, row in list_alerts(ledger.state, open_only=True)]


def test_e7_two_signed_votes_for_one_slot_are_kept_and_raise_an_alert(ledger: Ledger) -> None:
    report = make_report(ledger)
    assert ledger.run(ledger.hospital, report) is None
    slot = compute_slot_key(report.first)
    row = get_equivocation(ledger.state, slot)
    assert row is not None
    assert (row.first_digest, row.second_digest, row.height) == (FIRST, SECOND, ledger.height)
    assert row.reporter == ledger.hospital.institution
    (alert,) = list_open(ledger)
    assert (alert.kind, alert.subject, alert.finding) == ("equivocation", slot, "replica-1")
    assert alert.institution == ledger.other.institution, "whose replica it is, not who told"
    assert [event.name for event in ledger.events] == ["alert", "equivocation"]
    assert ledger.regulator.institution in ledger.events[0].audience
    assert is_accused(ledger.state, 1)


@pytest.mark.parametrize("swap", [False, True])
def test_e7_one_slot_is_recorded_once_whoever_tells_and_in_which_order(ledger: Ledger, swap: bool) -> None:
    report = make_report(ledger)
    ledger.run(ledger.hospital, report)
    if swap:
        report = msgspec.structs.replace(report, first=report.second, second=report.first)
    assert ledger.fail(ledger.clinic, report) == "already_reported"


def test_e7_further_evidence_is_kept_under_the_alert_that_is_open(ledger: Ledger) -> None:
    for height in (7, 8, 9):
        ledger.run(ledger.hospital, make_report(ledger, height=height))
    assert len(list_open(ledger)) == 1
    ((alert, _),) = list_alerts(ledger.state)
    ledger.run(ledger.regulator, AcknowledgeAlert(alert))
    assert not is_accused(ledger.state, 1)
    ledger.run(ledger.hospital, make_report(ledger, height=10))
    assert len(list_open(ledger)) == 1
    assert len(list_alerts(ledger.state)) == 2


def test_e7_each_replica_has_an_alert_of_its_own(ledger: Ledger) -> None:
    for replica in (1, 2):
        ledger.run(ledger.hospital, make_report(ledger, replica=replica))
    assert {row.finding for row in list_open(ledger)} == {"replica-1", "replica-2"}


@pytest.mark.parametrize("field", ["epoch", "height", "view", "phase", "replica"])
def test_e7_votes_for_different_slots_are_no_contradiction(ledger: Ledger, field: str) -> None:
    report, other = make_report(ledger), make_report(ledger, **{field: 0 if field == "phase" else 5})
    mixed = msgspec.structs.replace(report, second=other.second)
    assert ledger.fail(ledger.hospital, mixed) == "no_contradiction"


def test_e7_one_vote_twice_is_no_contradiction(ledger: Ledger) -> None:
    report = make_report(ledger)
    assert (
        ledger.fail(ledger.hospital, msgspec.structs.replace(report, second=report.first))
        == "no_contradiction"
    )


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("field", ["epoch", "height", "view", "digest", "signature"])
def test_e7_forged_evidence_is_refused(ledger: Ledger, which: str, field: str) -> None:
    report = make_report(ledger)
    changes: dict[str, object] = {"digest": bytes(32), "signature": bytes(64)}
    votes = {"first": report.first, "second": report.second}
    for name in votes if field not in changes else [which]:
        votes[name] = msgspec.structs.replace(votes[name], **{field: changes.get(field, 6)})
    forged = msgspec.structs.replace(report, **votes)
    assert ledger.fail(ledger.hospital, forged) == "bad_signature"
    assert not is_accused(ledger.state, 1)


def test_e7_votes_signed_for_another_ledger_are_refused(ledger: Ledger) -> None:
    report = make_report(ledger)
    ledger.chain_id = b"another".ljust(32)
    assert ledger.fail(ledger.hospital, report) == "bad_signature"


def test_e7_a_replica_is_accused_by_its_own_key_only(ledger: Ledger) -> None:
    for key in (ledger.make_key("node 2"), ledger.make_key("nobody"), ledger.hospital.key):
        assert ledger.fail(ledger.hospital, make_report(ledger, key)) == "node_unknown"


def test_e7_a_key_speaks_for_the_heights_at_which_the_replica_had_it(ledger: Ledger) -> None:
    old, new = ledger.make_key("node 1"), ledger.make_key("new key")
    owner = ledger.other
    possession = new.sign(tags.NODE_KEY, encode((ledger.chain_id, owner.institution, new.public_key)))
    change = KeyChange(1, new.public_key, possession)
    proposal = Propose(ledger.make_id("rotation"), ReplicaSetChange(rotate=(change,)), ledger.height + 5)
    ledger.run(ledger.other, proposal)
    for founder in (ledger.hospital, ledger.clinic):
        ledger.run(founder, GovernanceVote(proposal.proposal, True))
    while ledger.height < proposal.due_height:
        ledger.run(ledger.hospital)
    closing = ledger.height
    ledger.run(ledger.hospital, make_report(ledger, old, height=closing))
    ledger.run(ledger.hospital, make_report(ledger, new, height=closing + 1, epoch=1))
    for key, height in ((old, closing + 1), (new, closing)):
        assert ledger.fail(ledger.hospital, make_report(ledger, key, height=height, view=9)) == "node_unknown"


def test_only_an_institution_reports(ledger: Ledger) -> None:
    assert ledger.fail(ledger.make_key("nobody"), make_report(ledger)) == "unknown_sender"
    ledger.run(ledger.regulator, SuspendInstitution(ledger.clinic.institution, "left"))
    assert ledger.fail(ledger.clinic, make_report(ledger)) == "institution_suspended"


def test_a_vote_has_the_fields_of_the_message_that_replicas_send() -> None:
    message, signed = (
        Vote(1, 7, 3, Phase.COMMIT, FIRST, 2, bytes(64)),
        SignedVote(1, 7, 3, 2, FIRST, 2, bytes(64)),
    )
    assert Vote.__struct_fields__ == SignedVote.__struct_fields__
    assert msgspec.msgpack.decode(encode(message))[1:] == msgspec.msgpack.decode(encode(signed))
