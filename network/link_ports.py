"""What links ask of the node, and what the node asks of links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from consensus.replica_set import ReplicaId
from network.requests import RequestKind

RequestHandler = Callable[[ReplicaId, bytes], bytes | None]
"""Answers a peer's request at once; None refuses it. Raises BadRequest when it makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHandlers:
    """Who is told what comes in; all called on the event loop, none may block."""

    on_consensus: Callable[[ReplicaId, bytes], None]
    on_transactions: Callable[[ReplicaId, list[bytes]], None]
    on_oldest: Callable[[ReplicaId, bytes], None]
    on_connected: Callable[[ReplicaId], None]

    @classmethod
    def deaf(cls) -> LinkHandlers:
        """For a node that only asks: it is no replica yet, and what it is told is dropped."""
        return cls(
            on_consensus=lambda replica, message: None,
            on_transactions=lambda replica, signed: None,
            on_oldest=lambda replica, signed: None,
            on_connected=lambda replica: None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    """Where a peer accepts links."""

    replica: ReplicaId
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNode:
    """A node that may have a link, whether it votes or not."""

    replica: ReplicaId
    public_key: bytes
    """What its link certificate must show."""
    host: str = ""
    """Where it accepts links, by its own word on the ledger; empty when it has not said."""
    port: int = 0


@dataclass(slots=True)
class RefusedLinks:
    """Links that were not let in, by reason; for metrics."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("greeting", "certificate", "banned"), 0)
    )

    def add(self, reason: str) -> int:
        """Count one more; how many there have been for this reason."""
        self.counts[reason] += 1
        return self.counts[reason]


class LinkRequests(Protocol):
    """Asking one peer; what block sync and the fetching of bodies need of the links."""

    @property
    def connected(self) -> tuple[ReplicaId, ...]: ...

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None: ...

    def penalise(self, replica: ReplicaId, reason: str) -> None: ...
