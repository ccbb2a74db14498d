"""The relay: each transaction is verified once, passed on in frames, and a bad relay is cut, not the peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from consensus.replica_set import ReplicaId
from crypto.signatures import SigningKey
from ledger.mempool import Mempool
from ledger.settings import MempoolSettings
from ledger.transaction import (
    Call,
    decode_transaction,
    encode_transaction,
    sign_transaction,
    verify_transaction_signature,
)
from network.relay import SubmitResult, TransactionRelay
from network.settings import RelaySettings

CHAIN_ID = b"c" * 32
KEY = SigningKey(b"k" * 32)
OTHER_KEY = SigningKey(b"o" * 32)
INSTITUTIONS: dict[bytes, bytes] = {KEY.public_key: b"i" * 16, OTHER_KEY.public_key: b"j" * 16}
HEAD_MS = 1_000_000
STRANGERS_MAX = 20
ONE, TWO = ReplicaId(1), ReplicaId(2)


def make_signed(number: int, *, expires_ms: int = HEAD_MS + 1_000, key: SigningKey = KEY) -> bytes:
    call = Call("notes", "write", number.to_bytes(4, "big"))
    nonce = number.to_bytes(16, "big")
    return encode_transaction(
        sign_transaction(key, chain_id=CHAIN_ID, calls=[call], expires_ms=expires_ms, nonce=nonce)
    )


def spoil(signed: bytes) -> bytes:
    return bytes([signed[0] ^ 1]) + signed[1:]


@dataclass
class Sent:
    """Links that only remember."""

    frames: list[list[bytes]] = field(default_factory=list)
    single: list[tuple[int, list[bytes]]] = field(default_factory=list)
    oldest: list[tuple[int, bytes]] = field(default_factory=list)

    def broadcast_transactions(self, signed: list[bytes]) -> None:
        self.frames.append(signed)

    def send_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None:
        self.single.append((replica, signed))

    def send_oldest(self, replica: ReplicaId, signed: bytes) -> None:
        self.oldest.append((replica, signed))


@dataclass
class World:
    mempool: Mempool
    sent: Sent
    relay: TransactionRelay
    oldest: list[bytes | None]
    verified: list[bytes]
    clock: SimpleNamespace
    failures: list[BaseException]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    verified: list[bytes] = []

    def count(transaction: Any) -> None:
        verified.append(transaction.transaction_id)
        verify_transaction_signature(transaction)

    monkeypatch.setattr("ledger.mempool.verify_transaction_signature", count)
    mempool = Mempool(
        MempoolSettings(transactions_max=500),
        chain_id=CHAIN_ID,
        expiry_window_ms_max=600_000,
        find_institution=INSTITUTIONS.get,
        is_committed=lambda transaction_id: False,
    )
    sent, oldest, failures = Sent(), list[bytes | None](), list[BaseException]()
    clock = SimpleNamespace(now_ms=0)
    chain: Any = SimpleNamespace(
        mempool=mempool,
        head=SimpleNamespace(header=SimpleNamespace(time_ms=HEAD_MS)),
        replica_set=SimpleNamespace(has=(ONE, TWO).__contains__),
    )
    relay = TransactionRelay(
        chain=chain,
        links=sent,
        on_pending=oldest.append,
        on_failure=failures.append,
        settings=RelaySettings(
            batch_transactions_max=10,
            delay_ms=5,
            peer_transactions_max=100,
            cut_ms=1_000,
            strangers_max=STRANGERS_MAX,
        ),
        clock_ms=lambda: clock.now_ms,
    )
    relay.start()
    yield World(mempool, sent, relay, oldest, verified, clock, failures)
    await relay.close()


async def rest(world: World) -> None:
    """Until nothing waits for verification."""
    while world.relay.waiting_count:  # noqa: ASYNC110 - it has no event of its own
        await asyncio.sleep(0)


async def test_each_submitted_transaction_gets_its_own_answer_in_order(world: World) -> None:
    good, stranger = make_signed(1), make_signed(2, key=SigningKey(b"s" * 32))
    results = await world.relay.submit(
        [good, b"", good, spoil(make_signed(3)), stranger, make_signed(4, expires_ms=HEAD_MS)]
    )
    assert [result.code for result in results] == [
        "accepted",
        "malformed",
        "duplicate",
        "bad_signature",
        "unknown_sender",
        "expired",
    ]
    assert results[1].transaction_id is None
    assert results[0].transaction_id == results[2].transaction_id
    assert all(result.message for result in results[1:])
    assert len(world.mempool) == 1


async def test_a_lone_transaction_is_relayed_at_once(world: World) -> None:
    world.clock.now_ms = 100
    signed = make_signed(1)
    await world.relay.submit([signed])
    await asyncio.sleep(0)
    assert world.sent.frames == [[signed]]


async def test_what_comes_soon_after_is_gathered_into_one_frame(world: World) -> None:
    world.clock.now_ms = 100
    await world.relay.submit([make_signed(0)])
    await asyncio.sleep(0)
    for number in (1, 2, 3):
        await world.relay.submit([make_signed(number)])
    await asyncio.sleep(0)
    assert len(world.sent.frames) == 1
    await asyncio.sleep(0.05)
    assert world.sent.frames[1:] == [[make_signed(number) for number in (1, 2, 3)]]


async def test_a_full_frame_does_not_wait(world: World) -> None:
    await world.relay.submit([make_signed(number) for number in range(25)])
    assert [len(frame) for frame in world.sent.frames] == [10, 10]
    await asyncio.sleep(0.05)
    assert [len(frame) for frame in world.sent.frames] == [10, 10, 5]


async def test_refused_transactions_are_not_relayed(world: World) -> None:
    await world.relay.submit([spoil(make_signed(1)), b"garbage"])
    await asyncio.sleep(0.02)
    assert world.sent.frames == []


async def test_l3_a_pool_that_is_full_for_clients_has_room_for_what_another_node_has_accepted(
    world: World,
) -> None:
    """Or a transaction whose node is not the primary would wait out the view timer whenever all are busy."""
    await world.relay.submit([make_signed(number) for number in range(500)])
    assert (await world.relay.submit([make_signed(500)]))[0].code == "mempool_full"
    for start in range(600, 900, 50):
        signed = [make_signed(number, key=OTHER_KEY) for number in range(start, start + 50)]
        world.relay.on_transactions(ONE, signed)
        await rest(world)
    assert len(world.mempool) == 800


async def test_d1_what_there_is_no_room_for_waits_and_is_not_looked_at_again_and_again(world: World) -> None:
    await world.relay.submit([make_signed(number) for number in range(500)])
    for start in range(600, 1_200, 50):
        world.relay.on_transactions(ONE, [make_signed(number) for number in range(start, start + 50)])
        for _ in range(10):
            await asyncio.sleep(0)
    # Two thirds of the room for what is relayed; the others' is free.
    assert len(world.mempool) == 667
    assert world.relay.counters.refused <= 2 * RelaySettings().verification_chunk_max
    assert world.relay.waiting_count == 100
    world.mempool.remove([decode_transaction(make_signed(number)).transaction_id for number in range(500)])
    world.clock.now_ms += 1_000
    await rest(world)
    assert len(world.mempool) == 267


async def test_d1_what_waits_for_its_institutions_share_delays_nobody_elses(world: World) -> None:
    """An honest node relays what its clients of all institutions send, the flooding one among them."""
    for start in range(0, 700, 50):
        world.relay.on_transactions(ONE, [make_signed(number) for number in range(start, start + 50)])
        for _ in range(10):
            await asyncio.sleep(0)
    flood = [make_signed(number) for number in range(700, 760)]
    honest = [make_signed(number, key=OTHER_KEY) for number in range(30)]
    world.clock.now_ms += 1_000
    world.relay.on_transactions(ONE, [*flood, *honest])
    hashes = [decode_transaction(item).signed_hash for item in honest]
    began_ms = world.clock.now_ms
    while not all(item in world.mempool for item in hashes):
        world.clock.now_ms += 1
        assert world.clock.now_ms - began_ms <= 10 * RelaySettings().room_pause_ms
        await asyncio.sleep(0.002)
    assert world.relay.waiting_count > 0


async def test_relayed_transactions_are_taken_in_and_go_no_further(world: World) -> None:
    world.relay.on_transactions(ONE, [make_signed(number) for number in range(40)])
    await rest(world)
    assert len(world.mempool) == 40
    assert world.sent.frames == []
    assert world.oldest[-1] == world.mempool.oldest


async def test_each_transaction_is_verified_once_however_often_it_comes(world: World) -> None:
    signed = [make_signed(number) for number in range(5)]
    await world.relay.submit(signed)
    world.relay.on_transactions(ONE, signed)
    world.relay.on_transactions(TWO, signed)
    await rest(world)
    assert len(world.verified) == 5


async def test_a_bad_signature_is_verified_once_and_remembered(world: World) -> None:
    bad = spoil(make_signed(1))
    codes = [(await world.relay.submit([bad]))[0].code for _ in range(3)]
    assert codes == ["bad_signature"] * 3
    assert len(world.verified) == 1


async def test_a_bad_signature_of_a_relay_cannot_have_the_good_transaction_refused(world: World) -> None:
    good = make_signed(1)
    world.relay.on_transactions(ONE, [spoil(good)])
    await rest(world)
    assert (await world.relay.submit([good]))[0] == SubmitResult(world.verified[0], "accepted", "")


@pytest.mark.parametrize("bad", [b"garbage", spoil(make_signed(99))], ids=["malformed", "badly signed"])
async def test_one_bad_transaction_cuts_the_relay_of_that_peer_only_and_for_a_while(
    world: World, bad: bytes
) -> None:
    world.relay.on_transactions(ONE, [make_signed(1), bad, make_signed(2)])
    world.relay.on_transactions(TWO, [make_signed(3)])
    await rest(world)
    assert len(world.mempool) == 2
    assert world.relay.counters.cuts == 1
    world.relay.on_transactions(ONE, [make_signed(4)])
    world.relay.on_transactions(TWO, [make_signed(5)])
    await rest(world)
    assert len(world.mempool) == 3
    world.clock.now_ms = 1_001
    world.relay.on_transactions(ONE, [make_signed(6)])
    await rest(world)
    assert len(world.mempool) == 4


async def test_d1_strangers_in_great_number_cut_the_relay_for_a_while(world: World) -> None:
    stranger = SigningKey(b"s" * 32)
    world.relay.on_transactions(ONE, [make_signed(number, key=stranger) for number in range(STRANGERS_MAX)])
    await rest(world)
    assert world.relay.counters.cuts == 0
    world.relay.on_transactions(ONE, [make_signed(STRANGERS_MAX, key=stranger), make_signed(0)])
    await rest(world)
    assert (world.relay.counters.cuts, len(world.mempool)) == (1, 0)
    world.relay.on_transactions(TWO, [make_signed(1)])
    await rest(world)
    assert len(world.mempool) == 1


async def test_an_expired_or_unknown_transaction_does_not_cut_the_relay(world: World) -> None:
    stranger = make_signed(1, key=SigningKey(b"s" * 32))
    world.relay.on_transactions(ONE, [stranger, make_signed(2, expires_ms=HEAD_MS), make_signed(3)])
    await rest(world)
    assert len(world.mempool) == 1
    assert world.relay.counters.cuts == 0


async def test_d1_a_flood_from_one_peer_is_bounded_and_does_not_starve_another(world: World) -> None:
    world.relay.on_transactions(ONE, [make_signed(number) for number in range(300)])
    world.relay.on_transactions(TWO, [make_signed(1_000)])
    assert world.relay.counters.dropped == 200
    while len(world.verified) < 33:  # noqa: ASYNC110 - one chunk of the flood, then the other peer's turn
        await asyncio.sleep(0)
    assert decode_transaction(make_signed(1_000)).transaction_id in world.verified[:33]


async def test_everything_else_has_its_turn_between_chunks(world: World) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await world.relay.submit([make_signed(number) for number in range(100)])
    counter.cancel()
    assert turns >= 3


async def test_the_oldest_pending_transaction_is_sent_to_the_primary_again(world: World) -> None:
    world.relay.forward_oldest(ONE)
    assert world.sent.oldest == []
    await world.relay.submit([make_signed(1), make_signed(2)])
    world.relay.forward_oldest(ONE)
    assert world.sent.oldest == [(1, make_signed(1))]


async def test_l3_what_a_member_waits_for_longest_is_first_of_all_at_the_primary(world: World) -> None:
    signed = [make_signed(number) for number in range(60)]
    world.relay.on_transactions(ONE, signed[:50])
    world.relay.on_oldest(ONE, signed[55])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.oldest, "before the rest of what the peer has relayed"
    assert len(world.mempool) < 50
    assert world.mempool.take(1, 9_999)[0].signed_hash == decode_transaction(signed[55]).signed_hash
    await rest(world)
    world.relay.on_oldest(TWO, signed[49])
    await rest(world)
    assert [item.signed_hash for item in world.mempool.take(2, 9_999)] == [
        decode_transaction(signed[number]).signed_hash for number in (55, 49)
    ]


async def test_d1_what_comes_first_must_be_a_members_and_well_signed(world: World) -> None:
    world.relay.on_oldest(ReplicaId(9), make_signed(1))
    assert world.relay.counters.dropped == 1
    world.relay.on_oldest(ONE, spoil(make_signed(2)))
    world.relay.on_transactions(ONE, [make_signed(3)])
    await rest(world)
    assert (world.relay.counters.cuts, len(world.mempool)) == (1, 0)
    world.relay.on_oldest(ONE, make_signed(4))
    await rest(world)
    assert len(world.mempool) == 0, "nor while its relay is cut"


async def test_a_peer_that_connects_is_told_what_is_pending(world: World) -> None:
    signed = [make_signed(number) for number in range(25)]
    await world.relay.submit(signed)
    world.relay.send_pending(TWO)
    assert [len(frame) for _, frame in world.sent.single] == [10, 10, 5]
    assert [body for _, frame in world.sent.single for body in frame] == signed


async def test_v6_what_a_proposal_names_is_taken_out_of_turn_and_the_rest_stays(world: World) -> None:
    signed = [make_signed(number) for number in range(6)]
    hashes = [decode_transaction(item).signed_hash for item in signed]
    world.relay.on_transactions(ONE, signed[:3])
    world.relay.on_transactions(TWO, [*signed[3:], b"x" * 70])
    assert world.relay.take_waiting({hashes[1], hashes[4], b"h" * 32}) == {
        hashes[1]: signed[1],
        hashes[4]: signed[4],
    }
    assert world.relay.waiting_count == 5
    await rest(world)
    assert [transaction.signed_hash for transaction in world.mempool.take(9, 9_999)] == [
        hashes[number] for number in (0, 2, 3, 5)
    ]


async def test_a_failed_disk_is_told_and_not_swallowed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(transaction: Any, *, head_time_ms: int, is_relayed: bool) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(world.mempool, "verify_and_add", fail)
    world.relay.on_transactions(ONE, [make_signed(1)])
    for _ in range(3):
        await asyncio.sleep(0)
    assert [str(error) for error in world.failures] == ["no space left on device"]
