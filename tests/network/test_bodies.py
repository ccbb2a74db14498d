"""Missing bodies: what was relayed counts, the source is asked first, and a wrong body is not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence

import pytest

from consensus.replica_set import ReplicaId
from crypto.encoding import encode
from crypto.hashing import compute_digest
from network.bodies import ROUNDS_MAX, BodyFetcher
from network.requests import BadRequest, RequestFailed, RequestKind
from network.settings import FetchSettings

ME = ReplicaId(0)


def make_body(number: int, size: int = 100) -> bytes:
    return b"s" * 64 + number.to_bytes(4, "big") * (size // 4)


def hash_of(body: bytes) -> bytes:
    return compute_digest(body[64:], body[:64])


BODIES = [make_body(number) for number in range(6)]
HASHES = [hash_of(body) for body in BODIES]

Answer = Callable[[bytes], bytes | None]


class FakeLinks:
    """Peers that answer as they are told."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        self._answers = answers
        self.asked: list[tuple[int, int]] = []
        self.penalised: list[int] = []

    @property
    def connected(self) -> tuple[ReplicaId, ...]:
        return tuple(ReplicaId(replica) for replica in sorted(self._answers))

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None:
        assert kind is RequestKind.BODIES
        self.asked.append((replica, len(payload) // 32))
        await asyncio.sleep(0)
        return self._answers[replica](payload)

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.penalised.append(replica)


class FakeRelay:
    """Relayed transactions that wait for verification."""

    def __init__(self, waiting: Sequence[bytes] = ()) -> None:
        self._waiting = {hash_of(body): body for body in waiting}

    def take_waiting(self, signed_hashes: Container[bytes]) -> dict[bytes, bytes]:
        return {key: body for key, body in self._waiting.items() if key in signed_hashes}


def serve(bodies: Sequence[bytes], settings: FetchSettings | None = None) -> Answer:
    """A peer that holds these."""
    held = {hash_of(body): body for body in bodies}
    server = BodyFetcher(links=FakeLinks({}), relay=FakeRelay(), get_body=held.get, settings=settings)
    return lambda payload: server.on_request(ME, payload)


def fail(payload: bytes) -> bytes:
    raise RequestFailed("no answer")


def make_fetcher(links: FakeLinks, relay: FakeRelay | None = None) -> BodyFetcher:
    return BodyFetcher(
        links=links,
        relay=relay or FakeRelay(),
        get_body=lambda signed_hash: None,
        settings=FetchSettings(hashes_max=4),
    )


async def test_v6_the_source_of_a_proposal_is_asked_first() -> None:
    links = FakeLinks({1: serve(BODIES), 2: serve(BODIES), 3: serve(BODIES)})
    found = await make_fetcher(links).fetch(HASHES[:3], ReplicaId(2))
    assert found == dict(zip(HASHES[:3], BODIES[:3], strict=True))
    assert links.asked == [(2, 3)]


async def test_v6_others_are_asked_for_what_the_source_withholds() -> None:
    links = FakeLinks({1: serve(BODIES[:1]), 2: serve([]), 3: serve(BODIES)})
    found = await make_fetcher(links).fetch(HASHES[:3], ReplicaId(2))
    assert len(found) == 3
    assert links.asked == [(2, 3), (1, 3), (3, 2)]


async def test_more_than_fits_is_asked_for_in_parts() -> None:
    links = FakeLinks({1: serve(BODIES)})
    found = await make_fetcher(links).fetch(HASHES, ReplicaId(1))
    assert len(found) == 6
    assert links.asked == [(1, 4), (1, 2)]


async def test_answers_are_bounded_and_the_rest_is_asked_for_again() -> None:
    small = FetchSettings(answer_bytes_max=250)
    links = FakeLinks({1: serve(BODIES, small)})
    found = await make_fetcher(links).fetch(HASHES[:4], ReplicaId(1))
    assert len(found) == 4
    assert len(links.asked) == 4


async def test_a_peer_that_does_not_answer_is_passed_over() -> None:
    links = FakeLinks({1: fail, 2: lambda payload: None, 3: serve(BODIES)})
    assert len(await make_fetcher(links).fetch(HASHES[:2], ReplicaId(1))) == 2
    assert links.penalised == []


async def test_what_nobody_has_is_left_out_and_nothing_is_raised() -> None:
    links = FakeLinks({1: fail, 2: serve(BODIES[:1])})
    assert await make_fetcher(links).fetch(HASHES[:2], ReplicaId(1)) == {HASHES[0]: BODIES[0]}
    assert await make_fetcher(FakeLinks({})).fetch(HASHES[:2], ReplicaId(1)) == {}


async def test_d1_a_source_that_gives_one_body_at_a_time_does_not_keep_the_others_from_giving_all() -> None:
    def drip(payload: bytes) -> bytes:
        return encode(((BODIES[HASHES.index(payload[:32])],),))

    links = FakeLinks({1: drip, 2: serve(BODIES)})
    assert len(await make_fetcher(links).fetch(HASHES[:4], ReplicaId(1))) == 4
    assert links.asked == [(1, 4), (2, 3)]


async def test_d1_nobody_is_asked_for_ever_for_one_proposal() -> None:
    bodies = [make_body(number) for number in range(100)]
    hashes = [hash_of(body) for body in bodies]
    links = FakeLinks({1: lambda payload: encode(((bodies[hashes.index(payload[:32])],),))})
    assert len(await make_fetcher(links).fetch(hashes, ReplicaId(1))) == ROUNDS_MAX


async def test_bodies_that_were_not_asked_for_are_not_taken_and_counted_against_the_peer() -> None:
    links = FakeLinks({1: lambda payload: encode(((BODIES[5],),)), 2: serve(BODIES)})
    found = await make_fetcher(links).fetch(HASHES[:2], ReplicaId(1))
    assert found == dict(zip(HASHES[:2], BODIES[:2], strict=True))
    assert links.penalised == [1]


@pytest.mark.parametrize("garbage", [b"", b"\xc1", encode(("text",)), encode(((b"x" * 40_000,),))])
async def test_an_answer_that_makes_no_sense_is_counted_against_the_peer(garbage: bytes) -> None:
    links = FakeLinks({1: lambda payload: garbage, 2: serve(BODIES)})
    assert len(await make_fetcher(links).fetch(HASHES[:2], ReplicaId(1))) == 2
    assert links.penalised == [1]


async def test_bodies_that_were_relayed_and_wait_for_verification_are_not_asked_for() -> None:
    links = FakeLinks({1: serve(BODIES)})
    fetcher = make_fetcher(links, FakeRelay(BODIES[:3]))
    assert await fetcher.fetch(HASHES[:3], ReplicaId(1)) == dict(zip(HASHES[:3], BODIES[:3], strict=True))
    assert links.asked == []
    assert fetcher.fetched == 0
    assert len(await fetcher.fetch(HASHES[1:5], ReplicaId(1))) == 4
    assert links.asked == [(1, 2)]


@pytest.mark.parametrize("payload", [b"", b"x" * 31, b"x" * 33, b"x" * 32 * 5])
def test_d1_a_request_of_a_wrong_size_is_refused(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        make_fetcher(FakeLinks({})).on_request(ReplicaId(1), payload)
