"""Who is faulty in a run, beside crashes and the network: never more than f replicas, each in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from typing import Final

from consensus.replica_set import ReplicaId
from simulation.selection import Selection

DAY_MS: Final = 86_400_000
HABITS: Final = (
    "equivocate",
    "double_vote",
    "silent_to_some",
    "withhold",
    "wrong_root",
    "replay",
    "view_storm",
    "wild_views",
    "forge",
    "lie",
    "lying_sync",
    "delay",
    "almost_too_slow",
    "garble",
    "two_views",
)
"""What a Byzantine replica may do; each draws one to three."""
LOSSES: Final = ("journal", "all", "newest", "flip_journal", "flip_block")
"""What a forgetful replica loses: its journal, its whole disk, what was written since an old copy, or what
one flipped bit in its journal or in a block makes unreadable."""
CLOCK_OFFSETS_MS: Final = (-DAY_MS, DAY_MS, -1_500, 1_500)


class Part(Enum):
    """In which way a replica is faulty."""

    BYZANTINE = "byzantine"
    """It lies."""
    TWINS = "twins"
    """Two honest replicas run with its key, and each peer speaks with one of them."""
    FORGETFUL = "forgetful"
    """It loses its disk, or part of it, once."""
    OFF_CLOCK = "off_clock"
    """Its wall clock is wrong for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyReplica:
    """One faulty replica and how it is faulty."""

    part: Part
    habits: tuple[str, ...] = ()
    """Of a Byzantine one, from HABITS."""
    loss: str = ""
    """Of a forgetful one, from LOSSES."""
    offset_ms: int = 0
    """Of the one whose clock is wrong."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The faulty replicas of a run."""

    faulty: dict[ReplicaId, FaultyReplica] = field(default_factory=dict)

    @property
    def byzantine(self) -> frozenset[ReplicaId]:
        """Who may say anything: liars and twins."""
        return frozenset(
            replica for replica, faulty in self.faulty.items() if faulty.part in (Part.BYZANTINE, Part.TWINS)
        )

    def select(self, part: Part) -> dict[ReplicaId, FaultyReplica]:
        return {replica: faulty for replica, faulty in self.faulty.items() if faulty.part is part}


def draw_cast(random: Random, replicas: Sequence[ReplicaId], *, may_lie: bool, losses: Sequence[str]) -> Cast:
    """Nobody in two of five runs; else one to f replicas, each with a part of its own."""
    faulty_max = (len(replicas) - 1) // 3
    if not faulty_max or random.random() < 0.4:
        return Cast()
    chosen = random.sample(list(replicas), random.randint(1, faulty_max))
    return Cast({replica: _draw_part(random, may_lie, losses) for replica in chosen})


def select_cast(cast: Cast, selection: Selection) -> Cast:
    """Only what the selection keeps of it: a liar without any habit left is honest."""
    faulty = {}
    for replica, one in cast.faulty.items():
        habits = tuple(habit for habit in one.habits if selection.keeps(f"{habit}-by-{replica}"))
        if habits or (not one.habits and selection.keeps(f"{one.part.value}-{replica}")):
            faulty[replica] = replace(one, habits=habits)
    return Cast(faulty)


def _draw_part(random: Random, may_lie: bool, losses: Sequence[str]) -> FaultyReplica:
    part = random.choices(tuple(Part), (55 if may_lie else 0, 15 if may_lie else 0, 20, 10))[0]
    match part:
        case Part.BYZANTINE:
            habits = tuple(sorted(random.sample(HABITS, random.randint(1, 3))))
            return FaultyReplica(part=part, habits=habits)
        case Part.FORGETFUL:
            return FaultyReplica(part=part, loss=random.choice(losses))
        case Part.OFF_CLOCK:
            return FaultyReplica(part=part, offset_ms=random.choice(CLOCK_OFFSETS_MS))
        case Part.TWINS:
            return FaultyReplica(part=part)
