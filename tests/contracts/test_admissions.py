"""Institutions that come and go by vote, and what somebody might try on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import pytest

from contracts import electorate, registry
from contracts.admissions import compute_request_bytes
from contracts.calls import governance as calls
from contracts.calls.changes import (
    Admission,
    Change,
    ParametersChange,
    ParameterValue,
    Removal,
    ReplicaSetChange,
)
from contracts.calls.folders import RegisterAlias
from contracts.calls.registry import (
    InstitutionKind,
    RegisterMember,
    ReinstateInstitution,
    RotateKey,
    SuspendInstitution,
)
from contracts.catalog import NEWEST, compute_genesis_rows, find_institution
from contracts.electorate import INSTITUTIONS_MAX, get_electorate
from contracts.nodes import NodeRow, compute_node_key, get_node, nodes
from contracts.proposals import VoteRow, list_proposals, votes
from crypto import tags
from crypto.encoding import encode
from tests.contracts.conftest import FOUNDERS, REPLICAS, Founder

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

NEWCOMER = Founder("east hospital", "hospital")


def ask(ledger: Ledger, newcomer: Founder = NEWCOMER, **changes: object) -> Admission:
    """The newcomer's own request."""
    unsigned = Admission(
        institution=newcomer.institution,
        kind=newcomer.kind,
        name=newcomer.name,
        public_key=newcomer.public_key,
        gateway_url="https://east.example",
        possession=bytes(64),
    )
    unsigned = msgspec.structs.replace(unsigned, **changes)
    signature = newcomer.key.sign(tags.ADMISSION, compute_request_bytes(ledger.chain_id, unsigned))
    return msgspec.structs.replace(unsigned, possession=signature)


def propose(ledger: Ledger, change: Change, by: Founder | None = None, name: str = "") -> bytes:
    """By the hospital unless told, due ten heights from now; the proposal's id."""
    proposal = ledger.make_id(f"{name} at {ledger.height}")
    ledger.run(by or ledger.hospital, calls.Propose(proposal, change, ledger.height + 11))
    return proposal


def fail(ledger: Ledger, change: Change) -> str:
    return ledger.fail(ledger.hospital, calls.Propose(ledger.make_id("refused"), change, ledger.height + 11))


def adopt(ledger: Ledger, change: Change) -> None:
    """The hospital proposes, the clinic and the regulator agree."""
    proposal = propose(ledger, change)
    ledger.run(ledger.clinic, calls.Vote(proposal, True))
    assert ledger.run(ledger.regulator, calls.Vote(proposal, True)) is True


def get_voices(ledger: Ledger) -> electorate.ElectorateRow:
    row = get_electorate(ledger.state)
    assert row is not None
    return row


def register_node(ledger: Ledger, founder: Founder, name: str = "new node") -> object:
    key = ledger.make_key(name)
    message = encode((ledger.chain_id, founder.institution, key.public_key))
    proof = key.sign(tags.NODE_KEY, message)
    return ledger.run(founder, calls.RegisterNode(key.public_key, "node.example", 7443, proof))


def remove_replica(ledger: Ledger, replica: int) -> None:
    change = ReplicaSetChange(remove=(replica,))
    adopt(ledger, change)
    for _ in range(11):
        ledger.run(ledger.hospital)


