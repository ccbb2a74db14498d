"""The ledger as consensus sees it: bodies are at hand, blocks are written once, a failed disk is final."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.ports import Freshness, Proposal, Validation
from consensus.replica_set import Epoch, Height, Member, ReplicaId, ReplicaSet
from contracts.calls.folders import RegisterAlias
from contracts.catalog import NEWEST
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.block_sync import SyncBlock, serve_blocks
from ledger.chain import Chain
from ledger.errors import BlockRefused, ResultsDiffer, StoreFailed
from ledger.genesis import Genesis, Institution, Parameters
from ledger.transaction import Call, SignedTransaction, encode_transaction, sign_transaction
from network.ledger_application import LedgerApplication, LedgerApplicationSettings
from tests.ledger.consortium import Consortium

START_MS = 1_700_000_000_000
ME, PEER = ReplicaId(0), ReplicaId(1)
HOSPITAL = SigningKey(b"h" * 32)
REPLICA_KEYS = tuple(SigningKey(bytes([number]) * 32) for number in (1, 2, 3, 4))
GENESIS = Genesis(
    network="test",
    time_ms=START_MS,
    parameters=Parameters(state_buckets_log2=4, idle_block_interval_ms=5_000),
    institutions=(Institution(b"h" * 16, "hospital", "Hospital", HOSPITAL.public_key, "https://localhost"),),
    replica_set=ReplicaSet(
        0, tuple(Member(number, key.public_key, b"h" * 16) for number, key in enumerate(REPLICA_KEYS))
    ),
    contracts=NEWEST,
)
CHAIN_ID = GENESIS.compute_chain_id()


def make_transaction(number: int, *, is_signed_well: bool = True) -> SignedTransaction:
    alias = number.to_bytes(16, "big")
    call = Call("folders", "register_alias", encode(RegisterAlias(alias, b"h" * 16, b"", b"")))
    key = HOSPITAL if is_signed_well else SigningKey(b"x" * 32)
    transaction = sign_transaction(
        HOSPITAL, chain_id=CHAIN_ID, calls=[call], expires_ms=START_MS + 300_000, nonce=alias
    )
    if is_signed_well:
        return transaction
    signature = key.sign(tags.TRANSACTION, transaction.body_bytes)
    return SignedTransaction(
        body_bytes=transaction.body_bytes,
        signature=signature,
        body=transaction.body,
        transaction_id=transaction.transaction_id,
        signed_hash=transaction.signed_hash,
    )


def certify(height: int, digest: bytes) -> Certificate:
    message = compute_vote_bytes(CHAIN_ID, 0, height, 0, Phase.COMMIT, digest)
    signatures = tuple(
        VoteSignature(number, key.sign(tags.VOTE, message)) for number, key in enumerate(REPLICA_KEYS[:3])
    )
    return Certificate(0, height, 0, digest, signatures)


class Peers:
    """Bodies that the other nodes would give."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.asked: list[tuple[tuple[bytes, ...], int]] = []

    async def fetch(self, signed_hashes: Sequence[bytes], source: ReplicaId) -> Mapping[bytes, bytes]:
        self.asked.append((tuple(signed_hashes), source))
        await asyncio.sleep(0)
        return {item: self.bodies[item] for item in signed_hashes if item in self.bodies}


class Node:
    """One node's ledger and application, without network and votes."""

    def __init__(self, directory: Path, settings: LedgerApplicationSettings | None = None) -> None:
        self.chain = Chain.open(directory, GENESIS)
        self.peers = Peers()
        self.oldest: list[bytes | None] = []
        self.writer = ThreadPoolExecutor(1)
        self.application = LedgerApplication(
            self.chain,
            body_source=self.peers,
            writer=self.writer,
            on_pending=self.oldest.append,
            settings=settings,
        )

    def add(self, *transactions: SignedTransaction) -> None:
        for transaction in transactions:
            self.chain.mempool.add(transaction, head_time_ms=self.chain.head.header.time_ms)

    async def build(self, *, may_be_empty: bool = False, after_ms: int = 1_000) -> Proposal | None:
        wall_ms = self.chain.head.header.time_ms + after_ms
        return await self.application.build(
            epoch=Epoch(0),
            height=Height(self.chain.head.height + 1),
            proposer=ME,
            wall_ms=wall_ms,
            may_be_empty=may_be_empty,
        )

    async def validate(
        self,
        proposal: Proposal,
        *,
        source: ReplicaId,
        freshness: Freshness | None = None,
        height: int | None = None,
    ) -> Validation:
        """For the next height unless told."""
        asked = Height(self.chain.head.height + 1 if height is None else height)
        return await self.application.validate(proposal, height=asked, source=source, freshness=freshness)

    async def commit(self, proposal: Proposal) -> Certificate:
        """And let the replica go on."""
        digest = self.application.compute_digest(proposal)
        certificate = certify(self.chain.head.height + 1, digest)
        await self.application.commit(proposal, certificate)
        self.application.forget_through(Height(self.chain.head.height))
        return certificate

    async def build_second(self) -> Proposal:
        """The block of transaction 2 above that of transaction 1, which is committed here alone."""
        self.add(make_transaction(1))
        first = await self.build()
        assert first is not None
        await self.commit(first)
        self.add(make_transaction(2))
        second = await self.build()
        assert second is not None
        return second

    async def sync_from(self, other: Node) -> None:
        """All blocks of `other`; the replica has not heard of it yet."""
        first = self.chain.head.height + 1
        for block in serve_blocks(other.chain, first, count_max=10, bytes_max=1_000_000):
            assert await self.application.apply_synced(block)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    pair = Node(tmp_path / "one"), Node(tmp_path / "two")
    yield pair
    for node in pair:
        node.writer.shutdown()
        node.chain.close()


