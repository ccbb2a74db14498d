"""Proof that a replica contradicted itself: two votes of one slot for different blocks.

InvalidEvidence     two votes that prove nothing: whoever presents them is at fault, not the accused
"""

from __future__ import annotations

from consensus.certificates import Verify, compute_vote_bytes
from consensus.messages import Vote
from consensus.replica_set import ReplicaSet
from crypto import tags
from crypto.signatures import InvalidSignature, verify_signature


class InvalidEvidence(ValueError):
    """Not a contradiction, or not signed by whom it accuses."""


def verify_evidence(
    chain_id: bytes, replica_set: ReplicaSet, first: Vote, second: Vote, verify: Verify = verify_signature
) -> None:
    """Return when one member signed both votes and no honest replica could have (rule E7).

    Raises InvalidEvidence otherwise. Anybody with the epoch's replica set can check it.
    """
    slots = [(vote.epoch, vote.height, vote.view, vote.phase, vote.replica) for vote in (first, second)]
    if slots[0] != slots[1]:
        raise InvalidEvidence(f"votes for slots {slots[0]} and {slots[1]} found, one slot expected")
    if first.digest == second.digest:
        raise InvalidEvidence("both votes are for one block: that is no contradiction")
    public_key = replica_set.get_public_key(first.replica)
    if public_key is None or first.epoch != replica_set.epoch:
        raise InvalidEvidence(f"replica {first.replica} of epoch {first.epoch} is not in the replica set")
    for vote in (first, second):
        message = compute_vote_bytes(chain_id, vote.epoch, vote.height, vote.view, vote.phase, vote.digest)
        try:
            verify(public_key, tags.VOTE, message, vote.signature)
        except InvalidSignature as error:
            raise InvalidEvidence(f"replica {vote.replica}: {error}") from error
