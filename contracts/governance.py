"""Governance: what the founders laid down, the nodes of the network, and who of them votes.

Institutions register nodes of their own, which follow without voting; the replica set changes by proposal
and vote. A proposal is adopted as soon as a majority of the active institutions has voted for it, and is
effective above a height that it names. It speaks of the epoch in which it was made: at most one of an epoch
is adopted, the others lapse with it, and every one lapses at its height.

Invariants: the founding rows are written once, with the genesis block; a change that could stop the ledger is
refused before anybody votes on it, and again when it would be adopted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from contracts import nodes as node_rows
from contracts.calls import governance as calls
from contracts.context import Context
from contracts.contract import Contract
from contracts.electorate import require_electorate
from contracts.errors import BadArguments, Conflict, NotFound, NotPermitted
from contracts.nodes import add_node, compute_node_key, propose_key, require_node, verify_possession
from contracts.registry import require_institution
from contracts.replica_sets import (
    ReplicaRow,
    ReplicaSetRow,
    ScheduledRow,
    check_change,
    replica_set,
    scheduled,
)
from contracts.tables import ReadableState, Table

contract: Final = Contract("governance", version=1)

KEY: Final = b"current"
"""Tables of one row have it under this key."""

EFFECTIVE_WITHIN_HEIGHTS_MAX: Final = 1_000_000
"""How far ahead a change may be effective: at an idle ledger's pace about four months."""


class ParametersRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What contracts must decide alike on every replica."""

    mandate_term_ms_max: int
    ticket_age_ms_max: int
    """How long after its block an allowed authorisation may be served."""
    alert_refusals_per_hour: int
    """Refusals of one member within an hour that raise an alert."""


class FoundingRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who founded the ledger, with which contracts."""

    institutions: tuple[bytes, ...]
    """Ids in ascending order."""
    contracts: tuple[tuple[str, int], ...]
    """Names and versions in ascending order."""


class ProposalRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A proposed change of the replica set; the row's key is the proposal's id."""

    proposer: bytes
    epoch: int
    """The epoch whose set it would change."""
    add: tuple[int, ...]
    remove: tuple[int, ...]
    rotate: tuple[tuple[int, bytes], ...]
    """Replica and its new key."""
    effective_height: int
    proposed_height: int
    adopted_height: int
    """0 until adopted."""


class VoteRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One institution's vote; the row's key is proposal and institution."""

    approve: bool
    height: int


parameters: Final = Table("governance", "parameters", ParametersRow)
founding: Final = Table("governance", "founding", FoundingRow)
proposals: Final = Table("governance", "proposals", ProposalRow)
votes: Final = Table("governance", "votes", VoteRow)


def require_parameters(context: Context) -> ParametersRow:
    """The parameters; every ledger has them from its genesis block on."""
    row = context.get(parameters, KEY)
    assert row is not None, "no parameters in the state: it was not made by compute_genesis_rows"
    return row


def get_parameters(state: ReadableState) -> ParametersRow | None:
    return parameters.get(state, KEY)


def get_founding(state: ReadableState) -> FoundingRow | None:
    return founding.get(state, KEY)


def list_proposals(state: ReadableState) -> list[tuple[bytes, ProposalRow]]:
    """Ids and rows of all that were ever made, in the order of their ids."""
    return list(proposals.scan(state))


def list_votes(state: ReadableState, proposal: bytes) -> list[tuple[bytes, VoteRow]]:
    """Institutions and their votes."""
    return [(key[len(proposal) :], row) for key, row in votes.scan(state, proposal)]


@contract.method(calls.RegisterNode)
def register_node(context: Context, arguments: calls.RegisterNode) -> int:
    caller = require_institution(context)
    verify_possession(context, caller.institution, arguments.public_key, arguments.possession)
    row = add_node(
        context,
        public_key=arguments.public_key,
        institution=caller.institution,
        link_host=arguments.link_host,
        link_port=arguments.link_port,
    )
    _tell(context, "node_registered", row.replica, caller.institution, row.public_key)
    return row.replica


@contract.method(calls.MoveNode)
def move_node(context: Context, arguments: calls.MoveNode) -> None:
    row = _require_own_node(context, arguments.replica)
    moved = msgspec.structs.replace(row, link_host=arguments.link_host, link_port=arguments.link_port)
    context.put(node_rows.nodes, compute_node_key(row.replica), moved)
    _tell(context, "node_moved", row.replica, row.institution)


@contract.method(calls.RetireNode)
def retire_node(context: Context, arguments: calls.RetireNode) -> None:
    row = _require_own_node(context, arguments.replica)
    coming = context.get(scheduled, KEY)
    members = (*_require_set(context).members, *(coming.members if coming else ()))
    if row.replica in {member.replica for member in members}:
        raise Conflict(
            f"replica {row.replica} votes, or is about to: have it removed first", code="is_member"
        )
    retired = msgspec.structs.replace(row, retired_height=context.height)
    context.put(node_rows.nodes, compute_node_key(row.replica), retired)
    use = node_rows.NodeKeyRow(replica=row.replica, use="former", changed_height=context.height)
    context.put(node_rows.node_keys, row.public_key, use)
    _tell(context, "node_retired", row.replica, row.institution)


