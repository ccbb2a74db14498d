"""What this replica has signed, so that it never signs two things for one slot (rule P5)."""

from __future__ import annotations

from consensus.certificates import Phase
from consensus.credentials import Credentials
from consensus.messages import Vote


class VoteGuard:
    """My votes above the durable height and not below the view I asked for; rebuilt from the journal."""

    __slots__ = ("_votes", "has_signed")

    def __init__(self) -> None:
        self.has_signed = False
        """Whether I have cast a vote since I started."""
        self._votes: dict[tuple[int, int, Phase], Vote] = {}

    def restore(self, vote: Vote) -> None:
        self._votes[vote.height, vote.view, vote.phase] = vote

    def get(self, height: int, view: int, phase: Phase) -> Vote | None:
        return self._votes.get((height, view, phase))

    def has_vouched(self, height: int, view: int, digest: bytes) -> bool:
        """Whether I have already voted for `digest` in this view, as primary or as backup."""
        proposed = self._votes.get((height, view, Phase.PRE_PREPARE))
        prepared = self._votes.get((height, view, Phase.PREPARE))
        return (proposed is not None and proposed.digest == digest) or (
            prepared is not None and prepared.digest == digest
        )

    def sign(
        self, credentials: Credentials, height: int, view: int, phase: Phase, digest: bytes
    ) -> Vote | None:
        """The vote for this slot: the old one for the same digest, None when another digest was signed.

        A refusal concerns this slot only; later views have slots of their own.
        """
        known = self._votes.get((height, view, phase))
        if known is not None:
            return known if known.digest == digest else None
        self.has_signed = True
        vote = credentials.sign_vote(height, view, phase, digest)
        self._votes[height, view, phase] = vote
        return vote

    def forget_through(self, height: int) -> None:
        """Heights up to a durable one need no guard: nothing is ever voted there again."""
        self._votes = {slot: vote for slot, vote in self._votes.items() if slot[0] > height}

    def forget_below(self, view: int) -> None:
        """Neither do views below one that I asked for."""
        self._votes = {slot: vote for slot, vote in self._votes.items() if slot[1] >= view}
