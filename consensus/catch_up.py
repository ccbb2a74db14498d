"""Final blocks that are known of and missing here: which height to reach, and whom to ask next."""

from __future__ import annotations

from typing import Final

from consensus.certificates import Certificate
from consensus.effects import RequestSync
from consensus.outbox import Outbox
from consensus.replica_set import Height, ReplicaId

HINT_HEIGHTS_MAX: Final = 64
"""How far an unproven claim is followed at once: what comes is verified, but a liar could send nothing."""


class CatchUp:
    """The highest verified certificate above the head, and the pace of asking for its blocks."""

    __slots__ = (
        "_after_ms",
        "_attempts",
        "_followed_ms",
        "_outbox",
        "_own",
        "_retry_ms",
        "_sources",
        "certificate",
    )

    def __init__(self, outbox: Outbox, retry_ms: int, own: ReplicaId) -> None:
        self.certificate: Certificate | None = None
        """None when nothing final is known to be missing."""
        self._outbox = outbox
        self._own = own
        self._retry_ms = retry_ms
        self._sources: tuple[int, ...] = ()
        self._after_ms = 0
        self._followed_ms: dict[int, int] = {}
        self._attempts = 0

    def is_news(self, certificate: Certificate) -> bool:
        return self.certificate is None or certificate.height > self.certificate.height

    def note(self, certificate: Certificate, source: ReplicaId | None = None) -> None:
        """A verified certificate, that `source` showed or my own votes made; its signers have the block."""
        if not self.is_news(certificate):
            return
        self.certificate = certificate
        replicas = dict.fromkeys((source, *(vote.replica for vote in certificate.signatures)))
        self._sources = tuple(one for one in replicas if one not in (None, self._own)) or (self._own,)
        self._attempts = 0

    def follow(self, height: int, source: ReplicaId, *, head: int, now_ms: int) -> None:
        """`source` says that it is in a later epoch, which cannot be verified from this one.

        Block sync verifies each block with the set of its own height, so asking costs no trust, only a
        request. Each source has a pace of its own, or a liar that is always first would keep the others out.
        """
        followed_ms = self._followed_ms.get(source)
        is_due = followed_ms is None or now_ms - followed_ms >= self._retry_ms
        if self.certificate is None and height > head and is_due:
            self._followed_ms[source] = now_ms
            reachable = min(height, head + HINT_HEIGHTS_MAX)
            self._outbox.apply(RequestSync(height=Height(reachable), source=source))

    def reach(self, height: int) -> None:
        """`height` is durable."""
        self._followed_ms.clear()
        if self.certificate is not None and self.certificate.height <= height:
            self.certificate = None

    def request(self, now_ms: int) -> None:
        """Ask for block sync, each time from the next source."""
        if self.certificate is None or now_ms < self._after_ms:
            return
        self._after_ms = now_ms + self._retry_ms
        source = self._sources[self._attempts % len(self._sources)]
        self._attempts += 1
        self._outbox.apply(RequestSync(height=Height(self.certificate.height), source=ReplicaId(source)))
