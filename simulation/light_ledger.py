"""A ledger that is quick to execute and easy to check.

A transaction is a byte string, its hash its only name; the state is a hash chain over all transactions in
their order. It keeps the rules that consensus relies on: blocks build on the head alone, a wrong result is
refused, block time goes up, a fresh block that is empty too early is refused, no transaction counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from consensus.certificates import Certificate
from consensus.ports import Freshness, Proposal
from consensus.replica_set import ReplicaId, ReplicaSet
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import ZERO_DIGEST, compute_digest
from crypto.merkle import compute_root
from ledger.epochs import CurrentEpoch
from simulation.disk import Disk, StoredBlock
from simulation.light_epochs import advance_epoch, encode_change

BLOCK_TRANSACTIONS_MAX = 8
"""Small, so that work piles up behind a slow network."""
MEMPOOL_TRANSACTIONS_MAX = 500
GENESIS_TIME_MS = 1_700_000_000_000


class LightHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What is certified by its digest."""

    height: int
    parent_hash: bytes
    time_ms: int
    proposer: int
    transaction_count: int
    transactions_digest: bytes
    state_root: bytes


@dataclass(frozen=True, slots=True)
class Validation:
    """What came of executing another replica's proposal."""

    ok: bool
    has_diverged: bool = False
    """Execution led elsewhere than the header says, whatever clock and proposer said."""


class SimulatedLedger(Protocol):
    """A node's ledger in the simulator: without I/O of its own, durable on the node's `Disk` alone."""

    def compute_hash(self, body: bytes) -> bytes:
        """The hash that names a transaction in proposals."""

    def add_transaction(self, body: bytes) -> bool:
        """Whether it was new: neither pending nor committed, and there was room."""

    def get_body(self, signed_hash: bytes) -> bytes | None: ...

    def is_committed(self, signed_hash: bytes) -> bool: ...

    @property
    def oldest(self) -> bytes | None:
        """Hash of the transaction that has been pending longest."""

    @property
    def head(self) -> StoredBlock: ...

    @property
    def state_root(self) -> bytes:
        """As executed here, not as the header says."""

    @property
    def time_ms(self) -> int:
        """Block time of the head."""

    @property
    def epoch(self) -> CurrentEpoch:
        """Of the height after the head."""

    def compute_digest(self, proposal: Proposal) -> bytes: ...

    def build(self, *, proposer: ReplicaId, wall_ms: int, may_be_empty: bool) -> Proposal | None: ...

    def forget_through(self, height: int) -> None:
        """The replica has gone on from this height; what it vouched for there is not needed any more."""

    def find_missing(self, proposal: Proposal) -> tuple[bytes, ...]:
        """Hashes of the bodies that are not at hand."""

    def keep_bodies(self, bodies: Sequence[bytes]) -> None:
        """Bodies fetched for a proposal."""

    def validate(self, proposal: Proposal, freshness: Freshness | None) -> Validation: ...

    def commit(self, proposal: Proposal, certificate: Certificate) -> StoredBlock:
        """Write the block to disk; it is now the head. Raises ValueError if it is not valid on the head."""

    def close(self) -> None: ...


