"""The driver carries effects out in the one safe order, bounds what waits, and dies of any fault."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from consensus.certificates import Certificate, Phase, VoteSignature
from consensus.driver import Driver, DriverSettings, ReplicaHalted
from consensus.effects import (
    NOTHING,
    Build,
    CommitBlock,
    Discard,
    Effects,
    ForwardOldest,
    Halt,
    ReportEvidence,
    ReportRefusal,
    RequestSync,
    Send,
    TruncateJournal,
    Validate,
)
from consensus.events import (
    BlockDurable,
    ChainSynced,
    Event,
    MessageReceived,
    PeerConnected,
    PendingChanged,
    ProposalBuilt,
    ProposalValidated,
    Tick,
)
from consensus.journal import Journal, JournalFailed
from consensus.journal_entries import decode_entries
from consensus.journal_records import ProposalRecord, VoteRecord
from consensus.messages import Vote, decode_message, encode_message
from consensus.ports import Freshness, Proposal, Validation
from consensus.replica_set import Epoch, Height, Member, ReplicaId, ReplicaSet, View
from consensus.replica_status import ReplicaStatus
from tests.consensus.test_messages import MESSAGES
from tests.fuzz.mutations import MSGPACK, mutate

ME, PEER = ReplicaId(0), ReplicaId(1)
PROPOSAL = Proposal(b"header", (bytes(32),))
DIGEST = b"d" * 32
CERTIFICATE = Certificate(0, 1, 0, DIGEST, (VoteSignature(1, bytes(64)),))


def make_vote(height: int, phase: Phase = Phase.PREPARE) -> Vote:
    return Vote(0, height, 0, phase, DIGEST, ME, bytes(64))


def persist_and_send(height: int) -> Effects:
    vote = make_vote(height)
    return Effects(persist=(VoteRecord(vote),), send=(Send(to=None, message=vote),))


class ScriptedReplica:
    """Answers each event by what the test says; remembers all but ticks."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.on_event: Callable[[Event], Effects] = lambda event: NOTHING
        self.is_silent = False

    @property
    def status(self) -> ReplicaStatus:
        return ReplicaStatus(
            epoch=Epoch(0),
            height=Height(0),
            certified_height=Height(0),
            view=View(0),
            asked_view=View(0),
            primary=PEER,
            is_member=True,
            is_starting=False,
            is_silent=self.is_silent,
            silent_reason="",
            is_in_view_change=False,
            failed_views=0,
            view_changes_sent=0,
            halt_reason="",
        )

    def step(self, event: Event) -> Effects:
        if not isinstance(event, Tick):
            self.events.append(event)
        return self.on_event(event)


@dataclass
class Deeds:
    """Everything that the driver did to the world, in order."""

    log: list[tuple[str, object]] = field(default_factory=list)

    def names(self) -> list[str]:
        return [name for name, _ in self.log]


class FakeApplication:
    def __init__(self, deeds: Deeds) -> None:
        self.deeds = deeds
        self.commit_gate = asyncio.Event()
        self.commit_gate.set()
        self.commit_error: Exception | None = None
        self.validation = Validation(ok=True)
        self.wall_ms = 0

    def compute_digest(self, proposal: Proposal) -> bytes:
        return DIGEST

    async def build(
        self, *, epoch: Epoch, height: Height, proposer: ReplicaId, wall_ms: int, may_be_empty: bool
    ) -> Proposal | None:
        self.deeds.log.append(("build", may_be_empty))
        return PROPOSAL

    async def validate(
        self, proposal: Proposal, *, height: Height, source: ReplicaId, freshness: Freshness | None
    ) -> Validation:
        self.deeds.log.append(("validate", source))
        return self.validation

    def get_bodies(self, proposal: Proposal) -> Sequence[bytes]:
        return [b"body one", b"body two"]

    def forget_through(self, height: Height) -> None:
        self.deeds.log.append(("forget", height))

    def restore(self, proposal: Proposal, bodies: Sequence[bytes]) -> None:
        raise AssertionError("the driver restores nothing; the node does before it starts")

    async def commit(self, proposal: Proposal, certificate: Certificate) -> ReplicaSet | None:
        await self.commit_gate.wait()
        if self.commit_error is not None:
            raise self.commit_error
        self.deeds.log.append(("commit", certificate.height))
        return None

    def note_time(self, wall_ms: int) -> None:
        self.wall_ms = wall_ms

    def discard(self, proposal: Proposal) -> None:
        self.deeds.log.append(("discard", proposal))


