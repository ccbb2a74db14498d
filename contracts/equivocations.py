"""Equivocation: two votes of one replica for one epoch, height, view and phase that name different blocks.

An honest replica never signs these, whatever happens to it, so the two signatures prove a fault to everybody.
A vote is tied to its replica by the key that the node had at that height; so an old key that leaks proves
nothing about what came after it.

Invariant: one row for each slot, written once. While an alert about a replica is open, further evidence
against it is kept and raises no other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.alerts import open_alerts, raise_alert
from contracts.calls.monitoring import ReportEquivocation, SignedVote
from contracts.context import Context
from contracts.electorate import require_electorate
from contracts.errors import BadArguments, Conflict, NotFound
from contracts.nodes import compute_node_key, node_keys, nodes
from contracts.tables import ReadableState, Table
from crypto import tags
from crypto.signatures import InvalidSignature, verify_signature
from crypto.vote_bytes import compute_vote_bytes


class EquivocationRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Proved once; the key is replica (2 bytes), epoch, height, view (8 each) and phase (1), big-endian."""

    first_digest: bytes
    second_digest: bytes
    reporter: bytes
    """The institution that brought the votes; they stand in its transaction."""
    height: int
    """Of the block that holds the report."""


class AccusedRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What was proved against one replica; the key is its id in two bytes."""

    alert: bytes
    """The last alert about it."""
    count: int


equivocations: Final = Table("monitoring", "equivocations", EquivocationRow)
accused: Final = Table("monitoring", "accused", AccusedRow)


def prove_equivocation(context: Context, reporter: bytes, evidence: ReportEquivocation) -> None:
    """Verify and keep the evidence, and raise an alert unless one about this replica is open.

    Raises BadArguments `no_contradiction`, `bad_signature`; NotFound `node_unknown`; Conflict
    `already_reported`.
    """
    first, second = evidence.first, evidence.second
    slot = compute_slot_key(first)
    if compute_slot_key(second) != slot or first.digest == second.digest:
        raise BadArguments("two votes for one slot and different digests expected", code="no_contradiction")
    if context.get(equivocations, slot) is not None:
        raise Conflict("this contradiction is on the ledger already", code="already_reported")
    _require_key(context, first, evidence.public_key)
    for vote in (first, second):
        _verify_vote(context.chain_id, vote, evidence.public_key)
    row = EquivocationRow(
        first_digest=first.digest, second_digest=second.digest, reporter=reporter, height=context.height
    )
    context.put(equivocations, slot, row)
    _accuse(context, first, slot)


def compute_slot_key(vote: SignedVote) -> bytes:
    """Replica, epoch, height, view and phase: 27 bytes."""
    numbers = (vote.epoch, vote.height, vote.view)
    return b"".join(
        (
            vote.replica.to_bytes(2, "big"),
            *(number.to_bytes(8, "big") for number in numbers),
            vote.phase.to_bytes(1, "big"),
        )
    )


def _require_key(context: Context, vote: SignedVote, public_key: bytes) -> None:
    """Raises NotFound unless the node had this key at the height of the vote."""
    row = context.get(node_keys, public_key)
    if row is not None and row.replica == vote.replica:
        if row.use == "current" and vote.height > row.changed_height:
            return
        if row.use == "former" and vote.height <= row.changed_height:
            return
    raise NotFound(
        f"replica {vote.replica} did not have key {public_key.hex()} at height {vote.height}",
        code="node_unknown",
    )


def _verify_vote(chain_id: bytes, vote: SignedVote, public_key: bytes) -> None:
    message = compute_vote_bytes(chain_id, vote.epoch, vote.height, vote.view, vote.phase, vote.digest)
    try:
        verify_signature(public_key, tags.VOTE, message, vote.signature)
    except InvalidSignature as error:
        raise BadArguments(f"vote for {vote.digest.hex()}: {error}", code="bad_signature") from error


def _accuse(context: Context, vote: SignedVote, slot: bytes) -> None:
    key = compute_node_key(vote.replica)
    node = context.get(nodes, key)
    assert node is not None, "a node's key without the node"
    audience = require_electorate(context).institutions
    known = context.get(accused, key)
    count, alert = (1, None) if known is None else (known.count + 1, known.alert)
    if alert is None or context.get(open_alerts, alert) is None:
        alert = raise_alert(
            context,
            "equivocation",
            audience=audience,
            institution=node.institution,
            subject=slot,
            finding=f"replica-{vote.replica}",
        )
    context.put(accused, key, AccusedRow(alert=alert, count=count))
    context.emit("monitoring", "equivocation", audience, b"", node.institution, slot, alert)


def get_equivocation(state: ReadableState, slot: bytes) -> EquivocationRow | None:
    """What was proved of a slot (`compute_slot_key`)."""
    return equivocations.get(state, slot)


def is_accused(state: ReadableState, replica: int) -> bool:
    """Whether an alert about this replica is open."""
    row = accused.get(state, compute_node_key(replica))
    return row is not None and open_alerts.get(state, row.alert) is not None