class LightLedger:
    """See the module's docstring."""

    def __init__(self, disk: Disk, *, idle_block_interval_ms: int) -> None:
        self._disk = disk
        self._idle_block_interval_ms = idle_block_interval_ms
        self.oldest: bytes | None = None
        """The first of what is pending; asked for far more often than it changes."""
        self._pending: dict[bytes, bytes] = {}
        self._fetched: dict[bytes, bytes] = {}
        self._kept: dict[bytes, bytes] = {}
        """Of proposals that were built or validated, until the replica has gone on: it may vouch for them."""
        self._committed: set[bytes] = set()
        self._state_root: bytes = ZERO_DIGEST
        self._epoch: CurrentEpoch | None = None
        for block in disk.blocks:
            self._epoch = advance_epoch(self._epoch, block)
            self._committed.update(block.hashes)
            self._state_root = compute_light_root(self._state_root, block.hashes)

    @property
    def head(self) -> StoredBlock:
        return self._disk.blocks[-1]

    @property
    def state_root(self) -> bytes:
        return self._state_root

    @property
    def time_ms(self) -> int:
        return decode_light_header(self.head.header).time_ms

    @property
    def epoch(self) -> CurrentEpoch:
        if self._epoch is None:
            raise ValueError("the genesis block names no replicas")
        return self._epoch

    def compute_hash(self, body: bytes) -> bytes:
        return _compute_body_hash(body)

    def add_transaction(self, body: bytes) -> bool:
        signed_hash = _compute_body_hash(body)
        if signed_hash in self._pending or signed_hash in self._committed:
            return False
        if len(self._pending) >= MEMPOOL_TRANSACTIONS_MAX:
            return False
        self._pending[signed_hash] = body
        self.oldest = self.oldest or signed_hash
        return True

    def get_body(self, signed_hash: bytes) -> bytes | None:
        return (
            self._pending.get(signed_hash)
            or self._fetched.get(signed_hash)
            or self._kept.get(signed_hash)
            or self._disk.get_body(signed_hash)
        )

    def is_committed(self, signed_hash: bytes) -> bool:
        return signed_hash in self._committed

    def compute_digest(self, proposal: Proposal) -> bytes:
        return _compute_block_digest(proposal.header, proposal.transaction_hashes)

    def build(self, *, proposer: ReplicaId, wall_ms: int, may_be_empty: bool) -> Proposal | None:
        hashes = tuple(self._pending)[:BLOCK_TRANSACTIONS_MAX]
        time_ms = max(wall_ms, self.time_ms + 1)
        if not hashes and (not may_be_empty or time_ms < self.time_ms + self._idle_block_interval_ms):
            return None
        self._kept.update((item, self._pending[item]) for item in hashes)
        return self.assemble(proposer=proposer, time_ms=time_ms, hashes=hashes)

    def assemble(self, *, proposer: ReplicaId, time_ms: int, hashes: tuple[bytes, ...]) -> Proposal:
        """The block of these transactions on the head."""
        header = LightHeader(
            height=self.head.height + 1,
            parent_hash=self.head.digest,
            time_ms=time_ms,
            proposer=proposer,
            transaction_count=len(hashes),
            transactions_digest=compute_root(hashes),
            state_root=compute_light_root(self._state_root, hashes),
        )
        return Proposal(encode(header), hashes)

    def find_missing(self, proposal: Proposal) -> tuple[bytes, ...]:
        return tuple(item for item in proposal.transaction_hashes if self.get_body(item) is None)

    def keep_bodies(self, bodies: Sequence[bytes]) -> None:
        if len(self._fetched) > MEMPOOL_TRANSACTIONS_MAX:
            self._fetched.clear()
        self._fetched.update((_compute_body_hash(body), body) for body in bodies)

    def validate(self, proposal: Proposal, freshness: Freshness | None) -> Validation:
        bodies = {
            item: body for item in proposal.transaction_hashes if (body := self.get_body(item)) is not None
        }
        if len(bodies) < len(proposal.transaction_hashes):
            return Validation(ok=False)
        self._kept.update(bodies)
        header = decode_light_header(proposal.header)
        if not self._is_valid(header, proposal.transaction_hashes):
            return Validation(ok=False, has_diverged=True)
        return Validation(ok=freshness is None or self._is_fresh(header, freshness))

    def commit(self, proposal: Proposal, certificate: Certificate) -> StoredBlock:
        header, hashes = decode_light_header(proposal.header), proposal.transaction_hashes
        if not self._is_valid(header, hashes):
            raise ValueError(f"block {header.height} is not valid on the head {self.head.height}")
        bodies = [self.get_body(item) for item in hashes]
        block = StoredBlock(
            height=header.height,
            digest=self.compute_digest(proposal),
            header=proposal.header,
            hashes=hashes,
            bodies=tuple(body for body in bodies if body is not None),
            certificate=certificate,
        )
        if len(block.bodies) != len(hashes):
            raise ValueError(f"block {header.height}: a body is missing")
        self._disk.blocks.append(block)
        self._epoch = advance_epoch(self._epoch, block)
        self._state_root = compute_light_root(self._state_root, hashes)
        self._committed.update(hashes)
        for item in hashes:
            self._pending.pop(item, None)
        self.oldest = next(iter(self._pending), None)
        return block

    def forget_through(self, height: int) -> None:
        if height >= self.head.height:
            self._kept.clear()

    def close(self) -> None:
        """Nothing is open."""

    def _is_valid(self, header: LightHeader, hashes: tuple[bytes, ...]) -> bool:
        """Everything that every replica decides alike."""
        return (
            header.height == self.head.height + 1
            and header.parent_hash == self.head.digest
            and header.time_ms > self.time_ms
            and len(hashes) <= BLOCK_TRANSACTIONS_MAX
            and len(set(hashes)) == len(hashes)
            and not any(item in self._committed for item in hashes)
            and header.state_root == compute_light_root(self._state_root, hashes)
        )

    def _is_fresh(self, header: LightHeader, freshness: Freshness) -> bool:
        is_early = header.time_ms < self.time_ms + self._idle_block_interval_ms
        if header.proposer != freshness.proposer or (header.transaction_count == 0 and is_early):
            return False
        is_near = abs(header.time_ms - freshness.wall_ms) <= freshness.tolerance_ms
        # A clock behind the parent's time cannot propose better than this, and stalls nobody.
        return is_near or (header.time_ms == self.time_ms + 1 and freshness.wall_ms <= self.time_ms)


def create_genesis_block(replica_set: ReplicaSet | None = None) -> StoredBlock:
    """Height 0 of every light ledger; without replicas it serves where nobody votes."""
    header = LightHeader(
        height=0,
        parent_hash=ZERO_DIGEST,
        time_ms=GENESIS_TIME_MS,
        proposer=0,
        transaction_count=0,
        transactions_digest=compute_root(()),
        state_root=compute_light_root(ZERO_DIGEST, ()),
    )
    data = encode(header)
    return StoredBlock(
        height=0,
        digest=compute_digest(tags.HEADER, data),
        header=data,
        hashes=(),
        bodies=() if replica_set is None else (encode_change(replica_set),),
        certificate=None,
    )


# All replicas of a run compute the same few values again and again, hence the caches.

_compute_body_hash = lru_cache(maxsize=256)(compute_digest)


@lru_cache(maxsize=64)
def compute_light_root(root: bytes, hashes: tuple[bytes, ...]) -> bytes:
    """The state after these transactions: each is hashed onto the state before it."""
    for item in hashes:
        root = compute_digest(root, item)
    return root


@lru_cache(maxsize=64)
def _compute_block_digest(header_data: bytes, hashes: tuple[bytes, ...]) -> bytes:
    """Raises ValueError when header and hashes do not belong together."""
    header = decode_light_header(header_data)
    if header.transaction_count != len(hashes):
        raise ValueError("transaction count: header and hashes do not belong together")
    if header.transactions_digest != compute_root(hashes):
        raise ValueError("transactions digest: header and hashes do not belong together")
    return compute_digest(tags.HEADER, header_data)


@lru_cache(maxsize=64)
def decode_light_header(data: bytes) -> LightHeader:
    """Raises ValueError when `data` is no header."""
    try:
        return decode_as(LightHeader, data, size_max=512)
    except EncodingError as error:
        raise ValueError(str(error)) from error
