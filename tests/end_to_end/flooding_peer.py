"""A member of the network gone bad: holds a replica's key and certificate, votes never, and sends all it can.

    python -m tests.end_to_end.flooding_peer NODE_FOLDER KIND

It stops when its standard input closes. What it sends is well-formed and well-signed unless the kind says
otherwise, so that refusing it costs its receivers the most.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from client.signing import TransactionSigner
from config.genesis_file import read_genesis_file
from config.local_network import LocalNode
from config.settings import NodeSettings, load_node_settings
from consensus.certificates import Phase, compute_vote_bytes
from consensus.messages import (
    PrePrepare,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
    decode_message,
    encode_message,
)
from consensus.replica_set import ReplicaId, ReplicaSet
from contracts.calls.evidence import Anchor, RecordLeaf
from crypto import tags
from crypto.encoding import EncodingError, encode
from crypto.key_files import generate_signing_key, read_key_file
from ledger.transaction import encode_transaction
from network.link_ports import LinkHandlers, PeerAddress
from network.links import Links
from network.requests import Request, RequestKind
from network.tls import LinkTls

BURST: Final = 64
"""Messages made between two turns of the loop."""
TARGET: Final = ReplicaId(0)
REPEATED: Final = 512
"""Signed once and sent again and again: signing would slow the flood down."""


class FloodingPeer:
    """Links of the product, and messages that no honest replica sends."""

    def __init__(self, settings: NodeSettings, *, to_all: bool) -> None:
        """Unless `to_all`, everything goes to TARGET, and nothing to the others."""
        self._genesis = read_genesis_file(settings.folder.genesis_file)
        self._chain_id = self._genesis.compute_chain_id()
        self._replica = settings.node.replica
        self._key = read_key_file(settings.folder.node_key_file)
        self._institution_key = read_key_file(settings.folder.institution_key_file)
        self._height = 1
        self._view = 0
        folder = settings.folder
        self._links = Links(
            replica=ReplicaId(self._replica),
            replica_set=self._genesis.replica_set
            if to_all
            else _leave_only(self._genesis.replica_set, self._replica),
            chain_id=self._chain_id,
            tls=LinkTls.load(
                ca_file=folder.ca_file,
                certificate_file=folder.node_certificate_file,
                key_file=folder.node_key_file,
            ),
            signing_key=self._key,
            listen_host=settings.node.link_host,
            listen_port=settings.node.link_port,
            addresses=tuple(
                PeerAddress(replica=ReplicaId(peer.replica), host=peer.host, port=peer.port)
                for peer in settings.peers
            ),
        )

    @property
    def kinds(self) -> Mapping[str, Callable[[], Iterator[None]]]:
        """How to flood: iterators of which each step sends one message."""
        return {
            "garbage": self._send_garbage,
            "proposals": self._send_proposals,
            "statuses": self._send_statuses,
            "votes": self._send_votes,
            "view_changes": self._send_view_changes,
            "requests": self._send_requests,
            "strangers_transactions": self._send_strangers_transactions,
            "own_transactions": self._send_own_transactions,
        }

    async def run(self, kind: str) -> None:
        """Until cancelled."""
        handlers = LinkHandlers(
            on_consensus=self._on_consensus,
            on_transactions=lambda replica, signed: None,
            on_oldest=lambda replica, signed: None,
            on_connected=lambda replica: None,
        )
        await self._links.start(handlers)
        steps = self.kinds[kind]()
        while True:
            for _ in itertools.islice(steps, BURST):
                pass
            await asyncio.sleep(0)

    def _on_consensus(self, sender: ReplicaId, data: bytes) -> None:
        """Learn where the others are, so that what is sent is about what they do."""
        with contextlib.suppress(EncodingError):
            message = decode_message(data)
            if isinstance(message, Status):
                self._height = max(self._height, message.height + 1)
                self._view = max(self._view, message.view)

    def _send_garbage(self) -> Iterator[None]:
        """Bytes that are no message."""
        while True:
            self._links.broadcast(secrets.token_bytes(1_000))
            yield

    def _send_proposals(self) -> Iterator[None]:
        """PRE-PREPAREs of 20,000 hashes out of turn."""
        hashes = tuple(secrets.token_bytes(32) for _ in range(20_000))
        while True:
            message = PrePrepare(0, self._height, self._view, b"header", hashes, self._replica, bytes(64))
            self._links.broadcast(encode_message(message))
            yield

    def _send_statuses(self) -> Iterator[None]:
        """A replica far behind that starts again and again: every STATUS asks for much."""
        messages = [encode_message(self._sign_status(number + 1)) for number in range(REPEATED)]
        for message in itertools.cycle(messages):
            self._links.broadcast(message)
            yield

    def _send_votes(self) -> Iterator[None]:
        """Well-signed votes for made-up blocks: at the height at work, and far away."""
        for number in itertools.count():
            height = self._height + (0 if number % 2 else number)
            phase = Phase.COMMIT if number % 4 < 2 else Phase.PREPARE
            digest = secrets.token_bytes(32)
            signed = compute_vote_bytes(self._chain_id, 0, height, self._view, phase, digest)
            signature = self._key.sign(tags.VOTE, signed)
            vote = Vote(0, height, self._view, phase, digest, self._replica, signature)
            self._links.broadcast(encode_message(vote))
            yield

    def _send_view_changes(self) -> Iterator[None]:
        """Always for another view; each must be verified to be refused."""
        for number in itertools.count(1):
            unsigned = ViewChange(0, self._view + number, None, None, self._replica, bytes(64))
            signature = self._key.sign(tags.VIEW_CHANGE, compute_signed_bytes(self._chain_id, unsigned))
            message = ViewChange(0, self._view + number, None, None, self._replica, signature)
            self._links.broadcast(encode_message(message))
            yield

    def _send_requests(self) -> Iterator[None]:
        """The whole chain, from the start, again and again, whether or not an answer has come."""
        messages = [
            encode(Request(number, RequestKind.BLOCKS, encode((1, 64)))) for number in range(REPEATED)
        ]
        for message in itertools.cycle(messages):
            for peer in self._links._peers.values():
                if peer.is_connected:
                    peer.queue.put_request(message)
                    peer.has_frames.set()
            yield

    def _send_strangers_transactions(self) -> Iterator[None]:
        """Well-signed by keys that the ledger does not know."""
        signer = TransactionSigner(generate_signing_key(), chain_id=self._chain_id)
        batches = [_sign_useless(signer, 128) for _ in range(8)]
        for batch in itertools.cycle(batches):
            self._links.broadcast_transactions(batch)
            yield

    def _send_own_transactions(self) -> Iterator[None]:
        """Of the flooder's own institution: admitted, ordered, and each fails."""
        signer = TransactionSigner(self._institution_key, chain_id=self._chain_id)
        while True:
            self._links.broadcast_transactions(_sign_useless(signer, 16))
            yield

    def _sign_status(self, session: int) -> Status:
        unsigned = Status(0, 0, 0, True, False, (), (), session, self._replica, bytes(64))
        signature = self._key.sign(tags.STATUS, compute_signed_bytes(self._chain_id, unsigned))
        return Status(0, 0, 0, True, False, (), (), session, self._replica, signature)


