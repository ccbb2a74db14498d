"""What one node's ledger holds, as of its head: blocks, rows of state, trees, epoch.

All of it moves at once, from block to block, in `advance`; so whoever reads never finds half a block, nor
anything of one that is only executed (rule L4). Blocks upon the head are `ledger.chain`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consensus.certificates import Certificate
from consensus.replica_set import ReplicaSet
from crypto.encoding import encode
from ledger import layout
from ledger.archive import Archive
from ledger.block import compute_header_digest
from ledger.block_rules import BlockHead
from ledger.committed_ids import CommittedIds
from ledger.contract_set import ContractSet, KnownSenders
from ledger.epochs import CurrentEpoch, EpochChange, follow_epochs
from ledger.errors import NotHeld, ProofRefused
from ledger.executor import Execution
from ledger.genesis import Genesis
from ledger.history_tree import HistoryDelta, HistoryTree
from ledger.proofs import ReceiptProof, StateProof
from ledger.prover import prove_receipt, prove_state
from ledger.settings import LedgerSettings
from ledger.speculation import Speculation
from ledger.state import HeadState
from ledger.state_tree import StateDelta, StateTree
from ledger.store import Rows, Store


class CommittedLedger:
    """See the module's docstring."""

    def __init__(
        self,
        *,
        store: Store,
        genesis: Genesis,
        settings: LedgerSettings,
        contract_set: ContractSet,
        head: BlockHead,
        state_tree: StateTree,
        history_tree: HistoryTree,
    ) -> None:
        """Parts of one stored head, as `ledger.genesis_block.open_genesis` finds them."""
        self._store = store
        self._genesis = genesis
        self._contract_set = contract_set
        self._state_tree = state_tree
        self._history_tree = history_tree
        self._rows: Rows = store.snapshot()
        self.head = head
        self.archive = Archive(self._rows)
        """Committed blocks, receipts and transactions up to the head."""
        self.state = HeadState(
            self._rows,
            may_hold=state_tree.may_hold,
            cached_rows_max=settings.cached_rows_max,
            cached_row_bytes_max=settings.cached_row_bytes_max,
        )
        self.epoch = self.archive.read_epoch(
            contract_set.read_replica_set(self.state.get) or genesis.replica_set
        )
        self.known_senders = KnownSenders(self.state, contract_set, senders_max=settings.known_senders_max)
        self._committed_ids = CommittedIds(
            window_ms=genesis.parameters.expiry_window_ms_max,
            complete_from_ms=head.header.time_ms if head.height else 0,
        )

    # Moving on

    def advance(self, block: Speculation, certificate: Certificate) -> None:
        """The head becomes this block, whose rows are in the store."""
        self._state_tree.apply(block.state_delta)
        self._history_tree.apply(block.history_delta)
        self._take_rows()
        self.state.advance(self._rows, block.execution.writes)
        self.known_senders.advance()
        self._committed_ids.add(
            (transaction.transaction_id for transaction in block.transactions), time_ms=block.header.time_ms
        )
        self.head = BlockHead(
            height=block.header.height,
            digest=block.digest,
            header=block.header,
            header_bytes=block.header_bytes,
            certificate=certificate,
        )
        if block.closes_epoch:
            self.epoch = CurrentEpoch(
                replica_set=block.next_replica_set, base_height=block.header.height, closing=certificate
            )

    def verify_recoveries(self, changes: Sequence[EpochChange]) -> None:
        """Return when a majority of the institutions has opened these epochs above the head, one by one.

        Raises ProofRefused when they have not, or when one is for another head or another set before it.
        """
        present = self.epoch.replica_set
        for epoch, change in enumerate(changes, present.epoch):
            if change.recovery is None or compute_header_digest(change.header) != self.head.digest:
                raise ProofRefused(
                    "recovery", f"it is not for the head of this node, height {self.head.height}"
                )
            if change.replica_set.epoch != epoch + 1:
                raise ProofRefused(
                    "recovery", f"it opens epoch {change.replica_set.epoch}, here {epoch} is on"
                )
        follow_epochs(self._genesis, (*self.archive.list_epoch_changes(present.epoch), *changes))

    def recover(self, changes: Sequence[EpochChange]) -> None:
        """Open the epochs that a majority of the institutions has decided on; they are on disk then.

        Raises ProofRefused like `verify_recoveries`.
        """
        self.verify_recoveries(changes)
        present = self.epoch.replica_set
        self._store.write(
            [(layout.compute_epoch_key(change.replica_set.epoch - 1), encode(change)) for change in changes]
        )
        self._take_rows()
        self.epoch = self.archive.read_epoch(present)

    def _take_rows(self) -> None:
        self._rows = self._store.snapshot()
        self.archive = Archive(self._rows)

    # What a block upon the head is computed from

    def compute_deltas(self, execution: Execution) -> tuple[StateDelta, HistoryDelta]:
        """What an execution upon the head changes in both trees."""
        return (
            self._state_tree.compute_delta(execution.writes, self._read_bucket),
            self._history_tree.compute_delta(execution.leaf_hashes),
        )

    def compute_opening(self) -> Mapping[bytes, bytes | None]:
        """Rows that the first block above a recovery, or several, begins with; none otherwise."""
        head, rows = self.head, dict[bytes, bytes | None]()
        if self.epoch.base_height != head.height:
            return rows
        for change in self.archive.list_changes_above(head.header):
            if change.recovery is not None:
                rows |= self._contract_set.open_recovered_epoch(change.replica_set, head.height, head.digest)
        return rows

    def compute_next_replica_set(self, writes: Mapping[bytes, bytes | None]) -> ReplicaSet:
        """The set for the height after a block that writes these rows of state."""
        return self._contract_set.read_replica_set(writes.get) or self.epoch.replica_set

    def holds(self, transaction_id: bytes) -> bool:
        """Whether a block that still matters holds the transaction; whoever asks has checked its expiry."""
        return (
            self._committed_ids.may_hold(transaction_id)
            and self.archive.get_position(transaction_id) is not None
        )

    # Proofs

    def prove_receipt(self, transaction_id: bytes) -> ReceiptProof:
        """How a transaction ended, proved by the certified history of its own block. Raises NotHeld."""
        return prove_receipt(self.archive, self._genesis, transaction_id)

    def prove_state(self, state_key: bytes, height: int | None = None) -> StateProof:
        """What the row under `state_key` is at the head, or that there is none.

        Raises NotHeld for another height than the head's, whose state is gone, and before block 1.
        """
        if height not in (None, self.head.height):
            raise NotHeld(
                f"state of height {height} asked for, only that of height {self.head.height} is held"
            )
        bucket = self._state_tree.prove(state_key, self._read_bucket)
        return prove_state(
            self.archive, self.head, self._genesis, bucket, state_key, self.state.get(state_key)
        )

    def _read_bucket(self, bucket: int) -> bytes:
        return self._rows.get(layout.compute_bucket_key(bucket)) or b""
