"""Which nodes may have a link: the members of the replica set, and the registered ones that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from consensus.replica_set import ReplicaId, ReplicaSet
from contracts.electorate import get_electorate
from contracts.nodes import NodeRow, get_node, list_open_nodes
from contracts.tables import ReadableState
from ledger.speculation import CommittedBlock
from network.link_ports import KnownNode

_DECIDING_CONTRACTS: Final = frozenset({"governance", "registry"})
"""Only what these have done, and a new epoch, changes who is known."""


def list_known_nodes(state: ReadableState, replica_set: ReplicaSet) -> tuple[KnownNode, ...]:
    """Members always; others unless they are retired or their institution is suspended.

    Looks at no node that is retired, so it takes the same however many there ever were.
    """
    known: dict[int, KnownNode] = {}
    electorate = get_electorate(state)
    for institution in electorate.institutions if electorate is not None else ():
        for node in list_open_nodes(state, institution):
            known[node.replica] = _describe(node.public_key, node.replica, node)
    for member in replica_set.members:
        known[member.replica] = _describe(member.public_key, member.replica, get_node(state, member.replica))
    return tuple(known[replica] for replica in sorted(known))


def _describe(public_key: bytes, replica: int, node: NodeRow | None) -> KnownNode:
    host, port = (node.link_host, node.link_port) if node is not None else ("", 0)
    return KnownNode(replica=ReplicaId(replica), public_key=public_key, host=host, port=port)


class KnownNodes:
    """Tells the links who is known whenever a block may have changed it."""

    def __init__(
        self,
        get_state: Callable[[], ReadableState],
        get_replica_set: Callable[[], ReplicaSet],
        tell: Callable[[Iterable[KnownNode]], None],
    ) -> None:
        self._get_state = get_state
        self._get_replica_set = get_replica_set
        self._tell = tell
        self.update()

    def update(self) -> None:
        replica_set = self._get_replica_set()
        self._epoch = replica_set.epoch
        self._tell(list_known_nodes(self._get_state(), replica_set))

    def on_block(self, block: CommittedBlock) -> None:
        # A recovered epoch is not named by the block below it, so the header would not tell.
        is_new_epoch = self._get_replica_set().epoch != self._epoch
        if is_new_epoch or any(event.contract in _DECIDING_CONTRACTS for _, event in block.events):
            self.update()
