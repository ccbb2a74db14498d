"""Nothing is lost in the network for good: STATUS says what a replica holds, the answers are what it misses.

What is missing is computed by pure functions; a pace bounds how often anybody is answered.
"""

from __future__ import annotations

from consensus.certificates import Certificate, Phase
from consensus.credentials import Credentials
from consensus.head import Head
from consensus.messages import (
    CommittedNotice,
    Message,
    ProposalResponse,
    Recollection,
    Status,
    compute_signed_bytes,
)
from consensus.outbox import Outbox
from consensus.ports import Proposal
from consensus.replica_set import Height, ReplicaId
from consensus.settings import ReplicaSettings
from consensus.views import Views
from consensus.vote_guard import VoteGuard
from consensus.votes import VoteLog

_NO_SIGNATURE = bytes(64)


class Pace:
    """At most one in `interval_ms` for each key; keys are members, so there are few."""

    __slots__ = ("_interval_ms", "_taken_ms")

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._taken_ms: dict[int, int] = {}

    def take(self, key: int, now_ms: int) -> bool:
        taken_ms = self._taken_ms.get(key)
        if taken_ms is not None and now_ms - taken_ms < self._interval_ms:
            return False
        self._taken_ms[key] = now_ms
        return True

    def get_last(self, key: int) -> int | None:
        return self._taken_ms.get(key)


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

    def answer(
        self,
        status: Status,
        *,
        credentials: Credentials,
        head: Head,
        views: Views,
        log: VoteLog,
        guard: VoteGuard,
    ) -> None:
        """Send what the sender of a verified STATUS misses; to a starting one what I remember of it."""
        to = ReplicaId(status.replica)
        is_comrade = status.epoch == credentials.epoch and credentials.is_voter(to)
        if status.session and is_comrade and credentials.is_member:
            recollection = compute_recollection(
                credentials, replica=to, session=status.session, head=head, views=views, log=log
            )
            self._outbox.send(to, recollection)
        for message in select_answers(
            status, credentials=credentials, head=head, views=views, log=log, guard=guard
        ):
            self._outbox.send(to, message)


def compute_status(
    credentials: Credentials, *, height: Height, views: Views, log: VoteLog, session: int
) -> Status:
    """Where I am and what I hold for the height after my head."""
    slot = log.get(height + 1, views.view)

    def build(signature: bytes) -> Status:
        return Status(
            credentials.epoch,
            height,
            views.highest,
            views.is_active,
            slot.pre_prepare is not None,
            slot.get_voters(Phase.PREPARE),
            slot.get_voters(Phase.COMMIT),
            session,
            credentials.replica,
            signature,
        )

    signed = compute_signed_bytes(credentials.chain_id, build(_NO_SIGNATURE))
    return build(credentials.sign_status(signed))


def compute_recollection(
    credentials: Credentials, *, replica: int, session: int, head: Head, views: Views, log: VoteLog
) -> Recollection:
    """What I remember of a starting `replica`."""

    def build(signature: bytes) -> Recollection:
        return Recollection(
            session,
            head.height,
            head.certificate,
            log.latest.get(replica),
            views.changes.latest.get(replica),
            credentials.replica,
            signature,
        )

    signed = compute_signed_bytes(credentials.chain_id, build(_NO_SIGNATURE))
    return build(credentials.sign_status(signed))


def select_answers(
    status: Status, *, credentials: Credentials, head: Head, views: Views, log: VoteLog, guard: VoteGuard
) -> tuple[Message, ...]:
    """What the sender of `status` misses and I have: a final block, else proofs of views and my votes.

    One in an earlier epoch could not verify what was certified since; it is told what closed that epoch. One
    that does not vote needs final blocks only.
    """
    if status.epoch < credentials.epoch:
        return () if head.closing is None else (CommittedNotice(head.closing),)
    if status.height < head.height:
        return () if head.certificate is None else (CommittedNotice(head.certificate),)
    if status.height > head.height or status.epoch > credentials.epoch:
        return ()
    if not credentials.is_voter(status.replica):
        return ()
    if status.is_active and status.view == views.view:
        return (
            *_select_view_change(status, views),
            *_select_votes(status, credentials, head, views, log, guard),
        )
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


def _select_votes(
    status: Status, credentials: Credentials, head: Head, views: Views, log: VoteLog, guard: VoteGuard
) -> tuple[Message, ...]:
    answers: list[Message] = []
    height, view = head.height + 1, views.view
    proposal = log.get(height, view).pre_prepare
    if proposal is not None and proposal.primary == credentials.replica and not status.has_proposal:
        answers.append(proposal)
    for phase, held in ((Phase.PREPARE, status.prepares), (Phase.COMMIT, status.commits)):
        vote = guard.get(height, view, phase)
        if vote is not None and credentials.replica not in held:
            answers.append(vote)
    return tuple(answers)
