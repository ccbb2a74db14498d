"""Bodies of transactions that a proposal names and this node misses.

They may be here already, relayed and waiting for their turn to be verified. Otherwise the proposal's source
is asked, then the others. Whatever comes is kept only if it hashes to what was asked for: a body is its own
proof, so any peer may give it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Annotated, Final, Protocol

from msgspec import Meta, Struct

from consensus.replica_set import ReplicaId
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import DIGEST_BYTES
from crypto.signatures import SIGNATURE_BYTES
from ledger.transaction import BODY_BYTES_MAX, compute_signed_hash
from network.link_ports import LinkRequests
from network.requests import BadRequest, RequestFailed, RequestKind
from network.settings import FetchSettings

_ANSWER_OVERHEAD_BYTES: Final = 65_536

ROUNDS_MAX: Final = 16
"""How often each peer is asked at most for one proposal's bodies; a block of 6 MiB needs 6 full answers."""

GetBody = Callable[[bytes], bytes | None]
"""Signed bytes by signed hash, from the mempool, kept proposals and recent blocks."""


class _Bodies(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    signed: tuple[Annotated[bytes, Meta(max_length=BODY_BYTES_MAX + SIGNATURE_BYTES)], ...]


class Waiting(Protocol):
    """The relay, which may have the bodies already, unverified."""

    def take_waiting(self, signed_hashes: Container[bytes]) -> dict[bytes, bytes]: ...


class BodyFetcher:
    """Fetches and serves bodies."""

    def __init__(
        self,
        *,
        links: LinkRequests,
        relay: Waiting,
        get_body: GetBody,
        settings: FetchSettings | None = None,
    ) -> None:
        self._links = links
        self._relay = relay
        self._get_body = get_body
        self._settings = settings or FetchSettings()
        self.fetched = 0
        """Bodies that came from peers on request, since the node's start."""

    def on_request(self, replica: ReplicaId, payload: bytes) -> bytes | None:
        """Answer a peer: the bodies that are at hand, as many as fit. Raises BadRequest."""
        hashes_max = self._settings.hashes_max
        if not 1 <= len(payload) <= hashes_max * DIGEST_BYTES or len(payload) % DIGEST_BYTES:
            raise BadRequest(f"{len(payload)} bytes of hashes found, 1 to {hashes_max} hashes expected")
        signed: list[bytes] = []
        left = self._settings.answer_bytes_max
        for start in range(0, len(payload), DIGEST_BYTES):
            body = self._get_body(payload[start : start + DIGEST_BYTES])
            if body is None:
                continue
            left -= len(body)
            if left < 0 and signed:
                break
            signed.append(body)
        return encode(_Bodies(tuple(signed)))

    async def fetch(self, signed_hashes: Sequence[bytes], source: ReplicaId) -> Mapping[bytes, bytes]:
        """Signed bytes by signed hash, as many as could be had, from `source` first; never raises."""
        missing = dict.fromkeys(signed_hashes)
        found = self._relay.take_waiting(missing)
        for signed_hash in found:
            del missing[signed_hash]
        # Each peer is asked once in a round, so that one that gives little at a time does not keep the others
        # from giving all; who gave nothing is asked no more.
        useless: set[ReplicaId] = set()
        for _ in range(ROUNDS_MAX):
            for peer in [peer for peer in self._order_peers(source) if peer not in useless]:
                if not missing:
                    return found
                came = await self._ask(peer, tuple(missing)[: self._settings.hashes_max])
                if not came:
                    useless.add(peer)
                for signed_hash, body in came.items():
                    if signed_hash in missing:
                        del missing[signed_hash]
                        found[signed_hash] = body
                        self.fetched += 1
        return found

    async def _ask(self, peer: ReplicaId, signed_hashes: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """What one peer has of these, each checked against its hash; empty when it is of no use."""
        settings = self._settings
        try:
            answer = await self._links.request(
                peer, RequestKind.BODIES, b"".join(signed_hashes), settings.timeout_ms
            )
            if answer is None:
                return {}
            size_max = settings.answer_bytes_max + BODY_BYTES_MAX + _ANSWER_OVERHEAD_BYTES
            bodies = decode_as(_Bodies, answer, size_max=size_max).signed
        except RequestFailed:
            return {}
        except EncodingError as error:
            self._links.penalise(peer, f"bodies: {error}")
            return {}
        wanted = frozenset(signed_hashes)
        came = {compute_signed_hash(body): body for body in bodies}
        if not came.keys() <= wanted:
            self._links.penalise(peer, "bodies: others than asked for")
        return {signed_hash: body for signed_hash, body in came.items() if signed_hash in wanted}

    def _order_peers(self, source: ReplicaId) -> Sequence[ReplicaId]:
        return sorted(self._links.connected, key=lambda peer: peer != source)
