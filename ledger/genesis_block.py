"""Opening a stored ledger: block 0 from the genesis, or the head that was committed last."""

from __future__ import annotations

from crypto.encoding import encode
from crypto.hashing import ZERO_DIGEST, Digest
from crypto.merkle import EMPTY_ROOT
from ledger import layout
from ledger.archive import Archive
from ledger.block import FORMAT_VERSION, Header, compute_header_digest
from ledger.block_rules import BlockHead
from ledger.contract_set import ContractSet
from ledger.errors import GenesisMismatch, StoreFailed
from ledger.executor import Execution
from ledger.genesis import Genesis
from ledger.history_tree import HistoryTree
from ledger.speculation import Speculation, compute_block_rows, decode_head, wrap_speculation
from ledger.state_tree import StateTree
from ledger.store import Store


def compute_genesis_block(genesis: Genesis, contract_set: ContractSet) -> Speculation:
    """Block 0: the state that the contracts start with; certified by nobody, agreed on by its chain id."""
    rows: dict[bytes, bytes | None] = dict(contract_set.compute_genesis_rows(genesis))
    execution = Execution((), (), (), (), rows)
    state_tree = StateTree(genesis.parameters.state_buckets_log2)
    state_delta = state_tree.compute_delta(rows, lambda bucket: b"")
    set_digest = genesis.replica_set.compute_digest()
    header = Header(
        format_version=FORMAT_VERSION,
        chain_id=genesis.compute_chain_id(),
        epoch=genesis.replica_set.epoch,
        height=0,
        parent_hash=ZERO_DIGEST,
        time_ms=genesis.time_ms,
        proposer=genesis.replica_set.members[0].replica,
        transaction_count=0,
        transactions_digest=EMPTY_ROOT,
        history_root=EMPTY_ROOT,
        history_size=0,
        state_root=state_delta.root,
        replica_set_digest=set_digest,
        next_replica_set_digest=set_digest,
    )
    history_delta = HistoryTree().compute_delta(())
    return wrap_speculation(header, execution, state_delta, history_delta, genesis.replica_set)


def open_genesis(
    store: Store, genesis: Genesis, contract_set: ContractSet
) -> tuple[BlockHead, StateTree, HistoryTree]:
    """The head of the ledger in `store`, created if the store is empty, and its two trees.

    Raises GenesisMismatch when the store holds another ledger, StoreFailed when its rows do not make the
    head's roots.
    """
    stored = store.get(layout.GENESIS)
    if stored is None:
        block = compute_genesis_block(genesis, contract_set)
        puts, _ = compute_block_rows(block, None)
        store.write([(layout.GENESIS, encode(genesis)), *puts])
    elif stored != encode(genesis):
        raise GenesisMismatch(
            f"the database holds the ledger of another genesis ({len(stored)} bytes) than the one given, "
            f"{genesis.compute_chain_id().hex()}: correct the genesis file or the data directory"
        )
    head, frontier = _read_head(store)
    snapshot = store.snapshot()
    state_tree = StateTree(genesis.parameters.state_buckets_log2)
    state_tree.load(
        (int.from_bytes(key[len(layout.BUCKET) :], "big"), row) for key, row in snapshot.scan(layout.BUCKET)
    )
    _check_root(head, "state", state_tree.root, head.header.state_root)
    try:
        history_tree = HistoryTree(head.header.history_size, frontier)
    except ValueError as error:
        raise StoreFailed(f"ledger database: {error}; sync the node anew") from error
    _check_root(head, "history", history_tree.root, head.header.history_root)
    return head, state_tree, history_tree


def _read_head(store: Store) -> tuple[BlockHead, tuple[bytes, ...]]:
    row = store.get(layout.HEAD)
    if row is None:
        raise StoreFailed("ledger database: no head is stored; move it away and let the node sync anew")
    height, frontier = decode_head(row)
    archive = Archive(store.snapshot())
    header_bytes, header = archive.get_header_bytes(height), archive.get_header(height)
    if header_bytes is None or header is None:
        raise StoreFailed(f"ledger database: the header of height {height} is missing; sync the node anew")
    head = BlockHead(
        height=height,
        digest=compute_header_digest(header_bytes),
        header=header,
        header_bytes=header_bytes,
        certificate=archive.get_certificate(height),
    )
    return head, frontier


def _check_root(head: BlockHead, name: str, found: Digest, expected: bytes) -> None:
    if found != expected:
        raise StoreFailed(
            f"ledger database: stored rows make {name} root {found.hex()}, height {head.height} has "
            f"{expected.hex()}; move the database away and let the node sync anew"
        )
