"""Brings onto the ledger what this node has seen a replica sign twice, in its institution's name (rule E7).

One report for each replica and height, and none while the ledger has an open alert about that replica: so a
replica that equivocates for ever costs the ledger no more than the regulators take note of. A report is sent
once; what does not come through is in this node's log, with both votes, and any other node may bring it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from consensus.messages import Vote, encode_message
from consensus.replica_set import ReplicaSet
from contracts.calls.monitoring import ReportEquivocation, SignedVote
from contracts.equivocations import compute_slot_key, get_equivocation, is_accused
from contracts.tables import ReadableState
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.block_rules import BlockHead
from ledger.genesis import Genesis
from ledger.transaction import Call, encode_transaction, sign_transaction
from network.relay import ACCEPTED, SubmitResult

REMEMBERED_MAX: Final = 256
"""Pairs of replica and height that were reported; beyond it the oldest is forgotten."""
SENDING_MAX: Final = 8
"""Reports on their way at once; further ones are counted and stay in the log."""
EXPIRES_AFTER_MS: Final = 60_000

Submit = Callable[[Sequence[bytes]], Awaitable[list[SubmitResult]]]

_log = structlog.get_logger("network.equivocation")


class ReadableLedger(Protocol):
    """The part of the ledger that a report needs."""

    @property
    def chain_id(self) -> bytes: ...

    @property
    def genesis(self) -> Genesis: ...

    @property
    def head(self) -> BlockHead: ...

    @property
    def state(self) -> ReadableState: ...

    @property
    def replica_set(self) -> ReplicaSet: ...


@dataclass(slots=True)
class ReportCounters:
    """Since the node's start; for metrics."""

    seen: int = 0
    """Pairs of votes that contradict each other."""
    sent: int = 0
    """Reports that this node's mempool took in."""
    dropped: int = 0
    """Reports that it did not, and those beyond SENDING_MAX."""


class EquivocationReports:
    """All methods on the event loop."""

    def __init__(
        self,
        *,
        ledger: ReadableLedger,
        submit: Submit,
        institution_key: SigningKey,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`on_failure` is told what ended the sending of a report: a defect or the disk."""
        self._ledger = ledger
        self._submit = submit
        self._key = institution_key
        self._on_failure = on_failure
        self._reported: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._sending: set[asyncio.Task[None]] = set()
        self.counters = ReportCounters()

    def report(self, first: Vote, second: Vote) -> None:
        """Two verified votes of one replica for one slot; they are logged in full whatever comes of it."""
        self.counters.seen += 1
        votes = [encode_message(vote).hex() for vote in (first, second)]
        _log.error("equivocation", replica=first.replica, height=first.height, view=first.view, votes=votes)
        if not self._is_news(first):
            return
        public_key = self._ledger.replica_set.get_public_key(first.replica)
        if public_key is None or len(self._sending) >= SENDING_MAX:
            self.counters.dropped += 1
            return
        self._remember(first)
        evidence = ReportEquivocation(_to_signed_vote(first), _to_signed_vote(second), public_key)
        task = asyncio.create_task(self._send(evidence))
        self._sending.add(task)
        task.add_done_callback(self._on_sent)

    async def close(self) -> None:
        """What is on its way is given up."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _on_sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)

    def _is_news(self, vote: Vote) -> bool:
        if (vote.replica, vote.height) in self._reported:
            return False
        state = self._ledger.state
        is_known = get_equivocation(state, compute_slot_key(_to_signed_vote(vote))) is not None
        return not is_known and not is_accused(state, vote.replica)

    def _remember(self, vote: Vote) -> None:
        self._reported[vote.replica, vote.height] = None
        if len(self._reported) > REMEMBERED_MAX:
            self._reported.popitem(last=False)

    async def _send(self, evidence: ReportEquivocation) -> None:
        (result,) = await self._submit([self._sign(evidence)])
        if result.code == ACCEPTED:
            self.counters.sent += 1
            return
        self.counters.dropped += 1
        _log.warning("equivocation not reported", replica=evidence.first.replica, code=result.code)

    def _sign(self, evidence: ReportEquivocation) -> bytes:
        ledger = self._ledger
        head_ms = ledger.head.header.time_ms
        wanted_ms = max(head_ms, time.time_ns() // 1_000_000) + EXPIRES_AFTER_MS
        transaction = sign_transaction(
            self._key,
            chain_id=ledger.chain_id,
            calls=[Call("monitoring", "report_equivocation", encode(evidence))],
            expires_ms=min(wanted_ms, head_ms + ledger.genesis.parameters.expiry_window_ms_max),
        )
        return encode_transaction(transaction)


def _to_signed_vote(vote: Vote) -> SignedVote:
    return SignedVote(
        vote.epoch, vote.height, vote.view, int(vote.phase), vote.digest, vote.replica, vote.signature
    )
