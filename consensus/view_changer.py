"""When a view is left, and how the next one begins.

A view that brings my oldest pending transaction nowhere is left when the timer says so, one whose primary is
slow beside the others when the watch says so (rule L3), and any when more others than may be faulty have left
it (rule V9). A quorum of VIEW-CHANGEs opens a view, and its primary
proves that by NEW-VIEW, which forces what is proposed again (rule V5).
"""

from __future__ import annotations

from typing import Final

from consensus.effects import ForwardOldest
from consensus.messages import NewView, ViewChange
from consensus.pace import Pace
from consensus.repair import Repair
from consensus.replica_set import VIEW_MAX, ReplicaId, View
from consensus.state import ReplicaState

REJOIN_VIEWS_MAX: Final = 16
"""How far above mine a lone VIEW-CHANGE may be to be joined, so that nobody alone uses the views up."""
OVERDUE_INTERVALS: Final = 3
"""After so many idle intervals without a block the primary is taken to be gone, though nothing is pending."""


class ViewChanger:
    """Asks for views, joins others who do, and enters what a quorum has asked for."""

    __slots__ = ("_asking_since_ms", "_budgets", "_rejoin_pace", "_repair", "_state", "sent")

    def __init__(self, state: ReplicaState, repair: Repair) -> None:
        self.sent = 0
        """VIEW-CHANGEs of mine since the start."""
        self._state = state
        self._repair = repair
        self._asking_since_ms = 0
        self._budgets: dict[int, int] = {}
        self._rejoin_pace = Pace(4 * state.settings.rejoin_timeout_ms)

    def renew_budgets(self) -> None:
        """Another interval begins: everybody may have view changes verified again."""
        self._budgets.clear()

    def on_tick(self) -> None:
        """Look at the timer, and at those who wait alone in a higher view."""
        self._run_timer()
        views = self._state.views
        if views.changes.has_above(views.highest):
            self._rejoin()

    def on_view_change(self, sender: ReplicaId, message: ViewChange) -> None:
        """Keep it, and join or begin the view if enough have asked for it. Raises InvalidMessage."""
        state = self._state
        if not state.views.changes.is_newer(message) or not self._take_budget(sender):
            return
        state.credentials.verify_view_change(message)
        state.views.changes.add(message, state.now_ms)
        if message.base is not None:
            state.learn(message.base, sender)
        faults_max = state.credentials.replica_set.quorum.faults_max
        joinable = state.views.changes.find_joinable(state.views.highest, faults_max)
        if joinable is not None:
            self._ask(joinable)
        self._try_begin()

    def on_new_view(self, sender: ReplicaId, message: NewView) -> None:
        """The one message that others may pass on: it proves itself. Raises InvalidMessage."""
        state = self._state
        if not state.views.is_news(message) or not self._take_budget(sender):
            return
        choice = state.views.accept(message)
        state.enter_view()
        if choice.base is not None:
            state.learn(choice.base, sender)

    def _take_budget(self, sender: ReplicaId) -> bool:
        """Verifying view changes costs many signatures, so each peer gets only so many in an interval."""
        self._budgets[sender] = self._budgets.get(sender, 0) + 1
        return self._budgets[sender] <= self._state.settings.view_changes_per_interval

    def _ask(self, view: View) -> None:
        """Send VIEW-CHANGE, unless I may not speak or the views are used up (rule V8)."""
        state = self._state
        if view > VIEW_MAX or view <= state.views.highest or not state.may_speak:
            return
        state.views.ask(view, state.head.base, state.agreement.prepared, state.now_ms)
        self.sent += 1
        self._asking_since_ms = state.now_ms
        state.patience.failed_views += 1
        state.patience.stop()
        state.guard.forget_below(view)
        state.move_window()
        self._try_begin()

    def _try_begin(self) -> None:
        """As its primary, begin the view that a quorum has asked for."""
        state = self._state
        choice = state.views.try_begin()
        if choice is not None:
            state.enter_view()
            if choice.base is not None and choice.base_height > state.head.height:
                state.catch_up.note(choice.base)

    def _run_timer(self) -> None:
        state, patience = self._state, self._state.patience
        if not self._needs_timer():
            patience.stop()
            state.watch.stop()
            return
        patience.run(state.now_ms)
        state.watch.run(state.now_ms)
        if patience.is_exhausted(state.now_ms) or self._is_primary_slow():
            if not state.credentials.is_member:
                patience.stop()  # One that does not vote can only forward its oldest once more.
            self._ask(View(state.views.highest + 1))
        elif state.views.is_active and patience.oldest and patience.take_half(state.now_ms):
            self._forward_oldest()

    def _is_primary_slow(self) -> bool:
        """Whether the present primary, another than I, is to be complained of now; once for each block."""
        state, suspect = self._state, self._state.watch.suspect
        if suspect is None or suspect == state.credentials.replica:
            return False
        if not state.views.is_active or suspect != state.primary:
            return False
        state.watch.suspect = None
        return True

    def _forward_oldest(self) -> None:
        """Half of the time has passed: the primary may not have the transaction that I wait for."""
        state = self._state
        if state.primary != state.credentials.replica:
            state.outbox.apply(ForwardOldest(primary=state.primary))

    def _needs_timer(self) -> bool:
        """Something must be waited for: in a view the oldest transaction, an obligation or an overdue idle
        block, in a view change a NEW-VIEW that a quorum has asked for (rules L1, L2). Whoever misses final
        blocks waits for these.

        Were the idle block not waited for, block time would stand still in a dead primary's turn until what
        clients sign in their own time could not be taken any more, and nothing would ever be pending.
        """
        state = self._state
        if state.catch_up.certificate is not None:
            return False
        if not state.views.is_active:
            return state.views.count_asking() >= state.credentials.replica_set.quorum.size
        overdue_ms = OVERDUE_INTERVALS * state.settings.idle_block_interval_ms
        is_overdue = state.now_ms - state.head_since_ms >= overdue_ms
        return is_overdue or state.patience.oldest is not None or state.obligation is not None

    def _rejoin(self) -> None:
        """Follow a live peer that has waited for long in a higher view, so that it does not stay alone."""
        state, now_ms = self._state, self._state.now_ms
        is_active = state.views.is_active
        wait_ms = state.settings.rejoin_timeout_ms if is_active else state.patience.timeout_ms
        if not is_active and now_ms - self._asking_since_ms < wait_ms:
            return
        highest = state.views.highest
        for view_change in state.views.changes.select_waiting(highest, now_ms - wait_ms):
            is_live = self._repair.is_live(view_change.replica, now_ms)
            if not is_live or view_change.view > highest + REJOIN_VIEWS_MAX:
                continue
            if self._rejoin_pace.take(view_change.replica, now_ms) or not is_active:
                self._ask(View(view_change.view))
                return
