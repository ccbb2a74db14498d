"""How a starting replica finds out whether its journal is all that it ever said (rule P6).

A journal that is missing or rolled back does not say so by itself. So before its first vote a replica asks
the others what they have seen of it, and hears a quorum, itself included. If they know a vote that the
journal does not, or there is no journal, the replica stays silent until the others have certified two heights
more than anybody reported. It may have voted one height above its own head, and its own head may be one above
theirs; so by then none of its forgotten votes can matter.

A ledger that is missing or rolled back under a whole journal shows itself: a vote for a height is cast only
once the one before is durable. What was final or prepared in between would be missing from a VIEW-CHANGE, so
the replica is silent until the highest height that it voted for is durable.

Members of an epoch know what was said in it, and nothing of the next one: who was wiped or rolled back may
hear some that have not come to that yet. So whoever has not voted since its start, or is still silent, when
another epoch opens asks its members again.
"""

from __future__ import annotations

from consensus.credentials import Credentials, InvalidMessage
from consensus.messages import Recollection, ViewChange, Vote
from consensus.vote_guard import VoteGuard


class Startup:
    """From the first tick until this replica may vote."""

    __slots__ = (
        "_amnesia",
        "_heard",
        "_is_decided",
        "_is_journal_whole",
        "_last_session",
        "forgotten",
        "reason",
        "session",
        "silent_until",
    )

    def __init__(
        self,
        *,
        journal_missing: bool,
        silent_until: int | None,
        height: int = 0,
        voted_height: int = 0,
        is_ahead: bool = False,
        is_overridden: bool = False,
    ) -> None:
        """`voted_height` is the highest for which the journal holds a vote, `height` that of the head.
        `is_ahead`: the journal speaks of a later epoch than the head's.

        `is_overridden`: an operator answers for it that nothing was forgotten; nobody is asked.
        """
        self.session = 0
        """Of this start: the wall clock at the first tick; 0 before it and once the others were heard."""
        self._last_session = 0
        self.silent_until = 0 if silent_until is None else silent_until
        """No vote before this height is durable; 0 when there is nothing to wait for."""
        self.reason = ""
        self.forgotten: ViewChange | None = None
        """My VIEW-CHANGE for the highest view that the others remember and the journal does not."""
        self._amnesia = "the journal is missing" if journal_missing or silent_until == 0 else ""
        """Why the journal is not all that I ever said; empty when that is not known."""
        self._is_decided = self.silent_until > 0 or is_overridden
        self._heard: dict[int, Recollection] = {}
        if is_ahead and voted_height <= height + 1 and not is_overridden:
            self._amnesia = self._amnesia or "the ledger has lost the epoch in which I spoke last"
        if self.silent_until:
            self.reason = f"silent until height {self.silent_until} is durable, by an earlier decision"
        is_behind = voted_height > max(height + 1, self.silent_until)
        is_ledger_behind = is_behind and not self._amnesia and not is_overridden
        self._is_journal_whole = is_ledger_behind and silent_until is None
        if is_ledger_behind:
            self.silent_until, self._is_decided = voted_height, True
            self.reason = (
                f"the ledger lost blocks above height {height}: silent until height {voted_height} is "
                f"durable, or until a start with height {voted_height - 1}"
            )

    @property
    def is_decided(self) -> bool:
        """Whether enough others have been heard to know if I may vote."""
        return self._is_decided

    @property
    def is_amnesiac(self) -> bool:
        """The journal is missing, or was when silence began."""
        return bool(self._amnesia)

    def may_vote(self, height: int) -> bool:
        return self._is_decided and height >= self.silent_until

    def begin(self, wall_ms: int) -> None:
        self._last_session = max(1, wall_ms)
        if not self._is_decided:
            self.session = self._last_session

    def open_epoch(self, height: int, *, has_voted: bool) -> bool:
        """What was heard in the epoch before says nothing of this one: who has not voted since asks again.

        `height` is the last one at which I was in it: block sync may have led far into this one in one step.
        `has_voted`: since this start. True when silence had been decided upon, and now is not.
        """
        is_silent = not self.may_vote(height)
        if self._is_journal_whole or (has_voted and not is_silent):
            return False
        is_reopened = is_silent and self._is_decided
        self._is_decided = False
        if is_reopened:
            self._amnesia = self._amnesia or "silence began in an earlier epoch"
        self.forgotten = None
        self._heard.clear()
        if self._last_session:
            self._last_session += 1
            self.session = self._last_session
        return is_reopened

    def add(self, recollection: Recollection) -> bool:
        """Keep what one replica remembers of me; False for an answer to an earlier start."""
        if self._is_decided or recollection.session != self.session:
            return False
        self._heard[recollection.replica] = recollection
        return True

    def try_decide(self, credentials: Credentials, guard: VoteGuard, *, view: int, height: int) -> bool:
        """Decide once a quorum with me has been heard; True in the one call that decides."""
        others_needed = credentials.replica_set.quorum.size - 1
        if self._is_decided or self.session == 0 or len(self._heard) < others_needed:
            return False
        if not credentials.is_member:
            return False  # Whoever does not vote need not know; it is asked when a set makes me a member.
        # Alone, nobody else can have seen a vote; what counted is durable in the ledger.
        amnesia = self._amnesia if others_needed else ""
        known_height = height
        for recollection in self._heard.values():
            vote, view_change = recollection.vote, recollection.view_change
            if vote is not None and _is_mine(credentials, vote):
                known_height = max(known_height, vote.height - 1)
                if _is_forgotten(vote, guard, view=view, height=height):
                    amnesia = amnesia or f"the journal lacks a vote at height {vote.height}, view {vote.view}"
            newest = max(view, self.forgotten.view if self.forgotten else 0)
            if view_change is not None and view_change.view > newest and _is_mine(credentials, view_change):
                amnesia = amnesia or f"the journal lacks a VIEW-CHANGE to view {view_change.view}"
                self.forgotten = view_change
            certificate = recollection.certificate
            # One of the epoch before is not above its last block, and was not verified.
            if certificate is not None and certificate.epoch == credentials.epoch:
                known_height = max(known_height, certificate.height)
        self._is_decided, self.session = True, 0
        self.silent_until = max(self.silent_until, known_height + 2) if amnesia else 0
        if amnesia:
            self.reason = f"{amnesia}: silent until height {self.silent_until} is durable"
        return True


def _is_mine(credentials: Credentials, statement: Vote | ViewChange) -> bool:
    """Whether I signed it: nobody can silence a replica with a vote that it never cast."""
    if statement.replica != credentials.replica:
        return False
    try:
        if isinstance(statement, Vote):
            credentials.verify_vote(statement)
        else:
            credentials.verify_view_change(statement)
    except InvalidMessage:
        return False
    return True


def _is_forgotten(vote: Vote, guard: VoteGuard, *, view: int, height: int) -> bool:
    if vote.height <= height or vote.view < view:
        return False
    known = guard.get(vote.height, vote.view, vote.phase)
    return known is None or known.digest != vote.digest
