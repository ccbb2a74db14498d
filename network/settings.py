"""What an operator may choose about the network of one node; nothing here changes what is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.messages import MESSAGE_BYTES_MAX
from crypto.hashing import DIGEST_BYTES
from ledger.block_sync import SYNC_BLOCK_BYTES_MAX
from ledger.transaction import BODY_BYTES_MAX
from network.requests import REQUEST_BYTES_MAX

CONSENSUS_BATCH_MAX: Final = 256
"""Consensus messages in one frame."""

_FRAME_OVERHEAD_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Links to the other nodes; every bound is for one peer."""

    frame_bytes_max: int = 9_437_184
    """A longer frame is refused before it is decoded; above the largest block that block sync may send."""
    frame_messages_max: int = 4_096
    """Messages in one received frame."""
    messages_per_second_max: int = 8_000
    """Messages and transactions read of one peer, after a burst of one second's; a frame counts as four more,
    and every 2 KiB of it as one. What the peer sends beyond that waits in its own socket."""
    batch_bytes: int = 65_536
    """Consensus messages that wait go out together up to about this size."""
    consensus_messages_max: int = 4_096
    """Consensus messages that wait for a peer; further ones are dropped, and repaired by STATUS."""
    consensus_bytes_max: int = 33_554_432
    """Their bytes; a proposal of a full block has about 64 kB."""
    relay_bytes_max: int = 8_388_608
    """Relayed transactions that wait for a peer; the oldest give way, and are fetched when needed."""
    requests_max: int = 64
    """Requests to a peer that wait for its answer; as many may wait to be sent. As many of the peer's own
    wait here, and further ones are dropped."""
    requests_bytes_max: int = 262_144
    """Bytes of the peer's own requests that wait here: four of the longest; further ones are dropped."""
    answers_max: int = 4
    """Answers that wait to be sent to a peer; the next one is made once there is room."""
    serving_percent_max: int = 10
    """Share of the node's time for answering requests of all peers together, on average. Bodies, blocks and
    snapshots have a third of it each while all are asked for."""
    sockets_max: int = 512
    """Connections that were accepted, those of strangers in their handshake included."""
    heartbeat_ms: int = 10_000
    """A silent link is probed this often, and cut when no answer comes in half the time."""
    connect_timeout_ms: int = 5_000
    """For dialling, the TLS handshake and the greeting together; and for whoever dials here."""
    close_timeout_ms: int = 1_000
    """How long a peer may take to take leave."""
    backoff_ms: int = 100
    """Before a peer is dialled again; doubles with each failure and is spread at random by up to a half."""
    backoff_ms_max: int = 5_000
    """The cap of that doubling."""
    penalties_max: int = 16
    """Things no honest replica sends, within one penalty interval, before the link is cut."""
    penalty_interval_ms: int = 60_000
    """After this long penalties are forgotten."""
    ban_ms: int = 10_000
    """How long a peer that was cut off stays away; doubles each time up to `ban_ms_max`."""
    ban_ms_max: int = 600_000
    """The cap of that doubling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Transactions between nodes."""

    batch_transactions_max: int = 128
    """New transactions are relayed once so many have gathered."""
    batch_bytes_max: int = 262_144
    """Or so many bytes."""
    delay_ms: int = 8
    """Or after this long; at once when nothing was relayed for as long."""
    verification_chunk_max: int = 32
    """Signatures verified before everything else gets its turn, about 2 ms."""
    peer_transactions_max: int = 4_096
    """Relayed transactions of one peer that wait for verification; the oldest give way."""
    peer_bytes_max: int = 8_388_608
    """Their bytes."""
    cut_ms: int = 30_000
    """How long nothing is taken from the relay of a peer that passed on a badly signed transaction."""
    room_pause_ms: int = 10
    """How long nothing more is taken of a peer's relay after there was no room for a whole chunk of it."""
    strangers_max: int = 1_024
    """Transactions of senders unknown here that a peer may pass on within `cut_ms`, since it may know newer
    keys; one that passes on more has not looked, and is cut as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """Fetching what a node misses: bodies of proposed transactions, and blocks."""

    timeout_ms: int = 500
    """How long one peer may take to send bodies."""
    hashes_max: int = 2_048
    """Bodies asked for in one request, 2,048 at most."""
    answer_bytes_max: int = 1_048_576
    """Bodies or blocks in one answer, one at least; a part of a snapshot comes in 512 such pieces at most."""
    sync_timeout_ms: int = 3_000
    """How long one peer may take to send blocks."""
    sync_blocks_max: int = 64
    """Blocks asked for in one request."""
    snapshot_requests_max: int = 64
    """Requests for parts of a snapshot that one peer has answered in a second; 5 ms of work each at most."""
    join_blocks_min: int = 2_000
    """A node without any block that is so far behind looks for a snapshot before it fetches blocks."""
    join_wait_ms: int = 2_000
    """For how long peers give less than a batch before a node may be stuck: links may still be coming up."""
    join_retry_ms: int = 10_000
    """Before a node that is stuck looks for a snapshot again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """All of the network's settings."""

    links: LinkSettings = LinkSettings()
    relay: RelaySettings = RelaySettings()
    fetch: FetchSettings = FetchSettings()

    def __post_init__(self) -> None:
        """What one node sends, the next one must take: frames have room for the largest message."""
        links, relay = self.links, self.relay
        largest = max(
            MESSAGE_BYTES_MAX,
            SYNC_BLOCK_BYTES_MAX,
            self.fetch.answer_bytes_max + BODY_BYTES_MAX,
            relay.batch_bytes_max + BODY_BYTES_MAX,
        )
        if links.frame_bytes_max < largest + _FRAME_OVERHEAD_BYTES:
            raise ValueError(
                f"links.frame_bytes_max: {links.frame_bytes_max}, "
                f"at least {largest + _FRAME_OVERHEAD_BYTES} for the largest message"
            )
        if links.requests_bytes_max < REQUEST_BYTES_MAX:
            raise ValueError(
                f"links.requests_bytes_max: {links.requests_bytes_max}, "
                f"at least {REQUEST_BYTES_MAX} for one request"
            )
        if not 1 <= links.serving_percent_max <= 100:
            raise ValueError(f"links.serving_percent_max: {links.serving_percent_max}, 1 to 100 expected")
        if self.fetch.hashes_max > REQUEST_BYTES_MAX // DIGEST_BYTES:
            raise ValueError(
                f"fetch.hashes_max: {self.fetch.hashes_max}, at most {REQUEST_BYTES_MAX // DIGEST_BYTES}"
            )
        if links.frame_messages_max < max(relay.batch_transactions_max, CONSENSUS_BATCH_MAX):
            raise ValueError(
                f"links.frame_messages_max: {links.frame_messages_max}, fewer than one frame of this node has"
            )
