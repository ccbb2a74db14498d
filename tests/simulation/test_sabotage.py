"""A checker that catches nothing is a defect: each is shown a network with the fault that it is there for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Final

import pytest
from msgspec.structs import replace as replace_fields

import consensus.certificates
import consensus.credentials
import consensus.state
import consensus.views
from consensus.certificates import Certificate, PreparedCertificate
from consensus.effects import Effects, Halt, ReportEvidence, ReportRefusal, Send, TruncateJournal
from consensus.events import Event, MessageReceived, Tick
from consensus.journal_records import (
    NewViewRecord,
    PreparedRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import ViewChange, Vote
from consensus.patience import Patience
from consensus.quorum import Quorum
from consensus.replica import Replica
from consensus.replica_set import ReplicaSet, View
from consensus.startup import Startup
from consensus.view_changes import Choice, compute_choice
from consensus.views import Views
from simulation.cast import FaultyReplica, Part
from simulation.checkers import INVARIANTS
from simulation.disk import Disk
from simulation.light_ledger import LightHeader, LightLedger
from simulation.result import Violation
from simulation.settings import SimulationSettings

Hunt = Callable[..., Violation | None]
FOUR = SimulationSettings(replica_count=4)
CRASHING = SimulationSettings(replica_count=4, fault_kinds=("crash", "crash_point", "partition", "pause"))


class _SmallQuorum(Quorum):
    @property
    def size(self) -> int:
        return super().size - 1


class _WeakSet(ReplicaSet, frozen=True, array_like=True):
    @property
    def quorum(self) -> Quorum:
        return _SmallQuorum(len(self.members))


SEEN_BROKEN: Final[set[str]] = set()
"""Each invariant for which there is a test that shows it broken."""


def breaks(invariant: str) -> Callable[[Callable[..., Violation | None]], Callable[..., None]]:
    """The test returns what it found, and that must be a violation of this very invariant."""

    def decorate(test: Callable[..., Violation | None]) -> Callable[..., None]:
        @wraps(test)
        def check(**fixtures: Any) -> None:
            violation = test(**fixtures)
            assert violation is not None
            assert violation.invariant == invariant, violation.format()

        return check

    assert invariant not in SEEN_BROKEN
    SEEN_BROKEN.add(invariant)
    return decorate


def test_more_byzantine_replicas_than_f_are_seen_to_break_agreement(find_violation: Hunt) -> None:
    violation = find_violation(
        settings=replace(FOUR, byzantine_count=2, healing_ms_max=2_000, faults=False), seeds=20
    )
    assert violation is not None
    assert violation.invariant in ("agreement", "no_halt")


@breaks("certificate")
def test_quorum_one_too_small_is_caught(find_violation: Hunt) -> Violation | None:
    def create(**parts: Any) -> Replica:
        weak = _WeakSet(parts["replica_set"].epoch, parts["replica_set"].members)
        return Replica(**{**parts, "replica_set": weak})

    return find_violation(create_replica=create, settings=FOUR)


def _forget(*kinds: type) -> Callable[..., Replica]:
    """A replica that finds none of these records in its journal."""

    def create(**parts: Any) -> Replica:
        kept = [record for record in parts["journal"] if not isinstance(record, kinds)]
        return Replica(**{**parts, "journal": kept})

    return create


@breaks("no_equivocation")
def test_votes_forgotten_at_restart_are_caught_P5(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> Violation | None:
    monkeypatch.setattr(Startup, "try_decide", _decide_unreminded)
    create = _forget(VoteRecord, ProposalRecord)
    return find_violation(create_replica=create, settings=CRASHING, seeds=150, invariant="no_equivocation")


@breaks("agreement")
def test_prepared_certificate_ignored_in_view_change_is_caught_V5(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> Violation | None:
    def forgetful_choice(view_changes: Sequence[ViewChange], epoch_base: int) -> Choice:
        return replace(compute_choice(view_changes, epoch_base), prepared=None)

    monkeypatch.setattr(consensus.credentials, "compute_choice", forgetful_choice)
    monkeypatch.setattr(consensus.views, "compute_choice", forgetful_choice)
    return find_violation(
        settings=replace(FOUR, fault_kinds=("intercept",)), seeds=150, invariant="agreement"
    )


class _Hasty(Replica):
    """Sends before it persists."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        return replace_fields(effects, persist=())


