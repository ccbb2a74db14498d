"""Nothing is lost in the network for good: STATUS says what a replica holds, the answers are what it misses.

What is missing is computed by pure functions; a pace bounds how often anybody is answered.
"""

from __future__ import annotations

from consensus.certificates import Certificate, Phase
from consensus.credentials import NO_SIGNATURE
from consensus.head import Head
from consensus.messages import (
    CommittedNotice,
    Message,
    ProposalResponse,
    Recollection,
    Status,
)
from consensus.outbox import Outbox
from consensus.pace import Pace
from consensus.ports import Proposal
from consensus.replica_set import ReplicaId
from consensus.settings import ReplicaSettings
from consensus.state import ReplicaState
from consensus.views import Views


class Repair:
    """Answers those who miss something, at a pace for each peer."""

    __slots__ = ("_live_ms", "_notices", "_outbox", "_responses", "_statuses")

    def __init__(self, settings: ReplicaSettings, outbox: Outbox) -> None:
        self._outbox = outbox
        self._live_ms = 4 * settings.status_interval_ms
        self._statuses = Pace(settings.status_interval_ms // 4)
        self._notices = Pace(settings.notice_interval_ms)
        self._responses = Pace(settings.notice_interval_ms)

    def hear(self, sender: ReplicaId, now_ms: int) -> bool:
        """Whether this STATUS comes late enough after its sender's last to be read."""
        return self._statuses.take(sender, now_ms)

    def is_live(self, replica: int, now_ms: int) -> bool:
        """Whether the replica has sent STATUS lately."""
        heard_ms = self._statuses.get_last(replica)
        return heard_ms is not None and now_ms - heard_ms <= self._live_ms

    def notify(self, sender: ReplicaId, certificate: Certificate | None, now_ms: int) -> None:
        """Tell who speaks of what is past that it is final."""
        if certificate is not None and self._notices.take(sender, now_ms):
            self._outbox.send(sender, CommittedNotice(certificate))

    def serve(self, sender: ReplicaId, proposal: Proposal | None, now_ms: int) -> None:
        if proposal is not None and self._responses.take(sender, now_ms):
            self._outbox.send(sender, ProposalResponse(proposal.header, proposal.transaction_hashes))

    def answer(self, status: Status, state: ReplicaState) -> None:
        """Send what the sender of a verified STATUS misses; to a starting one what I remember of it."""
        credentials, to = state.credentials, ReplicaId(status.replica)
        is_comrade = status.epoch == credentials.epoch and credentials.is_voter(to)
        if status.session and is_comrade and credentials.is_member:
            self._outbox.send(to, compute_recollection(state, replica=to, session=status.session))
        for message in select_answers(status, state):
            self._outbox.send(to, message)


def compute_status(state: ReplicaState) -> Status:
    """Where I am and what I hold for the height after my head."""
    credentials, views = state.credentials, state.views
    slot = state.log.get(state.head.height + 1, views.view)
    unsigned = Status(
        credentials.epoch,
        state.head.height,
        views.highest,
        views.is_active,
        slot.pre_prepare is not None,
        slot.get_voters(Phase.PREPARE),
        slot.get_voters(Phase.COMMIT),
        state.startup.session,
        credentials.replica,
        NO_SIGNATURE,
    )
    return credentials.sign(unsigned)


def compute_recollection(state: ReplicaState, *, replica: int, session: int) -> Recollection:
    """What I remember of a starting `replica`."""
    unsigned = Recollection(
        session,
        state.head.height,
        state.head.certificate,
        state.log.latest.get(replica),
        state.views.changes.latest.get(replica),
        state.credentials.replica,
        NO_SIGNATURE,
    )
    return state.credentials.sign(unsigned)


def select_answers(status: Status, state: ReplicaState) -> tuple[Message, ...]:
    """What the sender of `status` misses and I have: a final block, else proofs of views and my votes.

    One in an earlier epoch could not verify what was certified since; it is told what closed that epoch. One
    that does not vote needs final blocks only.
    """
    credentials, head, views = state.credentials, state.head, state.views
    if status.epoch < credentials.epoch:
        return () if head.closing is None else (CommittedNotice(head.closing),)
    if status.height < head.height:
        return () if head.certificate is None else (CommittedNotice(head.certificate),)
    if status.height > head.height or status.epoch > credentials.epoch:
        return ()
    if not credentials.is_voter(status.replica):
        return ()
    if status.is_active and status.view == views.view:
        return (*_select_view_change(status, views), *_select_votes(status, state))
    if status.view > views.view:
        return _select_view_change(status, views)
    return (*_select_view_change(status, views), *_select_view_proof(head, views))


def _select_view_change(status: Status, views: Views) -> tuple[Message, ...]:
    """My VIEW-CHANGE goes out again and again until a view at least as high has begun (rule V9)."""
    is_wanted = not views.is_active and (status.view < views.asked or not status.is_active)
    return (views.own,) if is_wanted and views.own is not None else ()


def _select_view_proof(head: Head, views: Views) -> tuple[Message, ...]:
    if views.new_view is not None:
        return (views.new_view,)
    if head.certificate is not None and head.certificate.view == views.view:
        return (CommittedNotice(head.certificate),)
    return ()


def _select_votes(status: Status, state: ReplicaState) -> tuple[Message, ...]:
    answers: list[Message] = []
    height, view, own = state.head.height + 1, state.views.view, state.credentials.replica
    proposal = state.log.get(height, view).pre_prepare
    if proposal is not None and proposal.primary == own and not status.has_proposal:
        answers.append(proposal)
    for phase, held in ((Phase.PREPARE, status.prepares), (Phase.COMMIT, status.commits)):
        vote = state.guard.get(height, view, phase)
        if vote is not None and own not in held:
            answers.append(vote)
    return tuple(answers)
