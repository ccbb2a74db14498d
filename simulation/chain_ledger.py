"""The daemon's own ledger in a simulated node: real contracts, real state roots, real LevelDB.

Each node has a folder of its own under a temporary one. Time and order come from the simulator; the disk's
faults are those of `simulation.disk`, since a write batch of the store is there whole or not at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from consensus.certificates import Certificate
from consensus.ports import Freshness, Proposal
from consensus.replica_set import Member, ReplicaId, ReplicaSet
from contracts.calls.changes import ReplicaSetChange
from contracts.calls.folders import RegisterAlias
from contracts.calls.governance import Propose
from contracts.catalog import NEWEST
from crypto.encoding import EncodingError, encode
from crypto.signatures import SigningKey
from ledger.block import compute_header_digest, compute_transactions_digest, decode_header
from ledger.chain import Chain
from ledger.epochs import CurrentEpoch
from ledger.errors import BlockRefused
from ledger.genesis import Genesis, Institution, Parameters
from ledger.transaction import (
    Call,
    SignedTransaction,
    TransactionRefused,
    decode_transaction,
    encode_transaction,
    sign_transaction,
)
from simulation.disk import Disk, StoredBlock
from simulation.ledger_kit import SimulatedTransaction
from simulation.light_ledger import (
    BLOCK_TRANSACTIONS_MAX,
    GENESIS_TIME_MS,
    MEMPOOL_TRANSACTIONS_MAX,
    SimulatedLedger,
    Validation,
)
from simulation.settings import SimulationSettings


class ChainKit:
    """One institution whose replicas keep the ledger; it registers aliases, some of them twice."""

    def __init__(self, seed: int, settings: SimulationSettings, replica_set: ReplicaSet) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="chartchain-simulation-"))
        self._key = SigningKey(sha256(f"simulated institution {seed}".encode()).digest())
        self._institution = bytes(16)
        self.rotates_keys = False  # Nor are nodes registered: both need signatures that the contracts verify.
        self._sets: dict[bytes, ReplicaSet] = {}
        self.losses = ("journal", "all", "flip_journal")  # A LevelDB folder is not copied here.
        self.clock_jumps_ms = (300, 1_500, 20_000)
        self._genesis = Genesis(
            network="simulation",
            time_ms=GENESIS_TIME_MS,
            parameters=Parameters(
                state_buckets_log2=8,
                block_transactions_max=BLOCK_TRANSACTIONS_MAX,
                idle_block_interval_ms=settings.idle_block_interval_ms,
            ),
            institutions=(
                Institution(
                    self._institution,
                    "hospital",
                    "Simulated hospital",
                    self._key.public_key,
                    "https://hospital.example",
                ),
            ),
            replica_set=ReplicaSet(
                replica_set.epoch,
                tuple(Member(m.replica, m.public_key, self._institution) for m in replica_set.members),
            ),
            contracts=NEWEST,
        )
        self.chain_id: bytes = self._genesis.compute_chain_id()
        chain = Chain.open(self._directory / "genesis", self._genesis)
        self.genesis = StoredBlock(
            height=0,
            digest=chain.head.digest,
            header=chain.head.header_bytes,
            hashes=(),
            bodies=(),
            certificate=None,
        )
        self.genesis_root: bytes = chain.head.header.state_root
        chain.close()

    def open(self, disk: Disk) -> SimulatedLedger:
        directory = self._directory / f"node-{disk.name}"
        if len(disk.blocks) == 1 and directory.exists():
            shutil.rmtree(directory)  # The disk was wiped, or never held a block.
        return ChainLedger(Chain.open(directory, self._genesis), disk)

    def delay_header(self, header: bytes) -> bytes:
        known = decode_header(header)
        return encode(replace(known, time_ms=known.time_ms + 1))

    def spoil_header(self, header: bytes) -> bytes:
        return encode(replace(decode_header(header), state_root=bytes(32)))

    def create_transaction(self, number: int) -> SimulatedTransaction:
        """Every fifth registers an alias that is taken: a receipt that failed, on all nodes alike."""
        alias = sha256(f"alias {number - (number % 5 == 4)}".encode()).digest()[:16]
        arguments = RegisterAlias(alias=alias, custodian=self._institution, patient_key=b"", credential=b"")
        return self._sign(Call("folders", "register_alias", encode(arguments)), number.to_bytes(16, "big"))

    def create_change(self, present: ReplicaSet, following: ReplicaSet, height: int) -> SimulatedTransaction:
        """The institution is alone, so its proposal is adopted at once."""
        before = {member.replica for member in present.members}
        after = {member.replica for member in following.members}
        members = tuple(Member(m.replica, m.public_key, self._institution) for m in following.members)
        made = ReplicaSet(following.epoch, members)
        self._sets[made.compute_digest()] = made
        nonce = sha256(f"change {following.epoch} at {height}".encode()).digest()[:16]
        change = ReplicaSetChange(add=tuple(sorted(after - before)), remove=tuple(sorted(before - after)))
        arguments = Propose(nonce, change, height)
        return self._sign(Call("governance", "propose", encode(arguments)), nonce)

    def find_change(self, block: StoredBlock, epoch: int) -> ReplicaSet | None:
        header = decode_header(block.header)
        if header.next_replica_set_digest == header.replica_set_digest:
            return None
        found = self._sets.get(header.next_replica_set_digest)
        if found is None or found.epoch != epoch:
            raise ValueError(f"height {block.height} hands over to a set that nobody proposed")
        return found

    def _sign(self, call: Call, nonce: bytes) -> SimulatedTransaction:
        transaction = sign_transaction(
            self._key,
            chain_id=self.chain_id,
            calls=[call],
            expires_ms=GENESIS_TIME_MS + 400_000,
            nonce=nonce,
        )
        return SimulatedTransaction(transaction.signed_hash, encode_transaction(transaction))

    def close(self) -> None:
        shutil.rmtree(self._directory)


class ChainLedger:
    """`SimulatedLedger` over a `Chain`."""

    def __init__(self, chain: Chain, disk: Disk) -> None:
        self._chain = chain
        self._disk = disk
        self._fetched: dict[bytes, SignedTransaction] = {}
        self._kept: dict[bytes, SignedTransaction] = {}
        """Of proposals that were built or validated, until the replica has gone on: it may vouch for them."""

    @property
    def head(self) -> StoredBlock:
        return self._disk.blocks[-1]

    @property
    def state_root(self) -> bytes:
        return self._chain.head.header.state_root

    @property
    def time_ms(self) -> int:
        return self._chain.head.header.time_ms

    @property
    def epoch(self) -> CurrentEpoch:
        return self._chain.epoch

    @property
    def oldest(self) -> bytes | None:
        return self._chain.mempool.oldest

    def compute_hash(self, body: bytes) -> bytes:
        return decode_transaction(body).signed_hash

    def add_transaction(self, body: bytes) -> bool:
        try:
            self._chain.mempool.verify_and_add(decode_transaction(body), head_time_ms=self.time_ms)
        except TransactionRefused:
            return False
        return True

    def get_body(self, signed_hash: bytes) -> bytes | None:
        transaction = self._find(signed_hash)
        return None if transaction is None else encode_transaction(transaction)

    def is_committed(self, signed_hash: bytes) -> bool:
        return any(signed_hash in block.hashes for block in self._disk.blocks)

    def compute_digest(self, proposal: Proposal) -> bytes:
        header = decode_header(proposal.header)
        if header.transaction_count != len(proposal.transaction_hashes):
            raise ValueError("transaction count: header and hashes do not belong together")
        if header.transactions_digest != compute_transactions_digest(proposal.transaction_hashes):
            raise ValueError("transactions digest: header and hashes do not belong together")
        return compute_header_digest(proposal.header)

    def build(self, *, proposer: ReplicaId, wall_ms: int, may_be_empty: bool) -> Proposal | None:
        parameters = self._chain.genesis.parameters
        transactions = self._chain.mempool.take(parameters.block_transactions_max, parameters.block_bytes_max)
        speculation = self._chain.execute(transactions, proposer=proposer, time_ms=wall_ms)
        earliest_empty_ms = self.time_ms + parameters.idle_block_interval_ms
        is_early = not may_be_empty or speculation.header.time_ms < earliest_empty_ms
        if not speculation.transactions and is_early:
            self._chain.discard(speculation.digest)
            return None
        self._kept.update(zip(speculation.transaction_hashes, speculation.transactions, strict=True))
        return Proposal(speculation.header_bytes, speculation.transaction_hashes)

    def find_missing(self, proposal: Proposal) -> tuple[bytes, ...]:
        return tuple(item for item in proposal.transaction_hashes if self._find(item) is None)

    def keep_bodies(self, bodies: Sequence[bytes]) -> None:
        if len(self._fetched) > MEMPOOL_TRANSACTIONS_MAX:
            self._fetched.clear()
        for body in bodies:
            try:
                transaction = decode_transaction(body)
            except TransactionRefused:
                continue  # A lying peer's; what was asked for is still missing.
            self._fetched[transaction.signed_hash] = transaction

    def validate(self, proposal: Proposal, freshness: Freshness | None) -> Validation:
        transactions = self._gather(proposal)
        if len(transactions) != len(proposal.transaction_hashes):
            return Validation(ok=False)
        self._kept.update(zip(proposal.transaction_hashes, transactions, strict=True))
        try:
            self._chain.validate(proposal.header, transactions, freshness=freshness)
        except BlockRefused as error:
            return Validation(ok=False, has_diverged=error.is_divergence)
        return Validation(ok=True)

    def commit(self, proposal: Proposal, certificate: Certificate) -> StoredBlock:
        transactions = self._gather(proposal)
        if self._chain.get_speculation(certificate.digest) is None:
            try:
                self._chain.validate(proposal.header, transactions)
            except (BlockRefused, EncodingError) as error:
                raise ValueError(str(error)) from error
        pending = self._chain.begin_commit(certificate.digest, certificate)
        pending.write()
        self._chain.finish_commit(pending)
        block = StoredBlock(
            height=self._chain.head.height,
            digest=self._chain.head.digest,
            header=proposal.header,
            hashes=proposal.transaction_hashes,
            bodies=tuple(map(encode_transaction, transactions)),
            certificate=certificate,
        )
        self._disk.blocks.append(block)
        return block

    def forget_through(self, height: int) -> None:
        if height >= self.head.height:
            self._kept.clear()

    def close(self) -> None:
        self._chain.close()

    def _find(self, signed_hash: bytes) -> SignedTransaction | None:
        found = (
            self._chain.mempool.get(signed_hash)
            or self._fetched.get(signed_hash)
            or self._kept.get(signed_hash)
        )
        if found is None and (journaled := self._disk.get_body(signed_hash)) is not None:
            found = decode_transaction(journaled)
        return found

    def _gather(self, proposal: Proposal) -> list[SignedTransaction]:
        found = map(self._find, proposal.transaction_hashes)
        return [transaction for transaction in found if transaction is not None]
