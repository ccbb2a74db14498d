"""A node that runs twice is found out, by itself and by its peers; one that reconnects or restarts is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import pytest

from consensus.replica_set import ReplicaId
from crypto import tags
from crypto.encoding import decode_as, encode
from crypto.signatures import SigningKey
from network.requests import BadRequest
from network.sessions import Greeting, Sessions

CHAIN_ID = b"c" * 32
KEYS = {ReplicaId(number): SigningKey(bytes((number + 1,)) * 32) for number in range(4)}
PUBLIC = {replica: key.public_key for replica, key in KEYS.items()}
ZERO, PEER = ReplicaId(0), ReplicaId(3)


def start(replica: ReplicaId) -> Sessions:
    """One process of a node."""
    key = KEYS[replica]
    return Sessions(replica, CHAIN_ID, key.public_key, key.sign)


@dataclass
class Meeting:
    """A peer that any process of node 0 may connect to."""

    peer: Sessions = field(default_factory=lambda: start(PEER))
    copies: int = 0

    def connect(self, process: Sessions) -> None:
        """A new link: both greet, and answer until nothing is left to say."""
        to_peer: list[bytes] = [process.greet()]
        to_process: list[bytes] = [self.peer.greet()]
        for _ in range(20):
            if to_peer:
                answer, runs_twice = self.peer.on_greeting(ZERO, to_peer.pop(0), PUBLIC)
                self.copies += runs_twice
                to_process += [answer] if answer else []
            if to_process:
                answer, _ = process.on_greeting(PEER, to_process.pop(0), PUBLIC)
                to_peer += [answer] if answer else []
        assert not to_peer
        assert not to_process


def test_an_original_and_its_copy_are_both_mute_once_each_has_come_back() -> None:
    meeting, original, copied = Meeting(), start(ZERO), start(ZERO)
    for process in (original, copied, original):
        meeting.connect(process)
    assert "another process runs with this node's key" in original.copy_reason
    assert meeting.copies == 1
    meeting.connect(copied)
    assert copied.copy_reason
    assert not meeting.peer.copy_reason


def test_a_node_that_restarts_again_and_again_is_never_taken_for_a_copy() -> None:
    meeting = Meeting()
    for _ in range(6):
        process = start(ZERO)
        for _ in range(3):  # Reconnects, as often as it likes.
            meeting.connect(process)
            assert process.copy_reason == ""
    assert meeting.copies == 0


def test_two_peers_that_see_one_process_each_find_a_copy_once_the_processes_meet() -> None:
    """A link for each pair: it is enough that one peer is reached by both."""
    first, second, original, copied = Meeting(), Meeting(), start(ZERO), start(ZERO)
    first.connect(original)
    second.connect(copied)
    assert (original.copy_reason, copied.copy_reason) == ("", "")
    for process in (copied, original, copied):
        first.connect(process)
    assert original.copy_reason
    assert copied.copy_reason


@pytest.mark.parametrize("order", list(product((0, 1), repeat=6)))
def test_in_whatever_order_two_connect_restarts_mute_nobody(order: tuple[int, ...]) -> None:
    """An order that only ever goes on to the next process is a series of restarts."""
    meeting, processes = Meeting(), (start(ZERO), start(ZERO))
    for number in order:
        meeting.connect(processes[number])
    is_restart = tuple(sorted(order)) == order
    if is_restart:
        assert meeting.copies == 0
        assert all(process.copy_reason == "" for process in processes)
    # Both have come back after the other was there: then both know.
    changes = sum(before != after for before, after in pairwise(order))
    if changes >= 3:
        assert all(process.copy_reason for process in processes)


def lies() -> Iterator[tuple[str, bytes]]:
    """What a peer might say to silence an honest node, or to pass for another."""
    own, peer = KEYS[ZERO], KEYS[PEER]
    for name, replica, key, chain in (
        ("my greeting, signed by the peer", ZERO, peer, CHAIN_ID),
        ("my greeting on another chain", ZERO, own, b"d" * 32),
        ("a third node's greeting", ReplicaId(1), KEYS[ReplicaId(1)], CHAIN_ID),
        ("the peer's greeting, signed by a third node", PEER, KEYS[ReplicaId(1)], CHAIN_ID),
    ):
        signature = key.sign(tags.PEER_HELLO, encode((chain, replica, b"s" * 16, b"m" * 16)))
        yield name, encode(Greeting(replica, b"s" * 16, b"m" * 16, signature))
    yield "garbage", b"garbage"
    yield "nothing", b""


@pytest.mark.parametrize(
    ("name", "message"), list(lies()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_forged_greeting_silences_a_node(name: str, message: bytes) -> None:
    node = start(ZERO)
    node._session = b"m" * 16
    with pytest.raises(BadRequest):
        node.on_greeting(PEER, message, PUBLIC)
    assert node.copy_reason == ""


def test_a_replayed_greeting_of_a_former_session_silences_nobody() -> None:
    meeting, former = Meeting(), start(ZERO)
    meeting.connect(former)
    kept = former.greet()
    present = start(ZERO)
    for _ in range(3):
        answer, _ = present.on_greeting(PEER, kept, PUBLIC)
        if answer is not None:  # It says that it has been told of that session, and no more.
            assert decode_as(Greeting, answer, size_max=256).seen == former._session
        present.on_greeting(PEER, present.greet(), PUBLIC)  # Its own, sent back.
    assert present.copy_reason == ""


async def test_two_nodes_with_one_key_on_real_links_fall_silent_and_the_peer_counts_it(
    start_links: Any, wait_for: Any
) -> None:
    peer, inbox = await start_links(3)
    original, _ = await start_links(0)
    await wait_for(lambda: peer.connected == (0,))
    copied, _ = await start_links(0)
    await wait_for(lambda: original.copy_reason and copied.copy_reason)
    assert peer.counters[ZERO].copies >= 1
    assert peer.copy_reason == ""
    await asyncio.sleep(0.05)
    inbox.consensus.clear()
    for links in (original, copied):
        for _ in range(20):
            links.send(PEER, b"vote")
        links.broadcast(b"vote")
    await asyncio.sleep(0.2)
    assert inbox.consensus == []
    assert original.counters[PEER].unsent >= 21


async def test_a_node_that_restarts_on_real_links_speaks_as_before(start_links: Any, wait_for: Any) -> None:
    peer, inbox = await start_links(3)
    for number in range(1, 4):
        node, _ = await start_links(0)
        await wait_for(lambda links=node: links.connected and peer.connected)
        node.send(PEER, b"after a start")
        await wait_for(lambda expected=number: len(inbox.consensus) == expected)
        await node.close()
        await wait_for(lambda: peer.connected == ())
        assert node.copy_reason == ""
    assert peer.counters[ZERO].copies == 0