class FakeNetwork:
    """Transport, block sync and relay; `on_send` may look at the disk while a message leaves."""

    def __init__(self, deeds: Deeds) -> None:
        self.deeds = deeds
        self.on_send: Callable[[bytes], None] = lambda data: None

    def send(self, replica: ReplicaId, message: bytes) -> None:
        self.on_send(message)
        self.deeds.log.append(("send", (replica, decode_message(message))))

    def broadcast(self, message: bytes) -> None:
        self.on_send(message)
        self.deeds.log.append(("broadcast", decode_message(message)))

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.deeds.log.append(("penalise", replica))

    def request(self, height: int, source: ReplicaId) -> None:
        self.deeds.log.append(("request_sync", (height, source)))

    def forward_oldest(self, primary: ReplicaId) -> None:
        self.deeds.log.append(("forward_oldest", primary))


@dataclass
class Rig:
    """A driver with everything around it faked but the journal."""

    driver: Driver
    replica: ScriptedReplica
    application: FakeApplication
    network: FakeNetwork
    deeds: Deeds
    journal: Journal
    directory: Path
    evidence: list[tuple[Vote, Vote]]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def read_journal(self) -> Sequence[object]:
        """What a node would find if it started from the disk as it is now."""
        copy = self.directory.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.directory, copy)
        journal = Journal.open(copy)
        journal.close()
        return decode_entries(journal.entries).records


RigMaker = Callable[..., Rig]


@pytest.fixture
def make_rig(tmp_path: Path) -> RigMaker:
    def make(*, settings: DriverSettings | None = None, is_new: bool = True) -> Rig:
        directory = tmp_path / "journal"
        if is_new:
            Journal.create(directory)
        deeds = Deeds()
        replica, application, network = ScriptedReplica(), FakeApplication(deeds), FakeNetwork(deeds)
        journal = Journal.open(directory)
        evidence: list[tuple[Vote, Vote]] = []
        driver = Driver(
            replica=replica,
            replica_id=ME,
            application=application,
            transport=network,
            block_sync=network,
            relay=network,
            journal=journal,
            writer=ThreadPoolExecutor(1),
            settings=settings or DriverSettings(tick_interval_ms=5),
            on_evidence=lambda first, second: evidence.append((first, second)),
        )
        return Rig(driver, replica, application, network, deeds, journal, directory, evidence)

    return make


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(rig.driver.run())
    try:
        yield task
    finally:
        rig.driver.stop()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


def on_kind(kind: type[Event], effects: Effects) -> Callable[[Event], Effects]:
    """The effects at the first event of this kind, nothing otherwise."""
    given = iter([effects])
    return lambda event: next(given, NOTHING) if isinstance(event, kind) else NOTHING


@pytest.mark.parametrize("rule", ["P1", "P2", "P3"])
async def test_rules_P1_P2_P3_nothing_leaves_before_its_record_is_on_disk(
    make_rig: RigMaker, rule: str
) -> None:
    rig = make_rig()
    vote = make_vote(1, {"P1": Phase.PREPARE, "P2": Phase.COMMIT, "P3": Phase.PRE_PREPARE}[rule])
    effects = Effects(persist=(VoteRecord(vote),), send=(Send(to=None, message=vote),))
    rig.replica.on_event = on_kind(PeerConnected, effects)
    found: list[Sequence[object]] = []
    rig.network.on_send = lambda data: found.append(rig.read_journal())
    async with running(rig):
        rig.driver.post_peer_connected(PEER)
        await rig.until(lambda: bool(found))
    assert found == [(VoteRecord(vote),)]


async def test_rule_P1_a_proposal_is_journaled_with_every_body(make_rig: RigMaker) -> None:
    rig = make_rig()
    record = ProposalRecord(1, DIGEST, PROPOSAL.header, PROPOSAL.transaction_hashes)
    rig.replica.on_event = on_kind(PeerConnected, Effects(persist=(record,)))
    async with running(rig):
        rig.driver.post_peer_connected(PEER)
        await rig.until(lambda: rig.driver.counters.journal_syncs == 1)
    rig.journal.close()
    content = decode_entries(Journal.open(rig.directory).entries)
    assert content.records == (record,)
    assert content.proposals == ((PROPOSAL, (b"body one", b"body two")),)


