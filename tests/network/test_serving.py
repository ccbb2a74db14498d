"""Answers to requests: in turn, within a share of the node's time, and only while there is room for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.replica_set import ReplicaId
from network.frames import decode_frame
from network.peer import Peer
from network.requests import REQUEST_BYTES_MAX, BadRequest, Request, RequestKind, decode_answer
from network.serving import BURST_US, REQUEST_US, SENT_BYTES_PER_US, Serving
from network.settings import LinkSettings

SETTINGS = LinkSettings(requests_max=3, answers_max=2, serving_percent_max=10)
ANSWER_US = 4_000


@dataclass
class Desk:
    """Serving on a clock that moves while an answer is made."""

    settings: LinkSettings = SETTINGS
    now_us: int = 10 * BURST_US
    served: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.serving = Serving(
            self.settings,
            on_bad_request=lambda peer, reason: self.faults.append(f"{peer.replica}: {reason}"),
            on_defect=lambda peer: self.faults.append(f"{peer.replica}: a defect"),
            clock_us=lambda: self.now_us,
        )
        for kind in (RequestKind.BODIES, RequestKind.BLOCKS):
            self.serving.handlers[kind] = self.answer

    def answer(self, replica: ReplicaId, payload: bytes) -> bytes:
        self.served.append(replica)
        self.now_us += ANSWER_US
        if payload == b"nonsense":
            raise BadRequest("no sense")
        if payload == b"bug":
            raise RuntimeError("a defect")
        return payload

    def add_peer(self, replica: int) -> Peer:
        return Peer(ReplicaId(replica), self.settings, lambda: self.now_us // 1_000)

    def ask(self, peer: Peer, payload: bytes = b"", kind: RequestKind = RequestKind.BLOCKS) -> bool:
        return self.serving.put(peer, Request(7, kind, payload))


def count_asked(peer: Peer) -> int:
    return sum(len(asked.requests) for asked in peer.asked.values())


def take_answer(peer: Peer) -> bytes | None:
    frame = peer.queue.take()
    assert frame is not None
    return decode_answer(decode_frame(frame).messages[0]).payload


def test_an_answer_goes_to_whoever_asked() -> None:
    desk = Desk()
    peer = desk.add_peer(1)
    assert not desk.serving.serve_next()
    desk.ask(peer, b"blocks")
    desk.ask(peer, kind=RequestKind.SNAPSHOT)
    assert desk.serving.serve_next()
    assert peer.has_frames.is_set()
    assert take_answer(peer) == b"blocks"
    assert desk.serving.serve_next()
    assert take_answer(peer) is None, "what nobody serves is refused"
    assert not desk.serving.serve_next()


def test_d1_requests_beyond_the_bound_are_dropped_and_counted() -> None:
    desk = Desk()
    peer = desk.add_peer(1)
    assert [desk.ask(peer) for _ in range(5)] == [True, True, True, False, False]
    assert (count_asked(peer), peer.counters.requests_dropped) == (3, 2)


def test_d1_requests_of_a_peer_that_wait_have_a_bound_in_bytes() -> None:
    """Of all kinds together: 64 requests of the longest would be 4 MiB for each of a hundred peers."""
    desk = Desk(LinkSettings())
    peer, other = desk.add_peer(1), desk.add_peer(2)
    longest = bytes(REQUEST_BYTES_MAX)
    kinds = (RequestKind.BODIES, RequestKind.BLOCKS, RequestKind.SNAPSHOT, RequestKind.BODIES)
    assert [desk.ask(peer, longest, kind) for kind in kinds] == [True] * 4
    assert not desk.ask(peer, b"x")
    assert desk.ask(peer)
    assert desk.ask(other, longest)
    assert desk.serving.serve_next()
    assert desk.ask(peer, longest), "there is room again"


def test_d1_no_answer_is_made_for_which_there_is_no_room() -> None:
    desk = Desk()
    slow, other = desk.add_peer(1), desk.add_peer(2)
    for _ in range(3):
        desk.ask(slow)
    assert [desk.serving.serve_next() for _ in range(3)] == [True, True, False]
    desk.ask(other)
    assert desk.serving.serve_next()
    assert desk.served == [1, 1, 2]
    slow.queue.take()
    assert desk.serving.serve_next()


def test_d1_whoever_seldom_asks_is_served_before_one_that_asks_without_end() -> None:
    desk = Desk()
    flooder, honest = desk.add_peer(1), desk.add_peer(2)
    for _ in range(10):
        desk.ask(flooder)
        desk.serving.serve_next()
        flooder.queue.take()
    desk.ask(flooder)
    desk.ask(flooder)
    desk.ask(honest)
    for _ in range(3):
        desk.serving.serve_next()
        flooder.queue.take()
    assert 2 in desk.served[10:12]


def test_d1_whoever_does_not_read_its_answers_saves_up_no_turns() -> None:
    """Or it could let many answers of others pass, then read, and have as many before anybody else's next."""
    desk = Desk()
    hoarder, busy, honest = desk.add_peer(1), desk.add_peer(2), desk.add_peer(3)
    for _ in range(3):
        desk.ask(hoarder)
        desk.serving.serve_next()
    for _ in range(100):
        desk.ask(busy)
        desk.serving.serve_next()
        take_answer(busy)
    assert desk.served.count(1) == 2, "the third one has no room"
    desk.ask(honest)
    for _ in range(4):
        while hoarder.queue.take() is not None:
            pass
        desk.ask(hoarder)
        desk.serving.serve_next()
    assert 3 in desk.served[-4:]


def read_and_ask_on(desk: Desk, peers: list[Peer], kind: RequestKind) -> None:
    for peer in peers:
        while peer.queue.take() is not None:
            pass
        desk.ask(peer, kind=kind)