@contract.method(calls.Propose)
def propose(context: Context, arguments: calls.Propose) -> bool:
    """Whether the proposer's own vote was enough to adopt it."""
    caller = require_institution(context)
    present = _require_set(context)
    _require_nothing_scheduled(context)
    if context.get(proposals, arguments.proposal) is not None:
        raise Conflict(f"proposal {arguments.proposal.hex()} was made already", code="proposal_exists")
    ahead = arguments.effective_height - context.height
    if not 1 <= ahead <= EFFECTIVE_WITHIN_HEIGHTS_MAX:
        raise BadArguments(
            f"effective height {arguments.effective_height} found, {context.height + 1} to "
            f"{context.height + EFFECTIVE_WITHIN_HEIGHTS_MAX} expected",
            code="bad_height",
        )
    for numbers in (arguments.add, arguments.remove, [change.replica for change in arguments.rotate]):
        _check_ascending(numbers)
    for change in arguments.rotate:
        node = require_node(context, change.replica)
        if node.institution != caller.institution:
            # The others can vote on it, but only its own institution knows whose the key is.
            raise NotPermitted(f"replica {change.replica}: its own institution proposes its key")
        verify_possession(context, node.institution, change.public_key, change.possession)
        propose_key(context, change.public_key, change.replica)
    row = ProposalRow(
        proposer=caller.institution,
        epoch=present.epoch,
        add=arguments.add,
        remove=arguments.remove,
        rotate=tuple((change.replica, change.public_key) for change in arguments.rotate),
        effective_height=arguments.effective_height,
        proposed_height=context.height,
        adopted_height=0,
    )
    _compute_members(context, present, row)
    context.put(proposals, arguments.proposal, row)
    _tell(context, "proposed", arguments.proposal, caller.institution, row.effective_height)
    return _count_vote(context, caller.institution, arguments.proposal, row, approve=True)


@contract.method(calls.Vote)
def vote(context: Context, arguments: calls.Vote) -> bool:
    """Whether the proposal is adopted with this vote."""
    caller = require_institution(context)
    row = context.get(proposals, arguments.proposal)
    if row is None:
        raise NotFound(f"proposal {arguments.proposal.hex()} was never made", code="proposal_unknown")
    if row.adopted_height:
        raise Conflict(f"it was adopted at height {row.adopted_height}", code="already_adopted")
    if row.epoch != _require_set(context).epoch or context.height >= row.effective_height:
        raise Conflict("the proposal's epoch or height is over: make a new one", code="proposal_lapsed")
    _require_nothing_scheduled(context)
    return _count_vote(context, caller.institution, arguments.proposal, row, approve=arguments.approve)


def _count_vote(
    context: Context, institution: bytes, proposal: bytes, row: ProposalRow, *, approve: bool
) -> bool:
    """Keep the vote; adopt the proposal where it makes the majority of those who are active now."""
    context.put(votes, proposal + institution, VoteRow(approve=approve, height=context.height))
    _tell(context, "voted", proposal, institution, int(approve))
    approving = [key[len(proposal) :] for key, found in context.scan(votes, proposal) if found.approve]
    if not require_electorate(context).is_majority(approving):
        return False
    # What was safe when it was proposed may not be any more: a node was retired, an institution suspended.
    members = _compute_members(context, _require_set(context), row)
    context.put(
        scheduled,
        KEY,
        ScheduledRow(proposal=proposal, effective_height=row.effective_height, members=members),
    )
    context.put(proposals, proposal, msgspec.structs.replace(row, adopted_height=context.height))
    _tell(context, "adopted", proposal, row.effective_height)
    return True


def _compute_members(context: Context, present: ReplicaSetRow, row: ProposalRow) -> tuple[ReplicaRow, ...]:
    """The next epoch's members. Raises the codes of `check_change`, `already_member`, `not_member`."""
    members = present.by_replica
    for replica in row.add:
        node = require_node(context, replica)
        if replica in members:
            raise Conflict(f"replica {replica} is a member", code="already_member")
        if node.institution not in require_electorate(context).institutions:
            raise Conflict(f"replica {replica}: its institution is suspended", code="institution_suspended")
        members[replica] = ReplicaRow(replica, node.public_key, node.institution)
    for replica in (*row.remove, *(replica for replica, _ in row.rotate)):
        if replica not in present.by_replica or replica not in members:
            raise Conflict(f"replica {replica} is no member, or is named twice", code="not_member")
        if replica in row.remove:
            del members[replica]
    for replica, public_key in row.rotate:
        members[replica] = ReplicaRow(replica, public_key, members[replica].institution)
    following = tuple(members[replica] for replica in sorted(members))
    check_change(present, following)
    return following


def _require_set(context: Context) -> ReplicaSetRow:
    row = context.get(replica_set, KEY)
    assert row is not None, "no replica set in the state: it was not made by compute_genesis_rows"
    return row


def _require_nothing_scheduled(context: Context) -> None:
    row = context.get(scheduled, KEY)
    if row is not None:
        raise Conflict(
            f"a change is effective at height {row.effective_height}: wait for it", code="change_scheduled"
        )


def _require_own_node(context: Context, replica: int) -> node_rows.NodeRow:
    caller = require_institution(context)
    row = require_node(context, replica)
    if row.institution != caller.institution:
        raise NotPermitted(f"replica {replica} is another institution's")
    return row


def _check_ascending(replicas: Sequence[int]) -> None:
    if any(first >= second for first, second in pairwise(replicas)):
        raise BadArguments(f"replicas {tuple(replicas)}: ascending order without repetition expected")


def _tell(context: Context, name: str, *fields: object) -> None:
    """Governance concerns every institution that has a voice."""
    context.emit("governance", name, require_electorate(context).institutions, *fields)