def test_a_newcomer_acts_and_votes_from_the_vote_that_admits_it(ledger: Ledger) -> None:
    request = ask(ledger)
    assert find_institution(ledger.state, NEWCOMER.public_key) is None
    proposal = propose(ledger, request)
    ledger.run(ledger.other, calls.Vote(proposal, True))
    assert ledger.fail(NEWCOMER, calls.Vote(proposal, True)) == "unknown_sender"
    assert ledger.run(ledger.clinic, calls.Vote(proposal, True)) is True
    assert [event.name for event in ledger.events] == ["voted", "adopted", "institution_admitted"]
    row = registry.get_institution(ledger.state, NEWCOMER.institution)
    assert row is not None
    assert (row.kind, row.name, row.public_key, row.registered_height) == (
        "hospital",
        "east hospital",
        NEWCOMER.public_key,
        ledger.height,
    )
    assert find_institution(ledger.state, NEWCOMER.public_key) == NEWCOMER.institution
    voices = get_voices(ledger)
    assert dict(voices.active)[NEWCOMER.institution] == NEWCOMER.public_key
    assert (len(voices.active), voices.registered_count) == (5, 5)
    assert list(voices.active) == sorted(voices.active)
    ledger.register_member("its clerk", NEWCOMER, "clerk")
    assert register_node(ledger, NEWCOMER) == 4
    # Three of five decide; the newcomer is one of them.
    addition = propose(ledger, ReplicaSetChange(add=(4,)), by=NEWCOMER)
    ledger.run(ledger.other, calls.Vote(addition, True))
    assert ledger.run(ledger.clinic, calls.Vote(addition, True)) is True


def test_a_newcomer_is_admitted_only_as_what_it_asked_for(ledger: Ledger) -> None:
    request = ask(ledger)
    for changes in (
        {"kind": "regulator"},
        {"name": "another"},
        {"institution": ledger.make_id("another")},
        {"gateway_url": "https://evil.example"},
        {"public_key": ledger.make_key("another").public_key},
        {"possession": bytes(64)},
    ):
        assert fail(ledger, msgspec.structs.replace(request, **changes)) == "bad_proof"
    ledger.chain_id = bytes(31) + b"\1"
    assert fail(ledger, request) == "bad_proof"  # It asked another ledger.


def test_an_id_or_key_that_was_ever_on_the_ledger_admits_nobody(ledger: Ledger) -> None:
    ledger.register_alias()
    ledger.register_member()
    for taken in (ledger.other.institution, ledger.make_id("alias"), ledger.make_id("doctor")):
        assert fail(ledger, ask(ledger, institution=taken)) == "institution_exists"
    again = Founder(ledger.other.name, "hospital")
    assert fail(ledger, ask(ledger, again, institution=ledger.make_id("free"))) == "key_in_use"
    new = ledger.make_key("new")
    signed = encode((ledger.chain_id, ledger.other.institution, new.public_key))
    ledger.run(ledger.other, RotateKey(new.public_key, new.sign(tags.KEY_ROTATION, signed)))
    assert fail(ledger, ask(ledger, again, institution=ledger.make_id("free"))) == "key_in_use"


def take_newcomers_id_and_key(ledger: Ledger) -> tuple[tuple[msgspec.Struct, str], ...]:
    """What would give them to the other hospital for something else, each with the code that refuses it."""
    newcomer, other = NEWCOMER, ledger.other
    rotation = encode((ledger.chain_id, other.institution, newcomer.public_key))
    alias = RegisterAlias(newcomer.institution, other.institution, b"", b"")
    with_key = RegisterAlias(
        alias=ledger.make_id("alias of the other hospital"),
        custodian=other.institution,
        patient_key=newcomer.public_key,
        credential=b"",
        possession=ledger.prove_patient_key(newcomer.key, other),
    )
    return (
        (RegisterMember(newcomer.institution, "clerk", bytes(32)), "member_exists"),
        (alias, "alias_exists"),
        (with_key, "key_in_use"),
        (RotateKey(newcomer.public_key, newcomer.key.sign(tags.KEY_ROTATION, rotation)), "key_in_use"),
    )


def test_nobody_takes_what_an_open_admission_names(ledger: Ledger) -> None:
    proposal = propose(ledger, ask(ledger))
    ledger.run(ledger.clinic, calls.Vote(proposal, True))
    for call, code in take_newcomers_id_and_key(ledger):
        assert ledger.fail(ledger.other, call) == code
    assert ledger.run(ledger.regulator, calls.Vote(proposal, True)) is True
    assert find_institution(ledger.state, NEWCOMER.public_key) == NEWCOMER.institution
    assert not [key for key in ledger.state.rows if key.startswith(b"governance/reserved")]


