"""The votes received: one slot for each height and view inside a small window.

Votes are kept unverified until they could make a quorum and only as many are verified as are needed, so a
vote that nobody needs costs nothing. The transport has authenticated who sent a vote, so a bad signature
spoils its sender's vote only.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from consensus.certificates import Phase, VoteSignature
from consensus.credentials import Credentials, InvalidMessage
from consensus.messages import PrePrepare, Vote

HEIGHTS_AHEAD: Final = 1
"""Votes are kept for the height at work and this many after it."""
VIEWS_BEHIND: Final = 2
"""Where views were asked for in vain, votes are kept for the last one entered and so many before the last."""
VIEWS_AHEAD: Final = 2
"""Votes are kept for the view at work and this many after it (rule D1)."""

Contradiction: TypeAlias = tuple[Vote, Vote]
"""Two verified votes of one replica for one slot and phase that name different digests."""


class Slot:
    """The proposal and the votes for one height and view; at most one vote of a replica in each phase."""

    __slots__ = ("_verified", "_votes", "digest", "pre_prepare")

    def __init__(self) -> None:
        self.pre_prepare: PrePrepare | None = None
        self.digest: bytes | None = None
        """Of the primary's proposal."""
        self._votes: dict[Phase, dict[int, Vote]] = {Phase.PREPARE: {}, Phase.COMMIT: {}}
        self._verified: dict[Phase, set[int]] = {Phase.PREPARE: set(), Phase.COMMIT: set()}
        """Whose votes are known to be well signed."""

    def add(self, vote: Vote, *, is_verified: bool = False) -> Vote | None:
        """Keep the vote; the one kept earlier when that names another digest."""
        known = self._votes[vote.phase].setdefault(vote.replica, vote)
        if is_verified:
            self._verified[vote.phase].add(vote.replica)
        return known if known.digest != vote.digest else None

    def replace(self, vote: Vote) -> None:
        """Keep a verified vote in place of one that turned out to be badly signed."""
        self._votes[vote.phase][vote.replica] = vote
        self._verified[vote.phase].add(vote.replica)

    def get_voters(self, phase: Phase) -> tuple[int, ...]:
        return tuple(sorted(self._votes[phase]))

    def count(self, phase: Phase) -> int:
        """How many replicas' votes are kept, for whatever digest."""
        return len(self._votes[phase])

    def get_commit_digests(self) -> tuple[bytes, ...]:
        """The digests that anybody voted to commit, in a fixed order."""
        return tuple(sorted({vote.digest for vote in self._votes[Phase.COMMIT].values()}))

    def tally(
        self, phase: Phase, digest: bytes, credentials: Credentials, needed: int
    ) -> tuple[VoteSignature, ...] | None:
        """`needed` verified votes of distinct replicas for `digest`; None while there are fewer."""
        kept = self._votes[phase]
        if len(kept) < needed:
            return None  # The usual answer, and the cheapest: this is asked at every step.
        votes = [vote for vote in kept.values() if vote.digest == digest]
        if len(votes) < needed:
            return None
        verified = self._verified[phase]
        votes.sort(key=lambda vote: vote.replica not in verified)
        found: list[VoteSignature] = []
        for vote in votes:
            if len(found) < needed and self._verify(vote, credentials):
                found.append(VoteSignature(vote.replica, vote.signature))
        return tuple(sorted(found, key=lambda vote: vote.replica)) if len(found) >= needed else None

    def _verify(self, vote: Vote, credentials: Credentials) -> bool:
        if vote.replica in self._verified[vote.phase]:
            return True
        try:
            credentials.verify_vote(vote)
        except InvalidMessage:
            del self._votes[vote.phase][vote.replica]
            return False
        self._verified[vote.phase].add(vote.replica)
        return True


