"""The ledger of one node as the rest of the node sees it: what is committed, and executed blocks upon it.

One block commits after the other: `execute` or `validate` computes a speculation on the head, `begin_commit`
and `PendingCommit.write` make it durable in the writer thread, `finish_commit` moves the head. What is
read is `ledger.committed_ledger`'s: the head, and never half a block.

The chain verifies what a block says, not who voted for it: certificates come verified from consensus or
from `ledger.block_sync`. It is used from one thread, `PendingCommit.write` apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from consensus.certificates import Certificate
from consensus.replica_set import ReplicaSet
from contracts.tables import ReadableState
from crypto.encoding import EncodingError
from crypto.hashing import Digest
from crypto.signatures import InvalidSignature
from ledger.archive import Archive
from ledger.block import Block, Header, compute_header_digest, decode_header
from ledger.block_rules import (
    BlockHead,
    Freshness,
    verify_before_execution,
    verify_freshness,
    verify_results,
)
from ledger.committed_ledger import CommittedLedger
from ledger.contract_set import ContractSet, load_built_in
from ledger.epochs import CurrentEpoch, EpochChange
from ledger.errors import BlockRefused, NotHeld
from ledger.executor import Execution, Executor
from ledger.genesis import Genesis
from ledger.genesis_block import open_genesis
from ledger.mempool import Mempool
from ledger.pacing import Pacer
from ledger.proofs import ReceiptProof, StateProof
from ledger.pruning import compact_pruned, prune_blocks
from ledger.receipt import OK, Receipt
from ledger.settings import LedgerSettings
from ledger.speculation import CommittedBlock, PendingCommit, Speculation, build_speculation
from ledger.store import Store
from ledger.transaction import SignedTransaction, verify_transaction_signature

Status = Literal["committed", "failed", "expired", "pending", "unknown"]

Subscriber = Callable[[CommittedBlock], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEnd:
    """How a transaction stands; `height` and `code` only where it is in a block."""

    status: Status
    height: int | None = None
    code: str | None = None


class Chain:
    """See the module's docstring."""

    def __init__(
        self,
        committed: CommittedLedger,
        *,
        store: Store,
        genesis: Genesis,
        settings: LedgerSettings,
        contract_set: ContractSet,
    ) -> None:
        """Use `open`."""
        self._committed = committed
        self._store = store
        self._settings = settings
        self._speculations: OrderedDict[bytes, Speculation] = OrderedDict()
        self._subscribers: list[Subscriber] = []
        self.genesis = genesis
        self.contract_set = contract_set
        self.chain_id: Digest = genesis.compute_chain_id()
        self._executor = Executor(contract_set, genesis.parameters, self.chain_id)
        self.mempool = Mempool(
            settings.mempool,
            chain_id=self.chain_id,
            expiry_window_ms_max=genesis.parameters.expiry_window_ms_max,
            find_institution=committed.known_senders.find_institution,
            is_committed=committed.holds,
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        genesis: Genesis,
        settings: LedgerSettings | None = None,
        *,
        contract_set: ContractSet | None = None,
    ) -> Chain:
        """Open a node's ledger, or create it with block 0 in an empty directory.

        Raises StoreFailed when the database is damaged or in use, GenesisMismatch when it holds another
        ledger, ContractUnknown when this software cannot execute the next block. `contract_set` defaults to
        the built-in contracts.
        """
        settings = settings or LedgerSettings()
        contract_set = contract_set or load_built_in()
        store = Store.open(directory, settings.store)
        try:
            head, state_tree, history_tree = open_genesis(store, genesis, contract_set)
            committed = CommittedLedger(
                store=store,
                genesis=genesis,
                settings=settings,
                contract_set=contract_set,
                head=head,
                state_tree=state_tree,
                history_tree=history_tree,
            )
            contract_set.select(committed.state.get)
            return cls(committed, store=store, genesis=genesis, settings=settings, contract_set=contract_set)
        except BaseException:
            store.close()
            raise

    @property
    def head(self) -> BlockHead:
        """The last committed block."""
        return self._committed.head

    @property
    def state(self) -> ReadableState:
        """Committed rows of the head."""
        return self._committed.state

    @property
    def epoch(self) -> CurrentEpoch:
        """Of the next height."""
        return self._committed.epoch

    @property
    def replica_set(self) -> ReplicaSet:
        """Orders and certifies the next height."""
        return self._committed.epoch.replica_set

    @property
    def archive(self) -> Archive:
        """Committed blocks, receipts and transactions up to the head."""
        return self._committed.archive

    def close(self) -> None:
        """Release the directory. Nothing is lost: whatever was acknowledged is synced."""
        self._store.close()

    # Executing

    def execute(
        self, transactions: Iterable[SignedTransaction], *, proposer: int, time_ms: int
    ) -> Speculation:
        """Build a block on the head from pending transactions, oldest first.

        Those that the block may not hold are left out, and the rest once it is full. Its time is `time_ms`,
        or one millisecond after the parent's if that is later. The outcome is kept by its digest.
        """
        time_ms = max(time_ms, self.head.header.time_ms + 1)
        execution = self._execute(transactions, time_ms=time_ms, is_strict=False)
        return self._keep(self._speculate(execution, proposer=proposer, time_ms=time_ms))

    def validate(
        self,
        header_bytes: bytes,
        transactions: Sequence[SignedTransaction],
        *,
        freshness: Freshness | None = None,
    ) -> Speculation:
        """Check a proposed block against everything but votes, and execute it; the outcome is kept.

        Signatures are verified here for transactions that are not in the mempool; those in it were verified
        on their way in. Raises BlockRefused.
        """
        header = self._decode_header(header_bytes)
        signed_hashes = [transaction.signed_hash for transaction in transactions]
        verify_before_execution(
            header, signed_hashes, head=self.head, replica_set=self.replica_set, chain_id=self.chain_id
        )
        if freshness is not None:
            verify_freshness(header, self.head, freshness, self.genesis.parameters)
        known = self._speculations.get(compute_header_digest(header_bytes))
        if known is not None:
            return known
        for transaction in transactions:
            if transaction.signed_hash not in self.mempool:
                _verify_signature(transaction)
        return self.reproduce(header, transactions)

    def reproduce(self, header: Header, transactions: Sequence[SignedTransaction]) -> Speculation:
        """Execute a block whose header and signatures were checked. Raises BlockRefused if results differ."""
        execution = self._execute(transactions, time_ms=header.time_ms, is_strict=True)
        speculation = self._speculate(execution, proposer=header.proposer, time_ms=header.time_ms)
        verify_results(header, speculation.header)
        return self._keep(speculation)

    def discard(self, digest: bytes) -> None:
        """Forget a speculation; its transactions stay pending."""
        self._speculations.pop(digest, None)

    def get_speculation(self, digest: bytes) -> Speculation | None:
        """An executed block upon the head."""
        return self._speculations.get(digest)

    # Committing

    def begin_commit(self, digest: bytes, certificate: Certificate) -> PendingCommit:
        """Prepare the write of an executed block; the certificate has been verified by the caller.

        Raises NotHeld when no such block was executed on the head.
        """
        speculation = self._speculations.get(digest)
        if speculation is None:
            raise NotHeld(
                f"block {digest.hex()} was not executed on height {self.head.height}: validate it first"
            )
        if certificate.digest != digest or certificate.height != speculation.header.height:
            raise ValueError(f"certificate for {certificate.digest.hex()} at height {certificate.height}")
        return PendingCommit(speculation=speculation, certificate=certificate, store=self._store)

    def finish_commit(self, pending: PendingCommit) -> CommittedBlock:
        """Move the head to a block that `PendingCommit.write` has made durable, and tell the subscribers."""
        block, certificate = pending.speculation, pending.certificate
        if not pending.is_written:
            raise ValueError(f"block {block.digest.hex()} is not written: call PendingCommit.write first")
        self._committed.advance(block, certificate)
        self._speculations.clear()
        self.mempool.remove(transaction.transaction_id for transaction in block.transactions)
        self.mempool.drop_expired(block.header.time_ms)
        committed = CommittedBlock(
            header=block.header,
            digest=block.digest,
            certificate=certificate,
            transactions=block.transactions,
            receipts=block.execution.receipts,
        )
        for subscriber in tuple(self._subscribers):
            subscriber(committed)
        return committed

    def verify_recoveries(self, changes: Sequence[EpochChange]) -> None:
        """Return when `recover` would take them. Raises ProofRefused."""
        self._committed.verify_recoveries(changes)

    def recover(self, *changes: EpochChange) -> None:
        """Open the epochs that a majority of the institutions has decided on, above the head of this node.

        More than one where those before have no block. Raises ProofRefused when they have not decided so, or
        when one is for another head or another set before it; then none is opened.
        """
        self._committed.recover(changes)
        self._speculations.clear()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with each committed block from now on; the returned function ends that.

        It is called between blocks and must neither raise nor take long.
        """
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    # Pruning, in another thread than the one that uses the chain

    def prune(self, base: int, pacer: Pacer) -> int:
        """Delete the blocks below height `base`; how many. Readers see it from the next block on.

        Raises StoreFailed, WorkStopped.
        """
        return prune_blocks(self._store, base=base, pacer=pacer)

    def compact(self) -> None:
        """Give back the room of pruned blocks, once a block has been committed since. Raises StoreFailed."""
        compact_pruned(self._store)

    # Reading

    def get_block(self, height: int) -> Block | None:
        return self.archive.get_block(height)

    def get_header(self, height: int) -> Header | None:
        return self.archive.get_header(height)

    def get_certificate(self, height: int) -> Certificate | None:
        return self.archive.get_certificate(height)

    def get_receipt(self, transaction_id: bytes) -> Receipt | None:
        return self.archive.get_receipt(transaction_id)

    def get_transaction(self, transaction_id: bytes) -> SignedTransaction | None:
        return self.archive.get_transaction(transaction_id)

    def find_end(self, transaction_id: bytes, expires_ms: int | None = None) -> TransactionEnd:
        """How a transaction ended, if it did; `expires_ms` is its own expiry, where the asker knows it."""
        receipt = self.get_receipt(transaction_id)
        if receipt is not None:
            status: Status = "committed" if receipt.code == OK else "failed"
            return TransactionEnd(status=status, height=receipt.height, code=receipt.code)
        if self.mempool.is_pending(transaction_id):
            return TransactionEnd(status="pending")
        # Block time only grows, so an id that is absent at its expiry can never be included any more.
        if expires_ms is not None and expires_ms <= self.head.header.time_ms:
            return TransactionEnd(status="expired")
        return TransactionEnd(status="unknown")

    def prove_receipt(self, transaction_id: bytes) -> ReceiptProof:
        """How a transaction ended, proved by the certified history of its own block. Raises NotHeld."""
        return self._committed.prove_receipt(transaction_id)

    def prove_state(self, state_key: bytes, height: int | None = None) -> StateProof:
        """What the row under `state_key` is at the head, or that there is none.

        Raises NotHeld for another height than the head's, whose state is gone, and before block 1.
        """
        return self._committed.prove_state(state_key, height)

    def find_contract_warning(self) -> str:
        """Which scheduled contract this software lacks, and from which height; empty when it lacks none."""
        return self.contract_set.warn_of_unknown(self.state.get)

    # Parts of the above

    def _execute(
        self, transactions: Iterable[SignedTransaction], *, time_ms: int, is_strict: bool
    ) -> Execution:
        return self._executor.execute(
            self.state,
            transactions,
            height=self.head.height + 1,
            time_ms=time_ms,
            is_committed=self._is_committed,
            is_strict=is_strict,
            opening=self._committed.compute_opening(),
        )

    def _is_committed(self, transaction: SignedTransaction) -> bool:
        # What is pending under this id was looked up when it came in, and a commit would have removed it.
        if self.mempool.is_pending(transaction.transaction_id):
            return False
        return self._committed.holds(transaction.transaction_id)

    def _speculate(self, execution: Execution, *, proposer: int, time_ms: int) -> Speculation:
        state_delta, history_delta = self._committed.compute_deltas(execution)
        return build_speculation(
            self.head,
            self.replica_set,
            self._committed.compute_next_replica_set(execution.writes),
            execution,
            state_delta,
            history_delta,
            proposer=proposer,
            time_ms=time_ms,
        )

    def _keep(self, speculation: Speculation) -> Speculation:
        self._speculations[speculation.digest] = speculation
        if len(self._speculations) > self._settings.speculations_max:
            self._speculations.popitem(last=False)
        return speculation

    @staticmethod
    def _decode_header(header_bytes: bytes) -> Header:
        try:
            return decode_header(header_bytes)
        except EncodingError as error:
            raise BlockRefused("header", str(error), "the canonical encoding of a header") from error


def _verify_signature(transaction: SignedTransaction) -> None:
    try:
        verify_transaction_signature(transaction)
    except InvalidSignature as error:
        where = f"transaction {transaction.transaction_id.hex()}"
        raise BlockRefused(where, str(error), "the sender's signature") from error
