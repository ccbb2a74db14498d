"""What happened, in order: a digest over all of it, and the last lines for people to read.

The digest covers every event that a replica hears, every record it keeps, every message it sends and every
action it asks for, whole. Two runs of one seed have equal digests, also in different processes; where they do
not, something depends on a clock, an address or an unordered set.

Steps are encoded and hashed in batches where the digest is wanted, and lines are formatted only when they are
read.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

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

BATCH_STEPS = 1_000
"""So many are held at least for people to read, more than any transcript shows."""
Line = tuple[int, "ReplicaId | str", "Event | str", "Effects | None"]

_encoder = msgspec.msgpack.Encoder()


class Trace:
    """The steps of one run."""

    def __init__(self, lines_max: int, *, with_digest: bool = True) -> None:
        self._lines_max = lines_max
        self._hash = sha256() if with_digest else None
        self._before: list[Line] = []
        """The batch before the present one, in the digest already."""
        self._batch: list[Line] = []
        """To be hashed: a few large batches cost less than many small ones."""

    def add_step(self, time_us: int, replica: ReplicaId, event: Event, effects: Effects) -> None:
        """One step of a replica."""
        batch = self._batch
        batch.append((time_us, replica, event, effects))
        if len(batch) >= BATCH_STEPS:
            if self._hash is not None:
                self._hash.update(_encoder.encode(batch))
            self._before, self._batch = batch, []

    def add_note(self, time_us: int, who: str, text: str) -> None:
        """Something that happened to a node: a crash, a partition, a lost journal."""
        self._batch.append((time_us, who, text, None))

    @property
    def digest(self) -> str | None:
        """Of everything so far, in hexadecimal; None where it is not wanted."""
        if self._hash is None:
            return None
        whole = self._hash.copy()
        whole.update(_encoder.encode(self._batch))
        return whole.hexdigest()

    def format_tail(self) -> list[str]:
        """The last steps, one line of event and effects each, without ticks at which nothing happened."""
        lines = [line for line in (*self._before, *self._batch) if not _is_quiet(line)]
        return [_format_line(*line) for line in lines[-self._lines_max :]]


def _is_quiet(line: Line) -> bool:
    _, _, event, effects = line
    return isinstance(event, Tick) and effects is NOTHING


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
