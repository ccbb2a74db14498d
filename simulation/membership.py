"""Changes of the replica set in a run: one after the other, at random times, while all else goes wrong.

Each adds, removes or exchanges a replica, or gives one another key; each is one that the contracts would let
pass. A replica that got another key starts again with it, as the daemon does.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

from consensus.replica_set import Member, ReplicaId, ReplicaSet
from contracts.errors import Conflict
from contracts.replica_sets import ReplicaRow, ReplicaSetRow, check_change
from simulation.checkers import ChainChecker
from simulation.clients import Clients
from simulation.disk import StoredBlock
from simulation.keys import Keychain
from simulation.ledger_kit import LedgerKit
from simulation.node import Node
from simulation.schedule import Schedule

SPARE_REPLICAS: Final = 2
"""Replicas beside the founders, which follow until a change adds them."""
_KINDS: Final = ("add", "remove", "exchange", "rotate")
_POLL_US: Final = 20_000
_DRAWS_MAX: Final = 50


class Membership:
    """See the module's docstring."""

    def __init__(
        self,
        *,
        kit: LedgerKit,
        chain: ChainChecker,
        clients: Clients,
        nodes: list[Node],
        keychain: Keychain,
        faulty: frozenset[ReplicaId],
        schedule: Schedule,
        random: Random,
        changes: int,
        within_us: int,
    ) -> None:
        """As many as `changes`, the next one at most a share of `within_us` after the one before."""
        self.counts: Counter[str] = Counter()
        self._kit = kit
        self._chain = chain
        self._clients = clients
        self._nodes = {node.replica_id: node for node in nodes}
        self._keychain = keychain
        self._faulty = faulty
        self._schedule = schedule
        self._random = random
        self._left = changes
        self._pause_us = max(1, within_us // max(1, changes))

    def plan(self) -> None:
        """Propose the first change some time from now."""
        if self._left:
            self._left -= 1
            self._schedule.after(self._random.randrange(self._pause_us), self._propose)

    def on_committed(self, replica: ReplicaId, block: StoredBlock) -> None:
        """A replica whose key this block changed starts again with the new one."""
        before, after = self._chain.get_set(block.height), self._chain.get_set(block.height + 1)
        former, named = before.get_public_key(replica), after.get_public_key(replica)
        if former is not None and named not in (None, former):
            self._keychain.use(replica, named)
            node, delay_us = self._nodes[replica], self._random.randrange(1, 50_000)
            down_us = self._random.randrange(1_000, 200_000)
            self._schedule.after(delay_us, node.crash, "new_key", down_us)

    def _propose(self) -> None:
        present = self._chain.present_set
        drawn = self._draw_change(present)
        if drawn is None:
            self.plan()
            return
        kind, following = drawn
        height = len(self._chain.blocks) + self._random.randrange(2, 8)
        transaction = self._kit.create_change(present, following, height)
        self.counts[f"change_{kind}"] += 1
        self._clients.submit_transaction(transaction, 1)
        self._await(present.epoch, transaction.signed_hash, height)

    def _await(self, epoch: int, signed_hash: bytes, height: int) -> None:
        """Go on once the change is made, or can not be made any more."""
        is_made = self._chain.present_set.epoch > epoch
        if is_made or (self._chain.is_final(signed_hash) and len(self._chain.blocks) > height):
            self.plan()
        else:
            self._schedule.after(_POLL_US, self._await, epoch, signed_hash, height)

    def _draw_change(self, present: ReplicaSet) -> tuple[str, ReplicaSet] | None:
        """A kind of change and the next set; None when so many draws gave none that is sound."""
        kinds = _KINDS if self._kit.rotates_keys else _KINDS[:-1]
        for _ in range(_DRAWS_MAX):
            kind = self._random.choice(kinds)
            members = self._change(kind, present)
            if members is not None and _is_sound(present, members) and self._is_tolerable(members):
                return kind, ReplicaSet(present.epoch + 1, members)
        return None

    def _change(self, kind: str, present: ReplicaSet) -> tuple[Member, ...] | None:
        members = {ReplicaId(member.replica): member for member in present.members}
        outside = sorted(self._nodes.keys() - members.keys())
        if kind in ("remove", "exchange"):
            del members[self._random.choice(sorted(members))]
        if kind in ("add", "exchange"):
            if not outside:
                return None
            replica = self._random.choice(outside)
            members[replica] = _make_member(replica, self._find_key(replica))
        if kind == "rotate":
            replica = self._random.choice(sorted(members))
            if replica in self._faulty:
                return None
            members[replica] = _make_member(replica, self._keychain.create_next(replica))
        return tuple(members[replica] for replica in sorted(members))

    def _is_tolerable(self, members: tuple[Member, ...]) -> bool:
        """No more of them faulty than the protocol allows: the contracts cannot know, the simulator must."""
        faulty = sum(member.replica in self._faulty for member in members)
        return faulty <= (len(members) - 1) // 3

    def _find_key(self, replica: ReplicaId) -> bytes:
        """The key that a set named last, or its first one."""
        for epoch in range(self._chain.present_set.epoch, -1, -1):
            public_key = self._chain.get_epoch_set(epoch).get_public_key(replica)
            if public_key is not None:
                return public_key
        return self._keychain.choose(replica, None)[0]


def _make_member(replica: ReplicaId, public_key: bytes) -> Member:
    return Member(replica, public_key, replica.to_bytes(16, "big"))


def _is_sound(present: ReplicaSet, members: tuple[Member, ...]) -> bool:
    """Whether the contracts would let it be proposed."""
    before = ReplicaSetRow(epoch=present.epoch, members=tuple(map(_to_row, present.members)))
    try:
        check_change(before, tuple(map(_to_row, members)))
    except Conflict:
        return False
    return True


def _to_row(member: Member) -> ReplicaRow:
    return ReplicaRow(member.replica, member.public_key, member.institution)
