"""Committed blocks, certificates, transactions and receipts, read from the rows of one moment."""

from __future__ import annotations

from consensus.certificates import Certificate
from consensus.replica_set import ReplicaSet
from crypto.encoding import decode_as
from ledger import layout
from ledger.block import Block, Header, decode_header
from ledger.epochs import CurrentEpoch, EpochChange
from ledger.errors import StoreFailed
from ledger.receipt import Receipt, decode_receipt
from ledger.store import Rows
from ledger.transaction import SignedTransaction, decode_transaction


class Archive:
    """What the node has committed, up to the head at which it was made."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def get_base(self) -> int:
        """The lowest height above 0 whose block is held: 1 unless pruned, or joined by a snapshot."""
        row = self.rows.get(layout.BASE)
        return 1 if row is None else int.from_bytes(row, "big")

    def get_header_bytes(self, height: int) -> bytes | None:
        return self.rows.get(layout.compute_header_key(height)) if height >= 0 else None

    def get_header(self, height: int) -> Header | None:
        header_bytes = self.get_header_bytes(height)
        return None if header_bytes is None else decode_header(header_bytes)

    def get_certificate(self, height: int) -> Certificate | None:
        """None for height 0 too: the genesis block is final by agreement."""
        row = self.rows.get(layout.compute_certificate_key(height)) if height > 0 else None
        return None if row is None else decode_as(Certificate, row, size_max=layout.ROW_BYTES_MAX)

    def get_epoch_change(self, epoch: int) -> EpochChange | None:
        """What closed this epoch; None for the one that is on, and for those to come."""
        row = self.rows.get(layout.compute_epoch_key(epoch))
        return None if row is None else decode_as(EpochChange, row, size_max=layout.ROW_BYTES_MAX)

    def find_next_replica_set(self, height: int) -> ReplicaSet | None:
        """The set that took over above `height`, None when the same one went on."""
        header = self.get_header(height)
        changes = () if header is None else self.list_changes_above(header)
        return changes[-1].replica_set if changes else None

    def read_epoch(self, replica_set: ReplicaSet) -> CurrentEpoch:
        """The epoch of the next height, `replica_set` being the state's.

        Raises StoreFailed when the change that began it is gone.
        """
        epoch = replica_set.epoch
        change = self.get_epoch_change(epoch - 1) if epoch else None
        if epoch and change is None:
            raise StoreFailed(
                f"ledger database: what closed epoch {epoch - 1} is missing; move the database "
                "away and let the node sync anew"
            )
        # Until a recovered epoch has a block, the state still has the set before it.
        while (recovered := self.get_epoch_change(epoch)) is not None:
            change, epoch = recovered, epoch + 1
        if change is None:
            return CurrentEpoch(replica_set=replica_set, base_height=0, closing=None)
        closing = change.certificate
        return CurrentEpoch(replica_set=change.replica_set, base_height=closing.height, closing=closing)

    def list_changes_above(self, header: Header) -> tuple[EpochChange, ...]:
        """Changes right above this block: what the block itself names, then recoveries; often none."""
        found: list[EpochChange] = []
        while (change := self.get_epoch_change(header.epoch + len(found))) is not None:
            if change.certificate.height != header.height:
                break
            found.append(change)
        return tuple(found)

    def list_epoch_changes(self, epoch: int) -> tuple[EpochChange, ...]:
        """Every change since the genesis that leads to `epoch`."""
        changes = map(self.get_epoch_change, range(epoch))
        return tuple(change for change in changes if change is not None)

    def get_signed_transactions(self, height: int) -> tuple[bytes, ...]:
        """The block's signed transactions as bytes, none for an unknown height."""
        row = self.rows.get(layout.compute_transactions_key(height)) if height >= 0 else None
        return () if row is None else layout.decode_items(row)

    def get_block(self, height: int) -> Block | None:
        header_bytes = self.get_header_bytes(height)
        if header_bytes is None:
            return None
        transactions = tuple(map(decode_transaction, self.get_signed_transactions(height)))
        return Block(header_bytes, transactions)

    def get_receipts(self, height: int) -> tuple[Receipt, ...]:
        """The block's receipts in order, none for an unknown height."""
        return tuple(map(decode_receipt, self.get_receipt_rows(height)))

    def get_receipt_rows(self, height: int) -> tuple[bytes, ...]:
        """The block's encoded receipts in order, none for an unknown height."""
        row = self.rows.get(layout.compute_receipts_key(height)) if height >= 0 else None
        return () if row is None else layout.decode_items(row)

    def get_position(self, transaction_id: bytes) -> tuple[int, int] | None:
        """Height and index of the transaction, or None when it is in no block."""
        row = self.rows.get(layout.compute_position_key(transaction_id))
        return None if row is None else layout.decode_position(row)

    def get_receipt_bytes(self, height: int, index: int) -> bytes:
        row = self.rows.get(layout.compute_receipts_key(height))
        assert row is not None, f"receipts of height {height} are written with its block"
        return layout.decode_items(row)[index]

    def get_receipt(self, transaction_id: bytes) -> Receipt | None:
        position = self.get_position(transaction_id)
        return None if position is None else decode_receipt(self.get_receipt_bytes(*position))

    def get_transaction(self, transaction_id: bytes) -> SignedTransaction | None:
        position = self.get_position(transaction_id)
        if position is None:
            return None
        height, index = position
        return decode_transaction(self.get_signed_transactions(height)[index])
