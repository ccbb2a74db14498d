"""Who may have a link: members, and registered nodes of institutions in good standing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec

from consensus.replica_set import Member, ReplicaId, ReplicaSet
from contracts.electorate import KEY, ElectorateRow, electorate
from contracts.nodes import NodeRow, OwnNodesRow, compute_node_key, nodes, own_nodes
from network.known_nodes import KnownNodes, list_known_nodes
from network.link_ports import KnownNode

MEMBERS = ReplicaSet(3, tuple(Member(n, bytes([n + 1]) * 32, bytes([n]) * 16) for n in (0, 1)))


class State:
    """Rows of governance: nodes 0 and 1 vote, node 2 follows."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.put_electorate(0, 1, 2)
        for number in range(3):
            self.put_node(number)

    def put_electorate(self, *institutions: int) -> None:
        row = ElectorateRow(
            active=tuple((bytes([n]) * 16, bytes(32)) for n in institutions), registered_count=3
        )
        self.rows[electorate.compute_state_key(KEY)] = electorate.encode_row(row)

    def put_node(self, number: int, **changes: Any) -> None:
        row = NodeRow(
            replica=number,
            public_key=bytes([number + 1]) * 32,
            institution=bytes([number]) * 16,
            link_host="" if number == 0 else f"node-{number}.example",
            link_port=0 if number == 0 else 7443,
            registered_height=0,
            retired_height=0,
        )
        row = msgspec.structs.replace(row, **changes)
        self.rows[nodes.compute_state_key(compute_node_key(number))] = nodes.encode_row(row)
        own = OwnNodesRow(open=() if row.retired_height else (number,), registered_count=1)
        self.rows[own_nodes.compute_state_key(row.institution)] = own_nodes.encode_row(own)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        raise AssertionError("all rows of a table are looked at, however many there ever were")


def list_ids(state: State) -> list[int]:
    return [node.replica for node in list_known_nodes(state, MEMBERS)]


def test_members_and_registered_nodes_are_known_with_their_addresses() -> None:
    known = list_known_nodes(State(), MEMBERS)
    assert known[0] == KnownNode(replica=ReplicaId(0), public_key=bytes([1]) * 32)
    assert known[2] == KnownNode(
        replica=ReplicaId(2), public_key=bytes([3]) * 32, host="node-2.example", port=7443
    )


def test_a_retired_node_and_one_of_a_suspended_institution_are_not_known() -> None:
    state = State()
    state.put_node(2, retired_height=9)
    assert list_ids(state) == [0, 1]
    state.put_node(2)
    state.put_electorate(0, 1)
    assert list_ids(state) == [0, 1]


def test_a_member_is_known_until_it_is_removed_whatever_became_of_its_institution() -> None:
    state = State()
    state.put_electorate(0, 2)
    assert list_ids(state) == [0, 1, 2]


def test_a_members_key_is_that_of_the_replica_set() -> None:
    state = State()
    state.put_node(1, public_key=bytes([9]) * 32)
    assert list_known_nodes(state, MEMBERS)[1].public_key == bytes([2]) * 32


def test_the_links_are_told_when_a_block_may_have_changed_who_is_known() -> None:
    told: list[list[int]] = []

    def tell(known: Iterable[KnownNode]) -> None:
        told.append([node.replica for node in known])

    state = State()
    members = [MEMBERS]
    known = KnownNodes(lambda: state, lambda: members[-1], tell)
    idle: Any = SimpleNamespace(events=())
    known.on_block(idle)
    assert told == [[0, 1, 2]]
    state.put_node(2, retired_height=9)
    event = SimpleNamespace(contract="governance")
    known.on_block(SimpleNamespace(events=((None, event),)))  # type: ignore[arg-type]
    assert told[1:] == [[0, 1]]
    # The last block of an epoch, or the first above a recovery, which no header below it names.
    members.append(ReplicaSet(4, MEMBERS.members[:1]))
    state.put_electorate(0)
    known.on_block(idle)
    known.on_block(idle)
    assert told[2:] == [[0]]
