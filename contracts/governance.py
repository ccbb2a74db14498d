"""Governance: what the founders laid down, the nodes of the network, and changes of the network by vote.

Institutions register nodes of their own, which follow without voting. All else changes by proposal and
vote: a proposal is adopted as soon as a majority of the active institutions has voted for it; one about who
the institutions are, as soon as a majority of all has, suspended ones included. It speaks of its subject
(`contracts.schedule`) as it stood when it was made: others lapse when that changes, and each at its height.

Invariants: the founding rows are written once, with the genesis block; a change that could stop the ledger is
refused before anybody votes on it, and again when it would be adopted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import msgspec

from contracts import nodes as node_rows
from contracts import schedule
from contracts.admissions import admit, check_admission, check_removal, remove, verify_request
from contracts.calls import changes
from contracts.calls import governance as calls
from contracts.context import Context
from contracts.contract import Contract
from contracts.electorate import require_electorate
from contracts.errors import BadArguments, Conflict, NotFound, NotPermitted
from contracts.nodes import add_node, compute_node_key, propose_key, require_node, verify_possession
from contracts.parameters import compute_next_parameters, parameters
from contracts.proposals import (
    ProposalRow,
    VoteRow,
    find_subject,
    note_open,
    proposals,
    require_revision,
    votes,
)
from contracts.registry import require_institution
from contracts.replica_sets import compute_key_rows, compute_next_set, list_members_to_come, replica_set
from contracts.reservations import reserve
from contracts.schedule import Subject
from contracts.tables import ReadableState, Table
from contracts.versions import compute_next_versions, versions

contract: Final = Contract("governance", version=1, writes=("registry",))

KEY: Final = b"current"
"""Tables of one row have it under this key, those of subjects among them."""

REPLACED: Final[Mapping[Subject, Table[Any]]] = MappingProxyType(
    {"replica_set": replica_set, "parameters": parameters, "contracts": versions}
)
"""Subjects that are one row, which the end of a block replaces."""

DUE_WITHIN_HEIGHTS_MAX: Final = 1_000_000
"""How far ahead a proposal may be due: at an idle ledger's pace about four months."""


class FoundingRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who founded the ledger, with which contracts."""

    institutions: tuple[bytes, ...]
    """Ids in ascending order."""
    contracts: tuple[changes.ContractVersion, ...]
    """In ascending order of their names."""


founding: Final = Table("governance", "founding", FoundingRow)


def get_founding(state: ReadableState) -> FoundingRow | None:
    return founding.get(state, KEY)


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
    if row.replica in {member.replica for member in list_members_to_come(context)}:
        raise Conflict(
            f"replica {row.replica} votes, or is about to: have it removed first", code="is_member"
        )
    node_rows.retire_node(context, row)
    _tell(context, "node_retired", row.replica, row.institution)


@contract.method(calls.Propose)
def propose(context: Context, arguments: calls.Propose) -> bool:
    """Whether the proposer's own vote was enough to adopt it."""
    caller = require_institution(context)
    if context.get(proposals, arguments.proposal) is not None:
        raise Conflict(f"proposal {arguments.proposal.hex()} was made already", code="proposal_exists")
    ahead = arguments.due_height - context.height
    if not 1 <= ahead <= DUE_WITHIN_HEIGHTS_MAX:
        raise BadArguments(
            f"due height {arguments.due_height} found, {context.height + 1} to "
            f"{context.height + DUE_WITHIN_HEIGHTS_MAX} expected",
            code="bad_height",
        )
    _check_signatures(context, caller.institution, arguments.change)
    row = ProposalRow(
        proposer=caller.institution,
        change=arguments.change,
        revision=require_revision(context, find_subject(arguments.change)),
        due_height=arguments.due_height,
        proposed_height=context.height,
        adopted_height=0,
        cancelled_height=0,
    )
    _weigh(context, row.change)
    note_open(context, caller.institution, arguments.proposal)
    context.put(proposals, arguments.proposal, row)
    if isinstance(row.change, changes.Admission):
        reserve(context, row.change, row.due_height)
    _tell(context, "proposed", arguments.proposal, caller.institution, row.due_height)
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
    subject = find_subject(row.change)
    if row.is_lapsed(require_revision(context, subject), context.height):
        raise Conflict(
            f"its height has come, or {subject} was changed: make a new one", code="proposal_lapsed"
        )
    schedule.require_nothing_scheduled(context, subject)
    return _count_vote(context, caller.institution, arguments.proposal, row, approve=arguments.approve)


