"""Giving snapshots to nodes that join: one bounded answer at a time, read while the event loop waits for it.

A request names its parts; the answer has as many of them as fit, from the first on. A part that is longer
than an answer goes in pieces. Nothing here is believed by whoever asks, so nothing needs to be said but the
bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final

import structlog
from msgspec import Meta, Struct

from consensus.replica_set import ReplicaId
from crypto.encoding import EncodingError, decode_as, encode
from ledger.archive import Archive
from ledger.chunk_file import CHUNK_BYTES_MAX, ChunkKind
from ledger.errors import SnapshotRefused, StoreFailed
from ledger.snapshot_shelf import OfferedSnapshot, SnapshotShelf
from network.requests import BadRequest
from network.settings import FetchSettings

PARTS_MAX: Final = 64
"""Parts named in one request."""
ANSWER_SECONDS_MAX: Final = 0.005
"""No further part is read for an answer once so much time went into it."""
MANIFEST: Final = 0
"""The kind of request that asks for a manifest; the others are those of `ChunkKind`."""
PACE_SECONDS: Final = 1.0

_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]

_log = structlog.get_logger("network.snapshots")


class SnapshotRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one node asks of another."""

    height: _Counter
    """Of the snapshot; 0 for the newest, with a manifest only."""
    kind: Annotated[int, Meta(ge=MANIFEST, le=int(max(ChunkKind)))]
    numbers: Annotated[tuple[_Counter, ...], Meta(max_length=PARTS_MAX)]
    """Which parts; none for a manifest."""
    offset: Annotated[int, Meta(ge=0, le=CHUNK_BYTES_MAX)]
    """Where to go on with a first part, or a manifest, that is longer than an answer."""


class SnapshotAnswer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    height: _Counter
    parts: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=PARTS_MAX)]
    left: Annotated[int, Meta(ge=0, le=CHUNK_BYTES_MAX)]
    """Bytes that the last of these parts still lacks."""


class SnapshotServer:
    """Answers peers; all methods on the event loop."""

    def __init__(
        self,
        shelf: SnapshotShelf,
        get_archive: Callable[[], Archive],
        *,
        find_institution: Callable[[ReplicaId], bytes],
        on_failure: Callable[[BaseException], None],
        settings: FetchSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`find_institution` tells whose a node is; `on_failure` is told when the ledger's database failed:
        the node must stop."""
        self._shelf = shelf
        self._get_archive = get_archive
        self._find_institution = find_institution
        self._on_failure = on_failure
        self._settings = settings or FetchSettings()
        self._clock = clock
        self._paces: dict[ReplicaId, tuple[float, int]] = {}
        self.served = 0
        """Answers given since the node's start."""

    def on_request(self, replica: ReplicaId, payload: bytes) -> bytes | None:
        """The parts, or None: not here, or the peer has asked often enough. Raises BadRequest."""
        try:
            request = decode_as(SnapshotRequest, payload, size_max=1_024)
        except EncodingError as error:
            raise BadRequest(f"request for a snapshot: {error}") from error
        if not self._may_ask(replica):
            return None
        try:
            answer = self._answer(request)
        except StoreFailed as error:
            self._on_failure(error)
            raise
        except (OSError, SnapshotRefused) as error:
            _log.error("snapshot not readable", height=request.height, reason=str(error))
            return None
        if answer is None:
            return None
        self.served += 1
        if request.kind != MANIFEST:  # Whoever only looks what there is has not begun yet.
            self._shelf.holds.hold(replica, self._find_institution(replica), request.height)
        return encode(answer)

    def _may_ask(self, replica: ReplicaId) -> bool:
        now = self._clock()
        since, count = self._paces.get(replica, (now, 0))
        if now - since > PACE_SECONDS:
            since, count = now, 0
        self._paces[replica] = since, count + 1
        return count < self._settings.snapshot_requests_max

    def _answer(self, request: SnapshotRequest) -> SnapshotAnswer | None:
        if request.kind == MANIFEST:
            newest = self._shelf.open_newest() if request.height == 0 else self._shelf.open(request.height)
            return None if newest is None else self._cut(newest, newest.manifest, request.offset)
        snapshot = self._shelf.open(request.height)
        if snapshot is None or not request.numbers:
            return None
        kind = ChunkKind(request.kind)
        first = snapshot.read(kind, request.numbers[0], self._get_archive())
        if first is None or request.offset > len(first):
            return None
        if request.offset or len(first) > self._settings.answer_bytes_max:
            return self._cut(snapshot, first, request.offset)
        return SnapshotAnswer(snapshot.height, self._gather(snapshot, kind, request.numbers, first), 0)

    def _cut(self, snapshot: OfferedSnapshot, part: bytes, offset: int) -> SnapshotAnswer:
        piece = part[offset : offset + self._settings.answer_bytes_max]
        return SnapshotAnswer(snapshot.height, (piece,), max(0, len(part) - offset - len(piece)))

    def _gather(
        self, snapshot: OfferedSnapshot, kind: ChunkKind, numbers: tuple[int, ...], first: bytes
    ) -> tuple[bytes, ...]:
        """The first part and those after it that are here and fit into the answer and its time."""
        parts, left = [first], self._settings.answer_bytes_max - len(first)
        deadline = self._clock() + ANSWER_SECONDS_MAX
        for number in numbers[1:]:
            if self._clock() > deadline:
                break
            part = snapshot.read(kind, number, self._get_archive())
            if part is None or len(part) > left:
                break
            left -= len(part)
            parts.append(part)
        return tuple(parts)
