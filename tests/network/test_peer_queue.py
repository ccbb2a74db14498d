"""A peer's queue: votes first, everything bounded, nothing blocks."""

from __future__ import annotations

from network.frames import Channel, decode_frame, encode_frame
from network.peer_queue import PeerQueue
from network.settings import LinkSettings


def take_all(queue: PeerQueue) -> list[tuple[Channel, list[bytes]]]:
    frames = []
    while (data := queue.take()) is not None:
        frame = decode_frame(data)
        frames.append((frame.channel, frame.messages))
    return frames


def test_votes_leave_before_requests_answers_and_transactions() -> None:
    queue = PeerQueue(LinkSettings())
    queue.put_relay_frame(encode_frame(Channel.TRANSACTIONS, [b"t"]))
    queue.put_answer(b"a")
    queue.put_oldest(b"o1")
    queue.put_oldest(b"o2")
    queue.put_request(b"r")
    queue.put_consensus(b"v1")
    queue.put_consensus(b"v2")
    assert take_all(queue) == [
        (Channel.CONSENSUS, [b"v1", b"v2"]),
        (Channel.REQUEST, [b"r"]),
        (Channel.OLDEST, [b"o2"]),
        (Channel.ANSWER, [b"a"]),
        (Channel.TRANSACTIONS, [b"t"]),
    ]
    assert queue.take() is None


def test_a_vote_that_comes_later_still_overtakes() -> None:
    queue = PeerQueue(LinkSettings())
    for number in range(3):
        queue.put_relay_frame(encode_frame(Channel.TRANSACTIONS, [bytes([number])]))
    queue.take()
    queue.put_consensus(b"vote")
    assert [channel for channel, _ in take_all(queue)] == [
        Channel.CONSENSUS,
        Channel.TRANSACTIONS,
        Channel.TRANSACTIONS,
    ]


def test_d1_votes_beyond_the_count_are_dropped_and_counted() -> None:
    queue = PeerQueue(LinkSettings(consensus_messages_max=2))
    assert [queue.put_consensus(bytes([n])) for n in range(4)] == [True, True, False, False]
    assert queue.consensus_dropped == 2
    assert take_all(queue) == [(Channel.CONSENSUS, [b"\x00", b"\x01"])]
    assert queue.put_consensus(b"room again")


def test_d1_votes_beyond_the_bytes_are_dropped_and_counted() -> None:
    queue = PeerQueue(LinkSettings(consensus_bytes_max=100))
    assert queue.put_consensus(bytes(60))
    assert not queue.put_consensus(bytes(60))
    queue.take()
    assert queue.put_consensus(bytes(60))


def test_d1_relayed_transactions_give_way_oldest_first() -> None:
    queue = PeerQueue(LinkSettings(relay_bytes_max=250))
    frames = [encode_frame(Channel.TRANSACTIONS, [bytes([n]) * 90]) for n in range(4)]
    for frame in frames:
        queue.put_relay_frame(frame)
    assert queue.relay_frames_dropped == 2
    assert [queue.take(), queue.take(), queue.take()] == [frames[2], frames[3], None]


def test_d1_requests_to_a_link_that_stands_still_do_not_pile_up() -> None:
    queue = PeerQueue(LinkSettings(requests_max=4))
    for number in range(100):
        queue.put_request(b"%d" % number)
    assert [messages for _, messages in take_all(queue)] == [[b"96"], [b"97"], [b"98"], [b"99"]]


def test_large_votes_leave_in_frames_of_about_the_batch_size() -> None:
    queue = PeerQueue(LinkSettings(batch_bytes=1_000))
    for _ in range(5):
        queue.put_consensus(bytes(600))
    assert [len(messages) for _, messages in take_all(queue)] == [2, 2, 1]


def test_clearing_forgets_everything_and_gives_the_room_back() -> None:
    queue = PeerQueue(LinkSettings(consensus_bytes_max=100, relay_bytes_max=100))
    queue.put_consensus(bytes(90))
    queue.put_relay_frame(bytes(90))
    queue.put_request(b"r")
    queue.put_answer(b"a")
    queue.clear()
    assert queue.take() is None
    assert queue.put_consensus(bytes(90))
    assert queue.has_room_for_answer
