"""What a peer's link hands on: hostile frames, answers and transactions end in a counted refusal."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from consensus.replica_set import ReplicaId
from crypto.encoding import encode
from ledger.transaction import Call, encode_transaction, sign_transaction
from network.frames import BadFrame, Channel, encode_frame
from network.link_ports import LinkHandlers
from network.link_traffic import LinkTraffic
from network.peer import Peer
from network.relay import TransactionRelay
from network.requests import Answer, BadRequest, Request, RequestKind, encode_answer
from network.sessions import Sessions
from network.settings import LinkSettings, RelaySettings
from tests.fuzz.mutations import MSGPACK, mutate
from tests.fuzz.wire_targets import CHAIN_ID, GREETER, TRANSACTIONS, greet
from tests.network.test_equivocation_reports import GENESIS_MS, HOSPITAL, NoLinks, Setting

PEER: Final = ReplicaId(1)
LINKS: Final = LinkSettings(answers_max=4, requests_max=4, frame_messages_max=64)
FRAMES: Final = (
    encode_frame(Channel.CONSENSUS, [b"vote", bytes(200)]),
    encode_frame(Channel.TRANSACTIONS, list(TRANSACTIONS)),
    encode_frame(Channel.OLDEST, TRANSACTIONS[:1]),
    encode_frame(Channel.REQUEST, [encode(Request(7, kind, bytes(32))) for kind in RequestKind]),
    encode_frame(Channel.ANSWER, [encode_answer(Answer(number, b"payload")) for number in range(3)]),
    encode_frame(Channel.GREETING, [greet()]),
)


class Link:
    """One peer's link into handlers that note what they are given."""

    def __init__(self) -> None:
        self.taken = 0
        self.peer = Peer(PEER, LINKS, lambda: 1_000)
        sessions = Sessions(ReplicaId(0), CHAIN_ID, bytes(32), GREETER.sign)
        self.traffic = LinkTraffic(LINKS, sessions, {PEER: GREETER.public_key})
        self.traffic.handlers = LinkHandlers(
            on_consensus=self._take,
            on_transactions=self._take,
            on_oldest=self._take,
            on_connected=lambda replica: None,
        )
        self.traffic.serving.handlers[RequestKind.BODIES] = lambda replica, payload: payload

    def _take(self, replica: ReplicaId, given: object) -> None:
        assert replica == PEER
        self.taken += 1

    def receive(self, data: bytes) -> bool:
        """Whether the frame was refused, as cuts the link."""
        try:
            self.traffic._dispatch(self.peer, data)
        except (BadFrame, BadRequest):
            return True
        self.traffic.serving.serve_next()
        waiting = sum(len(asked.requests) for asked in self.peer.asked.values())
        assert waiting <= LINKS.requests_max
        return False

    def count_waiting(self) -> int:
        return len(list(iter(self.peer.queue.take, None)))


@settings(max_examples=max(10, settings().max_examples // 2), phases=[Phase.generate])
@given(random=st.randoms(use_true_random=False))
def test_hostile_frames_are_handed_on_or_refused(random: Random) -> None:
    link = Link()
    for number in itertools.count(1):
        refused = link.receive(mutate(random, random.choice(FRAMES), MSGPACK))
        assert link.peer.counters.frames_received == number
        if refused or number == 20:
            break
    assert link.count_waiting() <= LINKS.answers_max + 4, "answers, and greetings"


def test_many_frames_in_a_row_leave_no_more_than_the_bounds() -> None:
    random, link = Random(5), Link()
    refused = sum(link.receive(mutate(random, random.choice(FRAMES), MSGPACK)) for _ in range(2_000))
    assert 500 < refused < 2_000
    assert link.taken > 20
    assert link.peer.counters.requests_dropped > 20
    assert link.count_waiting() <= LINKS.answers_max + 4


async def test_answers_that_nobody_waits_for_are_dropped() -> None:
    random, link = Random(5), Link()
    _, waiting = link.peer.requests.open(RequestKind.BODIES, b"")
    for _ in range(500):
        answers = [encode_answer(Answer(random.randrange(1, 2**63), b"x" * 100)) for _ in range(10)]
        link.receive(encode_frame(Channel.ANSWER, answers))
    assert not waiting.done()
    assert len(link.peer.requests._waiting) == 1
    link.receive(encode_frame(Channel.ANSWER, [encode_answer(Answer(0, b"mine"))]))
    assert await waiting == b"mine"


@asynccontextmanager
async def open_relay(directory: Path) -> AsyncIterator[tuple[Setting, TransactionRelay, list[BaseException]]]:
    """A relay over a real ledger, verifying what peers relay."""
    setting, failures = Setting(directory), list[BaseException]()
    relay = TransactionRelay(
        chain=setting.chain,
        links=NoLinks(),
        on_pending=lambda oldest: None,
        on_failure=failures.append,
        settings=RelaySettings(peer_transactions_max=256, peer_bytes_max=65_536, cut_ms=0),
    )
    relay.start()
    try:
        yield setting, relay, failures
    finally:
        await relay.close()
        setting.chain.close()


@pytest.mark.parametrize("seed", range(3))
async def test_hostile_transactions_are_counted_and_the_good_ones_get_through(
    seed: int, tmp_path: Path
) -> None:
    random = Random(seed)
    async with open_relay(tmp_path / "ledger") as (setting, relay, failures):
        good = [
            encode_transaction(
                sign_transaction(
                    HOSPITAL,
                    chain_id=setting.chain.chain_id,
                    calls=[Call("registry", "reinstate_member", encode((bytes(16),)))],
                    expires_ms=GENESIS_MS + 60_000,
                    nonce=bytes((number,)) * 16,
                )
            )
            for number in range(20)
        ]
        for transaction in good:
            hostile = [
                mutate(random, random.choice((transaction, *TRANSACTIONS)), MSGPACK, start=64)
                for _ in range(random.randint(1, 40))
            ]
            relay.on_transactions(PEER, hostile)
            relay.on_transactions(ReplicaId(2), [transaction])
            assert relay.waiting_count <= 2 * 256
            async with asyncio.timeout(30):
                while relay.waiting_count:  # noqa: ASYNC110 - the relay tells nobody
                    await asyncio.sleep(0)
        assert len(setting.chain.mempool) >= len(good)
        counters = relay.counters
        assert counters.received == counters.accepted + counters.refused + counters.dropped
        assert counters.cuts
        assert not failures


async def test_a_flood_of_transactions_waits_within_its_senders_bounds(tmp_path: Path) -> None:
    async with open_relay(tmp_path / "ledger") as (_, relay, failures):
        for replica in range(1, 4):
            for _ in range(50):
                relay.on_transactions(ReplicaId(replica), [bytes(1_000)] * 200)
        assert relay.waiting_count <= 3 * 65
        assert relay.counters.dropped >= relay.counters.received - relay.waiting_count
        assert not failures
