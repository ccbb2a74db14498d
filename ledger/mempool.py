"""Transactions that wait for a block, oldest first.

Invariant: whatever is in the pool has had its signature verified, is not committed, and appears once by its
id. The pool is bounded by count, by bytes and by sender, and refuses beyond; it never grows and never drops
what it has accepted before that expires or commits.

What another node relays has room beyond the bounds for clients: that node has accepted it already, and were
it refused here whenever both pools are full, its turn would come only when that node leads.

The caller runs `check` first, then verifies the signature (the costly part), then `add`s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from crypto.signatures import InvalidSignature
from ledger.settings import MempoolSettings
from ledger.transaction import SignedTransaction, TransactionRefused, verify_transaction_signature

CODES: Final = (
    "malformed",
    "too_large",
    "wrong_chain",
    "bad_signature",
    "expired",
    "expires_too_late",
    "unknown_sender",
    "duplicate",
    "already_committed",
    "mempool_full",
)
"""Every code that a refusal at admission can have."""


class Mempool:
    """The pending transactions of one node."""

    def __init__(
        self,
        settings: MempoolSettings,
        *,
        chain_id: bytes,
        expiry_window_ms_max: int,
        is_known_sender: Callable[[bytes], bool],
        is_committed: Callable[[bytes], bool],
    ) -> None:
        """`is_known_sender` takes a public key, `is_committed` a transaction id; both look at the head."""
        self._settings = settings
        self._chain_id = chain_id
        self._expiry_window_ms_max = expiry_window_ms_max
        self._is_known_sender = is_known_sender
        self._is_committed = is_committed
        self._pending: dict[bytes, SignedTransaction] = {}
        self._signed_hashes: dict[bytes, bytes] = {}
        self._counts: dict[bytes, int] = {}
        self._refusals: OrderedDict[bytes, tuple[str, str]] = OrderedDict()
        self.size_bytes = 0

    def check(self, transaction: SignedTransaction, *, head_time_ms: int, is_relayed: bool = False) -> None:
        """Return when only the signature is left to verify. Raises TransactionRefused."""
        refusal = self._refusals.get(transaction.signed_hash)
        if refusal is not None:
            raise TransactionRefused(*refusal)
        body = transaction.body
        if transaction.transaction_id in self._signed_hashes:
            raise TransactionRefused("duplicate", "the transaction is pending already: wait for its receipt")
        if body.chain_id != self._chain_id:
            self._refuse(
                transaction,
                "wrong_chain",
                f"chain {body.chain_id.hex()} found, {self._chain_id.hex()} expected: sign for this ledger",
            )
        if not head_time_ms < body.expires_ms <= head_time_ms + self._expiry_window_ms_max:
            self._refuse_expiry(transaction, head_time_ms)
        factor = self._settings.relayed_factor if is_relayed else 1
        if (
            self._counts.get(body.sender, 0) >= factor * self._settings.sender_transactions_max
            or len(self._pending) >= factor * self._settings.transactions_max
            or self.size_bytes + transaction.size_bytes > factor * self._settings.bytes_max
        ):
            self._refuse_for_room(body.sender)
        if self._is_committed(transaction.transaction_id):
            raise TransactionRefused("already_committed", "the transaction has its receipt already: fetch it")
        if not self._is_known_sender(body.sender):
            raise TransactionRefused(
                "unknown_sender",
                f"key {body.sender.hex()} is no active institution's or patient's on this ledger",
            )

    def add(self, transaction: SignedTransaction, *, head_time_ms: int) -> None:
        """Take in a transaction whose signature the caller has verified. Raises TransactionRefused."""
        self.check(transaction, head_time_ms=head_time_ms)
        self._insert(transaction)

    def verify_and_add(
        self, transaction: SignedTransaction, *, head_time_ms: int, is_relayed: bool = False
    ) -> None:
        """`check`, verify the signature, `add`. Raises TransactionRefused, `bad_signature` too."""
        self.check(transaction, head_time_ms=head_time_ms, is_relayed=is_relayed)
        try:
            verify_transaction_signature(transaction)
        except InvalidSignature as error:
            self.remember_bad_signature(transaction, error)
        self._insert(transaction)

    def remember_bad_signature(self, transaction: SignedTransaction, error: InvalidSignature) -> NoReturn:
        """Refuse these very bytes from now on. Raises TransactionRefused: `bad_signature`."""
        self._refuse(transaction, "bad_signature", f"{error}: sign the body with the sender's key")

    def take(self, count_max: int, bytes_max: int) -> list[SignedTransaction]:
        """The oldest pending transactions that fit; they stay until `remove` or `drop_expired`."""
        taken: list[SignedTransaction] = []
        left = bytes_max
        for transaction in self._pending.values():
            left -= transaction.size_bytes
            if left < 0 or len(taken) >= count_max:
                break
            taken.append(transaction)
        return taken

    def remove(self, transaction_ids: Iterable[bytes]) -> None:
        """These have ended; with them goes a twin of the same body under another signature."""
        for transaction_id in transaction_ids:
            signed_hash = self._signed_hashes.pop(transaction_id, None)
            if signed_hash is not None:
                self._forget(self._pending.pop(signed_hash))

    def drop_expired(self, head_time_ms: int) -> list[SignedTransaction]:
        """Remove and return what no later block can hold."""
        expired = [item for item in self._pending.values() if item.body.expires_ms <= head_time_ms]
        self.remove(item.transaction_id for item in expired)
        return expired

    def get(self, signed_hash: bytes) -> SignedTransaction | None:
        return self._pending.get(signed_hash)

    def is_pending(self, transaction_id: bytes) -> bool:
        return transaction_id in self._signed_hashes

    @property
    def oldest(self) -> bytes | None:
        """Signed hash of the transaction that has waited longest."""
        return next(iter(self._pending), None)

    def __contains__(self, signed_hash: bytes) -> bool:
        return signed_hash in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    def _refuse_expiry(self, transaction: SignedTransaction, head_time_ms: int) -> NoReturn:
        expires_ms = transaction.body.expires_ms
        if expires_ms <= head_time_ms:
            self._refuse(
                transaction,
                "expired",
                f"expiry {expires_ms} found, block time is {head_time_ms}: sign it anew with a later expiry",
            )
        raise TransactionRefused(
            "expires_too_late",
            f"expiry {expires_ms} found, at most {head_time_ms + self._expiry_window_ms_max} expected: "
            "sign it anew with an earlier expiry",
        )

    def _refuse_for_room(self, sender: bytes) -> NoReturn:
        raise TransactionRefused(
            "mempool_full",
            f"{len(self._pending)} transactions of {self.size_bytes} bytes are pending, "
            f"{self._counts.get(sender, 0)} of them this sender's, no room for more: "
            "send the same bytes again later",
        )

    def _insert(self, transaction: SignedTransaction) -> None:
        sender = transaction.body.sender
        self._pending[transaction.signed_hash] = transaction
        self._signed_hashes[transaction.transaction_id] = transaction.signed_hash
        self._counts[sender] = self._counts.get(sender, 0) + 1
        self.size_bytes += transaction.size_bytes

    def _forget(self, transaction: SignedTransaction) -> None:
        sender = transaction.body.sender
        self.size_bytes -= transaction.size_bytes
        self._counts[sender] -= 1
        if not self._counts[sender]:
            del self._counts[sender]

    def _refuse(self, transaction: SignedTransaction, code: str, message: str) -> NoReturn:
        """A refusal that can never become an acceptance: remember it for these bytes, and raise it."""
        if len(self._refusals) >= self._settings.refusals_max:
            self._refusals.popitem(last=False)
        self._refusals[transaction.signed_hash] = (code, message)
        raise TransactionRefused(code, message)
