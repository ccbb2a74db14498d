"""Rule D1 where messages come in: bounds for each peer, and no peer at another's cost."""

from __future__ import annotations

import pytest

from consensus.inbox import Inbox
from consensus.replica_set import ReplicaId

FLOODER, HONEST = ReplicaId(1), ReplicaId(2)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(peer_messages_max=10, peer_bytes_max=1_000, peer_messages_per_tick=4)


def test_d1_a_peers_messages_and_their_bytes_are_bounded(inbox: Inbox) -> None:
    assert [inbox.put(FLOODER, b"x") for _ in range(11)] == [True] * 10 + [False]
    assert inbox.put(HONEST, bytes(900))
    assert not inbox.put(HONEST, bytes(101))
    assert inbox.put(HONEST, bytes(100))


def test_d1_peers_take_turns_however_much_one_has_sent(inbox: Inbox) -> None:
    for number in range(10):
        inbox.put(FLOODER, b"flood %d" % number)
    inbox.put(HONEST, b"vote")
    assert list(inbox.take(3)) == [(FLOODER, b"flood 0"), (HONEST, b"vote"), (FLOODER, b"flood 1")]


def test_d1_no_more_of_a_peer_than_its_share_until_the_next_tick(inbox: Inbox) -> None:
    for number in range(10):
        inbox.put(FLOODER, b"flood %d" % number)
    assert len(list(inbox.take(100))) == 4
    assert not inbox.has_due()
    inbox.put(HONEST, b"vote")
    assert inbox.has_due()
    assert list(inbox.take(100)) == [(HONEST, b"vote")]
    inbox.tick()
    assert [data for _, data in inbox.take(100)] == [b"flood 4", b"flood 5", b"flood 6", b"flood 7"]


def test_what_was_taken_makes_room(inbox: Inbox) -> None:
    assert inbox.put(FLOODER, bytes(1_000))
    assert not inbox.put(FLOODER, b"x")
    assert len(list(inbox.take(1))) == 1
    assert inbox.put(FLOODER, bytes(1_000))
