"""The replica set on the ledger: who votes now, what is to come, and which changes are safe to make.

Invariant: the row changes in one place only, at the end of the block that closes an epoch; so the set of a
height is known before that height is worked on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from contracts import schedule
from contracts.calls.changes import ReplicaSetChange
from contracts.context import Context
from contracts.electorate import require_electorate
from contracts.errors import Conflict
from contracts.nodes import NodeKeyRow, compute_node_key, node_keys, nodes, require_node
from contracts.tables import ReadableState, Table

KEY: Final = b"current"
"""The table has one row."""

REPLICAS_MAX: Final = 100
FAULT_TOLERANT_MIN: Final = 4
"""Fewer replicas tolerate no fault."""


class ReplicaRow(msgspec.Struct, frozen=True, array_like=True):
    """A member of the set."""

    replica: int
    public_key: bytes
    institution: bytes


class ReplicaSetRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The replicas of one epoch in ascending order of their ids."""

    epoch: int
    members: tuple[ReplicaRow, ...]

    @property
    def by_replica(self) -> dict[int, ReplicaRow]:
        return {member.replica: member for member in self.members}


replica_set: Final = Table("governance", "replica_set", ReplicaSetRow)


def compute_quorum(count: int) -> int:
    """How many of `count` replicas decide; as consensus counts them."""
    return (count + (count - 1) // 3) // 2 + 1


def check_change(present: ReplicaSetRow, members: tuple[ReplicaRow, ...]) -> None:
    """Refuse a next set that is empty, too large, or could not go on when its epoch begins.

    Who is in both sets with the same key stays at work; a newcomer, or a member with a new key, may not be up
    yet. So those who stay must be a quorum of the next set. Below four replicas, where every one that stops
    stops the ledger anyway, one newcomer may be waited for: or one replica could never become two, nor renew
    its key.

    Raises Conflict `empty_set`, `set_too_large`, `quorum_lost`, `no_change`.
    """
    if not members:
        raise Conflict("no replica would be left", code="empty_set")
    if len(members) > REPLICAS_MAX:
        raise Conflict(f"{len(members)} replicas, at most {REPLICAS_MAX}", code="set_too_large")
    if members == present.members:
        raise Conflict("the set would stay as it is", code="no_change")
    staying = len(set(members) & set(present.members))
    needed = compute_quorum(len(members))
    if len(present.members) < FAULT_TOLERANT_MIN:
        needed = min(needed, len(members) - 1)
    if staying < needed:
        raise Conflict(
            f"{staying} replicas would stay at work, {needed} of {len(members)} must: change fewer at once",
            code="quorum_lost",
        )


def compute_next_set(context: Context, change: ReplicaSetChange) -> ReplicaSetRow:
    """The next epoch's set. Raises the codes of `check_change` and `require_node`, `already_member`,
    `not_member`, `institution_suspended`.
    """
    present = require_replica_set(context)
    members = present.by_replica
    for replica in change.add:
        node = require_node(context, replica)
        if replica in members:
            raise Conflict(f"replica {replica} is a member", code="already_member")
        if node.institution not in require_electorate(context).institutions:
            raise Conflict(f"replica {replica}: its institution is suspended", code="institution_suspended")
        members[replica] = ReplicaRow(replica, node.public_key, node.institution)
    for replica in (*change.remove, *(key.replica for key in change.rotate)):
        if replica not in present.by_replica or replica not in members:
            raise Conflict(f"replica {replica} is no member, or is named twice", code="not_member")
        if replica in change.remove:
            del members[replica]
    for key in change.rotate:
        members[key.replica] = ReplicaRow(key.replica, key.public_key, members[key.replica].institution)
    following = tuple(members[replica] for replica in sorted(members))
    check_change(present, following)
    return ReplicaSetRow(epoch=present.epoch + 1, members=following)


def list_members_to_come(context: Context) -> tuple[ReplicaRow, ...]:
    """Who votes, or is about to."""
    coming = context.get(schedule.scheduled, schedule.compute_subject_key("replica_set"))
    members = require_replica_set(context).members
    return members if coming is None else (*members, *replica_set.decode_row(coming.following).members)


def compute_key_rows(
    state: ReadableState, following: ReplicaSetRow, height: int
) -> Mapping[bytes, bytes | None]:
    """Rows of the nodes whose key changes as the next set takes over, at the end of block `height`."""
    present = replica_set.get(state, KEY)
    assert present is not None, "a change is scheduled for a set that is not there"
    writes: dict[bytes, bytes | None] = {}
    before = present.by_replica
    for member in following.members:
        known = before.get(member.replica)
        if known is not None and known.public_key != member.public_key:
            writes.update(_rotate_key(state, member, known.public_key, height))
    return writes


def _rotate_key(
    state: ReadableState, member: ReplicaRow, former: bytes, height: int
) -> Mapping[bytes, bytes | None]:
    node_key = compute_node_key(member.replica)
    node = nodes.get(state, node_key)
    assert node is not None, "a member without a node row"
    uses = {
        former: NodeKeyRow(replica=member.replica, use="former", changed_height=height),
        member.public_key: NodeKeyRow(replica=member.replica, use="current", changed_height=height),
    }
    return {
        nodes.compute_state_key(node_key): nodes.encode_row(
            msgspec.structs.replace(node, public_key=member.public_key)
        ),
        **{node_keys.compute_state_key(key): node_keys.encode_row(row) for key, row in uses.items()},
    }


def require_replica_set(context: Context) -> ReplicaSetRow:
    """The row; every ledger has it from its genesis block on."""
    row = context.get(replica_set, KEY)
    assert row is not None, "no replica set in the state: it was not made by compute_genesis_rows"
    return row


def get_replica_set(state: ReadableState) -> ReplicaSetRow | None:
    """Who orders the next height."""
    return replica_set.get(state, KEY)