@pytest.mark.parametrize("number", range(4))
def test_what_an_admission_named_is_free_again_once_it_has_lapsed(ledger: Ledger, number: int) -> None:
    proposal = propose(ledger, ask(ledger))
    for _ in range(8):
        ledger.run(ledger.hospital)
    call, code = take_newcomers_id_and_key(ledger)[number]
    assert ledger.fail(ledger.other, call) == code  # The last block below its height.
    assert ledger.fail(ledger.regulator, calls.Vote(proposal, True)) == "proposal_lapsed"
    ledger.run(ledger.other, call)


def test_another_admission_ends_a_reservation_with_its_proposal(ledger: Ledger) -> None:
    propose(ledger, ask(ledger))
    adopt(ledger, ask(ledger, Founder("west hospital", "hospital")))
    call, _ = take_newcomers_id_and_key(ledger)[0]
    ledger.run(ledger.other, call)
    assert fail(ledger, ask(ledger)) == "institution_exists"


def test_a_reservation_keeps_no_other_admission_out_and_is_not_cut_short_by_one(ledger: Ledger) -> None:
    genuine = propose(ledger, ask(ledger))
    copied = ask(ledger, Founder("impostor", "hospital"), institution=NEWCOMER.institution)
    near = calls.Propose(ledger.make_id("near"), copied, ledger.height + 2)
    ledger.run(ledger.other, near)
    for _ in range(3):
        ledger.run(ledger.hospital)
    assert ledger.fail(ledger.other, take_newcomers_id_and_key(ledger)[0][0]) == "member_exists"
    ledger.run(ledger.clinic, calls.Vote(genuine, True))
    assert ledger.run(ledger.regulator, calls.Vote(genuine, True)) is True
    assert find_institution(ledger.state, NEWCOMER.public_key) == NEWCOMER.institution


def test_an_institution_that_is_alone_admits_by_proposing(ledger: Ledger) -> None:
    ledger.state.rows = compute_genesis_rows(
        institutions=FOUNDERS[:1],
        replicas=REPLICAS[:1],
        contracts=NEWEST,
        mandate_term_ms_max=1,
        ticket_age_ms_max=1,
        alert_refusals_per_hour=1,
    )
    proposal = calls.Propose(ledger.make_id("alone"), ask(ledger), ledger.height + 11)
    assert ledger.run(ledger.hospital, proposal) is True
    assert find_institution(ledger.state, NEWCOMER.public_key) == NEWCOMER.institution


def test_one_admission_ends_the_others_which_were_weighed_against_fewer(ledger: Ledger) -> None:
    second_newcomer = Founder("west hospital", "hospital")
    remove_replica(ledger, 1)
    first, second = propose(ledger, ask(ledger)), propose(ledger, ask(ledger, second_newcomer))
    removal = propose(ledger, Removal(institution=ledger.other.institution), name="removal")
    for voter in (ledger.clinic, ledger.regulator):
        ledger.run(voter, calls.Vote(first, True))
    for lapsed in (second, removal):
        assert ledger.fail(ledger.clinic, calls.Vote(lapsed, True)) == "proposal_lapsed"
    adopt(ledger, ask(ledger, second_newcomer))
    assert get_voices(ledger).registered_count == 6
    assert len(list_proposals(ledger.state)) == 5


def test_an_admission_does_not_wait_for_a_change_of_the_replica_set(ledger: Ledger) -> None:
    removal = propose(ledger, ReplicaSetChange(remove=(1,)))
    admission = propose(ledger, ask(ledger))
    for proposal in (removal, admission):
        ledger.run(ledger.clinic, calls.Vote(proposal, True))
        assert ledger.run(ledger.regulator, calls.Vote(proposal, True)) is True


