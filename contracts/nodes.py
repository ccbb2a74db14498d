"""The nodes of the network: every one that was ever registered, with its key and where it accepts links.

Invariants: a replica id and a node's key are given once and never to another node, so whoever reads an old
certificate can name its signers. Rows are closed, never deleted; so whatever decides looks at those of
one institution that are open, never at all of them.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from contracts.context import Context
from contracts.errors import BadArguments, Conflict, NotFound
from contracts.tables import ReadableState, Table
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import InvalidSignature, verify_signature

NUMBER_KEY: Final = b"next"
REPLICA_MAX: Final = 65_535
NODES_PER_INSTITUTION_MAX: Final = 8
"""Nodes of one institution that are not retired; every other node keeps a queue for each."""
REGISTRATIONS_PER_INSTITUTION_MAX: Final = 64
"""Nodes that one institution may ever register, retired ones included: the largest consortium together cannot
use up the replica ids, which are never given twice."""


class NodeRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One node; the row's key is its replica id in two bytes."""

    replica: int
    public_key: bytes
    institution: bytes
    link_host: str
    """Empty for a founder that has not told: its address is in the others' settings."""
    link_port: int
    registered_height: int
    retired_height: int
    """0 unless retired."""


class NodeKeyRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Whose a node's key is; the row's key is the public key."""

    replica: int
    use: Literal["proposed", "current", "former"]
    changed_height: int


class OwnNodesRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What one institution has of nodes; the row's key is the institution."""

    open: tuple[int, ...]
    """Replica ids of those that are not retired, in ascending order."""
    registered_count: int
    """How many it has ever registered; those in the genesis are not counted."""


class NumberRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The replica id of the next node."""

    replica: int


nodes: Final = Table("governance", "nodes", NodeRow)
node_keys: Final = Table("governance", "node_keys", NodeKeyRow)
own_nodes: Final = Table("governance", "own_nodes", OwnNodesRow)
numbers: Final = Table("governance", "numbers", NumberRow)

NO_NODES: Final = OwnNodesRow(open=(), registered_count=0)


def compute_node_key(replica: int) -> bytes:
    return replica.to_bytes(2, "big")


def add_node(
    context: Context, *, public_key: bytes, institution: bytes, link_host: str, link_port: int
) -> NodeRow:
    """Give a node with a fresh key the next replica id.

    Raises Conflict `key_in_use`, `too_many_nodes`, `too_many_registrations`, `no_replica_ids`.
    """
    claim_key(context, public_key, None)
    own = context.get(own_nodes, institution) or NO_NODES
    if len(own.open) >= NODES_PER_INSTITUTION_MAX:
        raise Conflict(f"{len(own.open)} nodes are registered already: retire one", code="too_many_nodes")
    if own.registered_count >= REGISTRATIONS_PER_INSTITUTION_MAX:
        raise Conflict(
            f"it has registered {own.registered_count} nodes: give those it has other keys and addresses",
            code="too_many_registrations",
        )
    number = context.get(numbers, NUMBER_KEY)
    assert number is not None, "no next replica id in the state: it was not made by compute_genesis_rows"
    if number.replica > REPLICA_MAX:
        raise Conflict(f"all {REPLICA_MAX + 1} replica ids are given away", code="no_replica_ids")
    row = NodeRow(
        replica=number.replica,
        public_key=public_key,
        institution=institution,
        link_host=link_host,
        link_port=link_port,
        registered_height=context.height,
        retired_height=0,
    )
    context.put(numbers, NUMBER_KEY, NumberRow(number.replica + 1))
    context.put(nodes, compute_node_key(row.replica), row)
    use = NodeKeyRow(replica=row.replica, use="current", changed_height=context.height)
    context.put(node_keys, public_key, use)
    following = OwnNodesRow(open=(*own.open, row.replica), registered_count=own.registered_count + 1)
    context.put(own_nodes, institution, following)
    return row


def list_own_nodes(context: Context, institution: bytes) -> list[NodeRow]:
    """An institution's nodes that are not retired."""
    own = context.get(own_nodes, institution) or NO_NODES
    return [require_node(context, replica) for replica in own.open]


def retire_node(context: Context, row: NodeRow) -> None:
    """The node is gone for good, and its key is nobody else's."""
    retired = msgspec.structs.replace(row, retired_height=context.height)
    context.put(nodes, compute_node_key(row.replica), retired)
    use = NodeKeyRow(replica=row.replica, use="former", changed_height=context.height)
    context.put(node_keys, row.public_key, use)
    own = context.get(own_nodes, row.institution)
    assert own is not None, "a node of an institution that has none"
    left = tuple(replica for replica in own.open if replica != row.replica)
    context.put(own_nodes, row.institution, msgspec.structs.replace(own, open=left))


def claim_key(context: Context, public_key: bytes, replica: int | None) -> None:
    """Raises Conflict `key_in_use` unless the key is fresh, or was proposed for this replica before."""
    row = context.get(node_keys, public_key)
    if row is not None and (row.use != "proposed" or row.replica != replica):
        raise Conflict("this key belongs, or belonged, to a node: use a new one", code="key_in_use")


def propose_key(context: Context, public_key: bytes, replica: int) -> None:
    """Keep the key for this replica, which may change to it. Raises Conflict `key_in_use`."""
    claim_key(context, public_key, replica)
    row = NodeKeyRow(replica=replica, use="proposed", changed_height=context.height)
    context.put(node_keys, public_key, row)


def verify_possession(context: Context, institution: bytes, public_key: bytes, possession: bytes) -> None:
    """Raises BadArguments `bad_proof` unless the node's key signed for this institution.

    So nobody can register a key that another node holds, or one that nobody holds.
    """
    try:
        message = encode((context.chain_id, institution, public_key))
        verify_signature(public_key, tags.NODE_KEY, message, possession)
    except InvalidSignature as error:
        raise BadArguments(f"proof of possession: {error}", code="bad_proof") from error


def require_node(context: Context, replica: int) -> NodeRow:
    """Raises NotFound `node_unknown`, Conflict `node_retired`."""
    row = context.get(nodes, compute_node_key(replica))
    if row is None:
        raise NotFound(f"replica {replica}: no such node was registered", code="node_unknown")
    if row.retired_height:
        raise Conflict(f"replica {replica} was retired at height {row.retired_height}", code="node_retired")
    return row


def get_node(state: ReadableState, replica: int) -> NodeRow | None:
    return nodes.get(state, compute_node_key(replica))


def list_open_nodes(state: ReadableState, institution: bytes) -> list[NodeRow]:
    """One institution's nodes that are not retired, as committed, in the order of their ids."""
    own = own_nodes.get(state, institution) or NO_NODES
    found = (get_node(state, replica) for replica in own.open)
    return [row for row in found if row is not None]


def list_nodes(state: ReadableState) -> list[NodeRow]:
    """All that were ever registered, in the order of their ids: for lists, not for checks."""
    return [row for _, row in nodes.scan(state)]