class VoteLog:
    """Slots inside the window; and each replica's highest vote, to remind it of that after a restart."""

    __slots__ = (
        "_accused",
        "_height",
        "_slots",
        "_view_high",
        "_view_low",
        "_view_near",
        "commits_added",
        "latest",
    )

    def __init__(self) -> None:
        self._accused: set[int] = set()
        self.commits_added = 0
        """Goes up with every COMMIT: while it stands still no new certificate can be found."""
        self.latest: dict[int, Vote] = {}
        self._slots: dict[int, dict[int, Slot]] = {}
        self._height = self._view_low = self._view_near = self._view_high = 0

    def move(self, *, height: int, view_low: int, view_high: int) -> None:
        """Set the window: from `height` at work on, in `view_low` and around `view_high`.

        Views between the last one entered and the one asked for are many where view changes fail again and
        again; what is final from there is learnt by its certificate.
        """
        if height != self._height:
            self._accused.clear()
        self._height, self._view_low, self._view_high = height, view_low, view_high
        self._view_near = max(view_low, view_high - VIEWS_BEHIND)
        self._slots = {
            height: {view: slot for view, slot in views.items() if self.accepts(height, view)}
            for height, views in self._slots.items()
            if height >= self._height
        }

    def accepts(self, height: int, view: int) -> bool:
        return self._height <= height <= self._height + HEIGHTS_AHEAD and (
            view == self._view_low or self._view_near <= view <= self._view_high + VIEWS_AHEAD
        )

    def get(self, height: int, view: int) -> Slot:
        """The slot inside the window; made when it is the first time."""
        views = self._slots.get(height)
        slot = None if views is None else views.get(view)
        if slot is None:
            assert self.accepts(height, view)
            slot = self._slots.setdefault(height, {})[view] = Slot()
        return slot

    def select(self, height: int) -> list[tuple[int, Slot]]:
        """The slots of a height with their views, lowest first."""
        return sorted(self._slots.get(height, {}).items())

    def add_proposal(
        self, message: PrePrepare, digest: bytes, credentials: Credentials
    ) -> Contradiction | None:
        """Keep the first well-signed proposal of a slot. Raises InvalidMessage for a bad signature."""
        slot = self.get(message.height, message.view)
        if slot.digest == digest:
            return None
        vote = message.compute_vote(digest)
        credentials.verify_vote(vote)
        self.remember(vote)
        if slot.pre_prepare is not None and slot.digest is not None:
            return self._accuse(slot.pre_prepare.compute_vote(slot.digest), vote)
        slot.pre_prepare, slot.digest = message, digest
        return None

    def add_vote(self, slot: Slot, vote: Vote, credentials: Credentials) -> Contradiction | None:
        """Keep the first vote of a replica in its slot and phase; verified only when a second differs."""
        self.remember(vote)
        earlier = slot.add(vote)
        self.commits_added += vote.phase is Phase.COMMIT
        if earlier is None or vote.replica in self._accused:
            return None
        credentials.verify_vote(vote)
        try:
            credentials.verify_vote(earlier)
        except InvalidMessage:
            slot.replace(vote)
            return None
        return self._accuse(earlier, vote)

    def add_own(self, vote: Vote) -> None:
        """Keep a PREPARE or COMMIT that I have signed."""
        self.get(vote.height, vote.view).add(vote, is_verified=True)
        self.commits_added += vote.phase is Phase.COMMIT

    def _accuse(self, first: Vote, second: Vote) -> Contradiction | None:
        """Equivocation, told once for each replica and height (rule E7)."""
        if first.replica in self._accused:
            return None
        self._accused.add(first.replica)
        return first, second

    def remember(self, vote: Vote) -> None:
        """Keep a replica's highest vote, unverified: whoever is reminded of it verifies its own signature."""
        known = self.latest.get(vote.replica)
        if known is None or _compute_rank(vote) > _compute_rank(known):
            self.latest[vote.replica] = vote


def _compute_rank(vote: Vote) -> tuple[int, int, int, int]:
    return vote.epoch, vote.height, vote.view, vote.phase