def test_founders_alone_never_make_newcomers_the_majority(ledger: Ledger) -> None:
    founders = (ledger.hospital, ledger.other, ledger.clinic, ledger.regulator)
    for number in range(10):
        proposal = propose(ledger, ask(ledger, Founder(f"newcomer {number}", "hospital")))
        for voter in founders[1:]:
            voices = get_voices(ledger)
            if ledger.run(voter, calls.Vote(proposal, True)):
                break
        else:
            break
    assert len(voices.active) == 2 * len(founders)


def test_a_suspended_institution_neither_proposes_nor_votes_nor_counts(ledger: Ledger) -> None:
    proposal = propose(ledger, ask(ledger), by=ledger.other)
    ledger.run(ledger.regulator, SuspendInstitution(ledger.other.institution, "breach"))
    assert ledger.fail(ledger.other, calls.Vote(proposal, True)) == "institution_suspended"
    again = calls.Propose(ledger.make_id("again"), ask(ledger), ledger.height + 11)
    assert ledger.fail(ledger.other, again) == "institution_suspended"
    # Three of the four decide, and its own vote from before is none of them.
    for voter, decides in ((ledger.hospital, False), (ledger.clinic, False), (ledger.regulator, True)):
        assert ledger.run(voter, calls.Vote(proposal, True)) is decides


def test_more_than_a_third_with_a_regulator_neither_expels_the_others_nor_outnumbers_them(
    ledger: Ledger,
) -> None:
    for replica in (1, 2):
        remove_replica(ledger, replica)
    for silenced in (ledger.other, ledger.clinic):
        ledger.run(ledger.regulator, SuspendInstitution(silenced.institution, "coup"))
    # What can be undone two of four may decide, who are all that are active.
    values = ParametersChange(values=(ParameterValue("ticket_age_ms_max", 60_000),))
    assert ledger.run(ledger.regulator, calls.Vote(propose(ledger, values), True)) is True
    for change in (Removal(institution=ledger.other.institution), ask(ledger)):
        proposal = propose(ledger, change, name=type(change).__name__)
        assert ledger.run(ledger.regulator, calls.Vote(proposal, True)) is False
    assert get_voices(ledger).registered_count == 4
    ledger.run(ledger.regulator, ReinstateInstitution(ledger.clinic.institution))
    assert ledger.run(ledger.clinic, calls.Vote(proposal, True)) is True


def test_a_vote_that_is_repeated_counts_once(ledger: Ledger) -> None:
    proposal = propose(ledger, ask(ledger))
    for _ in range(3):
        assert ledger.run(ledger.hospital, calls.Vote(proposal, True)) is False


def test_no_more_institutions_than_one_call_can_count(ledger: Ledger) -> None:
    row = msgspec.structs.replace(get_voices(ledger), registered_count=INSTITUTIONS_MAX)
    table = electorate.electorate
    ledger.state.rows[table.compute_state_key(electorate.KEY)] = table.encode_row(row)
    assert fail(ledger, ask(ledger)) == "too_many_institutions"


