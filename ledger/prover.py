"""Making proofs from what a node has committed; `ledger.proofs` verifies them."""

from __future__ import annotations

from ledger.archive import Archive
from ledger.block_rules import BlockHead
from ledger.errors import NotHeld
from ledger.genesis import Genesis
from ledger.history_tree import compute_path
from ledger.proofs import ReceiptProof, StateProof
from ledger.state_tree import BucketProof


def prove_receipt(archive: Archive, genesis: Genesis, transaction_id: bytes) -> ReceiptProof:
    """How a transaction ended, proved by the certified history of its own block. Raises NotHeld."""
    position = archive.get_position(transaction_id)
    if position is None:
        raise NotHeld(
            f"transaction {transaction_id.hex()} is in no block of this node, which holds them from height "
            f"{archive.get_base()} up: ask again later, or a node that keeps all blocks"
        )
    height, index = position
    header_bytes = archive.get_header_bytes(height)
    header, certificate = archive.get_header(height), archive.get_certificate(height)
    assert header_bytes is not None
    assert header is not None
    assert certificate is not None
    leaf = header.history_size - header.transaction_count + index
    return ReceiptProof(
        genesis=genesis.encode(),
        header=header_bytes,
        certificate=certificate,
        transaction=archive.get_signed_transactions(height)[index],
        receipt=archive.get_receipt_bytes(height, index),
        leaf=leaf,
        path=compute_path(archive.rows, leaf, header.history_size),
        epoch_changes=archive.list_epoch_changes(header.epoch),
    )


def prove_state(
    archive: Archive,
    head: BlockHead,
    genesis: Genesis,
    bucket: BucketProof,
    state_key: bytes,
    row: bytes | None,
) -> StateProof:
    """What the row under `state_key` is at the head. Raises NotHeld before the first certified block."""
    if head.certificate is None:
        raise NotHeld("no block is certified yet: ask again after the first one")
    return StateProof(
        genesis=genesis.encode(),
        header=head.header_bytes,
        certificate=head.certificate,
        state_key=state_key,
        row=row,
        count=bucket.count,
        entries=bucket.entries,
        siblings=bucket.siblings,
        epoch_changes=archive.list_epoch_changes(head.header.epoch),
    )
