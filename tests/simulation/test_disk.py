"""What a power cut, a full disk or a flipped bit leaves of a simulated disk."""

from __future__ import annotations

from random import Random

import pytest

from consensus.certificates import Phase
from consensus.journal_records import ProposalRecord, VoteRecord
from consensus.messages import Vote
from crypto.hashing import compute_digest
from simulation.disk import FATES, Disk
from simulation.light_ledger import LightLedger, create_genesis_block
from simulation.settings import SimulationSettings
from simulation.world import World

BODY = b"a transaction"


def make_vote(height: int) -> VoteRecord:
    return VoteRecord(Vote(0, height, 0, Phase.PREPARE, bytes(32), 1, bytes(64)))


def make_proposal(height: int) -> ProposalRecord:
    return ProposalRecord(height, bytes(32), b"header", (compute_digest(BODY),))


@pytest.fixture
def disk() -> Disk:
    """With a proposal and its vote synced, and a vote more that is not."""
    disk = Disk(create_genesis_block())
    disk.append([make_proposal(1), make_vote(1)], [(compute_digest(BODY), BODY)])
    disk.sync()
    disk.append([make_vote(2)], [])
    return disk


def test_a_crash_keeps_all_that_was_synced_and_all_or_nothing_of_what_was_not(disk: Disk) -> None:
    synced = disk.get_records()
    fates = set()
    for seed in range(40):
        copy = Disk(create_genesis_block())
        copy.restore(disk.copy())
        copy.append([make_vote(2), make_vote(3)], [])
        fate = copy.crash(Random(seed))
        fates.add(fate)
        rest = (make_vote(2), make_vote(3)) if fate == "unsynced_kept" else ()
        assert copy.get_records() == (*synced, *rest)
        assert copy.get_body(compute_digest(BODY)) == BODY
    assert fates == set(FATES)


def test_bodies_of_an_append_that_was_lost_are_lost_with_it_P1() -> None:
    for seed in range(20):
        disk = Disk(create_genesis_block())
        disk.append([make_proposal(1)], [(compute_digest(BODY), BODY)])
        is_kept = disk.crash(Random(seed)) == "unsynced_kept"
        assert bool(disk.get_records()) == is_kept
        assert (disk.get_body(compute_digest(BODY)) == BODY) == is_kept


def test_bodies_are_kept_as_long_as_their_proposal_is_P1(disk: Disk) -> None:
    disk.truncate(0)
    assert disk.get_body(compute_digest(BODY)) == BODY
    disk.truncate(1)
    assert disk.get_body(compute_digest(BODY)) is None


def test_a_flipped_bit_stops_the_node_or_takes_the_last_frame_away_P8(disk: Disk) -> None:
    disk.sync()
    whole = disk.get_records()
    outcomes = set()
    for seed in range(60):
        copy = Disk(create_genesis_block())
        copy.restore(disk.copy())
        outcome = copy.flip_journal(Random(seed))
        outcomes.add(outcome)
        if outcome == "flip_stopped":
            assert copy.journal_missing
            assert copy.get_records() == ()
        else:
            assert copy.get_records() == whole[:-1]
    assert outcomes == {"flip_stopped", "flip_taken_for_torn"}


def test_a_flipped_bit_in_a_block_is_found_before_the_block_is_used_P8() -> None:
    world = World(1, SimulationSettings(replica_count=4, faults=False))
    world.run()
    disk = world.nodes[0].disk
    assert not disk.drop_damaged()
    disk.flip_block(Random(1))
    assert disk.drop_damaged()
    assert [block.height for block in disk.blocks] == [0]
    assert LightLedger(disk, idle_block_interval_ms=1).head.height == 0


def test_a_node_whose_disk_fails_stops_and_goes_on_once_it_can_write_P7() -> None:
    world = World(2, SimulationSettings(replica_count=4, faults=False))
    node = world.nodes[1]
    world.schedule.after(500_000, lambda: setattr(node.disk, "failure", "enospc"))
    world.schedule.after(1_500_000, lambda: setattr(node.disk, "failure", None))
    world.run()
    assert node.counts["crash_enospc"] > 1
    assert node.ledger.head.height == len(world.chain.blocks) - 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["disk_error", "crash_point"])
def test_disks_that_fail_or_tear_leave_every_invariant_standing_P7(kind: str) -> None:
    found: set[str] = set()
    for seed in range(30):
        world = World(seed, SimulationSettings(replica_count=4, fault_kinds=(kind, "loss"), parts=()))
        world.run()
        found |= set(world.count_faults())
    expected = {"crash_eio", "crash_enospc"} if kind == "disk_error" else {"unsynced_torn"}
    assert expected <= found