@breaks("promise_on_disk")
def test_unpersisted_votes_are_caught_P1_P2(find_violation: Hunt) -> Violation | None:
    return find_violation(create_replica=_Hasty, settings=FOUR, seeds=3)


class _ForgetsProofs(Replica):
    """Persists its votes, but not what they vouch for."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        kept = tuple(r for r in effects.persist if type(r).__name__ not in ("PreparedRecord",))
        return replace_fields(effects, persist=kept)


def test_commit_without_prepared_certificate_on_disk_is_caught_P2(find_violation: Hunt) -> None:
    violation = find_violation(create_replica=_ForgetsProofs, settings=FOUR, seeds=3)
    assert violation is not None
    assert violation.invariant == "promise_on_disk"


@pytest.mark.slow
def test_forgotten_view_change_is_caught_P3(find_violation: Hunt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Startup, "try_decide", _decide_unreminded)
    create = _forget(ViewChangeRecord, NewViewRecord)
    violation = find_violation(create_replica=create, settings=CRASHING, seeds=300)
    assert violation is not None
    assert violation.invariant in ("no_vote_below_view_change", "one_view_change_per_view", "agreement")


@pytest.mark.slow
def test_forgotten_prepared_certificate_is_caught_P2(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Startup, "try_decide", _decide_unreminded)
    create = _forget(PreparedRecord)
    violation = find_violation(create_replica=create, settings=CRASHING, seeds=300)
    assert violation is not None
    assert violation.invariant in ("view_change_tells_all", "agreement", "no_halt")


_try_decide = Startup.try_decide


def _decide_unreminded(self: Startup, *context: Any, **more: Any) -> bool:
    """The others would remind it; they are not asked, unless the whole journal is gone."""
    return (_try_decide if self.is_amnesiac else _decide_at_once)(self, *context, **more)


def _decide_at_once(self: Startup, *_: object, **__: object) -> bool:
    is_first = not self._is_decided
    self._is_decided, self.session = True, 0
    return is_first


@pytest.mark.slow
def test_amnesia_without_silence_is_caught_P6(find_violation: Hunt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Startup, "try_decide", _decide_at_once)
    monkeypatch.setattr(Startup, "may_vote", lambda self, height: True)
    violation = find_violation(settings=FOUR, seeds=400)
    assert violation is not None
    assert violation.invariant in (
        "no_equivocation",
        "no_vote_below_view_change",
        "one_view_change_per_view",
        "honest_not_accused",
    )


@breaks("progress")
def test_missing_view_timer_is_caught_as_lack_of_progress_L1(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> Violation | None:
    monkeypatch.setattr(Patience, "is_exhausted", lambda self, now_ms: False)
    return find_violation(settings=replace(FOUR, healing_ms_max=5_000), seeds=100)


class _Hoarder(Replica):
    """Keeps every message that anybody sends."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.hoard: list[object] = []

    def step(self, event: Event) -> Effects:
        if isinstance(event, MessageReceived | Tick):
            self.hoard += [event, event, event]
        return super().step(event)


@breaks("bounded")
def test_replica_that_grows_is_caught_D1(find_violation: Hunt) -> Violation | None:
    return find_violation(create_replica=_Hoarder, settings=FOUR, seeds=3)


class _Crasher(Replica):
    def step(self, event: Event) -> Effects:
        if isinstance(event, MessageReceived):
            raise KeyError("a defect")
        return super().step(event)