def test_a_removed_institution_is_gone_for_good_and_its_nodes_with_it(ledger: Ledger) -> None:
    gone = ledger.other
    remove_replica(ledger, 1)
    ledger.register_alias()
    adopt(ledger, Removal(institution=gone.institution))
    assert ledger.events[-1].name == "institution_removed"
    row = registry.get_institution(ledger.state, gone.institution)
    assert row is not None
    assert (row.removed_height, row.is_active, row.is_suspended) == (ledger.height, False, False)
    key, node = registry.get_key(ledger.state, gone.public_key), get_node(ledger.state, 1)
    assert key is not None
    assert node is not None
    assert key.closed_height == node.retired_height == ledger.height
    voices = get_voices(ledger)
    assert gone.institution not in voices.institutions
    assert (len(voices.active), voices.registered_count) == (3, 3)
    assert find_institution(ledger.state, gone.public_key) is None
    assert ledger.fail(gone, RegisterMember(ledger.make_id("m"), "clerk", bytes(32))) == "unknown_sender"
    # Neither a regulator nor a vote brings it back, and nothing is given to it.
    for call in (SuspendInstitution(gone.institution, "late"), ReinstateInstitution(gone.institution)):
        assert ledger.fail(ledger.regulator, call) == "institution_removed"
    assert fail(ledger, Removal(institution=gone.institution)) == "institution_removed"
    assert fail(ledger, ask(ledger, gone)) == "institution_exists"
    assert fail(ledger, ReplicaSetChange(add=(1,))) == "node_retired"
    assert ledger.fail(ledger.clinic, ledger.make_grant(member=b"")) == "grantee_suspended"
    alias = ledger.make_id("further alias")
    with pytest.raises(Exception, match="suspended or gone"):
        ledger.register_alias("further alias", custodian=gone.institution)
    assert alias not in ledger.state.rows


