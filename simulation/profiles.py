"""Where replicas stand and how long frames travel between them.

A profile is a table of one-way delays between regions; a run draws a profile and puts each replica into one
of its regions. What a frame takes beyond the table's delay is drawn for each frame, so frames overtake each
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from consensus.replica_set import ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of network."""

    name: str
    delays_us: tuple[tuple[int, ...], ...]
    """What every frame takes at least, one way, by the regions of sender and receiver; microseconds."""
    spread: float
    """The mean of what a frame takes more, exponentially distributed, as a share of the delay."""


LAN: Final = Profile(name="lan", delays_us=((200,),), spread=1.0)
"""One machine room."""
METRO: Final = Profile(name="metro", delays_us=((300, 2_000), (2_000, 300)), spread=0.7)
"""Two sites of one city."""
BUSY: Final = Profile(name="busy", delays_us=((5_000,),), spread=1.0)
"""One site behind overloaded switches: queues, not distance."""
WAN: Final = Profile(
    name="wan",
    delays_us=(
        (300, 9_000, 17_000, 22_000, 40_000),
        (9_000, 300, 13_000, 18_000, 45_000),
        (17_000, 13_000, 300, 11_000, 48_000),
        (22_000, 18_000, 11_000, 300, 35_000),
        (40_000, 45_000, 48_000, 35_000, 300),
    ),
    spread=0.2,
)
"""Four cities of one country and a fifth across a sea."""
PROFILES: Final = (LAN, METRO, BUSY, WAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A profile with each replica in one of its regions."""

    profile: Profile
    regions: dict[ReplicaId, int]

    def compute_delay_us(self, sender: ReplicaId, receiver: ReplicaId) -> int:
        """What every frame on this link takes at least."""
        return self.profile.delays_us[self.regions[sender]][self.regions[receiver]]

    @property
    def delay_us_max(self) -> int:
        """Between the two regions farthest apart."""
        return max(map(max, self.profile.delays_us))


def draw_placement(random: Random, replicas: Sequence[ReplicaId], profile: Profile | None) -> Placement:
    """Put each replica into a region; None draws the profile too."""
    chosen = random.choice(PROFILES) if profile is None else profile
    regions = {replica: random.randrange(len(chosen.delays_us)) for replica in replicas}
    return Placement(profile=chosen, regions=regions)