@breaks("no_exception")
def test_exception_in_a_step_is_caught(find_violation: Hunt) -> Violation | None:
    violation = find_violation(create_replica=_Crasher, settings=FOUR, seeds=1)
    assert violation is None or "a defect" in violation.text
    return violation


class _Quitter(Replica):
    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        return replace_fields(effects, apply=(*effects.apply, Halt(reason="tired")))


@breaks("no_halt")
def test_honest_replica_that_halts_is_caught(find_violation: Hunt) -> Violation | None:
    return find_violation(create_replica=_Quitter, settings=FOUR, seeds=1)


class _Diverging(LightLedger):
    """Executes one in some blocks to another state; only its own header knows."""

    @property
    def state_root(self) -> bytes:
        root = super().state_root
        return root if len(self._pending) % 3 else bytes(32)


@breaks("equal_roots")
def test_unequal_state_roots_are_caught_E2(find_violation: Hunt) -> Violation | None:
    return find_violation(create_ledger=_make(_Diverging), settings=FOUR, seeds=5, invariant="equal_roots")


class _Doubling(LightLedger):
    """Takes what is committed already for new."""

    def add_transaction(self, body: bytes) -> bool:
        self._committed.clear()
        return super().add_transaction(body)


@breaks("not_doubled")
def test_doubled_transaction_is_caught(find_violation: Hunt) -> Violation | None:
    return find_violation(create_ledger=_make(_Doubling), settings=FOUR, seeds=20)


class _Losing(LightLedger):
    """Says that everything is final."""

    def is_committed(self, signed_hash: bytes) -> bool:
        return True


@breaks("not_lost")
def test_acknowledged_and_lost_transaction_is_caught_P4(find_violation: Hunt) -> Violation | None:
    return find_violation(create_ledger=_make(_Losing), settings=FOUR, seeds=3)


class _Altering(LightLedger):
    """Writes another body than the one that was agreed on."""

    def get_body(self, signed_hash: bytes) -> bytes | None:
        body = super().get_body(signed_hash)
        return None if body is None else body + b"!"


@breaks("validity")
def test_committed_bytes_that_no_client_submitted_are_caught(find_violation: Hunt) -> Violation | None:
    return find_violation(create_ledger=_make(_Altering), settings=FOUR, seeds=3)


class _Orphaning(LightLedger):
    """Builds and accepts blocks that do not name their parent."""

    def _is_valid(self, header: LightHeader, hashes: tuple[bytes, ...]) -> bool:
        return header.height == self.head.height + 1

    def assemble(self, **parts: Any) -> Any:
        proposal = super().assemble(**parts)
        return replace_fields(proposal, header=proposal.header.replace(self.head.digest, bytes(32)))


@breaks("parent_chain")
def test_broken_parent_chain_is_caught(find_violation: Hunt) -> Violation | None:
    return find_violation(create_ledger=_make(_Orphaning), settings=FOUR, seeds=3)


def _liar(*habits: str) -> tuple[FaultyReplica, ...]:
    return (FaultyReplica(part=Part.BYZANTINE, habits=habits),)


