"""What the gateway needs from the rest of its node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

ACCEPTED: Final = "accepted"

TAKEN_CODES: Final = frozenset({ACCEPTED, "duplicate", "already_committed"})
"""The ledger has these very transactions: whoever sends them again loses nothing."""


class Admission(Protocol):
    """What became of one transaction at the door of the mempool."""

    @property
    def transaction_id(self) -> bytes | None:
        """None when the bytes could not be decoded."""

    @property
    def code(self) -> str:
        """`accepted`, or why not: `ledger.mempool.CODES`."""

    @property
    def message(self) -> str: ...


Submit = Callable[[Sequence[bytes]], Awaitable[Sequence[Admission]]]
"""Takes signed transactions, answers for each in order; never raises for what a client sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How this node's replica stands."""

    is_ready: bool
    reason: str = ""
    """Why not."""
    epoch: int = 0
    view: int = 0
    primary: int = 0
    replica: int = -1
    warning: str = ""
    """What the operator has to do before a height comes."""


GetReadiness = Callable[[], Readiness]

Halt = Callable[[BaseException], None]
"""Told of a failed disk: the node must stop (rule P7)."""
