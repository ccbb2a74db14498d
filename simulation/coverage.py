"""Which branches of the protocol a run went through, gathered outside the replica from events and effects.

A branch is a name in BRANCHES. Those of messages say in which mode the replica was that heard one; the mode
is what the replica last said of itself in its STATUS and its journal, so it may lag a moment behind.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from consensus.certificates import Phase
from consensus.effects import (
    NOTHING,
    Action,
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
        self._heard: dict[str, Counter[object]] = {mode: Counter() for mode in MODES}
        """By mode and kind of message."""
        self._others: Counter[str] = Counter()

    def watch(self, replica: ReplicaId) -> Watch:
        """For one start of one replica."""
        return Watch(replica, self._heard, self._others)

    def count(self) -> dict[str, int]:
        """By branch, in alphabetical order; those never gone through are absent."""
        heard = {
            f"{_MESSAGE_NAMES[kind]} heard while {mode}": n
            for mode, kinds in self._heard.items()
            for kind, n in kinds.items()
        }
        counts = {**heard, **self._others}
        assert counts.keys() <= BRANCHES, counts.keys() - BRANCHES
        return dict(sorted(counts.items()))


class Watch:
    """What one running replica goes through."""

    __slots__ = ("_heard", "_mode", "_others", "_replica", "_silent_until", "_view")

    def __init__(self, replica: ReplicaId, heard: dict[str, Counter[object]], others: Counter[str]) -> None:
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
            self._heard[self._mode][message.phase if type(message) is Vote else type(message)] += 1
        elif not isinstance(event, (Tick, PendingChanged)):
            self._add_outcome(event)
        if effects is NOTHING:
            return
        others = self._others
        for record in effects.persist:
            others[_RECORDS.get(type(record)) or self._name_record(event, record)] += 1
        for send in effects.send:
            name = self._name_send(event, send)
            if name is not None:
                others[name] += 1
        for action in effects.apply:
            others[_ACTIONS.get(type(action)) or _name_action(event, action)] += 1

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

    def _name_record(self, event: Event, record: JournalRecord) -> str:
        match record:
            case VoteRecord():
                return _CASTS[record.vote.phase]
            case ViewChangeRecord():
                return self._name_view_change(event, record)
            case NewViewRecord():
                return self._name_new_view(record)
            case SilenceRecord():
                return self._name_silence(record)
            case _:
                raise TypeError(f"{type(record).__name__} is not what a replica keeps of itself")

    def _name_view_change(self, event: Event, record: ViewChangeRecord) -> str:
        self._mode = CHANGING
        if isinstance(event, Tick):
            is_next = record.view_change.view <= self._view + 1
            return f"views: {'asked for the next at a timeout' if is_next else 'joined one peer far ahead'}"
        if isinstance(event, MessageReceived) and isinstance(event.message, Recollection):
            return "views: forgotten VIEW-CHANGE taken up again"
        return "views: joined more than f others"

    def _name_new_view(self, record: NewViewRecord) -> str:
        new_view = record.new_view
        self._mode, self._view = IN_VIEW, new_view.view
        is_obliged = any(item.prepared is not None for item in new_view.view_changes)
        how = "with an obligation" if is_obliged else "without"
        whose = "begun as primary" if new_view.replica == self._replica else "NEW-VIEW accepted"
        return f"views: {whose} {how}"

    def _name_silence(self, record: SilenceRecord) -> str:
        if not record.until:
            return "start: journal missing"
        self._mode, self._silent_until = SILENT, record.until
        return "start: silent"


def _name_action(event: Event, action: Action) -> str:
    match action:
        case Build():
            how = "empty block allowed after idle time" if action.may_be_empty else "build asked for"
            return f"agreement: {how}"
        case Validate():
            how = "whatever its age" if action.freshness is None else "as fresh"
            return f"agreement: proposal executed {how}"
        case ReportRefusal():
            assert isinstance(event, MessageReceived)
            message = event.message
            return f"refused: {_MESSAGE_NAMES[message.phase if isinstance(message, Vote) else type(message)]}"
        case _:
            return _ACTIONS[type(action)]


_CASTS: Final = {phase: f"agreement: {phase.name} cast" for phase in Phase}
_RECORDS: Final[dict[type, str]] = {
    ProposalRecord: "agreement: proposal journaled",
    PreparedRecord: "agreement: prepared",
}
"""What is always called the same, here and below."""
_SENDS: Final[dict[type, str]] = {
    PrePrepare: "repair: PRE-PREPARE sent again",
    Vote: "repair: vote sent again",
    ViewChange: "repair: VIEW-CHANGE sent again",
    CommittedNotice: "repair: certificate shown",
    Recollection: "repair: recollection given",
    ProposalRequest: "repair: proposal asked for",
    ProposalResponse: "repair: proposal served",
}
_ACTIONS: Final[dict[type, str]] = {
    CommitBlock: "agreement: committed",
    Discard: "agreement: execution thrown away",
    RequestSync: "repair: blocks asked for",
    ForwardOldest: "patience: oldest forwarded at half time",
    TruncateJournal: "journal: truncated",
    ReportEvidence: "evidence: equivocation reported",
    Halt: "halt",
}