@pytest.mark.slow
def test_prepared_certificate_that_nobody_verifies_is_caught_V4(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replica alone knows a block as final; a liar among the others claims that a rival is prepared."""
    monkeypatch.setattr(PreparedCertificate, "verify", lambda self, *_: None)
    settings = replace(FOUR, fault_kinds=("intercept",), parts=_liar("forge"))
    violation = find_violation(settings=settings, seeds=150)
    assert violation is not None
    assert violation.invariant in ("agreement", "no_halt")


@pytest.mark.parametrize("habit", ["forge", "lie"])
def test_signers_that_nobody_counts_are_caught_V2(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch, habit: str
) -> None:
    monkeypatch.setattr(consensus.certificates, "_check_signers", lambda *_: None)
    violation = find_violation(settings=replace(FOUR, parts=_liar(habit), healing_ms_max=5_000), seeds=5)
    assert violation is not None


@pytest.mark.slow
def test_synced_block_whose_certificate_nobody_verifies_is_caught(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Certificate, "verify", lambda self, *_: None)
    settings = replace(FOUR, parts=_liar("lying_sync"), healing_ms_max=5_000)
    violation = find_violation(settings=settings, seeds=30)
    assert violation is not None
    assert violation.invariant == "certificate"


class _KeepsVoting(Views):
    """Thinks itself in its old view, whatever it has asked for."""

    __slots__ = ()

    @property
    def is_active(self) -> bool:
        return True


@breaks("no_vote_below_view_change")
def test_vote_in_a_view_that_was_left_is_caught_P3(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> Violation | None:
    monkeypatch.setattr(consensus.state, "Views", _KeepsVoting)
    return find_violation(settings=FOUR, seeds=30)


class _ChangesItsStory(Replica):
    """Signs its VIEW-CHANGE anew each time it is sent again, with what it knows by then."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        return replace_fields(effects, send=tuple(map(self._alter, effects.send)))

    def _alter(self, send: Send) -> Send:
        message = send.message
        if not isinstance(message, ViewChange) or send.to is None:
            return send
        return replace_fields(
            send, message=self._state.credentials.sign_view_change(View(message.view), None, None)
        )


@breaks("one_view_change_per_view")
def test_second_view_change_for_one_view_is_caught(find_violation: Hunt) -> Violation | None:
    return find_violation(create_replica=_ChangesItsStory, settings=FOUR, seeds=30)


@breaks("view_change_tells_all")
def test_view_change_that_hides_what_is_prepared_is_caught_P2(
    find_violation: Hunt, monkeypatch: pytest.MonkeyPatch
) -> Violation | None:
    ask = Views.ask

    def ask_without(self: Views, view: View, base: Certificate | None, prepared: object, now_ms: int) -> None:
        ask(self, view, base, None, now_ms)

    monkeypatch.setattr(Views, "ask", ask_without)
    return find_violation(settings=FOUR, seeds=60)


class _Slanderer(Replica):
    """Refuses whatever it is told."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        if not isinstance(event, MessageReceived):
            return effects
        refusal = ReportRefusal(sender=event.sender, reason="I do not like it")
        return replace_fields(effects, apply=(*effects.apply, refusal))


@breaks("honest_not_accused")
def test_honest_replica_that_is_refused_is_caught(find_violation: Hunt) -> Violation | None:
    return find_violation(create_replica=_Slanderer, settings=FOUR, seeds=1)


class _Accuser(Replica):
    """Gives one vote for two."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        if not isinstance(event, MessageReceived) or not isinstance(event.message, Vote):
            return effects
        accusation = ReportEvidence(first=event.message, second=event.message)
        return replace_fields(effects, apply=(*effects.apply, accusation))


@breaks("evidence")
def test_evidence_that_proves_nothing_is_caught_E7(find_violation: Hunt) -> Violation | None:
    return find_violation(create_replica=_Accuser, settings=FOUR, seeds=1)


class _RemembersAll(Replica):
    """Never lets its journal forget."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        kept = tuple(action for action in effects.apply if not isinstance(action, TruncateJournal))
        return replace_fields(effects, apply=kept)


def test_journal_that_grows_is_caught_D1(find_violation: Hunt) -> None:
    settings = replace(FOUR, transactions=60, faults=False, late_transactions=30)
    violation = find_violation(create_replica=_RemembersAll, settings=settings, seeds=1)
    assert violation is not None
    assert violation.invariant == "bounded"
    assert "journal" in violation.text


def _make(kind: type[LightLedger]) -> Callable[[Disk, SimulationSettings], LightLedger]:
    return lambda disk, settings: kind(disk, idle_block_interval_ms=settings.idle_block_interval_ms)


def test_every_invariant_is_seen_broken_by_a_test() -> None:
    assert set(INVARIANTS) == SEEN_BROKEN
