"""The replica: one door for events, one value of effects out.

Theory of operation. One height at a time: the primary of (height, view) proposes, everybody executes before
voting, a quorum of PREPAREs makes a block prepared, a quorum of COMMITs makes it final, and only when it is
durable does work on the next height begin. A view that brings my oldest pending transaction nowhere is left
by VIEW-CHANGE; a NEW-VIEW carries a quorum of them and forces what is proposed again. Who misses anything is
told by the answers to its STATUS. The whole protocol with its rules is docs/protocol.md.

The parts: `ReplicaState` is what I know, with an `Agreement` that votes on one height, `Views` that knows
which view is on, a `VoteLog` of what was received, a `VoteGuard` of what was signed, the timer `Patience`,
and `Startup`, the right to vote after a start. `Reception` takes messages in, `ViewChanger` leaves and enters
views. This module decides what follows from each event; it reads no clock, and the same events lead to the
same effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from consensus.certificates import Phase, Verify
from consensus.credentials import Credentials, Signer
from consensus.effects import NOTHING, Build, Discard, Effects, Halt
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
from consensus.journal_records import JournalRecord, SilenceRecord
from consensus.ports import Proposal
from consensus.reception import Reception
from consensus.repair import Repair, compute_status
from consensus.replica_set import Epoch, ReplicaId, ReplicaSet
from consensus.replica_status import ReplicaStatus, describe_status
from consensus.restoration import read_journal, restore
from consensus.settings import ReplicaSettings
from consensus.startup import Startup
from consensus.state import ReplicaState
from consensus.view_changer import ViewChanger


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
        credentials = Credentials(
            chain_id=chain_id,
            replica=replica_id,
            public_key=public_key,
            replica_set=replica_set,
            epoch_base=head.epoch_base,
            blocks_per_primary=settings.blocks_per_primary,
            signer=signer,
            verify=verify,
        )
        memory = read_journal(journal, epoch=replica_set.epoch, height=head.height)
        startup = Startup(
            journal_missing=journal_missing,
            silent_until=memory.silent_until,
            height=head.height,
            voted_height=memory.voted_height,
            is_ahead=memory.is_ahead,
            is_overridden=memory.is_overridden,
        )
        self._state = ReplicaState(settings=settings, credentials=credentials, head=head, startup=startup)
        restore(memory, self._state)
        self._journal = tuple(journal) if memory.is_ahead else ()
        """As it was found, until the ledger has come again to the last epoch in which I spoke."""
        repair = Repair(settings, self._state.outbox)
        self._view_changer = ViewChanger(self._state, repair)
        self._reception = Reception(
            self._state, repair=repair, view_changer=self._view_changer, compute_digest=compute_digest
        )
        self._is_building = False
        self._build_after_ms = 0
        self._status_after_ms = 0

    @property
    def status(self) -> ReplicaStatus:
        return describe_status(self._state, view_changes_sent=self._view_changer.sent)

    def step(self, event: Event) -> Effects:
        """Handle one event. Nothing is done before the first tick, and nothing after a halt."""
        state = self._state
        if state.halt_reason or (not state.has_begun and isinstance(event, MessageReceived)):
            return NOTHING
        if self._handle(event) and state.has_begun and not state.halt_reason:
            self._advance()
        effects = state.outbox.flush()
        return Effects(apply=(Halt(reason=state.halt_reason),)) if state.halt_reason else effects

    def _handle(self, event: Event) -> bool:
        """What the event changes; False when nothing new can follow from it."""
        match event:
            case MessageReceived():
                return self._reception.receive(event.sender, event.message)
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
                self._state.patience.set_oldest(event.oldest)
                return event.oldest is not None
            case PeerConnected():
                if self._state.has_begun and not self._state.credentials.is_displaced:
                    self._state.outbox.send(event.replica, compute_status(self._state))
            case _:
                assert_never(event)
        return True

    # What the next step is, whatever the event was.

    def _advance(self) -> None:
        state = self._state
        if state.may_vote:
            view, agreement = state.views.view, state.agreement
            slot = state.log.get(agreement.height, view)
            if slot.pre_prepare is None:
                self._lead()
            if slot.pre_prepare is not None:
                agreement.follow(
                    view,
                    slot,
                    state.obligation,
                    now_ms=state.now_ms,
                    wall_ms=state.wall_ms,
                    tolerance_ms=state.patience.tolerance_ms,
                )
        self._finish()

    def _lead(self) -> None:
        """As the primary that has not proposed yet: what the view change forces, else something new."""
        state = self._state
        height, view = state.agreement.height, state.views.view
        if not state.credentials.is_primary(height, view):
            return
        if state.guard.get(height, view, Phase.PRE_PREPARE) is not None:
            return  # I have proposed here before a restart, and what it was is lost: the view must change.
        obligation = state.obligation
        if obligation is not None:
            state.agreement.propose_again(view, obligation.digest, state.now_ms)
            return
        is_idle = state.now_ms - state.head_since_ms >= state.settings.idle_block_interval_ms
        has_work = state.patience.oldest is not None or is_idle
        if has_work and not self._is_building and state.now_ms >= self._build_after_ms:
            self._is_building = True
            epoch = Epoch(state.credentials.epoch)
            state.outbox.apply(Build(epoch=epoch, height=height, view=view, may_be_empty=is_idle))

    def _finish(self) -> None:
        """Commit what is certified; sync what is certified and cannot be committed from here."""
        state, agreement = self._state, self._state.agreement
        if agreement.committing is not None:
            return
        certified = state.catch_up.certificate
        if certified is None:
            certified = agreement.find_certificate()
            if certified is None:
                return
            state.catch_up.note(certified)
        if certified.height == agreement.height:
            if agreement.has_diverged(certified.digest):
                # A quorum found other results than I: going on would fork the ledger (rule E2).
                state.halt(
                    f"height {certified.height}: certified block {certified.digest.hex()} gave other results "
                    "here; compare versions and state with the other nodes before you start again"
                )
                return
            if agreement.complete(certified):
                return
        state.catch_up.request(state.now_ms)

    # What the driver reports.

    def _on_tick(self, event: Tick) -> None:
        state, now_ms = self._state, event.monotonic_ms
        is_alone = state.credentials.is_member and len(state.credentials.replica_set.members) == 1
        if not state.has_begun:
            state.has_begun = True
            # How long all were down is not known here; the ledger knows, and builds an empty block if due.
            state.head_since_ms = now_ms - state.settings.idle_block_interval_ms
            state.startup.begin(event.wall_ms)
            if state.startup.is_amnesiac and not state.startup.is_decided and not is_alone:
                # From now on the journal exists: it must say that it is not the whole story.
                state.outbox.persist(SilenceRecord(0))
        state.now_ms, state.wall_ms = now_ms, event.wall_ms
        if not state.startup.is_decided:
            state.try_start()
        if now_ms >= self._status_after_ms:
            self._status_after_ms = now_ms + state.settings.status_interval_ms
            self._view_changer.renew_budgets()
            if not is_alone and not state.credentials.is_displaced:
                state.outbox.broadcast(compute_status(state))
        self._view_changer.on_tick()

    def _on_built(self, event: ProposalBuilt) -> None:
        state = self._state
        self._is_building = False
        if event.proposal is None or event.digest is None:
            self._build_after_ms = state.now_ms + state.settings.build_retry_ms
            return
        height, view = state.agreement.height, state.views.view
        slot_now = (state.credentials.epoch, height, view)
        is_current = (event.epoch, event.height, event.view) == slot_now and state.may_vote
        is_free = is_current and state.log.get(height, view).pre_prepare is None
        if not is_free or not state.agreement.accept_built(view, event.digest, event.proposal):
            state.outbox.apply(Discard(proposal=event.proposal, digest=event.digest))

    def _on_validated(self, event: ProposalValidated) -> None:
        state = self._state
        if event.epoch == state.credentials.epoch and event.height == state.agreement.height:
            state.agreement.on_validated(event, state.now_ms)

    def _on_block_durable(self, event: BlockDurable) -> None:
        state, committed = self._state, self._state.agreement.committing
        if committed is None or event.height != committed.height or event.digest != committed.digest:
            return
        is_empty = state.agreement.is_committing_empty
        state.patience.note_commit(is_empty=is_empty)
        if not is_empty and state.views.is_active:
            primary = state.credentials.compute_primary(committed.height, committed.view)
            state.watch.note_block(primary, state.now_ms)
        closing = state.head.closing if event.replica_set is None else committed
        head = Head(height=event.height, digest=event.digest, certificate=committed, closing=closing)
        self._move_head(head, event.replica_set)

    def _on_chain_synced(self, event: ChainSynced) -> None:
        state = self._state
        if event.height <= state.head.height:
            return
        state.patience.note_commit(is_empty=False)
        state.watch.suspect = None
        is_new_epoch = event.replica_set.epoch != state.credentials.epoch
        head = Head(
            height=event.height,
            digest=event.digest,
            certificate=event.certificate,
            closing=(event.closing or event.certificate) if is_new_epoch else state.head.closing,
        )
        self._move_head(head, event.replica_set if is_new_epoch else None)

    def _move_head(self, head: Head, replica_set: ReplicaSet | None) -> None:
        self._build_after_ms = 0
        self._state.move_head(head, replica_set)
        if replica_set is not None and self._journal:
            # What I said in this epoch before the ledger lost it binds me, as if I had restarted here.
            memory = read_journal(self._journal, epoch=replica_set.epoch, height=head.height)
            restore(memory, self._state)
            self._journal = self._journal if memory.is_ahead else ()
