"""Statements that are not true, made by one replica with its own key and with what others have signed.

Nobody's key but its own is used: signatures of others are stolen from what they signed, never made. Each
statement here must be refused, or do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, TypeVar

from msgspec.structs import replace

from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature, compute_vote_bytes
from consensus.messages import (
    NewView,
    PrePrepare,
    Recollection,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
)
from consensus.replica_set import Epoch, ReplicaId, ReplicaSet
from crypto import tags
from crypto.hashing import compute_digest
from simulation.keys import Signer

Signed = TypeVar("Signed", ViewChange, NewView, Status, Recollection)

QUORUMS: Final = ("names", "repeated", "few")
"""What stands in the place of a quorum: everybody's name under my signature, my vote again and again, or mine
with true votes of others that are too few."""

_TAGS = {
    ViewChange: tags.VIEW_CHANGE,
    NewView: tags.NEW_VIEW,
    Status: tags.STATUS,
    Recollection: tags.STATUS,
}
_NO_SIGNATURE = bytes(64)


class Forger:
    """One replica's means to lie."""

    def __init__(
        self,
        replica: ReplicaId,
        *,
        signer: Signer,
        chain_id: bytes,
        replica_set: ReplicaSet,
        blocks_per_primary: int,
        random: Random,
    ) -> None:
        self._replica = replica
        self._signer = signer
        self._chain_id = chain_id
        self._blocks_per_primary = blocks_per_primary
        self._random = random
        self.follow(replica_set)

    def follow(self, replica_set: ReplicaSet) -> None:
        """Speak as one of this set from now on."""
        self._replica_set = replica_set
        self._epoch = Epoch(replica_set.epoch)
        self._members = [ReplicaId(member.replica) for member in replica_set.members]

    # With my own name

    def sign(self, message: Signed) -> Signed:
        """The message with my signature over what it now says."""
        signed = compute_signed_bytes(self._chain_id, message)
        return replace(message, signature=self._signer(_TAGS[type(message)], signed))

    def sign_vote(self, height: int, view: int, phase: Phase, digest: bytes) -> Vote:
        signed = compute_vote_bytes(self._chain_id, self._epoch, height, view, phase, digest)
        signature = self._signer(tags.VOTE, signed)
        return Vote(self._epoch, height, view, phase, digest, self._replica, signature)

    def sign_proposal(self, message: PrePrepare, header: bytes) -> PrePrepare:
        """Another header in the place of the proposal's."""
        digest = compute_digest(tags.HEADER, header)
        vote = self.sign_vote(message.height, message.view, Phase.PRE_PREPARE, digest)
        return replace(message, header=header, primary=self._replica, signature=vote.signature)

    def sign_view_change(
        self, view: int, base: Certificate | None, prepared: PreparedCertificate | None
    ) -> ViewChange:
        return self.sign(ViewChange(self._epoch, view, base, prepared, self._replica, _NO_SIGNATURE))

    # In others' names

    def forge_vote(self, vote: Vote) -> Vote:
        """The vote as if another had cast it, under my signature."""
        return replace(vote, replica=self._random.choice(self._members))

    # Proofs of what never was

    def forge_certificate(self, height: int, view: int, digest: bytes, stolen: Sequence[Vote]) -> Certificate:
        """A commit certificate without a quorum, unless so many have been overheard that it is a true one."""
        signatures = self._forge_quorum(self.sign_vote(height, view, Phase.COMMIT, digest), stolen)
        return Certificate(self._epoch, height, view, digest, signatures)

    def forge_prepared(
        self, height: int, below: int, digest: bytes, stolen: Sequence[Vote]
    ) -> PreparedCertificate:
        """A prepared certificate without a quorum, of the view below `below` or the last that I led."""
        view = max(0, below - 1)
        if self._random.random() < 0.5:
            view = self._find_led_view(height, below)
        primary = self._replica_set.compute_primary(height, view, self._blocks_per_primary)
        phase = Phase.PRE_PREPARE if primary == self._replica else Phase.PREPARE
        signatures = self._forge_quorum(self.sign_vote(height, view, phase, digest), stolen)
        return PreparedCertificate(self._epoch, height, view, digest, primary, signatures)

    def _forge_quorum(self, own: Vote, stolen: Sequence[Vote]) -> tuple[VoteSignature, ...]:
        mine = VoteSignature(self._replica, own.signature)
        match self._random.choice(QUORUMS):
            case "names":
                return tuple(VoteSignature(member, own.signature) for member in self._members)
            case "repeated":
                return (mine,) * len(self._members)
            case _:
                slot = (own.height, own.view, own.digest)
                phase = Phase.COMMIT if own.phase is Phase.COMMIT else Phase.PREPARE
                fitting = {
                    vote.replica: VoteSignature(vote.replica, vote.signature)
                    for vote in stolen
                    if (vote.height, vote.view, vote.digest) == slot and vote.phase is phase
                }
                return tuple({**fitting, self._replica: mine}.values())

    # View changes

    def forge_view_change(
        self, view: int, base: Certificate | None, digest: bytes, stolen: Sequence[Vote]
    ) -> ViewChange:
        """A VIEW-CHANGE of mine whose proofs prove nothing; `digest` is of a block after the base."""
        height = 1 if base is None else base.height + 1
        if self._random.random() < 0.8:
            return self.sign_view_change(view, base, self.forge_prepared(height, view, digest, stolen))
        forged = self.forge_certificate(height, max(0, view - 1), digest, stolen)
        return self.sign_view_change(view, forged, None)

    def forge_other(self, view: int, base: Certificate | None, known: Sequence[ViewChange]) -> ViewChange:
        """A VIEW-CHANGE that another never sent, or sent otherwise."""
        if known and self._random.random() < 0.5:
            return self.alter(self._random.choice(known), view)
        peer = self._random.choice(self._members)
        return self.sign(ViewChange(self._epoch, view, base, None, peer, _NO_SIGNATURE))

    def alter(self, view_change: ViewChange, view: int) -> ViewChange:
        """Another's VIEW-CHANGE, for another view or without what is prepared; its signature is left."""
        if view_change.prepared is None:
            return replace(view_change, view=view)
        return replace(view_change, prepared=None)

    def forge_new_view(
        self, view: int, base: Certificate | None, forged: ViewChange, known: Sequence[ViewChange]
    ) -> NewView:
        """A NEW-VIEW from too few VIEW-CHANGEs, one of them again and again, or forged ones."""
        quorum = self._replica_set.quorum.size
        own = self.sign_view_change(view, base, None)
        match self._random.choice(("few", "repeated", "forged")):
            case "few":
                view_changes = [own]
            case "repeated":
                view_changes = [own] * quorum
            case _:
                others = [self.forge_other(view, base, known) for _ in range(quorum - 1)]
                view_changes = [forged, *others]
        return self.sign(NewView(self._epoch, view, tuple(view_changes), self._replica, _NO_SIGNATURE))

    def spoil_new_view(self, message: NewView) -> NewView:
        """My own NEW-VIEW with one of the others' VIEW-CHANGEs altered, or left out."""
        others = [item for item in message.view_changes if item.replica != self._replica]
        if not others:
            return message
        victim = self._random.choice(others)
        changed = () if self._random.random() < 0.3 else (self.alter(victim, message.view + 1),)
        kept = [item for item in message.view_changes if item is not victim]
        ordered = sorted((*kept, *changed), key=lambda item: item.replica)
        return self.sign(replace(message, view_changes=tuple(ordered)))

    def find_own_view(self, height: int, above: int) -> int:
        """The next view above `above` whose primary at `height` I am."""
        return next(
            (view for view in range(above + 1, above + len(self._members) + 1) if self._is_led(height, view)),
            above + 1,
        )

    def _find_led_view(self, height: int, below: int) -> int:
        views = range(below - 1, max(-1, below - 1 - len(self._members)), -1)
        return next((view for view in views if self._is_led(height, view)), max(0, below - 1))

    def _is_led(self, height: int, view: int) -> bool:
        return self._replica_set.compute_primary(height, view, self._blocks_per_primary) == self._replica
