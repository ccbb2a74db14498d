"""Which view this replica is in, which it has asked for, and the proof by which it got there.

Keeps the invariants that a VIEW-CHANGE for a view is signed once, that after it nothing is voted in a lower
view, and that a view above 0 is entered only with a quorum of VIEW-CHANGEs or with a block that a quorum
committed in it (rule V10).
"""

from __future__ import annotations

from consensus.certificates import Certificate, PreparedCertificate
from consensus.credentials import NO_SIGNATURE, Credentials
from consensus.journal_records import NewViewRecord, ViewChangeRecord
from consensus.messages import NewView, ViewChange
from consensus.outbox import Outbox
from consensus.replica_set import Height, View
from consensus.view_changes import Choice, ViewChanges, compute_choice


class Views:
    """The view of one epoch."""

    __slots__ = (
        "_credentials",
        "_outbox",
        "asked",
        "changes",
        "choice",
        "entered_height",
        "new_view",
        "own",
        "view",
    )

    def __init__(self, credentials: Credentials, outbox: Outbox) -> None:
        self.view = View(0)
        """The last view that I entered."""
        self.asked = View(0)
        """The highest view that I asked for: below it I vote no more."""
        self.own: ViewChange | None = None
        """My VIEW-CHANGE for `asked`."""
        self.new_view: NewView | None = None
        """The proof of `view`; None in view 0 and where a certificate proved it."""
        self.choice: Choice | None = None
        self.entered_height = credentials.epoch_base
        """The base that `view` starts from."""
        self.changes = ViewChanges()
        self._credentials = credentials
        self._outbox = outbox

    @property
    def is_active(self) -> bool:
        """Whether I am in a view, not changing to another."""
        return self.asked <= self.view

    @property
    def highest(self) -> View:
        return max(self.view, self.asked)

    def get_obligation(self, height: int) -> PreparedCertificate | None:
        """What must be proposed again at `height` in this view."""
        if self.choice is None or self.choice.base_height + 1 != height:
            return None
        return self.choice.prepared

    def ask(
        self, view: View, base: Certificate | None, prepared: PreparedCertificate | None, now_ms: int
    ) -> None:
        """Leave every view below `view`."""
        assert view > self.highest
        view_change = self._credentials.sign_view_change(view, base, prepared)
        self._outbox.persist(ViewChangeRecord(view_change))
        self._outbox.broadcast(view_change)
        self.adopt(view_change, now_ms)

    def adopt(self, view_change: ViewChange, now_ms: int) -> None:
        """Stand by a VIEW-CHANGE of mine: just signed, from the journal, or remembered by another."""
        self.own = view_change
        self.asked = View(view_change.view)
        self.changes.add(view_change, now_ms)

    def count_asking(self) -> int:
        """How many have asked for the view that I ask for, or already for a higher one."""
        return sum(view_change.view >= self.asked for view_change in self.changes.latest.values())

    def try_begin(self) -> Choice | None:
        """Send NEW-VIEW and enter, when a quorum has asked and I am the primary after their base."""
        if self.is_active:
            return None
        quorum = self._credentials.replica_set.quorum.size
        asking = self.changes.select(self.asked)
        if len(asking) < quorum:
            return None
        # The quorum with the highest bases, so that the choice cannot start below what is known here.
        asking = tuple(
            sorted(asking, key=lambda one: (-(one.base.height if one.base else 0), one.replica))[:quorum]
        )
        choice = compute_choice(asking, self._credentials.epoch_base)
        if not self._credentials.is_primary(choice.base_height + 1, self.asked):
            return None
        proof = tuple(sorted(asking, key=lambda one: one.replica))
        credentials = self._credentials
        new_view = credentials.sign(
            NewView(credentials.epoch, self.asked, proof, credentials.replica, NO_SIGNATURE)
        )
        self._outbox.broadcast(new_view)
        self._enter_by(new_view, choice)
        return choice

    def is_news(self, new_view: NewView) -> bool:
        """Whether the NEW-VIEW would change anything, before the cost of verifying it.

        A view at a turn of primaries may begin twice, from different bases; the higher base is kept.
        """
        if new_view.view < self.highest or new_view.view == 0:
            return False
        if new_view.view > self.view:
            return True
        found = compute_choice(new_view.view_changes, self._credentials.epoch_base)
        return found.base_height > self.entered_height

    def accept(self, new_view: NewView) -> Choice:
        """Enter by another primary's NEW-VIEW. Raises InvalidMessage, and then nothing has changed."""
        choice = self._credentials.verify_new_view(new_view, self.changes.latest)
        self._enter_by(new_view, choice)
        return choice

    def restore_view(self, view: View, height: Height) -> None:
        """My journal shows votes above `height` in a view that a certificate had proved to me."""
        self._enter(view, None, None)
        self.entered_height = height

    def restore(self, new_view: NewView) -> None:
        """The NEW-VIEW from my own journal, verified when it was written."""
        self._enter(
            View(new_view.view), new_view, compute_choice(new_view.view_changes, self._credentials.epoch_base)
        )

    def enter_by_certificate(self, certificate: Certificate) -> bool:
        """A block committed in a view proves that the view began; nothing is owed above that block.

        Were anything above it committed in a lower view, every quorum that opened this view would have known
        the block, and it could not have been proposed in this view again.
        """
        if certificate.view <= self.view or certificate.view < self.asked:
            return False
        self._enter(View(certificate.view), None, None)
        self.entered_height = Height(certificate.height)
        return True

    def _enter_by(self, new_view: NewView, choice: Choice) -> None:
        # Journaled before any vote in this view: a restart finds the proof of the view again (rule P3).
        self._outbox.persist(NewViewRecord(new_view))
        self._enter(View(new_view.view), new_view, choice)

    def _enter(self, view: View, new_view: NewView | None, choice: Choice | None) -> None:
        self.view, self.new_view, self.choice = view, new_view, choice
        if choice is not None:
            self.entered_height = choice.base_height
