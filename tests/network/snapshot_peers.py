"""Peers that give snapshots over links, or what they like instead; used by the tests of joining."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.replica_set import ReplicaId
from crypto.encoding import decode_as
from network.requests import RequestFailed, RequestKind
from network.settings import FetchSettings
from network.snapshot_serving import MANIFEST, SnapshotRequest, SnapshotServer
from tests.ledger.snapshot_source import Source

PEER = ReplicaId(1)
Answer = Callable[[bytes], bytes | None]


@dataclass
class Peers:
    """Links to peers that answer as they like."""

    answers: dict[int, Answer]
    asked: list[tuple[int, SnapshotRequest]] = field(default_factory=list)
    penalised: list[int] = field(default_factory=list)

    @property
    def connected(self) -> tuple[ReplicaId, ...]:
        return tuple(ReplicaId(replica) for replica in sorted(self.answers))

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None:
        assert kind is RequestKind.SNAPSHOT
        self.asked.append((replica, decode_as(SnapshotRequest, payload, size_max=1_024)))
        await asyncio.sleep(0)
        return self.answers[replica](payload)

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.penalised.append(replica)

    def count(self, replica: int) -> int:
        """Requests for parts."""
        return sum(asked == replica and request.kind != MANIFEST for asked, request in self.asked)


def fail(error: BaseException) -> None:
    raise AssertionError("the ledger's database must not fail here") from error


def serve(source: Source, *, answer_bytes: int = 2_000, requests_max: int = 10**6) -> Answer:
    """An honest peer whose answers are small, so that there are many."""
    settings = FetchSettings(answer_bytes_max=answer_bytes, snapshot_requests_max=requests_max)
    server = SnapshotServer(
        source.shelf,
        lambda: source.chain.archive,
        find_institution=lambda replica: bytes([replica]),
        on_failure=fail,
        settings=settings,
    )
    return lambda payload: server.on_request(PEER, payload)


def read_request(payload: bytes) -> SnapshotRequest:
    return decode_as(SnapshotRequest, payload, size_max=1_024)


def offer_only(honest: Answer, *, asked_max: int = 100) -> Answer:
    """A peer whose manifests are true and that gives no part, however often; not asked for ever."""
    left = itertools.count(asked_max, -1)

    def answer(payload: bytes) -> bytes | None:
        if read_request(payload).kind == MANIFEST:
            return honest(payload)
        assert next(left) > 0, "whoever joins turns to another peer in time"
        return None

    return answer


def silent(payload: bytes) -> bytes | None:
    raise RequestFailed("no answer")
