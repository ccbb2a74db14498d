"""Transactions that wait for a block: who may add one, and which the next block is to hold.

Invariant: whatever is in the pool has had its signature verified, is not committed, and appears once by its
id. The pool is bounded by count, by bytes and by institution, and refuses beyond; it never grows and never
drops what it has accepted before that expires or commits.

A transaction counts for the institution that answers for its sender: the one whose key it is, or that has
registered the patient's. However many flood, there is room for an institution that has little waiting here:
it has its part of the pool also while that is full, and the more of all room is taken, the less of it may be
one institution's.

What another node relays has room beyond the bounds for clients: that node has accepted it already, and were
it refused here whenever both pools are full, its turn would come only when that node leads. And what a member
has waited for longest is in the next block, though there be no room for it: one for each member.

The caller runs `check` first, then verifies the signature (the costly part), then `add`s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NoReturn

from consensus.replica_set import ReplicaId
from crypto.signatures import InvalidSignature
from ledger.fair_queue import FairQueue
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
    "share_full",
)
"""Every code that a refusal at admission can have."""

SHARE_OF_ROOM: Final = 2
"""One institution may have so many times as much pending as there is room left: alone two thirds of the pool,
k institutions 2 / (2 k + 1) each, and what then is left is for the others."""


class Mempool:
    """The pending transactions of one node."""

    def __init__(
        self,
        settings: MempoolSettings,
        *,
        chain_id: bytes,
        expiry_window_ms_max: int,
        find_institution: Callable[[bytes], bytes | None],
        is_committed: Callable[[bytes], bool],
    ) -> None:
        """`find_institution` tells who answers for a public key, None for a stranger's; `is_committed` takes
        a transaction id. Both look at the head."""
        self._settings = settings
        self._chain_id = chain_id
        self._expiry_window_ms_max = expiry_window_ms_max
        self._find_institution = find_institution
        self._is_committed = is_committed
        self._queue = FairQueue(settings.part_bytes_max)
        self._signed_hashes: dict[bytes, bytes] = {}
        self._refusals: OrderedDict[bytes, tuple[str, str]] = OrderedDict()

    def check(self, transaction: SignedTransaction, *, head_time_ms: int, is_relayed: bool = False) -> bytes:
        """Return when only the signature is left to verify: the institution that answers for the sender.

        Raises TransactionRefused.
        """
        institution = self._check_content(transaction, head_time_ms)
        self._check_room(transaction, institution, is_relayed=is_relayed)
        self._check_new(transaction)
        return institution

    def _check_content(self, transaction: SignedTransaction, head_time_ms: int) -> bytes:
        """`check`, but for the room and for what has been committed."""
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
        institution = self._find_institution(body.sender)
        if institution is None:
            raise TransactionRefused(
                "unknown_sender",
                f"key {body.sender.hex()} is no active institution's or patient's on this ledger",
            )
        return institution

    def _check_new(self, transaction: SignedTransaction) -> None:
        if self._is_committed(transaction.transaction_id):
            raise TransactionRefused("already_committed", "the transaction has its receipt already: fetch it")

    def add(self, transaction: SignedTransaction, *, head_time_ms: int) -> None:
        """Take in a transaction whose signature the caller has verified. Raises TransactionRefused."""
        self._insert(transaction, self.check(transaction, head_time_ms=head_time_ms))

    def verify_and_add(
        self, transaction: SignedTransaction, *, head_time_ms: int, is_relayed: bool = False
    ) -> None:
        """`check`, verify the signature, `add`. Raises TransactionRefused, `bad_signature` too."""
        institution = self.check(transaction, head_time_ms=head_time_ms, is_relayed=is_relayed)
        self._verify(transaction)
        self._insert(transaction, institution)

    def verify_and_put_first(
        self, transaction: SignedTransaction, replica: ReplicaId, *, head_time_ms: int
    ) -> None:
        """Have in the next block what a member has waited for longest, whether there is room here or not.

        While that waits nothing else of the member is put first, so at most REPLICAS_MAX transactions are
        beyond the bounds. Raises TransactionRefused.
        """
        if self._queue.has_first(replica):
            raise TransactionRefused("share_full", f"replica {replica}: another one comes first already")
        signed_hash = self._signed_hashes.get(transaction.transaction_id)
        if signed_hash is None:
            institution = self._check_content(transaction, head_time_ms)
            self._check_new(transaction)
            self._verify(transaction)
            self._insert(transaction, institution)
            signed_hash = transaction.signed_hash
        self._queue.put_first(signed_hash, replica)

    def remember_bad_signature(self, transaction: SignedTransaction, error: InvalidSignature) -> NoReturn:
        """Refuse these very bytes from now on. Raises TransactionRefused: `bad_signature`."""
        self._refuse(transaction, "bad_signature", f"{error}: sign the body with the sender's key")

    def _verify(self, transaction: SignedTransaction) -> None:
        """Raises TransactionRefused: `bad_signature`."""
        try:
            verify_transaction_signature(transaction)
        except InvalidSignature as error:
            self.remember_bad_signature(transaction, error)

    def take(self, count_max: int, bytes_max: int) -> list[SignedTransaction]:
        """What the next block is to hold, divided between the institutions (`ledger.fair_queue`).

        It stays until `remove` or `drop_expired`.
        """
        return self._queue.take(count_max, bytes_max)

    def remove(self, transaction_ids: Iterable[bytes]) -> None:
        """These have ended; with them goes a twin of the same body under another signature."""
        for transaction_id in transaction_ids:
            signed_hash = self._signed_hashes.pop(transaction_id, None)
            if signed_hash is not None:
                self._queue.remove(signed_hash)

    def drop_expired(self, head_time_ms: int) -> list[SignedTransaction]:
        """Remove and return what no later block can hold."""
        expired = [item for item in self._queue if item.body.expires_ms <= head_time_ms]
        self.remove(item.transaction_id for item in expired)
        return expired

    def get(self, signed_hash: bytes) -> SignedTransaction | None:
        return self._queue.get(signed_hash)

    def is_pending(self, transaction_id: bytes) -> bool:
        return transaction_id in self._signed_hashes

    @property
    def size_bytes(self) -> int:
        """Of all that is pending."""
        return self._queue.size_bytes

    @property
    def oldest(self) -> bytes | None:
        """Signed hash of the transaction that has waited longest."""
        return self._queue.oldest

    def __iter__(self) -> Iterator[SignedTransaction]:
        """All that is pending, in the order in which it came."""
        return iter(self._queue)

    def __contains__(self, signed_hash: bytes) -> bool:
        return signed_hash in self._queue

    def __len__(self) -> int:
        return len(self._queue)

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

    def _check_room(self, transaction: SignedTransaction, institution: bytes, *, is_relayed: bool) -> None:
        """Raises TransactionRefused: `share_full` where others would be taken, `mempool_full` otherwise."""
        settings, queue = self._settings, self._queue
        own_count, own_bytes = queue.get_used(institution)
        if (
            settings.relayed_factor > 1
            and own_count < settings.institution_transactions_max
            and len(queue) < settings.transactions_max
            and queue.size_bytes + transaction.size_bytes <= settings.bytes_max
        ):
            return  # Below all bounds for clients; this many transactions a second make it worth a short cut.
        sharing = queue.count_institutions(institution)
        factor = settings.relayed_factor
        count_max = settings.institution_transactions_max * (factor if is_relayed else 1)
        for used, own, new, bound in (
            (len(queue), own_count, 1, settings.transactions_max),
            (queue.size_bytes, own_bytes, transaction.size_bytes, settings.bytes_max),
        ):
            room = factor * bound - used
            is_in_share = own_count < count_max and own + new <= SHARE_OF_ROOM * room
            has_room = is_relayed or used + new <= bound or own + new <= bound // sharing
            if new > room or not has_room or not is_in_share:
                raise TransactionRefused(
                    "mempool_full" if new > room or not has_room else "share_full",
                    f"{len(queue)} transactions of {queue.size_bytes} bytes are pending, {own_count} of "
                    f"{own_bytes} bytes for institution {institution.hex()}, no room for more: "
                    "send the same bytes again later",
                )

    def _insert(self, transaction: SignedTransaction, institution: bytes) -> None:
        self._queue.put(transaction, institution)
        self._signed_hashes[transaction.transaction_id] = transaction.signed_hash

    def _refuse(self, transaction: SignedTransaction, code: str, message: str) -> NoReturn:
        """A refusal that can never become an acceptance: remember it for these bytes, and raise it."""
        if len(self._refusals) >= self._settings.refusals_max:
            self._refusals.popitem(last=False)
        self._refusals[transaction.signed_hash] = (code, message)
        raise TransactionRefused(code, message)