@pytest.mark.parametrize("flooded", [RequestKind.BODIES, RequestKind.BLOCKS])
@pytest.mark.parametrize("kind", [RequestKind.BODIES, RequestKind.BLOCKS])
def test_d1_one_that_seldom_asks_waits_for_one_answer_however_many_flood(
    kind: RequestKind, flooded: RequestKind
) -> None:
    """It must have bodies within half a second to vote: that is a dozen answers of four milliseconds."""
    desk = Desk(LinkSettings())
    honest = desk.add_peer(99)
    flooders = [desk.add_peer(number) for number in range(33)]
    for _ in range(50):
        read_and_ask_on(desk, flooders, flooded)
        desk.serving.serve_next()
    desk.ask(honest, kind=kind)
    before = len(desk.served)
    while 99 not in desk.served:
        desk.serving.serve_next()
        read_and_ask_on(desk, flooders, flooded)
    assert len(desk.served) - before <= 2


def test_d1_one_that_catches_up_has_bodies_at_once() -> None:
    """What blocks it has been given is not held against it when it begins to vote."""
    desk = Desk(LinkSettings())
    catching_up = desk.add_peer(99)
    flooders = [desk.add_peer(number) for number in range(33)]
    for _ in range(10):
        read_and_ask_on(desk, [catching_up], RequestKind.BLOCKS)
        desk.serving.serve_next()
    for _ in range(10):
        read_and_ask_on(desk, flooders, RequestKind.BLOCKS)
        read_and_ask_on(desk, [catching_up], RequestKind.BLOCKS)
        desk.serving.serve_next()
    desk.ask(catching_up, b"bodies", kind=RequestKind.BODIES)
    answered = 0
    while catching_up.asked[RequestKind.BODIES].requests:
        read_and_ask_on(desk, flooders, RequestKind.BLOCKS)
        answered += desk.serving.serve_next()
    assert answered <= 2, "its own, and one of blocks"


def test_d1_each_kind_has_its_part_while_all_are_asked_for_and_all_of_it_otherwise() -> None:
    desk = Desk(LinkSettings())
    peers = [desk.add_peer(number) for number in range(3)]
    for _ in range(100):
        read_and_ask_on(desk, peers[:2], RequestKind.BLOCKS)
        desk.serving.serve_next()
    for _ in range(100):
        read_and_ask_on(desk, peers[:2], RequestKind.BLOCKS)
        read_and_ask_on(desk, peers[2:], RequestKind.BODIES)
        desk.serving.serve_next()
    assert len(desk.served) == 200
    assert 49 <= desk.served[100:].count(2) <= 51, "half, though it is one of three, and no more"


def test_what_waited_for_a_link_that_ended_is_not_answered() -> None:
    desk = Desk()
    peer = desk.add_peer(1)
    desk.ask(peer)
    peer._forget_waiting("the link ended")
    assert not desk.serving.serve_next()
    assert desk.served == []


@pytest.mark.parametrize(("payload", "fault"), [(b"nonsense", "1: no sense"), (b"bug", "1: a defect")])
def test_a_request_that_cannot_be_answered_is_told_and_the_next_one_is_answered(
    payload: bytes, fault: str
) -> None:
    desk = Desk()
    peer = desk.add_peer(1)
    desk.ask(peer, payload)
    desk.ask(peer, b"good")
    assert desk.serving.serve_next()
    assert desk.faults == [fault]
    assert desk.serving.serve_next()
    assert take_answer(peer) == b"good"


async def count_served(desk: Desk, peers: list[Peer], size_bytes: int, duration_us: int) -> None:
    """All peers ask without end, and read at once, for so long by the desk's clock."""
    end_us = desk.now_us + duration_us
    running = asyncio.create_task(desk.serving.run())
    while desk.now_us < end_us:
        for peer in peers:
            desk.ask(peer, bytes(size_bytes))
            while peer.queue.take():
                desk.serving.wake()
        for _ in range(4):
            await asyncio.sleep(0)
        desk.now_us += 1_000
    running.cancel()


@pytest.mark.parametrize("size_bytes", [0, 60_000])
async def test_d1_a_flood_of_requests_takes_no_more_than_its_share_of_the_time(
    size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    sleep = asyncio.sleep
    monkeypatch.setattr("network.serving.asyncio.sleep", lambda seconds: sleep(0))
    peers = [desk.add_peer(number) for number in range(3)]
    await count_served(desk, peers, size_bytes, 20 * BURST_US)
    cost_us = ANSWER_US + REQUEST_US + size_bytes // SENT_BYTES_PER_US
    # The share of 20 seconds and of the second before, which had not been used, and the last answer.
    assert len(desk.served) * cost_us <= 21 * BURST_US // 10 + cost_us
    assert len(desk.served) * cost_us >= 19 * BURST_US // 10
    counts = [desk.served.count(number) for number in range(3)]
    assert max(counts) - min(counts) <= 1


@given(asked=st.lists(st.integers(0, 4), max_size=60))
def test_d1_nobody_waits_for_more_than_one_answer_of_each_other_peer_that_asked_no_less(
    asked: list[int],
) -> None:
    """Equal answers: at any time the peers that wait have been served alike, but for one answer."""
    desk = Desk(LinkSettings(requests_max=100, answers_max=100))
    peers = [desk.add_peer(number) for number in range(5)]
    for number in asked:
        desk.ask(peers[number])
    waiting = {number: asked.count(number) for number in set(asked)}
    while desk.serving.serve_next():
        last = desk.served[-1]
        waiting[last] -= 1
        for number, left in waiting.items():
            if left:
                assert desk.served.count(last) <= desk.served.count(number) + 1
    assert sorted(desk.served) == sorted(asked), "nothing is lost"
