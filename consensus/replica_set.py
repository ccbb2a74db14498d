"""The replicas of one epoch: their ids, their keys, who is primary when."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Final, NewType

from msgspec import Meta, Struct

from consensus.quorum import Quorum
from crypto import tags
from crypto.encoding import encode
from crypto.hashing import Digest, compute_digest

ReplicaId = NewType("ReplicaId", int)
"""A small number given once and never used again for another replica, 0 to 65,535."""

Epoch = NewType("Epoch", int)
View = NewType("View", int)
Height = NewType("Height", int)

REPLICAS_MAX: Final = 100
VIEW_MAX: Final = 2**32 - 1


class Member(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One replica: its id, its Ed25519 key, and the institution that runs it."""

    replica: Annotated[int, Meta(ge=0, le=65_535)]
    public_key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    institution: Annotated[bytes, Meta(min_length=16, max_length=16)]


class ReplicaSet(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """The members of one epoch in ascending order of their ids."""

    epoch: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=REPLICAS_MAX)]

    def __post_init__(self) -> None:
        ids = [member.replica for member in self.members]
        if ids != sorted(set(ids)):
            raise ValueError(f"replica ids {ids} found, ascending and distinct ids expected")
        if len({member.public_key for member in self.members}) != len(ids):
            raise ValueError("two replicas share one public key: a key speaks for one replica only")

    @cached_property
    def quorum(self) -> Quorum:
        return Quorum(len(self.members))

    @cached_property
    def _public_keys(self) -> dict[int, bytes]:
        return {member.replica: member.public_key for member in self.members}

    def compute_digest(self) -> Digest:
        return compute_digest(tags.REPLICA_SET, encode(self))

    def get_public_key(self, replica: int) -> bytes | None:
        """The member's key, or None for a replica outside the set."""
        return self._public_keys.get(replica)

    def has(self, replica: int) -> bool:
        return replica in self._public_keys

    def compute_primary(self, height: int, view: int, blocks_per_primary: int) -> ReplicaId:
        """Who proposes at `height` in `view`: the turn passes on with every view and every so many blocks."""
        turn = (view + height // blocks_per_primary) % len(self.members)
        return ReplicaId(self.members[turn].replica)
