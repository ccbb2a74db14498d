"""The agreement on one height: proposal, PREPARE, COMMIT, certificate, through as many views as it takes.

Keeps the invariants that a vote is cast only for a block that was executed here with the result in its
header, that a vote is persisted with what it vouches for before it is sent, and that nothing is signed twice
for one slot. Which view is on, and whether this replica may vote at all, is decided outside.
"""

from __future__ import annotations

from typing import Final

from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature
from consensus.credentials import Credentials
from consensus.effects import CommitBlock, Discard, Validate
from consensus.events import ProposalValidated
from consensus.journal_records import PreparedRecord, ProposalRecord, VoteRecord
from consensus.messages import ProposalRequest, Vote, make_pre_prepare
from consensus.outbox import Outbox
from consensus.ports import Freshness, Proposal
from consensus.replica_set import Epoch, Height, ReplicaId, View
from consensus.vote_guard import VoteGuard
from consensus.votes import Slot, VoteLog

PROPOSALS_MAX: Final = 64
"""Proposals of one height that are kept to be served; one for each view in which I vouched."""


class Agreement:
    """One height; replaced by the next height's once its block is durable."""

    __slots__ = (
        "_commits_searched",
        "_credentials",
        "_diverged",
        "_failed",
        "_guard",
        "_journaled",
        "_log",
        "_outbox",
        "_proposals",
        "_refused_ms",
        "_request_after_ms",
        "_retry_ms",
        "_validated",
        "_validating",
        "committing",
        "height",
        "is_committing_empty",
        "prepared",
    )

    def __init__(
        self,
        *,
        credentials: Credentials,
        guard: VoteGuard,
        log: VoteLog,
        outbox: Outbox,
        height: Height,
        retry_ms: int,
    ) -> None:
        self.height = height
        self.prepared: PreparedCertificate | None = None
        """Of the highest view in which I know this height prepared."""
        self.committing: Certificate | None = None
        """Of the block on its way to the disk."""
        self.is_committing_empty = False
        self._retry_ms = retry_ms
        self._request_after_ms = 0
        self._commits_searched = -1
        self._credentials = credentials
        self._guard = guard
        self._log = log
        self._outbox = outbox
        self._proposals: dict[bytes, Proposal] = {}
        self._journaled: set[bytes] = set()
        self._validated: dict[bytes, int] = {}
        self._validating: dict[bytes, bool] = {}
        self._refused_ms: dict[bytes, int] = {}
        self._failed: set[bytes] = set()
        self._diverged: set[bytes] = set()

    def restore(self, record: ProposalRecord) -> None:
        """A proposal from the journal: vouched for before the restart, to be executed again before use."""
        self._proposals[record.digest] = record.proposal
        self._journaled.add(record.digest)

    def keep(self, digest: bytes, proposal: Proposal) -> None:
        """Keep a proposal whose digest was checked; beyond the bound the oldest unprepared one goes."""
        self._proposals.setdefault(digest, proposal)
        for known in list(self._proposals):
            if len(self._proposals) <= PROPOSALS_MAX:
                break
            if known != digest and (self.prepared is None or known != self.prepared.digest):
                del self._proposals[known]

    def get_proposal(self, digest: bytes) -> Proposal | None:
        proposal = self._proposals.get(digest)
        if proposal is None:
            for _, slot in self._log.select(self.height):
                if slot.digest == digest and slot.pre_prepare is not None:
                    return slot.pre_prepare.proposal
        return proposal

    def has_diverged(self, digest: bytes) -> bool:
        return digest in self._diverged

    def on_validated(self, event: ProposalValidated, now_ms: int) -> None:
        """The outcome of an execution; an outcome nobody asked for is dropped."""
        was_fresh = self._validating.pop(event.digest, None)
        if was_fresh is None:
            return
        if event.ok:
            self._validated[event.digest] = event.view
            self._refused_ms.pop(event.digest, None)
            return
        for outcomes in (self._refused_ms, self._failed, self._diverged):
            if len(outcomes) >= PROPOSALS_MAX:
                outcomes.clear()  # What still matters is found again by executing it again.
        self._refused_ms[event.digest] = now_ms
        if event.has_diverged:
            self._diverged.add(event.digest)
        if not was_fresh:
            self._failed.add(event.digest)

    def propose(self, view: View, digest: bytes, proposal: Proposal) -> bool:
        """Send my PRE-PREPARE, which is my vote (rule V3). False when I proposed another block here."""
        self.keep(digest, proposal)
        vote = self._cast(view, Phase.PRE_PREPARE, digest)
        if vote is None:
            return False
        message = make_pre_prepare(vote, proposal)
        slot = self._log.get(self.height, view)
        slot.pre_prepare, slot.digest = message, digest
        self._outbox.broadcast(message)
        return True

    def accept_built(self, view: View, digest: bytes, proposal: Proposal) -> bool:
        """Propose what was built, hence executed, here."""
        self._validated[digest] = view
        return self.propose(view, digest, proposal)

    def propose_again(self, view: View, digest: bytes, now_ms: int) -> None:
        """Byte for byte what a quorum prepared, fetched and executed here first (rules V6, V7)."""
        proposal = self.get_proposal(digest)
        if proposal is None:
            if now_ms >= self._request_after_ms:
                self._request_after_ms = now_ms + self._retry_ms
                self._outbox.broadcast(ProposalRequest(self._credentials.epoch, self.height, digest))
        elif digest in self._validated:
            self.propose(view, digest, proposal)
        elif not self._is_refused(digest, now_ms):
            self._validate(view, digest, self._credentials.replica, None)

    def follow(
        self,
        view: View,
        slot: Slot,
        obligation: PreparedCertificate | None,
        *,
        now_ms: int,
        wall_ms: int,
        tolerance_ms: int,
    ) -> None:
        """Vote for the proposal in this view's slot when the view allows it and it was executed here."""
        digest = slot.digest
        if digest is None or slot.pre_prepare is None:
            return
        if digest in self._validated and self._guard.get(self.height, view, Phase.COMMIT) is not None:
            return  # Everything that can be said here is said.
        if obligation is not None and obligation.digest != digest:
            return  # Not what the NEW-VIEW forces; the timer will end this view (rules V5, V7).
        # Proposer and clock are checked the first time only: not for what a view change proposes again, and
        # not for what I vouched for before a restart.
        is_fresh = obligation is None and not self._guard.has_vouched(self.height, view, digest)
        if self._validated.get(digest) == view if is_fresh else digest in self._validated:
            self._vote(view, slot, digest)
        elif not self._is_refused(digest, now_ms):
            primary = ReplicaId(slot.pre_prepare.primary)
            freshness = None
            if is_fresh:
                freshness = Freshness(proposer=primary, wall_ms=wall_ms, tolerance_ms=tolerance_ms)
            self._validate(view, digest, primary, freshness)

    def _vote(self, view: View, slot: Slot, digest: bytes) -> None:
        """Cast the votes that a validated proposal allows: PREPARE, and COMMIT once a quorum prepared."""
        is_primary = self._credentials.is_primary(self.height, view)
        if not is_primary and self._cast(view, Phase.PREPARE, digest) is None:
            return  # I voted for another proposal in this slot; later views are not concerned (rule P5).
        self._try_prepare(view, slot, digest)

    def find_certificate(self) -> Certificate | None:
        """A quorum of COMMITs in any view that is kept."""
        if self._log.commits_added == self._commits_searched:
            return None
        quorum = self._credentials.replica_set.quorum.size
        for view, slot in self._log.select(self.height):
            if slot.count(Phase.COMMIT) < quorum:
                continue
            for digest in slot.get_commit_digests():
                signatures = slot.tally(Phase.COMMIT, digest, self._credentials, quorum)
                if signatures is not None:
                    return Certificate(self._credentials.epoch, self.height, view, digest, signatures)
        self._commits_searched = self._log.commits_added
        return None

    def complete(self, certificate: Certificate) -> bool:
        """Commit the certified block, after executing it if need be. False when it must be synced instead."""
        digest = certificate.digest
        if self.committing is not None or digest in self._validating:
            return True
        proposal = self.get_proposal(digest)
        if proposal is None:
            return False
        if digest in self._validated:
            self.committing = certificate
            self.is_committing_empty = not proposal.transaction_hashes
            self._discard_except(digest)
            self._outbox.apply(CommitBlock(proposal=proposal, digest=digest, certificate=certificate))
        elif digest in self._failed:
            return False
        else:
            source = ReplicaId(certificate.signatures[0].replica)
            self._validate(View(certificate.view), digest, source, None)
        return True

    def discard_except(self, digest: bytes | None) -> None:
        """A new view has begun: what was executed for an older one is of no use, except what is prepared."""
        prepared = None if self.prepared is None else self.prepared.digest
        self._discard_except(digest, prepared)

    def close(self) -> None:
        """The height is over; what was executed for it and is not being committed is of no use."""
        self._discard_except(None if self.committing is None else self.committing.digest)

    def _discard_except(self, *kept: bytes | None) -> None:
        for digest in [digest for digest in self._validated if digest not in kept]:
            del self._validated[digest]
            proposal = self.get_proposal(digest)
            if proposal is not None:
                self._outbox.apply(Discard(proposal=proposal, digest=digest))

    def _validate(self, view: View, digest: bytes, source: ReplicaId, freshness: Freshness | None) -> None:
        """Ask for execution unless it is under way."""
        proposal = self.get_proposal(digest)
        if proposal is None or digest in self._validating:
            return
        self._validating[digest] = freshness is not None
        self._outbox.apply(
            Validate(
                epoch=Epoch(self._credentials.epoch),
                height=self.height,
                view=view,
                proposal=proposal,
                digest=digest,
                source=source,
                freshness=freshness,
            )
        )

    def _is_refused(self, digest: bytes, now_ms: int) -> bool:
        """Execution failed a moment ago; it may succeed when bodies have come or clocks have moved."""
        refused_ms = self._refused_ms.get(digest)
        return refused_ms is not None and now_ms - refused_ms < self._retry_ms

    def _try_prepare(self, view: View, slot: Slot, digest: bytes) -> None:
        quorum = self._credentials.replica_set.quorum.size
        prepares = slot.tally(Phase.PREPARE, digest, self._credentials, quorum - 1)
        if prepares is None or slot.pre_prepare is None:
            return
        primary = VoteSignature(slot.pre_prepare.primary, slot.pre_prepare.signature)
        certificate = PreparedCertificate(
            self._credentials.epoch,
            self.height,
            view,
            digest,
            primary.replica,
            tuple(sorted((primary, *prepares), key=lambda vote: vote.replica)),
        )
        # Journaled before the COMMIT leaves, so that every later VIEW-CHANGE of mine carries it (rule P2).
        self._outbox.persist(PreparedRecord(certificate))
        self.prepared = certificate
        self._cast(view, Phase.COMMIT, digest)

    def _cast(self, view: View, phase: Phase, digest: bytes) -> Vote | None:
        """My vote, persisted and sent the first time it is cast; None when the guard refuses it."""
        is_first = self._guard.get(self.height, view, phase) is None
        vote = self._guard.sign(self._credentials, self.height, view, phase, digest)
        if vote is None:
            return None
        if phase is not Phase.PRE_PREPARE:
            self._log.add_own(vote)
        if is_first:
            self._persist(vote)
            if phase is not Phase.PRE_PREPARE:
                self._outbox.broadcast(vote)
        return vote

    def _persist(self, vote: Vote) -> None:
        if vote.digest not in self._journaled:
            proposal = self.get_proposal(vote.digest)
            assert proposal is not None
            self.keep(vote.digest, proposal)
            self._journaled.add(vote.digest)
            # Header and every body are on disk before the vote that vouches for them (rule P1).
            self._outbox.persist(
                ProposalRecord(self.height, vote.digest, proposal.header, proposal.transaction_hashes)
            )
        self._outbox.persist(VoteRecord(vote))
