"""Governance: nodes, proposals, votes, and which changes of the replica set are refused before any vote."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.quorum import Quorum
from contracts import replica_sets
from contracts.calls import governance as calls
from contracts.calls.changes import KeyChange, ReplicaSetChange
from contracts.calls.registry import ReinstateInstitution, RotateKey, SuspendInstitution
from contracts.electorate import INSTITUTIONS_MAX, ElectorateRow, get_electorate
from contracts.errors import Conflict
from contracts.nodes import (
    NODES_PER_INSTITUTION_MAX,
    REGISTRATIONS_PER_INSTITUTION_MAX,
    REPLICA_MAX,
    get_node,
    list_nodes,
    list_open_nodes,
    node_keys,
)
from contracts.proposals import OPEN_PROPOSALS_MAX, list_proposals, list_votes
from contracts.replica_sets import ReplicaRow, ReplicaSetRow, check_change, compute_quorum
from contracts.schedule import get_scheduled
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey

if TYPE_CHECKING:
    from tests.contracts.conftest import Founder, Ledger


def make_registration(
    ledger: Ledger, founder: Founder, name: str = "new node", **changes: object
) -> calls.RegisterNode:
    key = ledger.make_key(name)
    call = calls.RegisterNode(key.public_key, "node.example", 7443, prove(ledger, founder, key))
    return msgspec.structs.replace(call, **changes)


def prove(ledger: Ledger, founder: Founder, key: SigningKey) -> bytes:
    return key.sign(tags.NODE_KEY, encode((ledger.chain_id, founder.institution, key.public_key)))


def make_proposal(
    ledger: Ledger, name: str = "proposal", /, *, due_height: int | None = None, **changes: Any
) -> calls.Propose:
    """Adds replica 4 unless `changes` say otherwise, effective ten heights from the next one."""
    change = ReplicaSetChange(**({"add": (4,)} | changes))
    return calls.Propose(ledger.make_id(name), change, due_height or ledger.height + 11)


def make_rotation(ledger: Ledger, replica: int, founder: Founder, name: str = "next key") -> KeyChange:
    key = ledger.make_key(name)
    return KeyChange(replica, key.public_key, prove(ledger, founder, key))


def get_members(ledger: Ledger) -> dict[int, bytes]:
    row = replica_sets.get_replica_set(ledger.state)
    assert row is not None
    return {member.replica: member.public_key for member in row.members}


def get_epoch(ledger: Ledger) -> int:
    row = replica_sets.get_replica_set(ledger.state)
    assert row is not None
    return row.epoch


def reach(ledger: Ledger, height: int) -> None:
    """Blocks that say nothing of governance."""
    while ledger.height < height:
        ledger.run(ledger.hospital)


def adopt(ledger: Ledger, proposal: calls.Propose) -> None:
    """The hospital proposes, two more institutions agree, and the height comes."""
    ledger.run(ledger.hospital, proposal)
    ledger.run(ledger.other, calls.Vote(proposal.proposal, True))
    assert ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True)) is True
    reach(ledger, proposal.due_height)


def test_the_founders_are_the_first_nodes_and_the_first_set(ledger: Ledger) -> None:
    assert [node.replica for node in list_nodes(ledger.state)] == [0, 1, 2, 3]
    assert set(get_members(ledger)) == {0, 1, 2, 3}
    electorate = get_electorate(ledger.state)
    assert electorate is not None
    assert len(electorate.active) == electorate.registered_count == 4


def test_an_institution_registers_a_node_which_gets_the_next_replica_id(ledger: Ledger) -> None:
    assert ledger.run(ledger.other, make_registration(ledger, ledger.other)) == 4
    assert ledger.events[0].name == "node_registered"
    node = get_node(ledger.state, 4)
    assert node is not None
    assert (node.institution, node.link_host, node.link_port) == (
        ledger.other.institution,
        "node.example",
        7443,
    )
    assert 4 not in get_members(ledger)
    again = make_registration(ledger, ledger.other)
    assert ledger.fail(ledger.other, again) == "key_in_use"


def test_nobody_registers_a_key_that_it_does_not_hold(ledger: Ledger) -> None:
    for_another = make_registration(ledger, ledger.hospital)
    assert ledger.fail(ledger.other, for_another) == "bad_proof"
    assert (
        ledger.fail(ledger.other, make_registration(ledger, ledger.other, possession=bytes(64)))
        == "bad_proof"
    )
    founders = ledger.make_key("node 0")
    stolen = make_registration(ledger, ledger.other, "node 0")
    assert stolen.public_key == founders.public_key
    assert ledger.fail(ledger.other, stolen) == "key_in_use"


def test_one_institution_has_only_so_many_nodes_until_it_retires_one(ledger: Ledger) -> None:
    for number in range(NODES_PER_INSTITUTION_MAX - 1):
        ledger.run(ledger.other, make_registration(ledger, ledger.other, f"more {number}"))
    last = make_registration(ledger, ledger.other, "too many")
    assert ledger.fail(ledger.other, last) == "too_many_nodes"
    ledger.run(ledger.other, calls.RetireNode(4))
    assert ledger.run(ledger.other, last) == 4 + NODES_PER_INSTITUTION_MAX - 1


def test_no_institution_uses_up_the_replica_ids_by_registering_and_retiring(ledger: Ledger) -> None:
    for number in range(REGISTRATIONS_PER_INSTITUTION_MAX):
        replica = ledger.run(ledger.other, make_registration(ledger, ledger.other, f"short-lived {number}"))
        ledger.run(ledger.other, calls.RetireNode(replica))  # type: ignore[arg-type]
    one_more = make_registration(ledger, ledger.other, "one more")
    assert ledger.fail(ledger.other, one_more) == "too_many_registrations"
    assert [node.replica for node in list_open_nodes(ledger.state, ledger.other.institution)] == [1]
    # It keeps what it has, and nobody else feels it.
    ledger.run(ledger.other, calls.MoveNode(1, "node.example", 7443))
    expected = 4 + REGISTRATIONS_PER_INSTITUTION_MAX
    assert ledger.run(ledger.clinic, make_registration(ledger, ledger.clinic)) == expected


def test_the_largest_consortium_cannot_use_up_the_replica_ids() -> None:
    most = INSTITUTIONS_MAX * REGISTRATIONS_PER_INSTITUTION_MAX + replica_sets.REPLICAS_MAX
    assert most <= REPLICA_MAX + 1


def test_a_retired_node_is_gone_for_good_and_its_key_with_it(ledger: Ledger) -> None:
    registration = make_registration(ledger, ledger.other)
    ledger.run(ledger.other, registration)
    assert ledger.fail(ledger.hospital, calls.RetireNode(4)) == "not_permitted"
    ledger.run(ledger.other, calls.RetireNode(4))
    assert ledger.fail(ledger.other, calls.RetireNode(4)) == "node_retired"
    assert ledger.fail(ledger.other, calls.RetireNode(5)) == "node_unknown"
    assert ledger.fail(ledger.other, registration) == "key_in_use"
    assert ledger.fail(ledger.hospital, make_proposal(ledger)) == "node_retired"
    row = node_keys.get(ledger.state, registration.public_key)
    assert row is not None
    assert row.use == "former"


def test_a_member_is_not_retired_before_it_was_removed(ledger: Ledger) -> None:
    assert ledger.fail(ledger.other, calls.RetireNode(1)) == "is_member"


def test_a_node_moves_by_its_own_institution(ledger: Ledger) -> None:
    assert ledger.fail(ledger.hospital, calls.MoveNode(1, "other.example", 1)) == "not_permitted"
    ledger.run(ledger.other, calls.MoveNode(1, "2001:db8::1", 7444))
    node = get_node(ledger.state, 1)
    assert node is not None
    assert (node.link_host, node.link_port) == ("2001:db8::1", 7444)


def test_a_majority_adopts_and_the_set_changes_above_the_height_that_was_named(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    proposal = make_proposal(ledger)
    assert ledger.run(ledger.hospital, proposal) is False
    assert (
        ledger.run(ledger.other, calls.Vote(proposal.proposal, True)) is False
    )  # Two of four are no majority.
    assert ledger.run(ledger.regulator, calls.Vote(proposal.proposal, True)) is True
    assert {event.name for event in ledger.events} == {"voted", "adopted"}
    reach(ledger, proposal.due_height - 1)
    assert get_epoch(ledger) == 0
    reach(ledger, proposal.due_height)
    assert get_epoch(ledger) == 1
    assert set(get_members(ledger)) == {0, 1, 2, 3, 4}
    assert get_scheduled(ledger.state, "replica_set") is None


def test_a_vote_can_be_changed_until_the_proposal_is_adopted(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    proposal = make_proposal(ledger)
    ledger.run(ledger.hospital, proposal)
    ledger.run(ledger.hospital, calls.Vote(proposal.proposal, False))
    ledger.run(ledger.other, calls.Vote(proposal.proposal, True))
    assert ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True)) is False
    assert ledger.run(ledger.hospital, calls.Vote(proposal.proposal, True)) is True
    assert ledger.fail(ledger.regulator, calls.Vote(proposal.proposal, False)) == "already_adopted"
    found = list_votes(ledger.state, proposal.proposal)
    assert sum(row.approve for _, row in found) == 3
    assert len(list_proposals(ledger.state)) == 1


def test_a_proposal_is_made_once_and_lapses_at_its_height(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    proposal = make_proposal(ledger)
    ledger.run(ledger.hospital, proposal)
    assert ledger.fail(ledger.other, proposal) == "proposal_exists"
    unknown = calls.Vote(ledger.make_id("none"), True)
    assert ledger.fail(ledger.other, unknown) == "proposal_unknown"
    reach(ledger, proposal.due_height - 1)
    assert ledger.fail(ledger.other, calls.Vote(proposal.proposal, True)) == "proposal_lapsed"


def test_one_institution_has_only_so_many_open_proposals(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    until = ledger.height + 40
    for number in range(OPEN_PROPOSALS_MAX):
        ledger.run(ledger.hospital, make_proposal(ledger, str(number), due_height=until + number))
    more = make_proposal(ledger, "more", due_height=until + 60)
    assert ledger.fail(ledger.hospital, more) == "too_many_proposals"
    ledger.run(ledger.clinic, make_proposal(ledger, "the clinic's"))
    reach(ledger, until)  # The first of them has lapsed.
    ledger.run(ledger.hospital, more)
    for voter in (ledger.clinic, ledger.other):
        ledger.run(voter, calls.Vote(more.proposal, True))
    reach(ledger, more.due_height)  # With the set it was about, all that were open have lapsed.
    for number in range(OPEN_PROPOSALS_MAX):
        ledger.run(ledger.hospital, make_proposal(ledger, f"next {number}", add=(), remove=(1,)))


def test_a_proposals_height_lies_ahead_and_not_too_far(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    for height in (ledger.height, ledger.height + 1, ledger.height + 2_000_000):
        assert ledger.fail(ledger.hospital, make_proposal(ledger, due_height=height)) == "bad_height"


def test_one_change_at_a_time_and_the_others_of_its_epoch_lapse_with_it(ledger: Ledger) -> None:
    for name in ("one", "two"):
        ledger.run(ledger.other, make_registration(ledger, ledger.other, name))
    first = make_proposal(ledger, due_height=ledger.height + 30)
    second = make_proposal(ledger, "second", add=(5,), due_height=ledger.height + 60)
    ledger.run(ledger.regulator, second)
    ledger.run(ledger.hospital, first)
    ledger.run(ledger.other, calls.Vote(first.proposal, True))
    ledger.run(ledger.clinic, calls.Vote(first.proposal, True))
    assert ledger.fail(ledger.other, calls.Vote(second.proposal, True)) == "change_scheduled"
    assert ledger.fail(ledger.other, make_proposal(ledger, "third", add=(5,))) == "change_scheduled"
    assert ledger.fail(ledger.other, calls.RetireNode(4)) == "is_member"  # It is about to vote.
    reach(ledger, first.due_height)
    assert ledger.fail(ledger.other, calls.Vote(second.proposal, True)) == "proposal_lapsed"
    adopt(ledger, make_proposal(ledger, "fourth", add=(5,)))
    assert (get_epoch(ledger), set(get_members(ledger))) == (2, {0, 1, 2, 3, 4, 5})


def test_a_suspended_institution_has_no_say_and_its_replica_may_be_removed(ledger: Ledger) -> None:
    proposal = make_proposal(ledger, add=(), remove=(1,))
    ledger.run(ledger.other, proposal)
    ledger.run(ledger.hospital, calls.Vote(proposal.proposal, True))
    ledger.run(ledger.regulator, SuspendInstitution(ledger.other.institution, "breach"))
    assert ledger.fail(ledger.other, calls.Vote(proposal.proposal, True)) == "institution_suspended"
    # Three are active, one of whose two votes no longer counts.
    assert ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True)) is True
    reach(ledger, proposal.due_height)
    assert set(get_members(ledger)) == {0, 2, 3}
    node = get_node(ledger.state, 1)
    assert node is not None
    assert node.retired_height == 0


def test_a_node_of_a_suspended_institution_is_not_added(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    proposal = make_proposal(ledger)
    ledger.run(ledger.hospital, proposal)
    ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True))
    ledger.run(ledger.regulator, SuspendInstitution(ledger.other.institution, "breach"))
    # It would be the majority of three: what was safe when it was proposed is looked at again.
    assert ledger.fail(ledger.regulator, calls.Vote(proposal.proposal, True)) == "institution_suspended"
    assert ledger.fail(ledger.hospital, make_proposal(ledger, "again")) == "institution_suspended"


def test_a_regulator_that_suspends_all_others_cannot_decide_alone(ledger: Ledger) -> None:
    for founder in (ledger.hospital, ledger.other, ledger.clinic):
        ledger.run(ledger.regulator, SuspendInstitution(founder.institution, "coup"))
    proposal = make_proposal(ledger, add=(), remove=(1,))
    assert ledger.run(ledger.regulator, proposal) is False
    ledger.run(ledger.regulator, ReinstateInstitution(ledger.clinic.institution))
    assert ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True)) is True


def test_the_electorate_follows_rotated_keys(ledger: Ledger) -> None:
    new = ledger.make_key("new institution key")
    signed = encode((ledger.chain_id, ledger.hospital.institution, new.public_key))
    ledger.run(ledger.hospital, RotateKey(new.public_key, new.sign(tags.KEY_ROTATION, signed)))
    electorate = get_electorate(ledger.state)
    assert electorate is not None
    assert dict(electorate.active)[ledger.hospital.institution] == new.public_key
    assert list(electorate.active) == sorted(electorate.active)


def test_a_replica_changes_its_key_with_the_epoch(ledger: Ledger) -> None:
    change = make_rotation(ledger, 1, ledger.other)
    before = get_members(ledger)
    proposal = make_proposal(ledger, add=(), rotate=(change,))
    ledger.run(ledger.other, proposal)
    row = node_keys.get(ledger.state, change.public_key)
    assert row is not None
    assert (row.replica, row.use) == (1, "proposed")
    ledger.run(ledger.hospital, calls.Vote(proposal.proposal, True))
    ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True))
    reach(ledger, proposal.due_height - 1)
    assert get_members(ledger) == before
    reach(ledger, proposal.due_height)
    assert get_members(ledger) == before | {1: change.public_key}
    uses = [node_keys.get(ledger.state, key) for key in (before[1], change.public_key)]
    assert [use.use for use in uses if use is not None] == ["former", "current"]
    node = get_node(ledger.state, 1)
    assert node is not None
    assert node.public_key == change.public_key


def test_nobody_proposes_a_key_of_its_own_for_anothers_replica(ledger: Ledger) -> None:
    own = make_rotation(ledger, 1, ledger.other, "a key that the hospital holds")
    assert ledger.fail(ledger.hospital, make_proposal(ledger, add=(), rotate=(own,))) == "not_permitted"


def test_a_rotation_needs_a_fresh_key_and_the_proof_of_holding_it(ledger: Ledger) -> None:
    stolen = KeyChange(1, ledger.make_key("next key").public_key, bytes(64))
    assert ledger.fail(ledger.other, make_proposal(ledger, add=(), rotate=(stolen,))) == "bad_proof"
    for_another = make_rotation(ledger, 1, ledger.hospital)
    assert ledger.fail(ledger.other, make_proposal(ledger, add=(), rotate=(for_another,))) == "bad_proof"
    used = make_rotation(ledger, 1, ledger.other, "node 0")
    assert ledger.fail(ledger.other, make_proposal(ledger, add=(), rotate=(used,))) == "key_in_use"
    kept = make_rotation(ledger, 1, ledger.other)
    ledger.run(ledger.other, make_proposal(ledger, add=(), rotate=(kept,)))
    for_two = make_rotation(ledger, 0, ledger.hospital)
    assert ledger.fail(ledger.hospital, make_proposal(ledger, "b", add=(), rotate=(for_two,))) == "key_in_use"
    # The same replica may be proposed the same key again.
    ledger.run(ledger.other, make_proposal(ledger, "c", add=(), rotate=(kept,)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"add": (9,)}, "node_unknown"),
        ({"add": (0,)}, "already_member"),
        ({"add": (), "remove": (4,)}, "not_member"),
        ({"add": (4,), "remove": (4,)}, "not_member"),
        ({"add": ()}, "no_change"),
        ({"add": (), "remove": (0, 1, 2, 3)}, "empty_set"),
        ({"add": (4, 5), "remove": (0, 1)}, "quorum_lost"),
        ({"add": (5, 4)}, "bad_arguments"),
    ],
)
def test_an_unsound_change_is_refused_before_it_is_put_to_the_vote(
    ledger: Ledger, changes: dict[str, Any], code: str
) -> None:
    for name in ("one", "two"):
        ledger.run(ledger.other, make_registration(ledger, ledger.other, name))
    assert ledger.fail(ledger.hospital, make_proposal(ledger, **changes)) == code
    assert list_proposals(ledger.state) == []


def test_one_replica_is_exchanged_for_another_at_once(ledger: Ledger) -> None:
    ledger.run(ledger.other, make_registration(ledger, ledger.other))
    adopt(ledger, make_proposal(ledger, remove=(1,)))
    assert set(get_members(ledger)) == {0, 2, 3, 4}


def test_strangers_and_patients_have_no_part_in_it(ledger: Ledger) -> None:
    stranger = ledger.make_key("stranger")
    proposal = make_proposal(ledger, add=(), remove=(1,))
    for call in (proposal, calls.Vote(proposal.proposal, True), make_registration(ledger, ledger.other)):
        assert ledger.fail(stranger, call) == "unknown_sender"


def make_set(keys: list[int]) -> tuple[ReplicaRow, ...]:
    """Replicas 0, 1, … with these keys."""
    return tuple(ReplicaRow(number, bytes([key]) * 32, bytes(16)) for number, key in enumerate(keys))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.integers(1, 14))
def test_who_stays_is_a_quorum_of_the_next_set_or_the_change_is_refused(flags: list[int], after: int) -> None:
    present = ReplicaSetRow(epoch=0, members=make_set([0] * len(flags)))
    following = make_set((flags + [1] * after)[:after])
    staying = sum(flag == 0 for flag in flags[:after])
    needed = Quorum(after).size
    if len(flags) < 4:
        needed = min(needed, after - 1)
    if following == present.members or staying < needed:
        with pytest.raises(Conflict):
            check_change(present, following)
    else:
        check_change(present, following)


def test_contracts_and_consensus_count_quorums_alike() -> None:
    assert all(compute_quorum(count) == Quorum(count).size for count in range(1, 101))


@pytest.mark.parametrize(
    ("active", "registered", "voters", "decides"),
    [(4, 4, 2, False), (4, 4, 3, True), (1, 4, 1, False), (2, 4, 2, True), (1, 1, 1, True), (1, 3, 1, False)],
)
def test_a_majority_is_of_the_active_ones_and_a_third_of_all(
    active: int, registered: int, voters: int, decides: bool
) -> None:
    names = [bytes([number]) * 16 for number in range(registered)]
    row = ElectorateRow(
        active=tuple((name, bytes(32)) for name in names[:active]), registered_count=registered
    )
    assert row.is_majority(names[:voters]) is decides
    assert row.is_majority([names[0]] * 3) is (row.is_majority(names[:1]))


@pytest.mark.parametrize(
    ("active", "registered", "voters", "decides"),
    [(4, 4, 2, False), (4, 4, 3, True), (2, 4, 2, False), (3, 4, 3, True), (2, 3, 2, True), (1, 1, 1, True)],
)
def test_who_is_registered_is_decided_by_more_than_half_of_all(
    active: int, registered: int, voters: int, decides: bool
) -> None:
    names = [bytes([number]) * 16 for number in range(registered)]
    voices = tuple((name, bytes(32)) for name in names[:active])
    row = ElectorateRow(active=voices, registered_count=registered)
    assert row.is_majority_of_all(names[:voters]) is decides
    assert row.is_majority_of_all([*names[:voters], *names[active:]]) is decides  # No suspended one votes.


def test_votes_of_a_full_consortium_fit_into_one_call(make_ledger: Callable[[], Ledger]) -> None:
    ledger = make_ledger()
    row = get_electorate(ledger.state)
    assert row is not None
    voices = tuple((number.to_bytes(16, "big"), number.to_bytes(32, "big")) for number in range(1_000))
    large = ElectorateRow(active=voices, registered_count=1_000)
    assert len(encode(large)) < 65_536