async def test_a_block_built_here_validates_there_and_both_reach_the_same_root(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    transactions = [make_transaction(number) for number in range(5)]
    one.add(*transactions)
    two.add(*transactions)
    proposal = await one.build()
    assert proposal is not None
    freshness = Freshness(proposer=ME, wall_ms=START_MS + 1_000, tolerance_ms=10)
    assert (await two.validate(proposal, source=ME, freshness=freshness)).ok
    for node in nodes:
        await node.commit(proposal)
        assert node.oldest == [None]
    assert one.chain.head == two.chain.head
    assert two.peers.asked == []
    receipt = one.chain.get_receipt(transactions[0].transaction_id)
    assert receipt is not None
    assert receipt.code == "ok"


async def test_missing_bodies_are_fetched_from_the_source_and_become_pending(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    transactions = [make_transaction(number) for number in range(70)]
    one.add(*transactions)
    two.add(*transactions[:30])
    two.peers.bodies = {item.signed_hash: encode_transaction(item) for item in transactions}
    proposal = await one.build()
    assert proposal is not None
    assert (await two.validate(proposal, source=PEER)).ok
    assert two.peers.asked == [(tuple(item.signed_hash for item in transactions[30:]), PEER)]
    assert len(two.chain.mempool) == 70


async def test_rule_V6_a_proposal_whose_bodies_are_withheld_is_not_ok_and_not_diverged(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    one.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None
    validation = await two.validate(proposal, source=ME)
    assert not validation.ok
    assert not validation.has_diverged
    assert validation.refusal == "block, transactions: 0 bodies found, 1 bodies expected"


async def test_a_badly_signed_fetched_body_refuses_the_proposal(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    bad = make_transaction(1, is_signed_well=False)
    proposal_of_bad = one.chain.execute([bad], proposer=PEER, time_ms=START_MS + 1_000)
    proposal = Proposal(proposal_of_bad.header_bytes, proposal_of_bad.transaction_hashes)
    two.peers.bodies = {bad.signed_hash: encode_transaction(bad)}
    validation = await two.validate(proposal, source=PEER)
    assert not validation.ok
    assert not validation.has_diverged
    assert len(two.chain.mempool) == 0


async def test_rule_E2_a_header_with_another_state_root_has_diverged(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None
    two.add(make_transaction(1))
    speculation = one.chain.get_speculation(one.application.compute_digest(proposal))
    assert speculation is not None
    header = speculation.header
    wrong = type(header)(
        **{name: getattr(header, name) for name in header.__struct_fields__} | {"state_root": bytes(32)}
    )
    validation = await two.validate(
        Proposal(encode(wrong), proposal.transaction_hashes), source=ME, freshness=None
    )
    assert not validation.ok
    assert validation.has_diverged


async def test_a_proposal_for_another_height_or_of_garbage_is_refused_without_raising(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    second = await one.build_second()
    two.add(make_transaction(2))
    validation = await two.validate(second, source=ME)
    assert validation.refusal == "height 2 in the header, 1 expected"
    assert not (await two.validate(Proposal(b"\xc1", ()), source=ME)).ok


async def test_a_digest_is_given_only_to_a_header_with_its_own_hashes(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add(make_transaction(1), make_transaction(2))
    proposal = await one.build()
    assert proposal is not None
    digest = one.application.compute_digest(proposal)
    assert two.application.compute_digest(proposal) == digest
    for application in (one.application, two.application):
        with pytest.raises(ValueError, match="1 transaction hashes found, 2 expected"):
            application.compute_digest(Proposal(proposal.header, proposal.transaction_hashes[:1]))
        with pytest.raises(ValueError, match="other transactions"):
            application.compute_digest(Proposal(proposal.header, proposal.transaction_hashes[::-1]))
        with pytest.raises(ValueError, match="Header"):
            application.compute_digest(Proposal(b"\x90", ()))


async def test_nothing_pending_builds_nothing_and_an_empty_block_only_after_the_idle_interval(
    nodes: tuple[Node, Node],
) -> None:
    one, _ = nodes
    assert await one.build() is None
    assert await one.build(may_be_empty=True, after_ms=4_999) is None
    proposal = await one.build(may_be_empty=True, after_ms=5_000)
    assert proposal is not None
    assert proposal.transaction_hashes == ()


async def test_a_transaction_that_no_block_can_hold_any_more_is_not_proposed(
    nodes: tuple[Node, Node],
) -> None:
    one, _ = nodes
    one.add(make_transaction(1))
    assert await one.build(after_ms=400_000) is None
    assert await one.build(after_ms=400_000, may_be_empty=True) is not None


async def test_rule_L2_a_transaction_past_its_expiry_is_not_waited_for_on_an_idle_ledger(
    nodes: tuple[Node, Node],
) -> None:
    one, _ = nodes
    one.add(make_transaction(1))
    one.application.note_time(START_MS + 299_999)
    assert len(one.chain.mempool) == 1
    one.application.note_time(START_MS + 300_000)  # Too soon after the last look.
    assert len(one.chain.mempool) == 1
    one.application.note_time(START_MS + 300_300)
    assert len(one.chain.mempool) == 0
    assert one.oldest == [None]
    one.application.note_time(START_MS)  # A clock that was set back is looked at anew.
    one.add(make_transaction(2))
    one.application.note_time(START_MS + 300_001)
    assert len(one.chain.mempool) == 0


async def test_rule_P1_bodies_for_the_journal_come_from_a_validated_proposal_and_go_back_by_restore(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    transactions = [make_transaction(number) for number in range(3)]
    one.add(*transactions)
    proposal = await one.build()
    assert proposal is not None
    bodies = one.application.get_bodies(proposal)
    assert bodies == [encode_transaction(item) for item in transactions]
    with pytest.raises(KeyError):
        two.application.get_bodies(proposal)
    two.application.restore(proposal, bodies)
    assert two.application.get_body(transactions[2].signed_hash) == bodies[2]
    assert (await two.validate(proposal, source=ReplicaId(1))).ok
    assert two.peers.asked == []


async def test_bodies_of_a_discarded_proposal_and_of_recent_blocks_are_still_served(
    nodes: tuple[Node, Node],
) -> None:
    one, _ = nodes
    transaction = make_transaction(1)
    one.add(transaction)
    proposal = await one.build()
    assert proposal is not None
    one.application.discard(proposal)
    one.chain.mempool.remove([transaction.transaction_id])
    assert one.application.get_body(transaction.signed_hash) == encode_transaction(transaction)
    await one.commit(proposal)  # The speculation is gone, the bodies are not: executed again.
    assert one.chain.head.height == 1
    assert one.application.get_body(transaction.signed_hash) == encode_transaction(transaction)
    for _ in range(LedgerApplicationSettings().recent_blocks_max):
        empty = await one.build(may_be_empty=True, after_ms=5_000)
        assert empty is not None
        await one.commit(empty)
    assert one.application.get_body(transaction.signed_hash) is None


async def test_kept_proposals_are_bounded(tmp_path: Path) -> None:
    node = Node(tmp_path / "ledger", LedgerApplicationSettings(proposals_kept_max=3))
    node.add(make_transaction(1))
    proposals = [await node.build(after_ms=number) for number in range(1_000, 1_010)]
    first, last = proposals[0], proposals[-1]
    assert first is not None
    assert last is not None
    with pytest.raises(KeyError):
        node.application.get_bodies(first)
    assert len(node.application.get_bodies(last)) == 1
    node.chain.close()


async def test_a_block_that_sync_brought_first_is_not_written_again(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add(make_transaction(1))
    two.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None
    certificate = await one.commit(proposal)
    (block,) = serve_blocks(one.chain, 1, count_max=10, bytes_max=1_000_000)
    assert await two.application.apply_synced(block)
    assert not await two.application.apply_synced(block)
    assert await two.application.commit(proposal, certificate) is None
    assert two.chain.head.height == 1


async def test_rule_P1_a_replica_that_sync_has_overtaken_may_still_journal_what_it_vouches_for(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    for node in nodes:
        node.add(make_transaction(1))
    proposal, other = await one.build(after_ms=1_000), await one.build(after_ms=1_001)
    assert proposal is not None
    assert other is not None
    for validated in (proposal, other):
        assert (await two.validate(validated, source=ME)).ok
    await one.commit(proposal)
    await two.sync_from(one)
    assert two.chain.head.height == 1
    for vouched in (proposal, other):
        assert two.application.get_bodies(vouched) == [encode_transaction(make_transaction(1))]
    two.application.forget_through(Height(1))
    with pytest.raises(KeyError):
        two.application.get_bodies(proposal)


async def test_where_sync_is_ahead_nothing_is_built_or_found_valid_for_a_slot_of_another_height(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    second = await one.build_second()
    two.add(make_transaction(2))
    await two.sync_from(one)
    wall_ms = two.chain.head.header.time_ms + 1_000
    for epoch, height, is_built in ((0, 1, False), (1, 2, False), (0, 2, True)):
        built = await two.application.build(
            epoch=Epoch(epoch), height=Height(height), proposer=ME, wall_ms=wall_ms, may_be_empty=True
        )
        assert (built is not None) == is_built
    overtaken = await two.validate(second, source=ME, height=1)
    assert (overtaken.ok, overtaken.refusal) == (False, None)  # Nobody is at fault.
    assert (await two.validate(second, source=ME, height=2)).ok


async def test_rule_E4_a_block_that_sync_brought_first_still_tells_of_the_set_that_takes_over(
    tmp_path: Path,
) -> None:
    consortium = Consortium(tmp_path)
    consortium.commit(consortium.register(3, "node 4"))
    ordinary, *_, closing = consortium.change(add=(4,))
    consortium.commit()
    with ThreadPoolExecutor(1) as writer:
        application = LedgerApplication(
            consortium.open("other"), body_source=Peers(), writer=writer, on_pending=lambda oldest: None
        )
        for block in serve_blocks(consortium.chain, 1, count_max=10, bytes_max=1_000_000):
            assert await application.apply_synced(block)
        found = []
        for committed in (ordinary, closing):
            hashes = tuple(item.signed_hash for item in committed.transactions)
            proposal = Proposal(encode(committed.header), hashes)
            found.append(await application.commit(proposal, committed.certificate))
    assert found == [None, consortium.chain.replica_set]
    for chain in consortium.opened:
        chain.close()


async def test_sync_and_commit_of_one_height_at_once_write_it_once(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add(make_transaction(1))
    two.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None
    certificate = await one.commit(proposal)
    (block,) = serve_blocks(one.chain, 1, count_max=10, bytes_max=1_000_000)
    assert (await two.validate(proposal, source=ME)).ok
    await asyncio.gather(two.application.commit(proposal, certificate), two.application.apply_synced(block))
    assert two.oldest == [None]
    assert two.chain.head == one.chain.head


async def test_rule_E2_another_certified_block_at_a_durable_height_stops_the_node(
    nodes: tuple[Node, Node],
) -> None:
    one, _ = nodes
    one.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None
    await one.commit(proposal)
    with pytest.raises(ResultsDiffer, match="another block is final"):
        await one.application.commit(proposal, certify(1, b"o" * 32))


async def test_an_uncertified_synced_block_is_refused_and_changes_nothing(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None
    await one.commit(proposal)
    (block,) = serve_blocks(one.chain, 1, count_max=1, bytes_max=1_000_000)
    certificate = block.certificate
    forged = Certificate(0, 1, 0, certificate.digest, certificate.signatures[:2])
    with pytest.raises(BlockRefused, match="quorum"):
        await two.application.apply_synced(SyncBlock(block.header, forged, block.transactions))
    with pytest.raises(BlockRefused, match="header"):
        await two.application.apply_synced(SyncBlock(b"\xc1", certificate, ()))
    assert two.chain.head.height == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_rule_P7_a_block_that_cannot_be_written_raises_and_the_head_does_not_move(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    one, _ = nodes
    one.add(make_transaction(1))
    proposal = await one.build()
    assert proposal is not None

    class FullDisk:
        def __getattr__(self, name: str) -> object:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(one.chain._store, "_database", FullDisk())
    for _ in range(2):
        with pytest.raises(StoreFailed):
            await one.commit(proposal)
    monkeypatch.undo()
    assert one.chain.head.height == 0
    with pytest.raises(StoreFailed):  # The disk works again, the handle does not.
        await one.commit(proposal)
