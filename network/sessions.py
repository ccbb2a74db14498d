"""Two processes with one node's key, and how they are found out.

Every start of a node draws a session number. On each new link a node greets: its session, the last other
session of its own that it was told of, and its signature under both. Whoever is greeted answers with the last
greeting of the same node that had another session. After a restart that is the dead process's, and it ends
there. If both live, each learns of the other's session and names it in its next greeting; so each is soon
shown a greeting that its own key signed, that it did not send, and that names its own session. Only a process
that runs beside it can have made that one: nobody can forge it, and no restart, reconnect or delay brings it
about.

Whoever is shown it is mute from then on: two that vote with one key could contradict each other. A peer sees
the same from outside, by a session that returns after another took its place, and counts it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import structlog
from msgspec import Meta, Struct

from consensus.replica_set import ReplicaId
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.signatures import InvalidSignature, verify_signature
from network.requests import BadRequest

SESSION_BYTES: Final = 16
_NONE: Final = bytes(SESSION_BYTES)
_Session = Annotated[bytes, Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]

_log = structlog.get_logger("network.sessions")


class Greeting(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one process of a node says of itself."""

    replica: Annotated[int, Meta(ge=0, le=65_535)]
    session: _Session
    seen: _Session
    """The last other session of this node that the process was told of; zero for none."""
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    """By the node's key, tag PEER_HELLO, over encode((chain id, replica, session, seen))."""


class Sessions:
    """The sessions of this node and of its peers; all methods on the event loop."""

    def __init__(
        self, replica: ReplicaId, chain_id: bytes, public_key: bytes, sign: Callable[[bytes, bytes], bytes]
    ) -> None:
        self._replica = replica
        self._chain_id = chain_id
        self._public_key = public_key
        self._sign = sign
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._seen = _NONE
        self._current: dict[ReplicaId, Greeting] = {}
        self._former: dict[ReplicaId, Greeting] = {}
        self.copy_reason = ""
        """Why this node keeps silent: another process runs with its key; empty unless that is proved."""

    def greet(self) -> bytes:
        """What this node says first on every link."""
        message = encode((self._chain_id, self._replica, self._session, self._seen))
        signature = self._sign(tags.PEER_HELLO, message)
        return encode(Greeting(self._replica, self._session, self._seen, signature))

    def forget(self, peers: set[ReplicaId]) -> None:
        """These have no link any more and will not have one with the same key."""
        for peer in peers:
            self._current.pop(peer, None)
            self._former.pop(peer, None)

    def on_greeting(
        self, peer: ReplicaId, message: bytes, keys: Mapping[ReplicaId, bytes]
    ) -> tuple[bytes | None, bool]:
        """The answer to the peer, if any, and whether it was seen to run twice. Raises BadRequest."""
        try:
            greeting = decode_as(Greeting, message, size_max=256)
        except EncodingError as error:
            raise BadRequest(f"greeting: {error}") from error
        if greeting.replica == peer:
            self._verify(greeting, keys[peer])
            return self._note(peer, greeting)
        if greeting.replica == self._replica:
            self._verify(greeting, self._public_key)
            return self._note_own(greeting), False
        raise BadRequest(f"greeting of replica {greeting.replica}, of {peer} or {self._replica} expected")

    def _note(self, peer: ReplicaId, greeting: Greeting) -> tuple[bytes | None, bool]:
        current, former = self._current.get(peer), self._former.get(peer)
        returns = False
        if current is not None and current.session != greeting.session:
            returns = former is not None and former.session == greeting.session
            former = self._former[peer] = current
        self._current[peer] = greeting
        if returns:
            _log.warning("two processes with one key", replica=peer, session=greeting.session.hex())
        return (None if former is None else encode(former)), returns

    def _note_own(self, greeting: Greeting) -> bytes | None:
        """A greeting that this node's key has signed."""
        if greeting.session == self._session:
            return None
        if greeting.seen == self._session and not self.copy_reason:
            self.copy_reason = (
                f"another process runs with this node's key (session {greeting.session.hex()}, this one is "
                f"{self._session.hex()}): stop one of them, then start the other again"
            )
            _log.error("this node runs twice", reason=self.copy_reason)
        if greeting.session == self._seen:
            return None
        self._seen = greeting.session
        return self.greet()

    def _verify(self, greeting: Greeting, public_key: bytes) -> None:
        message = encode((self._chain_id, greeting.replica, greeting.session, greeting.seen))
        try:
            verify_signature(public_key, tags.PEER_HELLO, message, greeting.signature)
        except InvalidSignature as error:
            raise BadRequest(f"greeting of replica {greeting.replica}: {error}") from error
