"""A peer's standing: penalties are forgotten, bans grow, and both outlive the link."""

from __future__ import annotations

from consensus.replica_set import ReplicaId
from network.peer import Peer
from network.requests import Request, RequestKind
from network.settings import LinkSettings

SETTINGS = LinkSettings(penalties_max=3, penalty_interval_ms=1_000, ban_ms=100, ban_ms_max=1_000)


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def make_peer() -> tuple[Peer, Clock]:
    clock = Clock()
    return Peer(ReplicaId(1), SETTINGS, clock), clock


def count_asked(peer: Peer) -> int:
    return sum(len(asked.requests) for asked in peer.asked.values())


def test_a_few_faults_do_not_cut_a_peer_off_and_are_forgotten() -> None:
    peer, clock = make_peer()
    assert not peer.add_penalty()
    assert not peer.add_penalty()
    clock.now_ms += 1_001
    assert not peer.add_penalty()
    assert not peer.add_penalty()
    assert peer.add_penalty()


def test_bans_double_up_to_the_cap() -> None:
    peer, clock = make_peer()
    lasted = []
    for _ in range(6):
        peer.ban()
        lasted.append(peer.get_ban_left_ms())
        clock.now_ms += lasted[-1]
        assert peer.get_ban_left_ms() == 0
    assert lasted == [100, 200, 400, 800, 1_000, 1_000]


def test_a_peer_that_behaved_for_long_begins_anew() -> None:
    peer, clock = make_peer()
    for _ in range(4):
        peer.ban()
        clock.now_ms += peer.get_ban_left_ms()
    clock.now_ms += 10_000
    peer.ban()
    assert peer.get_ban_left_ms() == 100


def test_a_peer_that_never_behaves_does_not_overflow_anything() -> None:
    peer, clock = make_peer()
    for _ in range(10_000):
        clock.now_ms += peer.get_ban_left_ms()
        peer.ban()
    assert peer.get_ban_left_ms() == 1_000


def test_what_a_peer_did_before_it_was_banned_counts_once_and_is_not_answered() -> None:
    """Several bad requests may wait when the first of them is looked at."""
    peer, clock = make_peer()
    peer.asked[RequestKind.BLOCKS].requests.append(Request(1, RequestKind.BLOCKS, b""))
    for _ in range(3):
        peer.ban()
        clock.now_ms += 10
    assert (peer.get_ban_left_ms(), peer.counters.cuts, count_asked(peer)) == (70, 1, 0)


def test_d1_more_messages_than_an_honest_peer_sends_are_paid_for_by_waiting() -> None:
    """After a burst of one second's messages the peer is read no faster than its rate."""
    peer, clock = make_peer()
    rate = SETTINGS.messages_per_second_max
    assert peer.charge(rate) == 0
    assert peer.charge(rate // 2) == 500
    clock.now_ms += 400
    assert peer.charge(0) == 100
    clock.now_ms += 10_000
    assert peer.charge(rate) == 0
    assert peer.charge(rate // 100) == 10
