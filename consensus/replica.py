"""The replica: one door for events, one value of effects out.

Theory of operation. One height at a time: the primary of (height, view) proposes, everybody executes before
voting, a quorum of PREPAREs makes a block prepared, a quorum of COMMITs makes it final, and only when it is
durable does work on the next height begin. A view that brings my oldest pending transaction nowhere is left
by VIEW-CHANGE; a NEW-VIEW carries a quorum of them and forces what is proposed again. Who misses anything is
told by the answers to its STATUS. The whole protocol with its rules is docs/protocol.md.

The parts: `Agreement` votes on one height, `Views` knows which view is on, `VoteLog` holds what was received,
`VoteGuard` what was signed, `Patience` the timer, `Startup` the right to vote after a start. This module
connects them; it reads no clock, and the same events lead to the same effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from consensus.agreement import Agreement
from consensus.catch_up import CatchUp
from consensus.certificates import Certificate, Phase, Verify
from consensus.credentials import Credentials, InvalidMessage, Signer
from consensus.effects import (
    NOTHING,
    Build,
    Discard,
    Effects,
    ForwardOldest,
    Halt,
    ReportEvidence,
    ReportRefusal,
    TruncateJournal,
)
from consensus.events import (
    BlockDurable,
    ChainSynced,
    Event,
    MessageReceived,
    PeerConnected,
    PendingChanged,
    ProposalBuilt,
    ProposalValidated,
    Tick,
)
from consensus.head import Head
from consensus.journal_records import JournalRecord, SilenceRecord, ViewChangeRecord
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    ProposalRequest,
    ProposalResponse,
    Recollection,
    Status,
    ViewChange,
    Vote,
)
from consensus.outbox import Outbox
from consensus.patience import Patience
from consensus.ports import Proposal
from consensus.repair import Pace, Repair, compute_status
from consensus.replica_set import VIEW_MAX, Epoch, Height, ReplicaId, ReplicaSet, View
from consensus.replica_status import ReplicaStatus
from consensus.restoration import read_journal, restore
from consensus.settings import ReplicaSettings
from consensus.startup import Startup
from consensus.views import Views
from consensus.vote_guard import VoteGuard
from consensus.votes import Contradiction, VoteLog

REJOIN_VIEWS_MAX: Final = 16
"""How far above mine a lone VIEW-CHANGE may be to be joined, so that nobody alone uses the views up."""


class Replica:
    """One replica of the set; see the module for how it works."""

    def __init__(
        self,
        *,
        settings: ReplicaSettings,
        chain_id: bytes,
        replica_id: ReplicaId,
        public_key: bytes,
        signer: Signer,
        verify: Verify,
        replica_set: ReplicaSet,
        head: Head,
        compute_digest: Callable[[Proposal], bytes],
        journal: Sequence[JournalRecord] = (),
        journal_missing: bool = False,
    ) -> None:
        self._settings = settings
        self._compute_digest = compute_digest
        self._credentials = Credentials(
            chain_id=chain_id,
            replica=replica_id,
            public_key=public_key,
            replica_set=replica_set,
            epoch_base=head.epoch_base,
            blocks_per_primary=settings.blocks_per_primary,
            signer=signer,
            verify=verify,
        )
        self._outbox = Outbox()
        self._head = head
        self._guard = VoteGuard()
        self._log = VoteLog()
        self._views = Views(self._credentials, self._outbox)
        self._patience = Patience(settings)
        self._now_ms: int | None = None
        self._wall_ms = 0
        self._head_since_ms = 0
        self._is_building = False
        self._build_after_ms = 0
        self._status_after_ms = 0
        self._asking_since_ms = 0
        self._catch_up = CatchUp(self._outbox, settings.sync_retry_ms)
        self._budgets: dict[int, int] = {}
        self._repair = Repair(settings, self._outbox)
        self._rejoin_pace = Pace(4 * settings.rejoin_timeout_ms)
        self._view_changes_sent = 0
        self._halt_reason = ""
        memory = read_journal(journal, epoch=replica_set.epoch, height=head.height)
        self._startup = Startup(
            journal_missing=journal_missing,
            silent_until=memory.silent_until,
            height=head.height,
            voted_height=max((vote.height for vote in memory.votes), default=0),
            is_overridden=memory.is_overridden,
        )
        self._agreement = self._open_height()
        restore(
            memory,
            credentials=self._credentials,
            head=head,
            views=self._views,
            agreement=self._agreement,
            guard=self._guard,
            log=self._log,
        )

    @property
    def status(self) -> ReplicaStatus:
        height = self._head.height
        certified = self._catch_up.certificate
        is_member = self._credentials.is_member
        is_silent = self._startup.is_decided and not self._startup.may_vote(height)
        reason = self._startup.reason if is_silent else ""
        if not is_member:
            is_silent, reason = True, f"not a member of epoch {self._credentials.epoch}"
        return ReplicaStatus(
            epoch=Epoch(self._credentials.epoch),
            height=height,
            certified_height=height if certified is None else Height(certified.height),
            view=self._views.view,
            asked_view=self._views.asked,
            primary=self._get_primary(),
            is_member=is_member,
            is_starting=is_member and not self._startup.is_decided,
            is_silent=is_silent,
            silent_reason=reason,
            is_in_view_change=not self._views.is_active,
            failed_views=self._patience.failed_views,
            view_changes_sent=self._view_changes_sent,
            halt_reason=self._halt_reason,
        )

    def step(self, event: Event) -> Effects:
        """Handle one event. Nothing is done before the first tick, and nothing after a halt."""
        if self._halt_reason or (self._now_ms is None and isinstance(event, MessageReceived)):
            return NOTHING
        may_advance = True
        match event:
            case MessageReceived():
                may_advance = self._on_message(event.sender, event.message)
            case Tick():
                self._on_tick(event)
            case ProposalBuilt():
                self._on_built(event)
            case ProposalValidated():
                self._on_validated(event)
            case BlockDurable():
                self._on_block_durable(event)
            case ChainSynced():
                self._on_chain_synced(event)
            case PendingChanged():
                self._build_after_ms = 0
                self._patience.set_oldest(event.oldest)
            case PeerConnected():
                if self._now_ms is not None and not self._credentials.is_displaced:
                    self._outbox.send(event.replica, self._compute_status())
            case _:
                assert_never(event)
        if may_advance and self._now_ms is not None and not self._halt_reason:
            self._advance(self._now_ms)
        effects = self._outbox.flush()
        return Effects(apply=(Halt(reason=self._halt_reason),)) if self._halt_reason else effects

    # What the next step is, whatever the event was.

    def _advance(self, now_ms: int) -> None:
        if self._may_vote():
            slot = self._log.get(self._agreement.height, self._views.view)
            if slot.pre_prepare is None:
                self._lead(now_ms)
            if slot.pre_prepare is not None:
                self._agreement.follow(
                    self._views.view,
                    self._views.get_obligation(self._agreement.height),
                    now_ms=now_ms,
                    wall_ms=self._wall_ms,
                    tolerance_ms=self._patience.tolerance_ms,
                )
        self._finish(now_ms)

    def _may_vote(self) -> bool:
        """Only as a member, in a view, above its base, remembering my votes, with nothing final missing."""
        return (
            self._agreement.committing is None
            and self._catch_up.certificate is None
            and self._views.is_active
            and self._head.height >= self._views.entered_height
            and self._startup.may_vote(self._head.height)
            and self._credentials.is_member
        )

    def _get_primary(self) -> ReplicaId:
        return self._credentials.compute_primary(self._agreement.height, self._views.view)

    def _lead(self, now_ms: int) -> None:
        """As the primary that has not proposed yet: what the view change forces, else something new."""
        height, view = self._agreement.height, self._views.view
        if not self._credentials.is_primary(height, view):
            return
        if self._guard.get(height, view, Phase.PRE_PREPARE) is not None:
            return  # I have proposed here before a restart, and what it was is lost: the view must change.
        obligation = self._views.get_obligation(height)
        if obligation is not None:
            self._agreement.propose_again(view, obligation.digest, now_ms)
            return
        is_idle = now_ms - self._head_since_ms >= self._settings.idle_block_interval_ms
        has_work = self._patience.oldest is not None or is_idle
        if has_work and not self._is_building and now_ms >= self._build_after_ms:
            self._is_building = True
            epoch = Epoch(self._credentials.epoch)
            self._outbox.apply(Build(epoch=epoch, height=height, view=view, may_be_empty=is_idle))

    def _finish(self, now_ms: int) -> None:
        """Commit what is certified; sync what is certified and cannot be committed from here."""
        if self._agreement.committing is not None:
            return
        certified = self._catch_up.certificate
        if certified is None:
            certified = self._agreement.find_certificate()
            if certified is None:
                return
            self._catch_up.note(certified, self._credentials.replica, self._credentials.replica)
        if certified.height == self._agreement.height:
            if self._agreement.has_diverged(certified.digest):
                # A quorum found other results than I: going on would fork the ledger (rule E2).
                self._halt(
                    f"height {certified.height}: certified block {certified.digest.hex()} gave other results "
                    "here; compare versions and state with the other nodes before you start again"
                )
                return
            if self._agreement.complete(certified):
                return
        self._catch_up.request(now_ms)

    def _halt(self, reason: str) -> None:
        """Nothing more is sent, not even what this step had prepared."""
        self._halt_reason = reason

    # Time.

    def _on_tick(self, event: Tick) -> None:
        now_ms = event.monotonic_ms
        is_alone = self._credentials.is_member and len(self._credentials.replica_set.members) == 1
        if self._now_ms is None:
            # How long all were down is not known here; the ledger knows, and builds an empty block if due.
            self._head_since_ms = now_ms - self._settings.idle_block_interval_ms
            self._startup.begin(event.wall_ms)
            if self._startup.is_amnesiac and not self._startup.is_decided and not is_alone:
                # From now on the journal exists: it must say that it is not the whole story.
                self._outbox.persist(SilenceRecord(0))
        self._now_ms, self._wall_ms = now_ms, event.wall_ms
        if not self._startup.is_decided:
            self._try_start()
        if now_ms >= self._status_after_ms:
            self._status_after_ms = now_ms + self._settings.status_interval_ms
            self._budgets.clear()
            if not is_alone and not self._credentials.is_displaced:
                self._outbox.broadcast(self._compute_status())
        self._run_timer(now_ms)
        if self._views.changes.has_above(self._views.highest):
            self._rejoin(now_ms)

    def _run_timer(self, now_ms: int) -> None:
        if not self._needs_timer():
            self._patience.stop()
            return
        self._patience.run(now_ms)
        if self._patience.is_exhausted(now_ms):
            if not self._credentials.is_member:
                self._patience.stop()  # One that does not vote can only forward its oldest once more.
            self._ask_for_view(View(self._views.highest + 1), now_ms)
        elif self._views.is_active and self._patience.oldest and self._patience.take_half(now_ms):
            primary = self._get_primary()
            if primary != self._credentials.replica:
                self._outbox.apply(ForwardOldest(primary=primary))

    def _needs_timer(self) -> bool:
        """Something must be waited for: in a view the oldest transaction or an obligation, in a view change a
        NEW-VIEW that a quorum has asked for (rules L1, L2). Whoever misses final blocks waits for these."""
        if self._catch_up.certificate is not None:
            return False
        if not self._views.is_active:
            return self._views.count_asking() >= self._credentials.replica_set.quorum.size
        is_obliged = self._views.get_obligation(self._agreement.height) is not None
        return is_obliged or self._patience.oldest is not None

    def _rejoin(self, now_ms: int) -> None:
        """Follow a live peer that has waited for long in a higher view, so that it does not stay alone."""
        is_active = self._views.is_active
        wait_ms = self._settings.rejoin_timeout_ms if is_active else self._patience.timeout_ms
        if not is_active and now_ms - self._asking_since_ms < wait_ms:
            return
        highest = self._views.highest
        for view_change in self._views.changes.select_waiting(highest, now_ms - wait_ms):
            is_live = self._repair.is_live(view_change.replica, now_ms)
            if not is_live or view_change.view > highest + REJOIN_VIEWS_MAX:
                continue
            if self._rejoin_pace.take(view_change.replica, now_ms) or not is_active:
                self._ask_for_view(View(view_change.view), now_ms)
                return

    # Views.

    def _ask_for_view(self, view: View, now_ms: int) -> None:
        """Send VIEW-CHANGE, unless I may not speak or the views are used up (rule V8)."""
        may_speak = self._credentials.is_member and self._startup.may_vote(self._head.height)
        if view > VIEW_MAX or view <= self._views.highest or not may_speak:
            return
        self._views.ask(view, self._head.base, self._agreement.prepared, now_ms)
        self._view_changes_sent += 1
        self._asking_since_ms = now_ms
        self._patience.failed_views += 1
        self._patience.stop()
        self._guard.forget_below(view)
        self._move_window()
        self._try_begin_view()

    def _try_begin_view(self) -> None:
        choice = self._views.try_begin()
        if choice is not None:
            self._on_view_entered()
            if choice.base is not None and choice.base_height > self._head.height:
                self._catch_up.note(choice.base, self._credentials.replica, self._credentials.replica)

    def _on_view_entered(self) -> None:
        self._patience.stop()
        obligation = self._views.get_obligation(self._agreement.height)
        self._agreement.discard_except(None if obligation is None else obligation.digest)
        self._move_window()

    def _on_view_change(self, sender: ReplicaId, message: ViewChange, now_ms: int) -> None:
        _check_sender(sender, message.replica)
        if not self._is_of_epoch(sender, message.epoch, now_ms):
            return
        if not self._views.changes.is_newer(message) or not self._take_budget(sender):
            return
        self._credentials.verify_view_change(message)
        self._views.changes.add(message, now_ms)
        if message.base is not None:
            self._learn(message.base, sender)
        joinable = self._views.changes.find_joinable(
            self._views.highest, self._credentials.replica_set.quorum.faults_max
        )
        if joinable is not None:
            self._ask_for_view(joinable, now_ms)
        self._try_begin_view()

    def _on_new_view(self, sender: ReplicaId, message: NewView, now_ms: int) -> None:
        """The one message that others may pass on: it proves itself, whoever brings it."""
        if not self._is_of_epoch(sender, message.epoch, now_ms) or not self._views.is_news(message):
            return
        if not self._take_budget(sender):
            return
        choice = self._views.accept(message)
        self._on_view_entered()
        if choice.base is not None:
            self._learn(choice.base, sender)

    def _take_budget(self, sender: ReplicaId) -> bool:
        """Verifying view changes costs many signatures, so each peer gets only so many in an interval."""
        self._budgets[sender] = self._budgets.get(sender, 0) + 1
        return self._budgets[sender] <= self._settings.view_changes_per_interval

    # Messages.

    def _on_message(self, sender: ReplicaId, message: Message) -> bool:
        """From a member; and what proves itself or asks for what does, from anybody that has a link.

        False when nothing new can follow from it.
        """
        assert self._now_ms is not None
        is_for_all = isinstance(message, Status | CommittedNotice)
        if sender == self._credentials.replica or not (is_for_all or self._credentials.is_voter(sender)):
            return False
        try:
            return self._dispatch(sender, message, self._now_ms)
        except InvalidMessage as error:
            self._outbox.apply(ReportRefusal(sender=sender, reason=f"{type(message).__name__}: {error}"))
            return False

    def _dispatch(self, sender: ReplicaId, message: Message, now_ms: int) -> bool:
        match message:
            case PrePrepare():
                self._on_pre_prepare(sender, message, now_ms)
            case Vote():
                return self._on_vote(sender, message, now_ms)
            case ViewChange():
                self._on_view_change(sender, message, now_ms)
            case NewView():
                self._on_new_view(sender, message, now_ms)
            case Status():
                self._on_status(sender, message, now_ms)
                return False
            case Recollection():
                self._on_recollection(sender, message)
            case ProposalRequest():
                self._on_proposal_request(sender, message, now_ms)
            case ProposalResponse():
                self._on_proposal_response(message)
            case CommittedNotice():
                self._learn(message.certificate, sender)
            case _:
                assert_never(message)
        return True

    def _on_pre_prepare(self, sender: ReplicaId, message: PrePrepare, now_ms: int) -> None:
        _check_sender(sender, message.primary)
        if not self._is_wanted(sender, message, now_ms):
            return
        expected = self._credentials.compute_primary(message.height, message.view)
        if message.primary != expected:
            raise InvalidMessage(f"primary {message.primary} found, {expected} expected")
        try:
            digest = self._compute_digest(message.proposal)
        except ValueError as error:
            raise InvalidMessage(f"header and transactions do not belong together: {error}") from error
        self._report(self._log.add_proposal(message, digest, self._credentials))

    def _on_vote(self, sender: ReplicaId, message: Vote, now_ms: int) -> bool:
        """Keep the vote; whether there are as many now as could make a block prepared or final."""
        _check_sender(sender, message.replica)
        if message.phase is Phase.PRE_PREPARE:
            raise InvalidMessage("a PRE_PREPARE vote travels in a PRE-PREPARE only")
        if not self._is_wanted(sender, message, now_ms):
            return False
        primary = self._credentials.compute_primary(message.height, message.view)
        if message.phase is Phase.PREPARE and sender == primary:
            raise InvalidMessage("the primary's PRE-PREPARE is its vote; its PREPARE counts for nothing")
        self._report(self._log.add_vote(message, self._credentials))
        # The primary's proposal stands for its PREPARE.
        needed = self._credentials.replica_set.quorum.size - (message.phase is Phase.PREPARE)
        return self._log.get(message.height, message.view).count(message.phase) >= needed

    def _is_wanted(self, sender: ReplicaId, message: PrePrepare | Vote, now_ms: int) -> bool:
        """Inside the window; who is behind is told what is final (at a pace), the rest is dropped."""
        if not self._is_of_epoch(sender, message.epoch, now_ms):
            return False
        if message.height <= self._head.height:
            self._repair.notify(sender, self._head.certificate, now_ms)
            return False
        return self._log.accepts(message.height, message.view)

    def _is_of_epoch(self, sender: ReplicaId, epoch: int, now_ms: int) -> bool:
        """Votes and views belong to one epoch (rule E4); who is in an earlier one is told what closed it."""
        if epoch < self._credentials.epoch:
            self._repair.notify(sender, self._head.closing, now_ms)
        return epoch == self._credentials.epoch

    def _report(self, found: Contradiction | None) -> None:
        if found is not None:
            self._outbox.apply(ReportEvidence(first=found[0], second=found[1]))

    def _on_status(self, sender: ReplicaId, message: Status, now_ms: int) -> None:
        _check_sender(sender, message.replica)
        if not self._repair.hear(sender, now_ms):
            return
        if message.epoch > self._credentials.epoch:
            self._catch_up.follow(message.height, sender, head=self._head.height, now_ms=now_ms)
            return
        # In another epoch the sender may have another key; all that such a one is told proves itself.
        if message.epoch == self._credentials.epoch and self._credentials.is_voter(sender):
            self._credentials.verify_status(message)
        self._repair.answer(
            message,
            credentials=self._credentials,
            head=self._head,
            views=self._views,
            log=self._log,
            guard=self._guard,
        )

    def _on_recollection(self, sender: ReplicaId, message: Recollection) -> None:
        _check_sender(sender, message.replica)
        if message.session != self._startup.session or self._startup.is_decided:
            return
        self._credentials.verify_status(message)
        if message.certificate is not None:
            self._learn(message.certificate, sender)
        self._startup.add(message)
        self._try_start()

    def _try_start(self) -> None:
        """Decide, as soon as enough others have been heard, whether my journal is all that I ever said."""
        if self._now_ms is None or not self._startup.try_decide(
            self._credentials, self._guard, view=self._views.highest, height=self._head.height
        ):
            return
        if self._startup.silent_until:
            self._outbox.persist(SilenceRecord(self._startup.silent_until))
        if self._startup.forgotten is not None:
            # It goes out again and binds me again, so it must survive the next restart too (rule P3).
            self._outbox.persist(ViewChangeRecord(self._startup.forgotten))
            self._views.adopt(self._startup.forgotten, self._now_ms)
            self._move_window()

    def _on_proposal_request(self, sender: ReplicaId, message: ProposalRequest, now_ms: int) -> None:
        if not self._is_of_epoch(sender, message.epoch, now_ms):
            return
        if message.height <= self._head.height:
            self._repair.notify(sender, self._head.certificate, now_ms)
        elif message.height == self._agreement.height:
            self._repair.serve(sender, self._agreement.get_proposal(message.digest), now_ms)

    def _on_proposal_response(self, message: ProposalResponse) -> None:
        obligation = self._views.get_obligation(self._agreement.height)
        if obligation is None or self._agreement.get_proposal(obligation.digest) is not None:
            return
        try:
            digest = self._compute_digest(message.proposal)
        except ValueError as error:
            raise InvalidMessage(f"header and transactions do not belong together: {error}") from error
        if digest == obligation.digest:
            self._agreement.keep(digest, message.proposal)

    def _learn(self, certificate: Certificate, sender: ReplicaId) -> None:
        """A certificate from anybody, of any view: it makes a block final, and may prove a view."""
        if certificate.epoch > self._credentials.epoch:
            now_ms = self._now_ms or 0
            self._catch_up.follow(certificate.height, sender, head=self._head.height, now_ms=now_ms)
            return
        if certificate.epoch < self._credentials.epoch or certificate.height < self._head.height:
            return
        if certificate.height == self._head.height:
            if certificate.view > self._views.view or certificate.digest != self._head.digest:
                self._credentials.verify_certificate(certificate)
                self._check_agrees(certificate)
                self._enter_by(certificate)
            return
        if self._catch_up.is_news(certificate):
            self._credentials.verify_certificate(certificate)
            self._catch_up.note(certificate, sender, self._credentials.replica)

    def _check_agrees(self, certificate: Certificate) -> None:
        if certificate.digest != self._head.digest:
            self._halt(
                f"height {certificate.height}: block {certificate.digest.hex()} is certified, and here "
                f"{self._head.digest.hex()} is: more replicas are faulty than the protocol allows"
            )

    def _enter_by(self, certificate: Certificate) -> None:
        if self._views.enter_by_certificate(certificate):
            self._on_view_entered()

    # What the driver reports.

    def _on_built(self, event: ProposalBuilt) -> None:
        self._is_building = False
        if event.proposal is None or event.digest is None:
            self._build_after_ms = (self._now_ms or 0) + self._settings.build_retry_ms
            return
        slot_now = (self._credentials.epoch, self._agreement.height, self._views.view)
        height, view = self._agreement.height, self._views.view
        is_current = (event.epoch, event.height, event.view) == slot_now and self._may_vote()
        is_free = is_current and self._log.get(height, view).pre_prepare is None
        if not is_free or not self._agreement.accept_built(view, event.digest, event.proposal):
            self._outbox.apply(Discard(proposal=event.proposal, digest=event.digest))

    def _on_validated(self, event: ProposalValidated) -> None:
        if event.epoch == self._credentials.epoch and event.height == self._agreement.height:
            self._agreement.on_validated(event, self._now_ms or 0)

    def _on_block_durable(self, event: BlockDurable) -> None:
        committed = self._agreement.committing
        if committed is None or event.height != committed.height or event.digest != committed.digest:
            return
        self._patience.note_commit(is_empty=self._agreement.is_committing_empty)
        closing = self._head.closing if event.replica_set is None else committed
        head = Head(height=event.height, digest=event.digest, certificate=committed, closing=closing)
        self._move_head(head, event.replica_set)

    def _on_chain_synced(self, event: ChainSynced) -> None:
        if event.height <= self._head.height:
            return
        self._patience.note_commit(is_empty=False)
        is_new_epoch = event.replica_set.epoch != self._credentials.epoch
        head = Head(
            height=event.height,
            digest=event.digest,
            certificate=event.certificate,
            closing=(event.closing or event.certificate) if is_new_epoch else self._head.closing,
        )
        self._move_head(head, event.replica_set if is_new_epoch else None)

    def _move_head(self, head: Head, replica_set: ReplicaSet | None) -> None:
        """A new height begins; its predecessor is on disk (no vote for it could be cast before)."""
        self._head = head
        self._head_since_ms = self._now_ms or 0
        self._build_after_ms = 0
        self._catch_up.reach(head.height)
        if replica_set is not None:
            self._credentials = self._credentials.open_epoch(replica_set, head.epoch_base)
            self._views = Views(self._credentials, self._outbox)
            self._log = VoteLog()
            self._catch_up = CatchUp(self._outbox, self._settings.sync_retry_ms)
            self._startup.open_epoch()
        self._guard.forget_through(head.height)
        self._agreement.close()
        self._agreement = self._open_height()
        if head.certificate is not None and head.certificate.epoch == self._credentials.epoch:
            self._enter_by(head.certificate)
        self._outbox.apply(TruncateJournal(height=head.height))

    def _open_height(self) -> Agreement:
        height = Height(self._head.height + 1)
        self._move_window_to(height)
        return Agreement(
            credentials=self._credentials,
            guard=self._guard,
            log=self._log,
            outbox=self._outbox,
            height=height,
            retry_ms=self._settings.build_retry_ms,
        )

    def _move_window(self) -> None:
        self._move_window_to(self._agreement.height)

    def _move_window_to(self, height: Height) -> None:
        self._log.move(height=height, view_low=self._views.view, view_high=self._views.highest)

    def _compute_status(self) -> Status:
        return compute_status(
            self._credentials,
            height=self._head.height,
            views=self._views,
            log=self._log,
            session=self._startup.session,
        )


def _check_sender(sender: ReplicaId, claimed: int) -> None:
    """Transport peer and signer agree, or the message is refused (rule V1)."""
    if claimed != sender:
        raise InvalidMessage(f"signer {claimed} found, the peer that sent it is {sender}")