def test_a_removed_institution_sends_nothing_by_keys_that_it_registered_for_patients(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    ledger.register_alias(patient=patient)
    remove_replica(ledger, 0)
    adopt(ledger, Removal(institution=ledger.hospital.institution))
    assert find_institution(ledger.state, patient.public_key) is None
    # Nor may it where a block has it nevertheless.
    grant = ledger.make_grant(assurance="own_key", member=b"")
    assert ledger.fail(patient, grant) == "holder_suspended"


def test_a_suspended_institution_is_removed_and_no_longer_counts(ledger: Ledger) -> None:
    remove_replica(ledger, 1)
    ledger.run(ledger.regulator, SuspendInstitution(ledger.other.institution, "breach"))
    assert (len(get_voices(ledger).active), get_voices(ledger).registered_count) == (3, 4)
    proposal = propose(ledger, Removal(institution=ledger.other.institution))
    assert (
        ledger.run(ledger.clinic, calls.Vote(proposal, True)) is False
    )  # Two of four, it being one of them.
    assert ledger.run(ledger.regulator, calls.Vote(proposal, True)) is True
    assert (len(get_voices(ledger).active), get_voices(ledger).registered_count) == (3, 3)


def test_an_institution_whose_replica_votes_or_is_about_to_is_not_removed(ledger: Ledger) -> None:
    removal = Removal(institution=ledger.other.institution)
    assert fail(ledger, removal) == "has_replicas"
    remove_replica(ledger, 1)
    pending = propose(ledger, removal)
    ledger.run(ledger.clinic, calls.Vote(pending, True))
    adopt(ledger, ReplicaSetChange(add=(1,)))
    assert fail(ledger, removal) == "has_replicas"
    assert ledger.fail(ledger.regulator, calls.Vote(pending, True)) == "has_replicas"


def test_a_node_of_a_removed_institution_is_not_added_by_a_vote_that_began_before(ledger: Ledger) -> None:
    remove_replica(ledger, 1)
    addition = propose(ledger, ReplicaSetChange(add=(1,)))
    ledger.run(ledger.clinic, calls.Vote(addition, True))
    adopt(ledger, Removal(institution=ledger.other.institution))
    assert ledger.fail(ledger.regulator, calls.Vote(addition, True)) == "node_retired"


def test_a_removal_that_leaves_nobody_to_decide_or_to_supervise_is_refused(ledger: Ledger) -> None:
    assert fail(ledger, Removal(institution=ledger.make_id("nobody"))) == "institution_unknown"
    for replica in (3, 2):
        remove_replica(ledger, replica)
    assert fail(ledger, Removal(institution=ledger.regulator.institution)) == "last_regulator"
    successor = Founder("second regulator", "regulator")
    adopt(ledger, ask(ledger, successor))
    for founder in (ledger.clinic, ledger.other, ledger.regulator):
        ledger.run(successor, SuspendInstitution(founder.institution, "coup"))
    # Two of five are left; without either, one of four could not decide.
    assert fail(ledger, Removal(institution=successor.institution)) == "majority_lost"
    for founder in (ledger.clinic, ledger.regulator):
        ledger.run(successor, ReinstateInstitution(founder.institution))
    proposal = propose(ledger, Removal(institution=ledger.regulator.institution))
    ledger.run(successor, calls.Vote(proposal, True))
    assert ledger.run(ledger.clinic, calls.Vote(proposal, True)) is True


def test_an_institution_may_be_removed_by_the_votes_of_others_against_its_own(ledger: Ledger) -> None:
    remove_replica(ledger, 1)
    proposal = propose(ledger, Removal(institution=ledger.other.institution))
    ledger.run(ledger.other, calls.Vote(proposal, False))
    ledger.run(ledger.clinic, calls.Vote(proposal, True))
    assert ledger.run(ledger.regulator, calls.Vote(proposal, True)) is True


def test_however_many_nodes_there_were_others_register_and_institutions_are_removed(ledger: Ledger) -> None:
    remove_replica(ledger, 1)
    for replica in range(1_000, 6_000):  # More than one call may look at.
        row = NodeRow(
            replica=replica,
            public_key=replica.to_bytes(32, "big"),
            institution=ledger.other.institution,
            link_host="h" * 253,
            link_port=1,
            registered_height=1,
            retired_height=1,
        )
        ledger.state.rows[nodes.compute_state_key(compute_node_key(replica))] = nodes.encode_row(row)
    assert register_node(ledger, ledger.clinic) == 4
    adopt(ledger, Removal(institution=ledger.other.institution))
    retired = get_node(ledger.state, 1)
    assert retired is not None
    assert retired.retired_height == ledger.height


@pytest.mark.parametrize("kind", ["hospital", "primary_care", "public_health", "regulator"])
def test_an_institution_of_any_kind_can_be_admitted(ledger: Ledger, kind: InstitutionKind) -> None:
    adopt(ledger, ask(ledger, Founder("newcomer", kind)))
    row = registry.get_institution(ledger.state, Founder("newcomer", kind).institution)
    assert row is not None
    assert row.kind == kind


def make_large_ledger(ledger: Ledger, count: int) -> list[Founder]:
    """Make the ledger one that so many institutions founded, the usual four among them."""
    founders = [*FOUNDERS, *(Founder(f"member {number}", "hospital") for number in range(count - 4))]
    ledger.state.rows = compute_genesis_rows(
        institutions=founders,
        replicas=REPLICAS,
        contracts=NEWEST,
        mandate_term_ms_max=1,
        ticket_age_ms_max=1,
        alert_refusals_per_hour=1,
    )
    return founders


def cast_votes(ledger: Ledger, proposal: bytes, founders: Sequence[Founder]) -> None:
    """As the transactions of so many would have left them."""
    row = votes.encode_row(VoteRow(approve=True, height=1))
    for founder in founders:
        ledger.state.rows[votes.compute_state_key(proposal + founder.institution)] = row


def test_the_largest_consortium_decides_within_the_bounds_of_one_call(ledger: Ledger) -> None:
    founders = make_large_ledger(ledger, INSTITUTIONS_MAX)
    ledger.run(ledger.regulator, SuspendInstitution(founders[-1].institution, "breach"))
    # Of 1,000 that are registered 501 decide: the proposer, 499 and the last one.
    changes: tuple[Change, ...] = (Removal(institution=founders[-1].institution), ask(ledger))
    for change in changes:
        proposal = propose(ledger, change)
        cast_votes(ledger, proposal, founders[1:500])
        assert ledger.run(founders[500], calls.Vote(proposal, True)) is True
    assert get_voices(ledger).registered_count == INSTITUTIONS_MAX
