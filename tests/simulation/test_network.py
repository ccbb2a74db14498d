"""The simulated network does what it says of itself."""

from __future__ import annotations

from random import Random

import pytest

from consensus.messages import ProposalRequest, encode_message
from consensus.replica_set import ReplicaId
from simulation.frames import ConsensusFrame, Frame, TransactionsFrame
from simulation.network import LinkQuality, Network
from simulation.profiles import LAN, PROFILES, WAN, Placement, draw_placement
from simulation.schedule import Schedule

A, B, C = ReplicaId(0), ReplicaId(1), ReplicaId(2)
Arrivals = list[tuple[int, ReplicaId, ReplicaId, Frame]]


class Wire:
    """A network of three, and what arrived when: microseconds, sender, receiver, frame."""

    def __init__(self, placement: Placement | None = None) -> None:
        self.schedule = Schedule()
        placement = placement or draw_placement(Random(1), [A, B, C], LAN)
        self.network = Network(self.schedule, Random(1), placement)
        self.arrived: Arrivals = []
        for replica in (A, B, C):
            self._attach(replica)

    def _attach(self, replica: ReplicaId) -> None:
        def receive(sender: ReplicaId, frame: Frame) -> None:
            self.arrived.append((self.schedule.now_us, sender, replica, frame))

        self.network.attach(replica, receive)

    def run(self) -> Arrivals:
        self.schedule.run(self.schedule.now_us + 60_000_000)
        return self.arrived


@pytest.fixture
def wire() -> Wire:
    return Wire()


def make_frame(size: int = 100) -> TransactionsFrame:
    return TransactionsFrame((bytes(size),))


def test_a_broadcast_reaches_everybody_but_its_sender(wire: Wire) -> None:
    wire.network.broadcast(A, make_frame())
    assert {receiver for _, _, receiver, _ in wire.run()} == {B, C}


def test_a_cut_link_carries_nothing_in_its_one_direction(wire: Wire) -> None:
    wire.network.cut([(A, B)])
    wire.network.send(A, B, make_frame())
    wire.network.send(B, A, make_frame())
    assert [(sender, receiver) for _, sender, receiver, _ in wire.run()] == [(B, A)]
    assert wire.network.counts["cut"] == 1


def test_cuts_add_up_and_each_must_be_mended(wire: Wire) -> None:
    wire.network.cut([(A, B)])
    wire.network.cut([(A, B)])
    wire.network.mend([(A, B)])
    wire.network.send(A, B, make_frame())
    assert wire.run() == []
    wire.network.mend([(A, B)])
    wire.network.send(A, B, make_frame())
    assert len(wire.run()) == 1


def test_loss_and_duplication_are_about_as_frequent_as_asked_for(wire: Wire) -> None:
    wire.network.quality = LinkQuality(loss=0.2, duplication=0.1)
    for _ in range(2_000):
        wire.network.send(A, B, make_frame())
    arrived = len(wire.run())
    assert 320 < wire.network.counts["loss"] < 480
    assert arrived == 2_000 - wire.network.counts["loss"] + wire.network.counts["duplication"]


def test_a_frame_that_is_held_back_is_overtaken(wire: Wire) -> None:
    wire.network.quality = LinkQuality(reordering=0.3)
    frames = [make_frame(size) for size in range(1, 41)]
    for frame in frames:
        wire.network.send(A, B, frame)
        wire.schedule.run(wire.schedule.now_us + 5_000)
    order = [frame for *_, frame in wire.run()]
    assert len(order) == len(frames)
    assert order != frames
    assert wire.network.counts["reordering"] > 0


def test_frames_queue_behind_a_big_one_on_a_narrow_link_only(wire: Wire) -> None:
    wire.network.narrow([(A, B)], 10_000)
    wire.network.send(A, B, make_frame(4_940))  # With the frame's own bytes half a second.
    wire.network.send(A, B, make_frame(40))
    wire.network.send(A, C, make_frame(4_940))
    times = {(receiver, len(frame.bodies[0])): time for time, _, receiver, frame in wire.run()}  # type: ignore[union-attr]
    assert 500_000 <= times[B, 4_940] < 510_000
    assert 510_000 <= times[B, 40] < 520_000
    assert times[C, 4_940] < 10_000
    assert wire.network.counts["queued"] == 1


def test_a_narrow_link_keeps_no_more_than_a_second_waiting(wire: Wire) -> None:
    wire.network.narrow([(A, B)], 1_000)
    for _ in range(50):
        wire.network.send(A, B, make_frame(440))
    assert len(wire.run()) == 3
    assert wire.network.counts["queue_full"] == 47


def test_an_intercept_loses_the_messages_it_means_and_no_others(wire: Wire) -> None:
    frame = ConsensusFrame(encode_message(ProposalRequest(0, 1, bytes(32))))

    def intercept(sender: ReplicaId, receiver: ReplicaId, message: object) -> bool:
        return receiver == B and isinstance(message, ProposalRequest)

    wire.network.intercept(intercept)
    wire.network.broadcast(A, frame)
    wire.network.broadcast(A, make_frame())
    assert sorted((receiver, type(frame)) for _, _, receiver, frame in wire.run() if receiver == B) == [
        (B, TransactionsFrame)
    ]
    wire.network.release(intercept)
    wire.network.send(A, B, frame)
    assert wire.run()[-1][2:] == (B, frame)


def test_mending_all_leaves_no_fault_on_any_link(wire: Wire) -> None:
    wire.network.cut([(A, B)])
    wire.network.narrow([(A, C)], 10)
    wire.network.intercept(lambda sender, receiver, message: True)
    wire.network.mend_all()
    wire.network.broadcast(A, ConsensusFrame(encode_message(ProposalRequest(0, 1, bytes(32)))))
    assert len(wire.run()) == 2
    assert max(time for time, *_ in wire.arrived) < 10_000


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_delays_of_a_profile_are_symmetric_and_shortest_at_home(profile: object) -> None:
    delays = profile.delays_us  # type: ignore[attr-defined]
    for row, line in enumerate(delays):
        assert len(line) == len(delays)
        assert all(line[column] == delays[column][row] for column in range(len(line)))
        assert min(line) == line[row]


def test_a_frame_takes_at_least_the_way_between_its_regions() -> None:
    wire = Wire(Placement(profile=WAN, regions={A: 0, B: 4, C: 0}))
    wire.network.broadcast(A, make_frame())
    times = {receiver: time for time, _, receiver, _ in wire.run()}
    assert times[B] >= 40_000
    assert times[C] < 10_000
