"""Whose fault it was, and what follows.

    TransactionRefused  (ledger.transaction)  the client's: the transaction is not taken in, nothing stored
    LedgerError
    ├── BlockRefused      the peer's: the proposal or synced block is dropped and counted
    │   └── EpochUnknown  nobody's yet: the block is of an epoch that this ledger was not told of
    ├── ProofRefused      whoever showed the proof: it does not prove what it claims
    ├── NotHeld           the asker's: this node does not hold, or cannot prove, what was asked for
    ├── SnapshotRefused   the peer's: a manifest or chunk is not what the certified header commits to
    ├── GenesisMismatch   the operator's: the node does not start
    ├── ContractUnknown   the operator's: the ledger has switched on what this software lacks; the node halts
    ├── ResultsDiffer     nobody's to retry: a certified block gave other results here; the node halts
    └── StoreFailed       the disk's: the node halts, the database handle is never used again
        └── StoreInUse    another process has the database open

Every message says where, what was found, what was expected and, where it helps, what to do.
"""

from __future__ import annotations

from typing import Final


class LedgerError(Exception):
    """Any fault that the ledger finds, transactions' own refusals apart."""


_RESULTS: Final = frozenset(
    {"history_size", "history_root", "state_root", "next_replica_set_digest", "header"}
)
"""Where a header differs by its results."""


class BlockRefused(LedgerError):
    """A block that breaks a rule; `where` names the header field or the part that does."""

    def __init__(self, where: str, found: object, expected: object) -> None:
        super().__init__(f"block, {where}: {_show(found)} found, {_show(expected)} expected")
        self.where = where
        self.found = found
        self.expected = expected

    @property
    def is_divergence(self) -> bool:
        """Whether only execution can find this: the header's results are others than here."""
        return self.where in _RESULTS


class EpochUnknown(BlockRefused):
    """The next block is of a later epoch although the head closed none, and no recovery comes with it.

    The institutions may have recovered the ledger from a lower block than this node's head. It may as well
    be a lie.
    """

    def __init__(self, height: int, found: int, present: int) -> None:
        super().__init__("epoch", found, present)
        self.advice = (
            f"height {height}: a peer has a block of epoch {found} and nothing that opens it here, "
            f"where epoch {present} goes on; if the institutions have recovered the ledger from a lower "
            "block, move ledger and journal away and let this node join anew"
        )


class ProofRefused(LedgerError):
    """A proof that does not hold; `where` names the step at which it broke."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"proof, {where}: {message}")
        self.where = where


class NotHeld(LedgerError):
    """This node does not hold, or cannot prove, what was asked for."""


class SnapshotRefused(LedgerError):
    """Part of a snapshot that is not what it claims; `where` names the part."""

    def __init__(self, where: str, found: object, expected: object) -> None:
        super().__init__(f"snapshot, {where}: {_show(found)} found, {_show(expected)} expected")
        self.where = where


class GenesisMismatch(LedgerError):
    """The directory belongs to another ledger, or the genesis is not the one it was created from."""


class ContractUnknown(LedgerError):
    """A version of a contract is active that this software does not have; it can execute nothing any more."""

    def __init__(self, contract: str, version: int, *, known: tuple[int, ...]) -> None:
        found = ", ".join(map(str, known)) or "none"
        super().__init__(
            f"contract {contract}: version {version} is active in the next block, and this software has "
            f"{found}; install software that has it and start the node again, it goes on where it stopped"
        )


class ResultsDiffer(LedgerError):
    """A quorum certified results that this node does not find; it must not go on (rule E2)."""


class StoreFailed(LedgerError):
    """The database failed once; nothing it says afterwards can be trusted (rules P7, P8)."""


class StoreInUse(StoreFailed):
    """Another process holds the database."""


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
