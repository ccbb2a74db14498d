"""Which branches of the protocol a run went through, gathered outside the replica from events and effects.

A branch is a name in BRANCHES. Those of messages say in which mode the replica was that heard one; the mode
is what the replica last said of itself in its STATUS and its journal, so it may lag a moment behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from consensus.certificates import Phase
from consensus.effects import (
    NOTHING,
    Build,
    CommitBlock,
    Discard,
    Effects,
    ForwardOldest,
    Halt,
    ReportEvidence,
    ReportRefusal,
    RequestSync,
    Send,
    TruncateJournal,
    Validate,
)
from consensus.events import (
    BlockDurable,
    ChainSynced,
    Event,
    MessageReceived,
    PendingChanged,
    ProposalBuilt,
    ProposalValidated,
    Tick,
)
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    PreparedRecord,
    ProposalRecord,
    SilenceRecord,
    ViewChangeRecord,
    VoteRecord,
)
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
from consensus.replica_set import ReplicaId

STARTING, SILENT, IN_VIEW, CHANGING = "starting", "silent", "in a view", "changing view"
MODES: Final = (STARTING, SILENT, IN_VIEW, CHANGING)
_MESSAGE_NAMES: Final[dict[object, str]] = {
    PrePrepare: "PRE-PREPARE",
    Phase.PRE_PREPARE: "PRE_PREPARE vote",
    Phase.PREPARE: "PREPARE",
    Phase.COMMIT: "COMMIT",
    ViewChange: "VIEW-CHANGE",
    NewView: "NEW-VIEW",
    Status: "STATUS",
    Recollection: "RECOLLECTION",
    ProposalRequest: "PROPOSAL-REQUEST",
    ProposalResponse: "PROPOSAL-RESPONSE",
    CommittedNotice: "COMMITTED-NOTICE",
}
_BRANCHES: Final = (
    *(f"{name} heard while {mode}" for name in _MESSAGE_NAMES.values() for mode in MODES),
    *(f"refused: {name}" for name in _MESSAGE_NAMES.values()),
    "agreement: build asked for",
    "agreement: empty block allowed after idle time",
    "agreement: nothing to build",
    "agreement: proposed afresh",
    "agreement: proposed again what was prepared",
    "agreement: proposal journaled",
    "agreement: proposal executed as fresh",
    "agreement: proposal executed whatever its age",
    "agreement: execution agreed",
    "agreement: execution failed",
    "agreement: execution diverged",
    "agreement: execution thrown away",
    "agreement: PRE_PREPARE cast",
    "agreement: PREPARE cast",
    "agreement: COMMIT cast",
    "agreement: prepared",
    "agreement: committed",
    "agreement: durable",
    "journal: truncated",
    "repair: PRE-PREPARE sent again",
    "repair: vote sent again",
    "repair: VIEW-CHANGE sent again",
    "repair: NEW-VIEW sent again",
    "repair: NEW-VIEW of another passed on",
    "repair: certificate shown",
    "repair: recollection given",
    "repair: proposal asked for",
    "repair: proposal served",
    "repair: blocks asked for",
    "repair: blocks synced",
    "views: asked for the next at a timeout",
    "views: joined one peer far ahead",
    "views: joined more than f others",
    "views: forgotten VIEW-CHANGE taken up again",
    "views: begun as primary with an obligation",
    "views: begun as primary without",
    "views: NEW-VIEW accepted with an obligation",
    "views: NEW-VIEW accepted without",
    "views: entered by a certificate",
    "patience: oldest forwarded at half time",
    "start: others asked what they remember",
    "start: journal missing",
    "start: silent",
    "evidence: equivocation reported",
    "halt",
)
BRANCHES: Final = frozenset(_BRANCHES)


class Coverage:
    """How often each branch was gone through in one run."""

    def __init__(self) -> None:
        self._heard: Counter[tuple[object, str]] = Counter()
        self._others: Counter[str] = Counter()

    def watch(self, replica: ReplicaId) -> Watch:
        """For one start of one replica."""
        return Watch(replica, self._heard, self._others)

    def count(self) -> dict[str, int]:
        """By branch, in alphabetical order; those never gone through are absent."""
        heard = {f"{_MESSAGE_NAMES[kind]} heard while {mode}": n for (kind, mode), n in self._heard.items()}
        counts = {**heard, **self._others}
        assert counts.keys() <= BRANCHES, counts.keys() - BRANCHES
        return dict(sorted(counts.items()))


class Watch:
    """What one running replica goes through."""

    __slots__ = ("_heard", "_mode", "_others", "_replica", "_silent_until", "_view")

    def __init__(self, replica: ReplicaId, heard: Counter[tuple[object, str]], others: Counter[str]) -> None:
        self._replica = replica
        self._heard = heard
        self._others = others
        self._mode = STARTING
        self._silent_until = 0
        self._view = 0

    def add_step(self, event: Event, effects: Effects) -> None:
        """One step of the replica."""
        if isinstance(event, MessageReceived):
            message = event.message
            # Written out, since this is done for every message of every run.
            self._heard[message.phase if type(message) is Vote else type(message), self._mode] += 1
        elif not isinstance(event, (Tick, PendingChanged)):
            self._add_outcome(event)
        if effects is NOTHING:
            return
        others = self._others
        for record in effects.persist:
            others[_RECORDS[type(record)](self, event, record)] += 1
        for send in effects.send:
            name = self._name_send(event, send)
            if name is not None:
                others[name] += 1
        for action in effects.apply:
            others[_ACTIONS[type(action)](event, action)] += 1

    def _add_outcome(self, event: Event) -> None:
        match event:
            case ProposalBuilt():
                if event.proposal is None:
                    self._others["agreement: nothing to build"] += 1
            case ProposalValidated():
                word = "agreed" if event.ok else "diverged" if event.has_diverged else "failed"
                self._others[f"agreement: execution {word}"] += 1
            case BlockDurable() | ChainSynced():
                is_own = isinstance(event, BlockDurable)
                self._others["agreement: durable" if is_own else "repair: blocks synced"] += 1
                if event.height >= self._silent_until:
                    self._silent_until = 0
            case _:
                pass

    def _name_send(self, event: Event, send: Send) -> str | None:
        message = send.message
        match message:
            case Vote() | ViewChange() if send.to is None:
                return None  # Counted where it is journaled.
            case Status():
                return self._note_status(message)
            case PrePrepare() if send.to is None:
                again = not isinstance(event, ProposalBuilt)
                return f"agreement: proposed {'again what was prepared' if again else 'afresh'}"
            case NewView():
                if send.to is None:
                    return None
                whose = "sent again" if message.replica == self._replica else "of another passed on"
                return f"repair: NEW-VIEW {whose}"
            case _:
                return _SENDS[type(message)]

    def _note_status(self, status: Status) -> str | None:
        """What the replica says of itself; a view that it has not entered by NEW-VIEW was shown to it."""
        if status.session:
            self._mode = STARTING
            return "start: others asked what they remember"
        self._mode = SILENT if self._silent_until else IN_VIEW if status.is_active else CHANGING
        is_shown = status.is_active and status.view > self._view
        self._view = max(self._view, status.view) if status.is_active else self._view
        return "views: entered by a certificate" if is_shown else None

    def _name_view_change(self, event: Event, record: ViewChangeRecord) -> str:
        self._mode = CHANGING
        if isinstance(event, Tick):
            is_next = record.view_change.view <= self._view + 1
            return f"views: {'asked for the next at a timeout' if is_next else 'joined one peer far ahead'}"
        if isinstance(event, MessageReceived) and isinstance(event.message, Recollection):
            return "views: forgotten VIEW-CHANGE taken up again"
        return "views: joined more than f others"

    def _name_new_view(self, event: Event, record: NewViewRecord) -> str:
        new_view = record.new_view
        self._mode, self._view = IN_VIEW, new_view.view
        is_obliged = any(item.prepared is not None for item in new_view.view_changes)
        how = "with an obligation" if is_obliged else "without"
        whose = "begun as primary" if new_view.replica == self._replica else "NEW-VIEW accepted"
        return f"views: {whose} {how}"

    def _name_silence(self, event: Event, record: SilenceRecord) -> str:
        if not record.until:
            return "start: journal missing"
        self._mode, self._silent_until = SILENT, record.until
        return "start: silent"


def _get_kind(message: Message) -> object:
    """A key of _MESSAGE_NAMES."""
    return message.phase if isinstance(message, Vote) else type(message)


def _name_vote(watch: Watch, event: Event, record: VoteRecord) -> str:
    return _CASTS[record.vote.phase]


def _name_build(event: Event, action: Build) -> str:
    return f"agreement: {'empty block allowed after idle time' if action.may_be_empty else 'build asked for'}"


def _name_validate(event: Event, action: Validate) -> str:
    return f"agreement: proposal executed {'whatever its age' if action.freshness is None else 'as fresh'}"


def _name_refusal(event: Event, action: ReportRefusal) -> str:
    assert isinstance(event, MessageReceived)
    return f"refused: {_MESSAGE_NAMES[_get_kind(event.message)]}"


def _name_always(name: str) -> Callable[..., str]:
    return lambda *_: name


_CASTS: Final = {phase: f"agreement: {phase.name} cast" for phase in Phase}
_RECORDS: Final[dict[type[JournalRecord], Callable[[Watch, Event, Any], str]]] = {
    ProposalRecord: _name_always("agreement: proposal journaled"),
    VoteRecord: _name_vote,
    PreparedRecord: _name_always("agreement: prepared"),
    ViewChangeRecord: Watch._name_view_change,
    NewViewRecord: Watch._name_new_view,
    SilenceRecord: Watch._name_silence,
}
_SENDS: Final[dict[type, str]] = {
    PrePrepare: "repair: PRE-PREPARE sent again",
    Vote: "repair: vote sent again",
    ViewChange: "repair: VIEW-CHANGE sent again",
    CommittedNotice: "repair: certificate shown",
    Recollection: "repair: recollection given",
    ProposalRequest: "repair: proposal asked for",
    ProposalResponse: "repair: proposal served",
}
_ACTIONS: Final[dict[type, Callable[[Event, Any], str]]] = {
    Build: _name_build,
    Validate: _name_validate,
    CommitBlock: _name_always("agreement: committed"),
    Discard: _name_always("agreement: execution thrown away"),
    RequestSync: _name_always("repair: blocks asked for"),
    ForwardOldest: _name_always("patience: oldest forwarded at half time"),
    TruncateJournal: _name_always("journal: truncated"),
    ReportEvidence: _name_always("evidence: equivocation reported"),
    ReportRefusal: _name_refusal,
    Halt: _name_always("halt"),
}
