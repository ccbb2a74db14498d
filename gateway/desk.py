"""The institution's desk: signs calls with the institution's key, sends them and waits for their receipt."""

from __future__ import annotations

import time
from typing import Final

from msgspec import Struct

from client.signing import build_call
from crypto.signatures import SigningKey
from gateway.contract_advice import get_advice
from gateway.errors import InConflict, TooMany, Unavailable
from gateway.ports import TAKEN_CODES, Submit
from gateway.receipts import ReceiptWaiter
from ledger.chain import Chain
from ledger.receipt import OK, Receipt
from ledger.transaction import SignedTransaction, encode_transaction, sign_transaction

EXPIRES_AFTER_MS: Final = 60_000
"""The gateway's own transactions are committed within seconds or signed anew."""

BUSY_CODES: Final = frozenset({"mempool_full", "share_full"})


class Desk:
    """Transactions of one institution."""

    def __init__(
        self,
        *,
        chain: Chain,
        submit: Submit,
        waiter: ReceiptWaiter,
        key: SigningKey,
        institution: bytes,
        commit_timeout_ms: int,
    ) -> None:
        self._chain = chain
        self._submit = submit
        self._waiter = waiter
        self._commit_timeout_ms = commit_timeout_ms
        self.key = key
        self.institution = institution

    def sign(self, *arguments: Struct) -> SignedTransaction:
        """One transaction that makes these calls, not sent yet."""
        head_ms = self._chain.head.header.time_ms
        window_ms = self._chain.genesis.parameters.expiry_window_ms_max
        # Expiry counts in block time, which stands still while nothing is committed.
        expires_ms = min(max(head_ms, _read_clock_ms()) + EXPIRES_AFTER_MS, head_ms + window_ms)
        return sign_transaction(
            self.key,
            chain_id=self._chain.chain_id,
            calls=[build_call(item) for item in arguments],
            expires_ms=expires_ms,
        )

    async def send(self, transaction: SignedTransaction) -> None:
        """Hand it to the ledger, not waiting for its block. Raises TooMany, InConflict."""
        (admission,) = await self._submit([encode_transaction(transaction)])
        if admission.code in TAKEN_CODES:
            return
        if admission.code in BUSY_CODES:
            raise TooMany(admission.code, admission.message, "send the request again", retry_after_seconds=1)
        raise InConflict(admission.code, admission.message, "tell the operator of this gateway")

    async def wait(self, transaction: SignedTransaction) -> Receipt:
        """Its receipt, a failed one too. Raises Unavailable `not_committed_in_time`."""
        receipt = await self._waiter.wait(transaction.transaction_id, self._commit_timeout_ms)
        if receipt is None:
            raise Unavailable(
                "not_committed_in_time",
                f"transaction {transaction.transaction_id.hex()} is not in a block yet",
                "look up this transaction before you ask again: it may still commit",
                retry_after_seconds=2,
            )
        return receipt

    async def carry_out(self, *arguments: Struct) -> Receipt:
        """Sign, send and wait. Raises InConflict with the contract's code when the calls were refused."""
        transaction = self.sign(*arguments)
        await self.send(transaction)
        receipt = await self.wait(transaction)
        require_ok(receipt)
        return receipt


def require_ok(receipt: Receipt) -> None:
    """Raises InConflict with the receipt's code."""
    if receipt.code != OK:
        raise InConflict(
            receipt.code,
            f"transaction {receipt.transaction_id.hex()} failed at height {receipt.height}",
            get_advice(receipt.code),
        )


def _read_clock_ms() -> int:
    return time.time_ns() // 1_000_000
