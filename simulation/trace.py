"""What happened, in order: a digest over all of it, and the last lines for people to read.

The digest covers the very bytes of every event that a replica hears, of every record it keeps and every
message it sends, and every action it asks for. Two runs of one seed have equal digests, also in different
processes; where they do not, something depends on a clock, an address or an unordered set.

Bytes are hashed as they are carried, never encoded for it, and lines are formatted only when they are read.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256

from consensus.effects import (
    NOTHING,
    Action,
    Build,
    CommitBlock,
    Effects,
    ForwardOldest,
    Halt,
    RequestSync,
    Validate,
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

WAITING_MAX = 200
Line = tuple[int, "ReplicaId | str", "Event | str", "Effects | None"]


class Trace:
    """The steps of one run."""

    def __init__(self, lines_max: int) -> None:
        self._hash = sha256()
        self._waiting: list[bytes] = []
        """To be hashed: a few large updates cost less than many small ones."""
        self._lines: deque[Line] = deque(maxlen=lines_max)

    def add_step(
        self, time_us: int, replica: ReplicaId, event: Event, effects: Effects, data: bytes | None = None
    ) -> None:
        """One step of a replica; `data` are the bytes of a message as it came in."""
        waiting = self._waiting
        if data is not None and isinstance(event, MessageReceived):
            waiting += (b"%d %d %d" % (time_us, replica, event.sender), data)
        elif effects is NOTHING and isinstance(event, Tick):
            waiting.append(b"%d %d" % (time_us, replica))
            return
        else:
            waiting += (b"%d %d " % (time_us, replica), describe_event(event).encode())
        for action in effects.apply:
            waiting.append(describe_action(action).encode())
        if len(waiting) > WAITING_MAX:
            self._hash_waiting()
        self._lines.append((time_us, replica, event, effects))

    def add_data(self, data: bytes) -> None:
        """Bytes that a node keeps or sends, as the steps before asked it to."""
        self._waiting.append(data)

    def add_note(self, time_us: int, who: str, text: str) -> None:
        """Something that happened to a node: a crash, a partition, a lost journal."""
        self._waiting.append(f"{time_us} {who} {text}".encode())
        self._lines.append((time_us, who, text, None))

    def _hash_waiting(self) -> None:
        self._hash.update(b"".join(self._waiting))
        self._waiting.clear()

    @property
    def digest(self) -> str:
        self._hash_waiting()
        return self._hash.hexdigest()

    def format_tail(self) -> list[str]:
        """The last steps, one line of event and effects each."""
        return [_format_line(*line) for line in self._lines]


def _format_line(time_us: int, who: ReplicaId | str, event: Event | str, effects: Effects | None) -> str:
    name = who if isinstance(who, str) else f"replica {who}"
    start = f"{time_us / 1000:10.3f} ms  {name:<10}"
    if isinstance(event, str):
        return f"{start}  ** {event}"
    text = f"{start}  {describe_event(event)}"
    if effects is None:
        return text
    parts = [f"keep {type(record).__name__.removesuffix('Record')}" for record in effects.persist]
    for send in effects.send:
        parts.append(f"send {describe_message(send.message)} to {'all' if send.to is None else send.to}")
    parts += [describe_action(action) for action in effects.apply]
    return f"{text}  →  {'; '.join(parts)}" if parts else text


def describe_event(event: Event) -> str:
    """One event in a few words; equal events give equal words."""
    match event:
        case MessageReceived():
            return f"{describe_message(event.message)} from {event.sender}"
        case Tick():
            return f"tick {event.monotonic_ms} {event.wall_ms}"
        case ProposalBuilt():
            return f"built h{event.height} v{event.view} {_short(event.digest)}"
        case ProposalValidated():
            word = "ok" if event.ok else "diverged" if event.has_diverged else "refused"
            return f"validated h{event.height} v{event.view} {_short(event.digest)} {word}"
        case BlockDurable():
            return f"durable h{event.height} {_short(event.digest)}"
        case ChainSynced():
            return f"synced h{event.height} {_short(event.digest)}"
        case PendingChanged():
            return f"oldest pending {_short(event.oldest)}"
        case PeerConnected():
            return f"connected to {event.replica}"


def describe_action(action: Action) -> str:
    """One action in a few words."""
    match action:
        case Build():
            return f"build h{action.height} v{action.view}{' may be empty' * action.may_be_empty}"
        case Validate():
            word = "repeated" if action.freshness is None else "fresh"
            return f"validate h{action.height} v{action.view} {_short(action.digest)} {word}"
        case CommitBlock():
            return f"commit h{action.certificate.height} {_short(action.digest)}"
        case RequestSync():
            return f"request sync to h{action.height} from {action.source}"
        case ForwardOldest():
            return f"forward oldest to {action.primary}"
        case Halt():
            return f"halt: {action.reason}"
        case _:
            return type(action).__name__


def describe_message(message: Message) -> str:
    """One message in a few words."""
    match message:
        case PrePrepare():
            return f"PRE-PREPARE h{message.height} v{message.view} of {message.primary}"
        case Vote():
            place = f"h{message.height} v{message.view} {_short(message.digest)}"
            return f"{message.phase.name} {place} of {message.replica}"
        case ViewChange():
            base = -1 if message.base is None else message.base.height
            prepared = message.prepared
            held = "" if prepared is None else f" prepared h{prepared.height} v{prepared.view}"
            return f"VIEW-CHANGE v{message.view} base h{base}{held} of {message.replica}"
        case NewView():
            signers = ",".join(str(item.replica) for item in message.view_changes)
            return f"NEW-VIEW v{message.view} of {message.replica} with {signers}"
        case Status():
            word = "active" if message.is_active else "changing"
            return f"STATUS h{message.height} v{message.view} {word}{' starting' * bool(message.session)}"
        case Recollection():
            return f"RECOLLECTION h{message.height}"
        case ProposalRequest():
            return f"PROPOSAL-REQUEST h{message.height} {_short(message.digest)}"
        case ProposalResponse():
            return "PROPOSAL-RESPONSE"
        case CommittedNotice():
            return f"COMMITTED h{message.certificate.height} v{message.certificate.view}"


def _short(digest: bytes | None) -> str:
    return "-" if digest is None else digest.hex()[:8]
