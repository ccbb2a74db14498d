"""Where the chain stands on this replica's disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.certificates import Certificate
from consensus.replica_set import Height

GENESIS_HEIGHT: Final = Height(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The highest durable block."""

    height: Height
    digest: bytes
    certificate: Certificate | None
    """None for the genesis block, which needs no votes."""
    closing: Certificate | None = None
    """Of the block that closed the epoch before; None in the first epoch."""

    @property
    def epoch_base(self) -> Height:
        """The height at which the epoch before closed; 0 in the first epoch."""
        return GENESIS_HEIGHT if self.closing is None else Height(self.closing.height)

    @property
    def base(self) -> Certificate | None:
        """The certificate that a VIEW-CHANGE carries: none where the epoch begins."""
        return self.certificate if self.height > self.epoch_base else None
