"""What a replica knows at one time: its head, its epoch, the votes and views above the head, the time.

Invariants: the parts belong to one height and one epoch and move on together; a new height begins only when
its predecessor is durable; and whoever has halted says nothing more. Here is how they move, by a block, a
certificate, a view or the end of a start; what is said and when is decided in `view_changer`, `reception` and
`replica`, which all share one state.
"""

from __future__ import annotations

from consensus.agreement import Agreement
from consensus.catch_up import CatchUp
from consensus.certificates import Certificate, PreparedCertificate
from consensus.credentials import Credentials
from consensus.effects import TruncateJournal
from consensus.head import Head
from consensus.journal_records import SilenceRecord, ViewChangeRecord
from consensus.outbox import Outbox
from consensus.patience import Patience
from consensus.primary_watch import PrimaryWatch
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from consensus.settings import ReplicaSettings
from consensus.startup import Startup
from consensus.views import Views
from consensus.vote_guard import VoteGuard
from consensus.votes import VoteLog


class ReplicaState:
    """The parts of one replica; `credentials`, `views`, `log` and `catch_up` are of the present epoch."""

    __slots__ = (
        "agreement",
        "catch_up",
        "credentials",
        "guard",
        "halt_reason",
        "has_begun",
        "head",
        "head_since_ms",
        "log",
        "now_ms",
        "outbox",
        "patience",
        "settings",
        "startup",
        "views",
        "wall_ms",
        "watch",
    )

    def __init__(
        self, *, settings: ReplicaSettings, credentials: Credentials, head: Head, startup: Startup
    ) -> None:
        self.settings = settings
        self.credentials = credentials
        self.head = head
        self.startup = startup
        self.outbox = Outbox()
        self.guard = VoteGuard()
        self.patience = Patience(settings)
        self.watch = PrimaryWatch(settings)
        self.has_begun = False
        """Whether the first tick has come."""
        self.now_ms = 0
        """Of the last tick, on the clock that never goes back."""
        self.wall_ms = 0
        self.head_since_ms = 0
        self.halt_reason = ""
        self._open_epoch()
        self._open_height()

    @property
    def obligation(self) -> PreparedCertificate | None:
        """What this view must propose again at the height at work."""
        return self.views.get_obligation(self.agreement.height)

    @property
    def primary(self) -> ReplicaId:
        """Of the height at work in the view at work."""
        return self.credentials.compute_primary(self.agreement.height, self.views.view)

    @property
    def may_speak(self) -> bool:
        """Whether what I say counts, and I remember all that I have said."""
        return self.startup.may_vote(self.head.height) and self.credentials.is_member

    @property
    def may_vote(self) -> bool:
        """Only in a view, above its base, with nothing final missing; and when I may speak at all."""
        return (
            self.agreement.committing is None
            and self.catch_up.certificate is None
            and self.views.is_active
            and self.head.height >= self.views.entered_height
            and self.may_speak
        )

    def halt(self, reason: str) -> None:
        """Nothing more is sent, not even what this step had prepared."""
        self.halt_reason = reason

    def learn(self, certificate: Certificate, sender: ReplicaId) -> bool:
        """A certificate from anybody, of any view, makes a block final, and may prove a view; whether it did.

        Raises InvalidMessage when it proves nothing.
        """
        if certificate.epoch > self.credentials.epoch:
            self.catch_up.follow(certificate.height, sender, head=self.head.height, now_ms=self.now_ms)
            return False
        if certificate.epoch < self.credentials.epoch or certificate.height < self.head.height:
            return False
        if certificate.height > self.head.height:
            if not self.catch_up.is_news(certificate):
                return False
            self.credentials.verify_certificate(certificate)
            self.catch_up.note(certificate, sender)
            return True
        if certificate.view <= self.views.view and certificate.digest == self.head.digest:
            return False
        self.credentials.verify_certificate(certificate)
        if certificate.digest != self.head.digest:
            self.halt(
                f"height {certificate.height}: block {certificate.digest.hex()} is certified, and here "
                f"{self.head.digest.hex()} is: more replicas are faulty than the protocol allows"
            )
        self._enter_by(certificate)
        return True

    def try_start(self) -> None:
        """Decide, as soon as enough others have been heard, whether my journal is all that I ever said."""
        view, height = self.views.highest, self.head.height
        if not self.has_begun or not self.startup.try_decide(
            self.credentials, self.guard, view=view, height=height
        ):
            return
        if self.startup.silent_until:
            self.outbox.persist(SilenceRecord(self.startup.silent_until, self.credentials.epoch))
        if self.startup.forgotten is not None:
            # It goes out again and binds me again, so it must survive the next restart too (rule P3).
            self.outbox.persist(ViewChangeRecord(self.startup.forgotten))
            self.views.adopt(self.startup.forgotten, self.now_ms)
            self.move_window()

    def enter_view(self) -> None:
        """`views` has entered another one: what was executed for an older one is dropped."""
        self.patience.stop()
        self.watch.stop()
        self.watch.suspect = None
        obligation = self.obligation
        self.agreement.discard_except(None if obligation is None else obligation.digest)
        self.move_window()

    def move_window(self) -> None:
        """Votes are kept around the views at work."""
        self.log.move(height=self.head.height + 1, view_low=self.views.view, view_high=self.views.highest)

    def move_head(self, head: Head, replica_set: ReplicaSet | None) -> None:
        """A new height begins; its predecessor is on disk (no vote for it could be cast before).

        `replica_set` is the next height's where it is another one than before.
        """
        height_before, self.head = self.head.height, head
        self.head_since_ms = self.now_ms
        self.watch.stop()
        self.catch_up.reach(head.height)
        if replica_set is not None:
            self.credentials = self.credentials.open_epoch(replica_set, head.epoch_base)
            self._open_epoch()
            if self.startup.open_epoch(height_before, has_voted=self.guard.has_signed):
                self.outbox.persist(SilenceRecord(0))
        self.guard.forget_through(head.height)
        self.agreement.close()
        self._open_height()
        if head.certificate is not None and head.certificate.epoch == self.credentials.epoch:
            self._enter_by(head.certificate)
        self.outbox.apply(TruncateJournal(height=head.height))

    def _enter_by(self, certificate: Certificate) -> None:
        if self.views.enter_by_certificate(certificate):
            self.enter_view()

    def _open_epoch(self) -> None:
        self.views = Views(self.credentials, self.outbox)
        self.log = VoteLog()
        self.watch.retain([member.replica for member in self.credentials.replica_set.members])
        self.catch_up = CatchUp(self.outbox, self.settings.sync_retry_ms, self.credentials.replica)

    def _open_height(self) -> None:
        self.move_window()
        self.agreement = Agreement(
            credentials=self.credentials,
            guard=self.guard,
            log=self.log,
            outbox=self.outbox,
            height=Height(self.head.height + 1),
            retry_ms=self.settings.build_retry_ms,
        )