async def test_a_batch_is_persisted_then_sent_then_applied_whatever_the_order_of_its_events(
    make_rig: RigMaker,
) -> None:
    rig = make_rig()
    build = Build(epoch=Epoch(0), height=Height(1), view=View(0), may_be_empty=True)

    def answer(event: Event) -> Effects:
        if not isinstance(event, PeerConnected):
            return NOTHING
        step = persist_and_send(event.replica)
        return Effects(persist=step.persist, send=step.send, apply=(build,))

    rig.replica.on_event = answer
    rig.network.on_send = lambda data: rig.deeds.log.append(("on disk", len(rig.read_journal())))
    for number in range(3):
        rig.driver.post_peer_connected(ReplicaId(number))
    async with running(rig):
        await rig.until(lambda: rig.deeds.names().count("build") == 3)
    assert rig.deeds.names() == ["on disk", "broadcast"] * 3 + ["build"] * 3
    assert {content for name, content in rig.deeds.log if name == "on disk"} == {3}
    assert rig.driver.counters.journal_syncs == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_rule_P7_a_journal_that_fails_ends_the_driver_and_nothing_leaves(
    make_rig: RigMaker, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    rig = make_rig()
    rig.replica.on_event = on_kind(PeerConnected, persist_and_send(1))

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fdatasync", fail)
    async with running(rig) as task:
        rig.driver.post_peer_connected(PEER)
        with pytest.raises(JournalFailed, match=os.strerror(code)):
            await asyncio.wait_for(task, 5)
    assert rig.deeds.log == []


async def test_a_replica_that_halts_ends_the_driver_with_its_reason(make_rig: RigMaker) -> None:
    rig = make_rig()
    rig.replica.on_event = on_kind(PeerConnected, Effects(apply=(Halt(reason="results differ at 7"),)))
    async with running(rig) as task:
        rig.driver.post_peer_connected(PEER)
        with pytest.raises(ReplicaHalted, match="results differ at 7"):
            await asyncio.wait_for(task, 5)


async def test_rule_P7_a_commit_that_fails_ends_the_driver(make_rig: RigMaker) -> None:
    rig = make_rig()
    rig.application.commit_error = OSError(errno.EIO, "Input/output error")
    commit = CommitBlock(proposal=PROPOSAL, digest=DIGEST, certificate=CERTIFICATE)
    rig.replica.on_event = on_kind(PeerConnected, Effects(apply=(commit,)))
    async with running(rig) as task:
        rig.driver.post_peer_connected(PEER)
        with pytest.raises(OSError, match="Input/output error"):
            await asyncio.wait_for(task, 5)
    assert not any(isinstance(event, BlockDurable) for event in rig.replica.events)


async def test_a_defect_in_the_replica_ends_the_driver(make_rig: RigMaker) -> None:
    rig = make_rig()

    def fail(event: Event) -> Effects:
        raise AssertionError("cannot be")

    rig.replica.on_event = fail
    async with running(rig) as task:
        with pytest.raises(AssertionError, match="cannot be"):
            await asyncio.wait_for(task, 5)


async def test_each_action_reaches_its_port_and_its_outcome_comes_back(make_rig: RigMaker) -> None:
    rig = make_rig()
    epoch, height, view = Epoch(0), Height(1), View(0)
    freshness = Freshness(proposer=PEER, wall_ms=1, tolerance_ms=1)
    first, second = make_vote(1), make_vote(2)
    rig.application.validation = Validation(ok=False, has_diverged=True, refusal="state_root")
    actions = (
        Build(epoch=epoch, height=height, view=view, may_be_empty=False),
        Validate(
            epoch=epoch,
            height=height,
            view=view,
            proposal=PROPOSAL,
            digest=DIGEST,
            source=PEER,
            freshness=freshness,
        ),
        CommitBlock(proposal=PROPOSAL, digest=DIGEST, certificate=CERTIFICATE),
        Discard(proposal=PROPOSAL, digest=DIGEST),
        RequestSync(height=Height(9), source=PEER),
        ForwardOldest(primary=PEER),
        TruncateJournal(height=Height(1)),
        ReportEvidence(first=first, second=second),
        ReportRefusal(sender=PEER, reason="signature"),
    )
    rig.replica.on_event = on_kind(PeerConnected, Effects(apply=actions))
    async with running(rig):
        rig.driver.post_peer_connected(PEER)
        await rig.until(lambda: len(rig.replica.events) == 4)
    assert sorted(rig.deeds.log, key=str) == sorted(
        [
            ("build", False),
            ("validate", PEER),
            ("commit", 1),
            ("discard", PROPOSAL),
            ("forget", 1),
            ("request_sync", (9, PEER)),
            ("forward_oldest", PEER),
            ("penalise", PEER),
        ],
        key=str,
    )
    assert rig.evidence == [(first, second)]
    outcomes = rig.replica.events[1:]
    assert ProposalBuilt(epoch=epoch, height=height, view=view, proposal=PROPOSAL, digest=DIGEST) in outcomes
    assert (
        ProposalValidated(epoch=epoch, height=height, view=view, digest=DIGEST, ok=False, has_diverged=True)
        in outcomes
    )
    assert BlockDurable(height=Height(1), digest=DIGEST) in outcomes


async def test_messages_beyond_a_peers_bound_are_dropped_and_those_of_others_are_not(
    make_rig: RigMaker,
) -> None:
    rig = make_rig(settings=DriverSettings(peer_messages_max=10, tick_interval_ms=5))
    data = encode_message(make_vote(1))
    for _ in range(50):
        rig.driver.post_message(PEER, data)
    rig.driver.post_message(ReplicaId(2), data)
    async with running(rig):
        await rig.until(lambda: len(rig.replica.events) == 11)
        rig.driver.post_message(PEER, data)
        await rig.until(lambda: len(rig.replica.events) == 12)
    assert rig.driver.counters.messages_dropped == 40


async def test_a_peers_waiting_bytes_are_bounded(make_rig: RigMaker) -> None:
    rig = make_rig(settings=DriverSettings(peer_bytes_max=1_000))
    for _ in range(10):
        rig.driver.post_message(PEER, bytes(400))
    assert rig.driver.counters.messages_dropped == 8


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x92\x01\x91\x63", bytes(2_000_000)])
async def test_garbage_is_counted_against_its_sender_and_changes_nothing(
    make_rig: RigMaker, garbage: bytes
) -> None:
    rig = make_rig()
    good = encode_message(make_vote(1))
    async with running(rig) as task:
        rig.driver.post_message(PEER, garbage)
        rig.driver.post_message(ReplicaId(2), good)
        await rig.until(lambda: bool(rig.replica.events))
        assert not task.done()
    assert rig.replica.events == [MessageReceived(sender=ReplicaId(2), message=make_vote(1))]
    assert rig.deeds.log == [("penalise", PEER)]
    assert rig.driver.counters.messages_undecodable == 1


async def test_d1_hostile_bytes_are_refused_and_counted_one_by_one_and_the_driver_goes_on(
    make_rig: RigMaker,
) -> None:
    settings = DriverSettings(tick_interval_ms=5, peer_messages_max=1_000, peer_messages_per_tick=1_000)
    rig, random = make_rig(settings=settings), Random(11)
    examples = [encode_message(message) for message in MESSAGES]
    sent = [mutate(random, random.choice(examples), MSGPACK) for _ in range(2_000)]
    async with running(rig) as task:
        for data in sent:
            rig.driver.post_message(PEER, data)
        counters = rig.driver.counters
        # A thousand wait, the others are dropped and counted; whoever comes later is heard.
        assert counters.messages_dropped == 1_000
        await rig.until(lambda: counters.messages_undecodable + len(rig.replica.events) == 1_000)
        heard = MessageReceived(sender=ReplicaId(2), message=make_vote(1))
        rig.driver.post_message(heard.sender, encode_message(heard.message))
        await rig.until(lambda: rig.replica.events[-1:] == [heard])
        assert not task.done()
    assert counters.refusals[PEER] == counters.messages_undecodable > 500
    assert counters.messages_received == len(sent) + 1


async def test_the_oldest_pending_transaction_is_told_before_the_end_of_a_block_and_only_when_changed(
    make_rig: RigMaker,
) -> None:
    rig = make_rig()
    rig.driver.post_oldest_pending(b"a" * 32)
    rig.driver.post_oldest_pending(b"b" * 32)
    rig.driver.post_chain_synced(
        Height(1), DIGEST, CERTIFICATE, ReplicaSet(0, (Member(0, bytes(32), bytes(16)),))
    )
    async with running(rig):
        await rig.until(lambda: len(rig.replica.events) == 2)
        rig.driver.post_oldest_pending(b"b" * 32)
        rig.driver.post_peer_connected(PEER)
        await rig.until(lambda: len(rig.replica.events) == 3)
    assert rig.replica.events[0] == PendingChanged(oldest=b"b" * 32)
    assert isinstance(rig.replica.events[1], ChainSynced)
    assert isinstance(rig.replica.events[2], PeerConnected)


async def test_time_is_told_regularly_and_first(make_rig: RigMaker) -> None:
    rig = make_rig()
    ticks: list[Tick] = []
    seen: list[Event] = []

    def watch(event: Event) -> Effects:
        seen.append(event)
        if isinstance(event, Tick):
            ticks.append(event)
        return NOTHING

    rig.replica.on_event = watch
    rig.driver.post_peer_connected(PEER)
    async with running(rig):
        await rig.until(lambda: len(ticks) >= 5)
    assert isinstance(seen[0], Tick)
    assert rig.application.wall_ms >= ticks[-1].wall_ms
    assert [tick.monotonic_ms for tick in ticks] == sorted(tick.monotonic_ms for tick in ticks)


@asynccontextmanager
async def stopping_amid_a_commit(rig: Rig) -> AsyncIterator[asyncio.Task[None]]:
    """The driver's task, told to stop while a commit is under way that `commit_gate` holds up."""
    rig.application.commit_gate.clear()
    commit = CommitBlock(proposal=PROPOSAL, digest=DIGEST, certificate=CERTIFICATE)
    rig.replica.on_event = on_kind(PeerConnected, Effects(apply=(commit,)))
    async with running(rig) as task:
        rig.driver.post_peer_connected(PEER)
        await rig.until(lambda: bool(rig.replica.events))
        await asyncio.sleep(0.02)
        rig.driver.stop()
        await asyncio.sleep(0.02)
        yield task


async def test_stopping_waits_for_the_block_that_is_being_written(make_rig: RigMaker) -> None:
    rig = make_rig()
    async with stopping_amid_a_commit(rig) as task:
        assert not task.done()
        rig.application.commit_gate.set()
        await asyncio.wait_for(task, 5)
    assert rig.deeds.log == [("commit", 1)]


async def test_rule_P7_a_commit_that_fails_while_the_driver_stops_ends_it_with_the_reason(
    make_rig: RigMaker,
) -> None:
    rig = make_rig()
    rig.application.commit_error = OSError(errno.ENOSPC, "No space left on device")
    async with stopping_amid_a_commit(rig) as task:
        rig.application.commit_gate.set()
        with pytest.raises(OSError, match="No space left"):
            await asyncio.wait_for(task, 5)


async def test_the_journal_is_truncated_along_with_a_later_write(make_rig: RigMaker) -> None:
    rig = make_rig()

    def answer(event: Event) -> Effects:
        if not isinstance(event, PeerConnected):
            return NOTHING
        step = persist_and_send(event.replica)
        return Effects(
            persist=step.persist, send=step.send, apply=(TruncateJournal(height=Height(event.replica)),)
        )

    rig.replica.on_event = answer
    heights: list[int] = []
    truncate = rig.journal.truncate
    rig.journal.truncate = lambda height: (heights.append(height), truncate(height))[1]  # type: ignore[method-assign,func-returns-value]
    async with running(rig):
        for number in (1, 2, 3):
            rig.driver.post_peer_connected(ReplicaId(number))
            await rig.until(lambda number=number: rig.driver.counters.journal_syncs == number)  # type: ignore[misc]
    assert heights == [1, 2]


async def test_rule_P6_a_missing_journal_is_confirmed_only_when_the_replica_is_no_longer_silent(
    make_rig: RigMaker,
) -> None:
    rig = make_rig(is_new=False)
    rig.replica.is_silent = True
    async with running(rig):
        await asyncio.sleep(0.03)
        assert rig.journal.is_missing
        rig.replica.is_silent = False
        await rig.until(lambda: not rig.journal.is_missing)
    rig.journal.close()
    assert not Journal.open(rig.directory).is_missing
