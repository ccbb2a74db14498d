"""Execution: what a block's transactions do to the state, found alike by every replica.

A transaction's calls run in order against a `Context` over the block's overlay; its writes and events are
kept only when every call succeeded. What goes wrong inside a contract is a failed receipt with a code; what
goes wrong underneath it (memory, recursion, disk) is not the contract's, propagates, and halts the node.

Invariant: the same parent state, transactions, height and time give the same receipts and writes on every
machine. The executor knows no clock and reads nothing but the parent state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from contracts.context import Context
from contracts.contract import Contract
from contracts.errors import CallFailed, UnknownMethod
from contracts.tables import ReadableState
from crypto.encoding import encode
from ledger.contract_set import ContractSet
from ledger.errors import BlockRefused, StoreFailed
from ledger.genesis import Parameters
from ledger.receipt import OK, Receipt, compute_history_leaf_hash
from ledger.state import BlockOverlay
from ledger.transaction import SignedTransaction

CONTRACT_FAULT: Final = "contract_fault"
"""Code of a receipt when a contract raised what it should not; never the text, which differs by version."""

NOT_ALONE: Final = "not_alone"
"""Code of a receipt when a call that must be its transaction's only one had company."""

OPERATIONS_PER_BLOCK_MAX: Final = 200_000
"""No transaction starts in a block whose calls have touched this many rows (about two seconds of work)."""

IsCommitted = Callable[[SignedTransaction], bool]
"""Whether the transaction's id has a receipt in an earlier block."""


@dataclass(frozen=True, slots=True)
class Execution:
    """Transactions that were executed, and what came of them; nothing of it is applied yet."""

    transactions: tuple[SignedTransaction, ...]
    receipts: tuple[Receipt, ...]
    receipt_rows: tuple[bytes, ...]
    """The receipts' canonical encodings."""
    leaf_hashes: tuple[bytes, ...]
    """The receipts' leaves in the history tree."""
    writes: dict[bytes, bytes | None]
    """Full state key to row, or None for a deleted row."""


class Executor:
    """Runs transactions on the contracts of one ledger."""

    def __init__(self, contract_set: ContractSet, parameters: Parameters, chain_id: bytes) -> None:
        self._select = contract_set.select
        self._close_block = contract_set.close_block
        self._parameters = parameters
        self._chain_id = chain_id

    def execute(
        self,
        state: ReadableState,
        transactions: Iterable[SignedTransaction],
        *,
        height: int,
        time_ms: int,
        is_committed: IsCommitted,
        is_strict: bool,
        opening: Mapping[bytes, bytes | None] = MappingProxyType({}),
    ) -> Execution:
        """Execute in order, on `state` with the rows of `opening`, as block `height` of time `time_ms`.

        A transaction that this block may not hold is left out, and the first that does not fit ends it; when
        `is_strict`, each of these raises BlockRefused instead. Raises ContractUnknown when this software
        lacks what is active in this block; StoreFailed, MemoryError, RecursionError, OSError as they come.
        """
        overlay = BlockOverlay(state)
        overlay.merge(opening)
        contracts = self._select(overlay.get)
        included: list[SignedTransaction] = []
        receipts: list[Receipt] = []
        seen: set[bytes] = set()
        size_bytes = operations = 0
        for transaction in transactions:
            size_bytes += transaction.size_bytes
            fault = self._find_excess(len(included), size_bytes, operations)
            if fault is not None and not is_strict:
                break
            fault = fault or self._find_fault(transaction, seen, time_ms, is_committed)
            if fault is not None:
                if is_strict:
                    where = f"transaction {transaction.transaction_id.hex()}"
                    raise BlockRefused(where, fault, "a transaction that this block may hold")
                size_bytes -= transaction.size_bytes
                continue
            seen.add(transaction.transaction_id)
            context = self._open_context(overlay, transaction, height, time_ms)
            code, results = _run_calls(contracts, context, transaction)
            if code == OK:
                overlay.merge(context.writes)
            operations += context.operations_spent
            receipts.append(_make_receipt(context, len(included), code, results))
            included.append(transaction)
        overlay.merge(self._close_block(overlay, height))
        rows = tuple(map(encode, receipts))
        leaves = tuple(
            compute_history_leaf_hash(receipt.transaction_id, row)
            for receipt, row in zip(receipts, rows, strict=True)
        )
        return Execution(tuple(included), tuple(receipts), rows, leaves, overlay.writes)

    def _find_excess(self, count: int, size_bytes: int, operations: int) -> str | None:
        """Why the block is full before the next transaction, or None."""
        if count >= self._parameters.block_transactions_max:
            return f"number {count + 1} of at most {self._parameters.block_transactions_max}"
        if size_bytes > self._parameters.block_bytes_max:
            return f"byte {size_bytes} of at most {self._parameters.block_bytes_max}"
        if operations >= OPERATIONS_PER_BLOCK_MAX:
            return f"after {operations} row operations of at most {OPERATIONS_PER_BLOCK_MAX}"
        return None

    def _find_fault(
        self, transaction: SignedTransaction, seen: set[bytes], time_ms: int, is_committed: IsCommitted
    ) -> str | None:
        """Why the transaction may not be in this block, or None."""
        body = transaction.body
        if body.chain_id != self._chain_id:
            return "wrong_chain"
        if body.expires_ms <= time_ms:
            return "expired"
        if body.expires_ms > time_ms + self._parameters.expiry_window_ms_max:
            return "expires_too_late"
        if transaction.transaction_id in seen:
            return "duplicate"
        if is_committed(transaction):
            return "already_committed"
        return None

    def _open_context(
        self, overlay: BlockOverlay, transaction: SignedTransaction, height: int, time_ms: int
    ) -> Context:
        return Context(
            overlay,
            caller=transaction.body.sender,
            chain_id=self._chain_id,
            height=height,
            block_time_ms=time_ms,
            transaction_id=transaction.transaction_id,
        )


def _make_receipt(context: Context, index: int, code: str, results: tuple[bytes, ...]) -> Receipt:
    events = tuple(context.events) if code == OK else ()
    return Receipt(1, context.transaction_id, context.height, index, code, results, events)


def _run_calls(
    contracts: Mapping[str, Contract], context: Context, transaction: SignedTransaction
) -> tuple[str, tuple[bytes, ...]]:
    """The receipt's code, and the encoded results when it is `ok`."""
    calls = transaction.body.calls
    results = []
    try:
        for call in calls:
            contract = contracts.get(call.contract)
            if contract is None:
                return UnknownMethod.code, ()
            if len(calls) > 1 and call.method in contract.alone_methods:
                return NOT_ALONE, ()
            results.append(contract.call(context, call.method, call.arguments))
    except CallFailed as failure:
        return failure.code, ()
    except (MemoryError, RecursionError, OSError, StoreFailed):
        raise
    except Exception:
        return CONTRACT_FAULT, ()
    return OK, tuple(results)
