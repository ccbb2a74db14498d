"""Statements that are not true, made by one replica with its own key and with what others have signed.

Nobody's key but its own is used: signatures of others are stolen from what they signed, never made. Each
statement here must be refused, or do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

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
        self._replica_set = replica_set
        self._blocks_per_primary = blocks_per_primary
        self._random = random
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
        return replace(message, header=header, signature=vote.signature)

    def sign_view_change(
        self, view: int, base: Certificate | None, prepared: PreparedCertificate | None
    ) -> ViewChange:
        return self.sign(ViewChange(self._epoch, view, base, prepared, self._replica, _NO_SIGNATURE))

    # Proofs of what never was

    def invent_certificate(self, height: int, view: int) -> Certificate:
        """A commit certificate that only I signed, in everybody's name."""
        digest = compute_digest(b"a block of my own", height.to_bytes(8, "big"))
        vote = self.sign_vote(height, view, Phase.COMMIT, digest)
        signatures = tuple(VoteSignature(member, vote.signature) for member in self._members)
        return Certificate(self._epoch, height, view, digest, signatures)

    def invent_prepared(self, height: int, view: int, stolen: Sequence[Vote]) -> PreparedCertificate:
        """A prepared certificate with my signature, and the stolen ones, in the place of a quorum's."""
        primary = self._replica_set.compute_primary(height, view, self._blocks_per_primary)
        digest = stolen[-1].digest if stolen else compute_digest(b"a block of my own", bytes(8))
        own = self.sign_vote(height, view, Phase.PREPARE, digest).signature
        by_others = {vote.replica: vote.signature for vote in stolen}
        signatures = tuple(VoteSignature(member, by_others.get(member, own)) for member in self._members)
        return PreparedCertificate(self._epoch, height, view, digest, primary, signatures)

    # View changes

    def forge_view_change(
        self, view: int, base: Certificate | None, stolen: Sequence[Vote], known: Sequence[ViewChange]
    ) -> ViewChange:
        """A VIEW-CHANGE that proves nothing, or is another's."""
        height = 1 if base is None else base.height + 1
        below = max(0, view - 1)
        match self._random.choice(("prepared", "base", "impostor", "altered")):
            case "prepared":
                return self.sign_view_change(view, base, self.invent_prepared(height, below, stolen))
            case "base":
                return self.sign_view_change(view, self.invent_certificate(height, below), None)
            case "altered" if known:
                return self.alter(self._random.choice(known), view)
            case _:
                peer = self._random.choice(self._members)
                return self.sign(ViewChange(self._epoch, view, base, None, peer, _NO_SIGNATURE))

    def alter(self, view_change: ViewChange, view: int) -> ViewChange:
        """Another's VIEW-CHANGE, for another view or without what is prepared; its signature is left."""
        if view_change.prepared is None:
            return replace(view_change, view=view)
        return replace(view_change, prepared=None)

    def forge_new_view(
        self, view: int, base: Certificate | None, stolen: Sequence[Vote], known: Sequence[ViewChange]
    ) -> NewView:
        """A NEW-VIEW out of forged VIEW-CHANGEs, too few of them, or one of them again and again."""
        quorum = self._replica_set.quorum.size
        own = self.sign_view_change(view, base, None)
        match self._random.choice(("few", "repeated", "forged")):
            case "few":
                view_changes = [own]
            case "repeated":
                view_changes = [own] * quorum
            case _:
                view_changes = [self.forge_view_change(view, base, stolen, known) for _ in range(quorum)]
        return self.sign(NewView(self._epoch, view, tuple(view_changes), self._replica, _NO_SIGNATURE))

    def spoil_new_view(self, message: NewView) -> NewView:
        """My own NEW-VIEW with one of the others' VIEW-CHANGEs altered, or left out."""
        others = [item for item in message.view_changes if item.replica != self._replica]
        victim = self._random.choice(others)
        changed = () if self._random.random() < 0.3 else (self.alter(victim, message.view + 1),)
        kept = [item for item in message.view_changes if item is not victim]
        ordered = sorted((*kept, *changed), key=lambda item: item.replica)
        return self.sign(replace(message, view_changes=tuple(ordered)))

    def find_own_view(self, height: int, above: int) -> int:
        """The next view above `above` whose primary at `height` I am."""
        for view in range(above + 1, above + len(self._members) + 1):
            if self._replica_set.compute_primary(height, view, self._blocks_per_primary) == self._replica:
                return view
        return above + 1
