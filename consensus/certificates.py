"""Votes and the certificates that a quorum of them makes.

A vote signs bytes of fixed layout: tag, chain, epoch, height, view, phase, header digest. A commit
certificate makes a block final; anybody who knows the epoch's replica set can verify it offline.
Certificates are not unique for a block (any quorum serves), so they are never hashed or compared.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from consensus.replica_set import REPLICAS_MAX, VIEW_MAX, ReplicaSet
from crypto import tags, vote_bytes
from crypto.signatures import InvalidSignature, verify_signature

_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_View = Annotated[int, Meta(ge=0, le=VIEW_MAX)]
_Replica = Annotated[int, Meta(ge=0, le=65_535)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]

Verify = Callable[[bytes, bytes, bytes, bytes], None]
"""`verify_signature`, or the simulator's stand-in: (public key, tag, message, signature)."""


class Phase(IntEnum):
    PRE_PREPARE = 0
    PREPARE = 1
    COMMIT = 2


class InvalidCertificate(ValueError):
    """A certificate that does not prove what it claims: its sender's fault."""


def compute_vote_bytes(
    chain_id: bytes, epoch: int, height: int, view: int, phase: Phase, digest: bytes
) -> bytes:
    """The 89 bytes that a vote signs under the tag VOTE."""
    return vote_bytes.compute_vote_bytes(chain_id, epoch, height, view, phase, digest)


class VoteSignature(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    replica: _Replica
    signature: _Signature


_Signatures = Annotated[tuple[VoteSignature, ...], Meta(min_length=1, max_length=REPLICAS_MAX)]


class Certificate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A quorum of COMMIT votes for one header: the block is final."""

    epoch: _Counter
    height: _Counter
    view: _View
    digest: _Hash
    signatures: _Signatures

    def verify(self, chain_id: bytes, replica_set: ReplicaSet, verify: Verify = verify_signature) -> None:
        """Return when a quorum of `replica_set` committed. Raises InvalidCertificate otherwise."""
        _check_signers(self.epoch, self.signatures, replica_set)
        message = compute_vote_bytes(chain_id, self.epoch, self.height, self.view, Phase.COMMIT, self.digest)
        for vote in self.signatures:
            _verify_vote(vote, message, replica_set, verify)


class PreparedCertificate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The primary's PRE-PREPARE vote and backups' PREPARE votes, a quorum together, for one header."""

    epoch: _Counter
    height: _Counter
    view: _View
    digest: _Hash
    primary: _Replica
    signatures: _Signatures

    def verify(
        self,
        chain_id: bytes,
        replica_set: ReplicaSet,
        blocks_per_primary: int,
        verify: Verify = verify_signature,
    ) -> None:
        """Return when a quorum prepared in this view. Raises InvalidCertificate otherwise."""
        _check_signers(self.epoch, self.signatures, replica_set)
        expected = replica_set.compute_primary(self.height, self.view, blocks_per_primary)
        if self.primary != expected:
            raise InvalidCertificate(f"primary {self.primary} found, {expected} expected")
        if self.primary not in {vote.replica for vote in self.signatures}:
            raise InvalidCertificate("the primary's PRE-PREPARE is missing")
        for vote in self.signatures:
            # The primary's PRE-PREPARE is its vote; a PREPARE of the primary counts for nothing (rule V3).
            phase = Phase.PRE_PREPARE if vote.replica == self.primary else Phase.PREPARE
            message = compute_vote_bytes(chain_id, self.epoch, self.height, self.view, phase, self.digest)
            _verify_vote(vote, message, replica_set, verify)


def _check_signers(epoch: int, signatures: tuple[VoteSignature, ...], replica_set: ReplicaSet) -> None:
    if epoch != replica_set.epoch:
        raise InvalidCertificate(f"epoch {epoch} found, {replica_set.epoch} expected")
    signers = [vote.replica for vote in signatures]
    if len(set(signers)) != len(signers):
        raise InvalidCertificate("one replica signed twice: a quorum is of distinct signers")
    if len(signers) < replica_set.quorum.size:
        raise InvalidCertificate(
            f"{len(signers)} signers found, a quorum of {replica_set.quorum.size} expected"
        )


def _verify_vote(vote: VoteSignature, message: bytes, replica_set: ReplicaSet, verify: Verify) -> None:
    public_key = replica_set.get_public_key(vote.replica)
    if public_key is None:
        raise InvalidCertificate(f"replica {vote.replica} is not in epoch {replica_set.epoch}")
    try:
        verify(public_key, tags.VOTE, message, vote.signature)
    except InvalidSignature as error:
        raise InvalidCertificate(f"replica {vote.replica}: {error}") from error
