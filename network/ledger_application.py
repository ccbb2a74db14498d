"""The ledger as consensus sees it: builds, validates and commits blocks, and keeps their bodies at hand.

Invariants:

- Blocks are written by the one writer thread, in the order of their heights; whether a block comes from
  consensus or from block sync, it is written once.
- The bodies of every proposal that was built, validated or restored from the journal are kept and served
  until the replica has gone on from its height: one that needs to execute a prepared block can have them
  here, and block sync, which may be ahead of the replica, takes nothing away that it may still vouch for.

It knows nothing of views and votes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from consensus.certificates import Certificate
from consensus.ports import Freshness, Proposal, Validation
from consensus.replica_set import Epoch, Height, ReplicaId, ReplicaSet
from crypto.encoding import EncodingError
from ledger.block import Header, compute_header_digest, compute_transactions_digest, decode_header
from ledger.block_sync import SyncBlock, begin_sync_commit
from ledger.chain import Chain
from ledger.errors import BlockRefused, NotHeld, ResultsDiffer
from ledger.speculation import PendingCommit
from ledger.transaction import (
    SignedTransaction,
    TransactionRefused,
    decode_transaction,
    encode_transaction,
)


class BodySource(Protocol):
    """Where missing bodies come from: the other nodes."""

    async def fetch(self, signed_hashes: Sequence[bytes], source: ReplicaId) -> Mapping[bytes, bytes]:
        """Signed bytes by signed hash, as many as could be had, from `source` first; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerApplicationSettings:
    """Bounds of the bodies kept in memory and of the work done at a stretch."""

    proposals_kept_max: int = 64
    """Proposals for the next height whose bodies are kept."""
    recent_blocks_max: int = 4
    """Committed blocks whose bodies are still served to replicas that are a block behind."""
    expiry_check_ms: int = 250
    """How often pending transactions are looked through for those past their expiry."""
    verification_chunk: int = 32
    """Fetched bodies verified before the event loop gets its turn, about 2 ms."""


