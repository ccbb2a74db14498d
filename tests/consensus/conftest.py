"""A cluster of replicas in one process: synchronous, with a clock that only the test moves."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from consensus.certificates import Certificate, Phase
from consensus.effects import (
    Build,
    CommitBlock,
    Discard,
    Effects,
    ForwardOldest,
    Halt,
    ReportEvidence,
    ReportRefusal,
    RequestSync,
    TruncateJournal,
    Validate,
)
from consensus.events import (
    BlockDurable,
    ChainSynced,
    Event,
    MessageReceived,
    PendingChanged,
    ProposalBuilt,
    ProposalValidated,
    Tick,
)
from consensus.head import Head
from consensus.journal_records import JournalRecord, decode_record, encode_record, select_needed
from consensus.messages import Message, PrePrepare, ViewChange, Vote, decode_message, encode_message
from consensus.ports import Proposal
from consensus.replica import Replica
from consensus.replica_set import Height, Member, ReplicaId, ReplicaSet
from consensus.settings import ReplicaSettings
from crypto.signatures import InvalidSignature, SigningKey, verify_signature

CHAIN_ID = hashlib.sha256(b"test chain").digest()
GENESIS_DIGEST = hashlib.sha256(b"genesis").digest()
WALL_MS = 1_700_000_000_000


def compute_digest(proposal: Proposal) -> bytes:
    """The digest of a test block; a header starting with `!` belongs to no transactions."""
    if proposal.header.startswith(b"!"):
        raise ValueError("header and hashes do not belong together")
    return hashlib.sha256(b"\x00".join((proposal.header, *proposal.transaction_hashes))).digest()


class Keys:
    """Signing for a whole replica set: real Ed25519, or a keyed hash that anybody here can check."""

    def __init__(self, count: int, *, is_real: bool) -> None:
        self._seeds = {replica: hashlib.sha256(b"seed %d" % replica).digest() for replica in range(count)}
        self._real = {replica: SigningKey(seed) for replica, seed in self._seeds.items()} if is_real else {}
        self.public = {
            replica: bytes(self._real[replica].public_key) if is_real else hashlib.sha256(seed).digest()
            for replica, seed in self._seeds.items()
        }
        self._by_public = {key: replica for replica, key in self.public.items()}
        self.verified = 0

    def get_signer(self, replica: int) -> Callable[[bytes, bytes], bytes]:
        return lambda tag, message: self.sign(replica, tag, message)

    def sign(self, replica: int, tag: bytes, message: bytes) -> bytes:
        if self._real:
            return bytes(self._real[replica].sign(tag, message))
        return hashlib.blake2b(tag + message, key=self._seeds[replica]).digest()

    def verify(self, public_key: bytes, tag: bytes, message: bytes, signature: bytes) -> None:
        self.verified += 1
        if self._real:
            verify_signature(public_key, tag, message, signature)
        elif self.sign(self._by_public[public_key], tag, message) != signature:
            raise InvalidSignature("stub signature does not verify")


@dataclass
class Disk:
    """What survives a crash."""

    journal: list[bytes] = field(default_factory=list)
    chain: list[tuple[Proposal, Certificate]] = field(default_factory=list)
    is_journal_missing: bool = False

    @property
    def height(self) -> int:
        return len(self.chain)


class Cluster:
    """Replicas 0 to n − 1, their disks, and a network whose rules the test sets."""

    def __init__(
        self, count: int = 4, *, is_real: bool = False, members: int | None = None, **settings: int
    ) -> None:
        """`members`, all unless told, vote in the first epoch; the others follow."""
        self.settings = ReplicaSettings(**{"blocks_per_primary": 1_000_000, **settings})
        self.count = count
        self.keys = Keys(count, is_real=is_real)
        self.sets = {0: self.make_set(0, range(count if members is None else members))}
        """Replica sets by the height that they take over above; a test adds those to come."""
        self.key_of = {replica: replica for replica in range(count)}
        """Whose key each uses: its own until a test gives it another's."""
        self.disks = {replica: Disk() for replica in range(count)}
        self.now_ms = 1_000
        self.queue: deque[tuple[int, int, bytes]] = deque()
        self.sent: list[tuple[int, int, Message]] = []
        self.pending: list[bytes] = []
        self.drops: list[Callable[[int, int, Message], bool]] = []
        self.down: set[int] = set()
        self.refused: list[tuple[int, ReportRefusal]] = []
        self.evidence: list[ReportEvidence] = []
        self.halts: dict[int, str] = {}
        self.forwarded: list[tuple[int, int]] = []
        self.synced: list[tuple[int, int]] = []
        self.validations: list[tuple[int, Validate]] = []
        self.judge: Callable[[int, Validate], tuple[bool, bool]] = lambda replica, validate: (True, False)
        self.trace: list[bytes] = []
        self.crash_before_send: Callable[[int, Effects], bool] = lambda replica, effects: False
        self.proposals: dict[bytes, Proposal] = {}
        self.replicas: dict[int, Replica] = {}
        self.oldest: dict[int, bytes | None] = dict.fromkeys(range(count))
        self.builds = 0
        self.block_times_ms: dict[bytes, int] = {GENESIS_DIGEST: self.now_ms}
        """By digest; an empty block is refused until the idle interval after its parent."""
        for replica in range(count):
            self.start(replica)

    @property
    def replica_set(self) -> ReplicaSet:
        """Of the first epoch."""
        return self.sets[0]

    def make_set(self, epoch: int, replicas: Iterable[int], **keys: bytes) -> ReplicaSet:
        """Members with their own keys, or with those given as `key_1=…`."""
        members = (Member(r, keys.get(f"key_{r}", self.keys.public[r]), bytes([r]) * 16) for r in replicas)
        return ReplicaSet(epoch, tuple(members))

    def get_set(self, height: int) -> ReplicaSet:
        """Who certifies `height`."""
        return self.sets[max(base for base in self.sets if base < height)]

    def get_closing(self, replica: int) -> Certificate | None:
        """What closed the epoch before the one that this replica is in."""
        chain = self.disks[replica].chain
        base = max(base for base in self.sets if base <= len(chain))
        return chain[base - 1][1] if base else None

    # Life and death.

    def start(self, replica: int) -> None:
        disk = self.disks[replica]
        certificate = disk.chain[-1][1] if disk.chain else None
        digest = certificate.digest if certificate else GENESIS_DIGEST
        self.replicas[replica] = Replica(
            settings=self.settings,
            chain_id=CHAIN_ID,
            replica_id=ReplicaId(replica),
            public_key=self.keys.public[self.key_of[replica]],
            signer=self.keys.get_signer(self.key_of[replica]),
            verify=self.keys.verify,
            replica_set=self.get_set(disk.height + 1),
            head=Head(
                height=Height(disk.height),
                digest=digest,
                certificate=certificate,
                closing=self.get_closing(replica),
            ),
            compute_digest=compute_digest,
            journal=tuple(decode_record(data) for data in disk.journal),
            journal_missing=disk.is_journal_missing,
        )
        disk.is_journal_missing = False
        self.down.discard(replica)
        self.oldest[replica] = None
        self.queue = deque(entry for entry in self.queue if replica not in entry[:2])

    def crash(self, replica: int) -> None:
        self.down.add(replica)
        self.queue = deque(entry for entry in self.queue if replica not in entry[:2])

    # Events in, effects out.

    def step(self, replica: int, event: Event) -> Effects:
        if replica in self.down:
            return Effects()
        effects = self.replicas[replica].step(event)
        self.trace.append(repr((replica, effects)).encode())
        self.perform(replica, effects)
        return effects

    def perform(self, replica: int, effects: Effects) -> None:
        self.disks[replica].journal += [encode_record(record) for record in effects.persist]
        if self.crash_before_send(replica, effects):
            self.crash(replica)
            return
        for send in effects.send:
            targets = [send.to] if send.to is not None else [r for r in range(self.count) if r != replica]
            for target in targets:
                self.post(replica, target, send.message)
        for action in effects.apply:
            if replica not in self.down:
                self.act(replica, action)

    def post(self, sender: int, target: int, message: Message) -> None:
        self.sent.append((sender, target, message))
        if not any(drop(sender, target, message) for drop in self.drops):
            self.queue.append((sender, target, encode_message(message)))

    def act(self, replica: int, action: object) -> None:
        disk = self.disks[replica]
        match action:
            case Build():
                self.step(replica, self.build(replica, action))
            case Validate():
                self.validations.append((replica, action))
                ok, has_diverged = self.judge(replica, action)
                ok = ok and action.height == disk.height + 1
                self.step(
                    replica,
                    ProposalValidated(
                        epoch=action.epoch,
                        height=action.height,
                        view=action.view,
                        digest=action.digest,
                        ok=ok,
                        has_diverged=has_diverged,
                    ),
                )
            case CommitBlock():
                assert action.certificate.height == disk.height + 1
                disk.chain.append((action.proposal, action.certificate))
                self.step(
                    replica,
                    BlockDurable(
                        height=Height(disk.height),
                        digest=action.digest,
                        replica_set=self.sets.get(disk.height),
                    ),
                )
                self.tell_pending(replica)
            case TruncateJournal():
                records: list[JournalRecord] = [decode_record(data) for data in disk.journal]
                disk.journal = [encode_record(r) for r in select_needed(records, action.height)]
            case RequestSync():
                self.synced.append((replica, action.height))
                self.sync(replica, action.source, action.height)
            case ForwardOldest():
                self.forwarded.append((replica, action.primary))
            case ReportEvidence():
                self.evidence.append(action)
            case ReportRefusal():
                self.refused.append((replica, action))
            case Halt():
                self.halts[replica] = action.reason
                self.down.add(replica)
            case Discard():
                pass
            case _:
                raise AssertionError(action)

    def build(self, replica: int, action: Build) -> ProposalBuilt:
        hashes = tuple(self.get_pending(replica))
        proposal = digest = None
        parent_ms = self.block_times_ms[self.get_digest(replica, action.height - 1)]
        is_due = action.may_be_empty and self.now_ms >= parent_ms + self.settings.idle_block_interval_ms
        if hashes or is_due:
            self.builds += 1
            proposal = self.make_proposal(replica, action.height, hashes, b"%d" % self.builds)
            digest = compute_digest(proposal)
            self.block_times_ms[digest] = self.now_ms
        return ProposalBuilt(
            epoch=action.epoch, height=action.height, view=action.view, proposal=proposal, digest=digest
        )

    def make_proposal(self, proposer: int, height: int, hashes: tuple[bytes, ...], salt: bytes) -> Proposal:
        parent = self.get_digest(proposer, height - 1)
        return Proposal(b"block %d by %d on %s %s" % (height, proposer, parent.hex().encode(), salt), hashes)

    def sync(self, replica: int, source: int, height: int) -> None:
        """Take what `source` has up to `height`, when it is up and reachable."""
        own, other = self.disks[replica].chain, self.disks[source].chain
        blocked = source in self.down or any(
            drop(source, replica, decode_message(b"\x92\x01\x94\x07\x00\x00\xc4\x20" + bytes(32)))
            for drop in self.drops
        )
        if blocked or len(other) <= len(own):
            return
        own += other[len(own) : height]
        self.step(
            replica,
            ChainSynced(
                height=Height(len(own)),
                digest=own[-1][1].digest,
                certificate=own[-1][1],
                replica_set=self.get_set(len(own) + 1),
                closing=self.get_closing(replica),
            ),
        )
        self.tell_pending(replica)

    # Transactions.

    def submit(self, transaction: bytes, *replicas: int) -> bytes:
        """Make a transaction pending, at some replicas or at all."""
        transaction_hash = hashlib.sha256(transaction).digest()
        self.pending.append(transaction_hash)
        for replica in replicas or range(self.count):
            self.tell_pending(replica)
        return transaction_hash

    def get_pending(self, replica: int) -> list[bytes]:
        done = {one for proposal, _ in self.disks[replica].chain for one in proposal.transaction_hashes}
        return [one for one in self.pending if one not in done]

    def tell_pending(self, replica: int) -> None:
        oldest = next(iter(self.get_pending(replica)), None)
        if oldest != self.oldest[replica]:
            self.oldest[replica] = oldest
            self.step(replica, PendingChanged(oldest=oldest))

    # The world moves.

    def deliver(self, limit: int = 100_000) -> int:
        """Deliver until the network is empty; how many messages that took."""
        count = 0
        while self.queue:
            sender, target, data = self.queue.popleft()
            count += 1
            assert count <= limit, "a storm of messages"
            if sender not in self.down or target not in self.down:
                self.step(target, MessageReceived(sender=ReplicaId(sender), message=decode_message(data)))
        return count

    def tick(self, elapsed_ms: int = 20) -> None:
        self.now_ms += elapsed_ms
        for replica in range(self.count):
            self.step(replica, Tick(monotonic_ms=self.now_ms, wall_ms=WALL_MS + self.now_ms))

    def run(self, elapsed_ms: int, step_ms: int = 50) -> None:
        """Let time pass, delivering at once whatever is sent."""
        end_ms = self.now_ms + elapsed_ms
        while self.now_ms < end_ms:
            self.tick(step_ms)
            for replica in range(self.count):
                if replica not in self.down:
                    self.tell_pending(replica)
            self.deliver()

    def boot(self) -> Cluster:
        """Past the start: everybody has heard the others."""
        self.run(300, 100)
        self.sent.clear()
        return self

    # What the test wants to know.

    def get_digest(self, replica: int, height: int) -> bytes:
        return self.disks[replica].chain[height - 1][1].digest if height else GENESIS_DIGEST

    def get_heights(self) -> list[int]:
        return [self.disks[replica].height for replica in range(self.count)]

    def get_sent(self, kind: type[Message], sender: int | None = None) -> list[Message]:
        return [m for s, _, m in self.sent if isinstance(m, kind) and sender in (None, s)]

    def check_agreement(self) -> None:
        """One block for each height, no transaction twice, nobody halted."""
        assert not self.halts, self.halts
        for height in range(1, max(self.get_heights()) + 1):
            digests = {
                self.get_digest(r, height) for r in range(self.count) if self.disks[r].height >= height
            }
            assert len(digests) == 1, f"height {height}: {digests}"
        for disk in self.disks.values():
            hashes = [one for proposal, _ in disk.chain for one in proposal.transaction_hashes]
            assert len(hashes) == len(set(hashes))

    def check_no_contradiction(self) -> None:
        """Over everything that was ever sent: one digest for each slot, one VIEW-CHANGE for each view."""
        slots: dict[tuple[int, ...], bytes] = {}
        asked: dict[tuple[int, int, int], bytes] = {}
        highest_asked: dict[tuple[int, int], int] = {}
        for sender, _, message in self.sent:
            if isinstance(message, Vote):
                key = (message.replica, message.epoch, message.height, message.view, message.phase)
                if key not in slots:
                    least = highest_asked.get((sender, message.epoch), 0)
                    assert message.view >= least, f"{key} after asking for a higher view"
                assert slots.setdefault(key, message.digest) == message.digest, key
            elif isinstance(message, PrePrepare):
                phase = Phase.PRE_PREPARE
                key = (message.primary, message.epoch, message.height, message.view, phase)
                content = message.header + b"".join(message.transaction_hashes)
                assert slots.setdefault(key, content) == content, key
            elif isinstance(message, ViewChange) and message.replica == sender:
                request = (message.replica, message.epoch, message.view)
                signature = asked.setdefault(request, message.signature)
                assert signature == message.signature, f"two VIEW-CHANGEs: {request}"
                place = (sender, message.epoch)
                highest_asked[place] = max(highest_asked.get(place, 0), message.view)
        assert not self.evidence
        self.check_agreement()


@pytest.fixture
def cluster_of() -> type[Cluster]:
    return Cluster


@pytest.fixture
def cluster() -> Cluster:
    """Four replicas that have started."""
    return Cluster().boot()