def _count_vote(
    context: Context, institution: bytes, proposal: bytes, row: ProposalRow, *, approve: bool
) -> bool:
    """Keep the vote; adopt the proposal where it makes the majority that the change needs now."""
    context.put(votes, proposal + institution, VoteRow(approve=approve, height=context.height))
    _tell(context, "voted", proposal, institution, int(approve))
    approving = [key[len(proposal) :] for key, found in context.scan(votes, proposal) if found.approve]
    voices = require_electorate(context)
    is_of_institutions = find_subject(row.change) == "institutions"
    decides = voices.is_majority_of_all if is_of_institutions else voices.is_majority
    if not decides(approving):
        return False
    context.put(proposals, proposal, msgspec.structs.replace(row, adopted_height=context.height))
    _tell(context, "adopted", proposal, row.due_height)
    _carry_out(context, proposal, row)
    return True


def _check_signatures(context: Context, proposer: bytes, change: changes.Change) -> None:
    """What is looked at once: whether those whose keys the change names agreed to it."""
    match change:
        case changes.ReplicaSetChange():
            for key in change.rotate:
                node = require_node(context, key.replica)
                if node.institution != proposer:
                    # The others can vote on it, but only its own institution knows whose the key is.
                    raise NotPermitted(f"replica {key.replica}: its own institution proposes its key")
                verify_possession(context, node.institution, key.public_key, key.possession)
                propose_key(context, key.public_key, key.replica)
        case changes.Admission():
            verify_request(context.chain_id, change)


def _weigh(context: Context, change: changes.Change) -> bytes:
    """The next row of the change's subject, encoded; empty where the change is made at once.

    What was safe when it was proposed may not be any more, so it is weighed again when it would be adopted.
    Raises the codes of what it calls, and Conflict `change_scheduled`.
    """
    schedule.require_nothing_scheduled(context, find_subject(change))
    match change:
        case changes.ReplicaSetChange():
            for replicas in (change.add, change.remove, [key.replica for key in change.rotate]):
                _check_ascending(replicas)
            return replica_set.encode_row(compute_next_set(context, change))
        case changes.Admission():
            check_admission(context, change)
        case changes.Removal():
            check_removal(context, change)
        case changes.ParametersChange():
            return parameters.encode_row(compute_next_parameters(context, change))
        case changes.ContractActivation():
            return versions.encode_row(compute_next_versions(context, change))
        case changes.Cancellation():
            schedule.require_scheduled(context, change.proposal, REPLACED)
    return b""


def _carry_out(context: Context, proposal: bytes, row: ProposalRow) -> None:
    """Make the change at once, or have it made above the height that it names."""
    following, subject = _weigh(context, row.change), find_subject(row.change)
    if following:
        coming = schedule.ScheduledRow(
            proposal=proposal, effective_height=row.due_height, following=following
        )
        schedule.put_scheduled(context, subject, coming)
        return
    match row.change:
        case changes.Admission() as change:
            admit(context, change)
            _tell(context, "institution_admitted", change.institution)
        case changes.Removal() as change:
            remove(context, change)
            _tell(context, "institution_removed", change.institution)
        case changes.Cancellation() as change:
            _cancel(context, change.proposal)
            _tell(context, "cancelled", change.proposal)
    schedule.count_change(context, subject)


def _cancel(context: Context, proposal: bytes) -> None:
    """What is scheduled is not made; its proposal says so."""
    schedule.drop_scheduled(context, schedule.require_scheduled(context, proposal, REPLACED))
    row = context.get(proposals, proposal)
    assert row is not None, "a change is scheduled that nobody proposed"
    context.put(proposals, proposal, msgspec.structs.replace(row, cancelled_height=context.height))


def close_block(state: ReadableState, height: int) -> Mapping[bytes, bytes | None]:
    """What the end of block `height` writes: the scheduled changes that are effective, else nothing.

    `state` shows the rows after the block's transactions.
    """
    writes: dict[bytes, bytes | None] = {}
    for subject, table in REPLACED.items():
        coming = schedule.get_scheduled(state, subject)
        if coming is None or coming.effective_height != height:
            continue
        writes[table.compute_state_key(KEY)] = coming.following
        writes.update(schedule.compute_effective_rows(state, subject))
        if subject == "replica_set":
            writes.update(compute_key_rows(state, replica_set.decode_row(coming.following), height))
    return writes


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