class LedgerApplication:
    """`consensus.ports.Application` over a chain; all methods on the event loop."""

    def __init__(
        self,
        chain: Chain,
        *,
        body_source: BodySource,
        writer: Executor,
        on_pending: Callable[[bytes | None], None],
        settings: LedgerApplicationSettings | None = None,
    ) -> None:
        """`on_pending` is told the oldest pending one when the head has moved or some have expired."""
        self._chain = chain
        self._body_source = body_source
        self._writer = writer
        self._on_pending = on_pending
        self._settings = settings or LedgerApplicationSettings()
        self._head_lock = asyncio.Lock()
        self._kept: OrderedDict[bytes, _Bodies] = OrderedDict()
        self._expiry_checked_ms = 0
        self._recent: deque[_Bodies] = deque(maxlen=self._settings.recent_blocks_max)

    # What consensus asks for

    def compute_digest(self, proposal: Proposal) -> bytes:
        """Raises ValueError unless the header commits to exactly these hashes."""
        digest = compute_header_digest(proposal.header)
        if digest in self._kept and self._kept[digest].signed_hashes == proposal.transaction_hashes:
            return digest
        header = decode_header(proposal.header)
        if header.transaction_count != len(proposal.transaction_hashes):
            raise ValueError(
                f"{len(proposal.transaction_hashes)} transaction hashes found, "
                f"{header.transaction_count} expected"
            )
        if header.transactions_digest != compute_transactions_digest(proposal.transaction_hashes):
            raise ValueError("the header commits to other transactions than the proposal names")
        return digest

    async def build(
        self, *, epoch: Epoch, height: Height, proposer: ReplicaId, wall_ms: int, may_be_empty: bool
    ) -> Proposal | None:
        """Execute what is pending, oldest first, on the head."""
        chain, parameters = self._chain, self._chain.genesis.parameters
        if (chain.replica_set.epoch, chain.head.height + 1) != (epoch, height):
            return None
        transactions = chain.mempool.take(parameters.block_transactions_max, parameters.block_bytes_max)
        if not transactions and not may_be_empty:
            return None
        speculation = chain.execute(transactions, proposer=proposer, time_ms=wall_ms)
        header = speculation.header
        earliest_empty_ms = chain.head.header.time_ms + parameters.idle_block_interval_ms
        if not speculation.transactions and not (may_be_empty and header.time_ms >= earliest_empty_ms):
            chain.discard(speculation.digest)
            return None
        self._keep(speculation.digest, _Bodies(header.height, speculation.transactions))
        return Proposal(speculation.header_bytes, speculation.transaction_hashes)

    async def validate(
        self, proposal: Proposal, *, height: Height, source: ReplicaId, freshness: Freshness | None
    ) -> Validation:
        """Have every body, execute on the head, compare."""
        try:
            transactions = await self._gather(proposal.transaction_hashes, source)
            header = decode_header(proposal.header)
        except (EncodingError, BlockRefused) as error:
            return Validation(ok=False, refusal=str(error))
        if height != self._chain.head.height + 1:
            return Validation(ok=False)  # Block sync was first; nobody is at fault.
        if header.height != height:
            return Validation(ok=False, refusal=f"height {header.height} in the header, {height} expected")
        self._keep(compute_header_digest(proposal.header), _Bodies(header.height, tuple(transactions)))
        try:
            self._chain.validate(proposal.header, transactions, freshness=freshness)
        except BlockRefused as error:
            return Validation(ok=False, has_diverged=error.is_divergence, refusal=str(error))
        return Validation(ok=True)

    def get_bodies(self, proposal: Proposal) -> Sequence[bytes]:
        """The signed bytes of a proposal that was built, validated or restored."""
        bodies = self._kept.get(compute_header_digest(proposal.header))
        if bodies is None:
            raise KeyError(f"bodies of proposal {compute_header_digest(proposal.header).hex()} are not kept")
        return [encode_transaction(transaction) for transaction in bodies.transactions]

    def forget_through(self, height: Height) -> None:
        """Drop the bodies of proposals up to `height`, which the replica has gone on from."""
        for digest in [digest for digest, bodies in self._kept.items() if bodies.height <= height]:
            del self._kept[digest]

    def restore(self, proposal: Proposal, bodies: Sequence[bytes]) -> None:
        """Keep journaled bodies; those of a height that is durable meanwhile are not needed any more."""
        header = decode_header(proposal.header)
        if header.height > self._chain.head.height:
            transactions = tuple(map(decode_transaction, bodies))
            self._keep(compute_header_digest(proposal.header), _Bodies(header.height, transactions))

    async def commit(self, proposal: Proposal, certificate: Certificate) -> ReplicaSet | None:
        """Write a validated block; the next height's replica set where the block changed it.

        Raises ResultsDiffer when another block of this height is final here, StoreFailed on disk errors.
        """
        async with self._head_lock:
            replica_set = self._chain.replica_set
            if certificate.height <= self._chain.head.height:
                self._check_same(certificate)
                return self._chain.archive.find_next_replica_set(certificate.height)
            try:
                pending = self._chain.begin_commit(certificate.digest, certificate)
            except NotHeld:
                # The speculation gave way to younger ones; the bodies are kept, so it can be had again.
                transactions = await self._gather(proposal.transaction_hashes, ReplicaId(-1))
                self._chain.validate(proposal.header, transactions)
                pending = self._chain.begin_commit(certificate.digest, certificate)
            await self._write(pending)
            return None if self._chain.replica_set == replica_set else self._chain.replica_set

    def discard(self, proposal: Proposal) -> None:
        """Drop the executed result; the bodies stay, others may have prepared them."""
        self._chain.discard(compute_header_digest(proposal.header))

    def note_time(self, wall_ms: int) -> None:
        """Drop what no block can hold any more; a peer whose clock is behind may still propose it."""
        if 0 <= wall_ms - self._expiry_checked_ms < self._settings.expiry_check_ms:
            return
        self._expiry_checked_ms = wall_ms
        if self._chain.mempool.drop_expired(wall_ms):
            self._on_pending(self._chain.mempool.oldest)

    # What the network asks for

    async def apply_synced(self, block: SyncBlock) -> bool:
        """Verify, execute and write the next block; False when it is not the next one any more.

        Raises BlockRefused for the peer's fault, ResultsDiffer and StoreFailed when the node must stop.
        """
        async with self._head_lock:
            header = _decode_synced(block)
            if header.height <= self._chain.head.height:
                return False
            await self._write(begin_sync_commit(self._chain, block))
            return True

    def get_body(self, signed_hash: bytes) -> bytes | None:
        """The signed bytes of a transaction that is pending, proposed or of a recent block."""
        transaction = self._find(signed_hash)
        return None if transaction is None else encode_transaction(transaction)

    # Parts of the above

    def _find(self, signed_hash: bytes) -> SignedTransaction | None:
        transaction = self._chain.mempool.get(signed_hash)
        if transaction is not None:
            return transaction
        for bodies in (*self._kept.values(), *self._recent):
            transaction = bodies.by_hash.get(signed_hash)
            if transaction is not None:
                return transaction
        return None

    async def _gather(self, signed_hashes: Sequence[bytes], source: ReplicaId) -> list[SignedTransaction]:
        """All transactions in block order. Raises BlockRefused when some cannot be had."""
        get = self._chain.mempool.get
        found = {signed_hash: get(signed_hash) or self._find(signed_hash) for signed_hash in signed_hashes}
        missing = [signed_hash for signed_hash, transaction in found.items() if transaction is None]
        if missing:
            found.update(await self._fetch(missing, source))
        transactions = [transaction for transaction in found.values() if transaction is not None]
        if len(transactions) != len(signed_hashes):
            raise BlockRefused("transactions", f"{len(transactions)} bodies", f"{len(signed_hashes)} bodies")
        return transactions

    async def _fetch(
        self, missing: Sequence[bytes], source: ReplicaId
    ) -> dict[bytes, SignedTransaction | None]:
        """What peers give for these hashes; good transactions become pending here, in chunks."""
        fetched = await self._body_source.fetch(missing, source)
        found: dict[bytes, SignedTransaction | None] = {}
        for number, signed_bytes in enumerate(fetched.values(), start=1):
            try:
                transaction = decode_transaction(signed_bytes)
                found[transaction.signed_hash] = transaction
                self._chain.mempool.verify_and_add(
                    transaction, head_time_ms=self._chain.head.header.time_ms, is_relayed=True
                )
            except TransactionRefused:
                pass  # Full pool, twin, bad signature: validation decides, verifying what is not pending.
            if number % self._settings.verification_chunk == 0:
                await asyncio.sleep(0)
        return {signed_hash: found.get(signed_hash) for signed_hash in missing}

    async def _write(self, pending: PendingCommit) -> None:
        """Durable, then head; the caller holds the lock."""
        await asyncio.get_running_loop().run_in_executor(self._writer, pending.write)
        self._chain.finish_commit(pending)
        self._recent.append(_Bodies(pending.certificate.height, pending.speculation.transactions))
        self._on_pending(self._chain.mempool.oldest)

    def _keep(self, digest: bytes, bodies: _Bodies) -> None:
        self._kept[digest] = bodies
        self._kept.move_to_end(digest)
        if len(self._kept) > self._settings.proposals_kept_max:
            self._kept.popitem(last=False)

    def _check_same(self, certificate: Certificate) -> None:
        """Raises ResultsDiffer when another block of the certificate's height is final here."""
        header = self._chain.archive.get_header_bytes(certificate.height)
        if header is None or compute_header_digest(header) != certificate.digest:
            raise ResultsDiffer(
                f"height {certificate.height}: {certificate.digest.hex()} is certified, another block is "
                "final here; stop this node and compare its ledger with the others'"
            )


class _Bodies:
    """The transactions of one block; the index is made when first asked for."""

    __slots__ = ("_by_hash", "height", "signed_hashes", "transactions")

    def __init__(self, height: int, transactions: Iterable[SignedTransaction]) -> None:
        self.height = height
        self.transactions = tuple(transactions)
        self.signed_hashes: tuple[bytes, ...] = tuple(item.signed_hash for item in self.transactions)
        self._by_hash: dict[bytes, SignedTransaction] | None = None

    @property
    def by_hash(self) -> Mapping[bytes, SignedTransaction]:
        if self._by_hash is None:
            self._by_hash = dict(zip(self.signed_hashes, self.transactions, strict=True))
        return self._by_hash


def _decode_synced(block: SyncBlock) -> Header:
    try:
        return decode_header(block.header)
    except EncodingError as error:
        raise BlockRefused("header", str(error), "the canonical encoding of a header") from error