def _sign_useless(signer: TransactionSigner, count: int) -> list[bytes]:
    """Anchors under an alias that nobody has opened."""
    leaf = RecordLeaf(record=bytes(16), version=1, commitment=bytes(32), locator=bytes(16))
    call = Anchor(alias=bytes(16), record_class="other", leaf=leaf)
    return [encode_transaction(signer.sign(call)) for _ in range(count)]


def _leave_only(replica_set: ReplicaSet, own: int) -> ReplicaSet:
    return ReplicaSet(0, tuple(item for item in replica_set.members if item.replica in (TARGET, own)))


@contextmanager
def flood(node: LocalNode, kind: str, *, to_all: bool = False, niceness: int = 0) -> Iterator[int]:
    """The member of this node folder floods in a process of its own, whose id this is.

    Unless `to_all`, all of it goes to TARGET.
    """
    program = [sys.executable, "-m", "tests.end_to_end.flooding_peer", str(node.directory), kind]
    program += ["--to-all"] if to_all else []
    with subprocess.Popen(["nice", "-n", str(niceness), *program], stdin=subprocess.PIPE) as flooder:
        try:
            yield flooder.pid
            assert flooder.poll() is None, "the flooder has ended"
        finally:
            flooder.kill()


async def main(folder: Path, kind: str, *, to_all: bool) -> None:
    peer = FloodingPeer(load_node_settings(folder / "node.toml"), to_all=to_all)
    flooding = asyncio.create_task(peer.run(kind))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait((flooding, stopping), return_when=asyncio.FIRST_COMPLETED)
    if flooding.done():
        flooding.result()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], to_all="--to-all" in sys.argv[3:]))
