"""Who I am in which replica set: signing what I say, verifying what others say.

Signatures are verified over bytes recomputed here, never over bytes that came along (rule V1). A replica's
statement is refused unless its signer is a member and everything inside it proves what it claims.

    InvalidMessage      a statement that no honest replica makes: the peer's fault, dropped and counted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeVar

from msgspec import structs

from consensus.certificates import (
    Certificate,
    InvalidCertificate,
    Phase,
    PreparedCertificate,
    Verify,
    compute_vote_bytes,
)
from consensus.messages import NewView, Recollection, Status, ViewChange, Vote, compute_signed_bytes
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from consensus.view_changes import Choice, compute_choice
from crypto import tags
from crypto.signatures import InvalidSignature

Signer = Callable[[bytes, bytes], bytes]
"""(tag, message) to a signature of 64 bytes by this replica's key."""

Signed = TypeVar("Signed", ViewChange, NewView, Status, Recollection)

NO_SIGNATURE: Final = bytes(64)
"""In the place of a signature until there is one."""

_TAGS: Final = {
    ViewChange: tags.VIEW_CHANGE,
    NewView: tags.NEW_VIEW,
    Status: tags.STATUS,
    Recollection: tags.STATUS,
}


class InvalidMessage(ValueError):
    """A message that contradicts itself, its sender or its signature."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """One replica's part in one epoch."""

    chain_id: bytes
    replica: ReplicaId
    public_key: bytes
    """Of `signer`; in another epoch the set may name another for this replica, which then cannot vote."""
    replica_set: ReplicaSet
    epoch_base: Height
    """The height below the epoch's first: 0, or the closing block of the previous epoch."""
    blocks_per_primary: int
    signer: Signer
    verify: Verify

    @cached_property
    def epoch(self) -> int:
        return self.replica_set.epoch

    @cached_property
    def is_member(self) -> bool:
        return self.replica_set.get_public_key(self.replica) == self.public_key

    @property
    def is_displaced(self) -> bool:
        """Whether this epoch names another key for this replica: what mine signs counts for nothing."""
        return self.is_voter(self.replica) and not self.is_member

    def is_voter(self, replica: int) -> bool:
        """Whether the replica is in the set; others follow without voting."""
        return self.replica_set.has(replica)

    def compute_primary(self, height: int, view: int) -> ReplicaId:
        return self.replica_set.compute_primary(height, view, self.blocks_per_primary)

    def is_primary(self, height: int, view: int) -> bool:
        return self.is_member and self.compute_primary(height, view) == self.replica

    def open_epoch(self, replica_set: ReplicaSet, epoch_base: Height) -> Credentials:
        """The same replica in the next epoch."""
        return replace(self, replica_set=replica_set, epoch_base=epoch_base)

    def sign_vote(self, height: int, view: int, phase: Phase, digest: bytes) -> Vote:
        """Only the vote guard calls this: it remembers what has been signed."""
        message = compute_vote_bytes(self.chain_id, self.epoch, height, view, phase, digest)
        signature = self.signer(tags.VOTE, message)
        return Vote(self.epoch, height, view, phase, digest, self.replica, signature)

    def sign_view_change(
        self, view: int, base: Certificate | None, prepared: PreparedCertificate | None
    ) -> ViewChange:
        return self.sign(ViewChange(self.epoch, view, base, prepared, self.replica, NO_SIGNATURE))

    def sign(self, unsigned: Signed) -> Signed:
        """The same message with my signature in place of none."""
        signed = compute_signed_bytes(self.chain_id, unsigned)
        return structs.replace(unsigned, signature=self.signer(_TAGS[type(unsigned)], signed))

    def verify_vote(self, vote: Vote) -> None:
        """Raises InvalidMessage unless a member of this epoch signed exactly this vote."""
        self._check_epoch(vote.epoch)
        message = compute_vote_bytes(
            self.chain_id, vote.epoch, vote.height, vote.view, vote.phase, vote.digest
        )
        self._verify(vote.replica, tags.VOTE, message, vote.signature)

    def verify_signed(self, message: ViewChange | NewView | Status | Recollection) -> None:
        """Raises InvalidMessage unless `replica` signed it."""
        signed = compute_signed_bytes(self.chain_id, message)
        self._verify(message.replica, _TAGS[type(message)], signed, message.signature)

    def verify_certificate(self, certificate: Certificate) -> None:
        """Raises InvalidMessage unless a quorum of this epoch committed, above the epoch's base."""
        if certificate.height <= self.epoch_base:
            raise InvalidMessage(
                f"certificate: height {certificate.height} found, above {self.epoch_base} expected"
            )
        try:
            certificate.verify(self.chain_id, self.replica_set, self.verify)
        except InvalidCertificate as error:
            raise InvalidMessage(f"certificate for height {certificate.height}: {error}") from error

    def verify_view_change(self, view_change: ViewChange) -> None:
        """Raises InvalidMessage unless it is signed, and both its certificates hold and fit together.

        What it reports happened below the view that it asks for (rule V4).
        """
        self._check_epoch(view_change.epoch)
        self.verify_signed(view_change)
        base, prepared = view_change.base, view_change.prepared
        if base is not None:
            self._check_below(view_change, base.view)
            self.verify_certificate(base)
        if prepared is not None:
            expected = 1 + (self.epoch_base if base is None else base.height)
            if prepared.height != expected:
                raise InvalidMessage(
                    f"VIEW-CHANGE: prepared height {prepared.height} found, {expected} expected"
                )
            self._check_below(view_change, prepared.view)
            try:
                prepared.verify(self.chain_id, self.replica_set, self.blocks_per_primary, self.verify)
            except InvalidCertificate as error:
                raise InvalidMessage(f"VIEW-CHANGE: prepared certificate: {error}") from error

    def verify_new_view(self, new_view: NewView, verified: Mapping[int, ViewChange]) -> Choice:
        """The choice that the NEW-VIEW's own VIEW-CHANGEs force (rule V5).

        `verified` are VIEW-CHANGEs known to be good, by replica. Raises InvalidMessage unless a quorum of
        distinct replicas asked for this view and the primary after their base signed it.
        """
        self._check_epoch(new_view.epoch)
        signers = {view_change.replica for view_change in new_view.view_changes}
        if len(signers) != len(new_view.view_changes) or len(signers) < self.replica_set.quorum.size:
            raise InvalidMessage(
                f"NEW-VIEW: {len(new_view.view_changes)} VIEW-CHANGEs of {len(signers)} replicas found, "
                f"{self.replica_set.quorum.size} distinct ones expected"
            )
        if any(view_change.view != new_view.view for view_change in new_view.view_changes):
            raise InvalidMessage("NEW-VIEW: a VIEW-CHANGE for another view found")
        self.verify_signed(new_view)
        for view_change in new_view.view_changes:
            if verified.get(view_change.replica) != view_change:
                self.verify_view_change(view_change)
        choice = compute_choice(new_view.view_changes, self.epoch_base)
        expected = self.compute_primary(choice.base_height + 1, new_view.view)
        if new_view.replica != expected:
            raise InvalidMessage(f"NEW-VIEW: from replica {new_view.replica}, {expected} expected")
        return choice

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise InvalidMessage(f"epoch {epoch} found, {self.epoch} expected")

    def _check_below(self, view_change: ViewChange, view: int) -> None:
        if view >= view_change.view:
            raise InvalidMessage(
                f"VIEW-CHANGE to view {view_change.view}: certificate of view {view} found, a lower expected"
            )

    def _verify(self, replica: int, tag: bytes, message: bytes, signature: bytes) -> None:
        public_key = self.replica_set.get_public_key(replica)
        if public_key is None:
            raise InvalidMessage(f"replica {replica} is not in epoch {self.epoch}")
        try:
            self.verify(public_key, tag, message, signature)
        except InvalidSignature as error:
            raise InvalidMessage(f"replica {replica}: {error}") from error
