"""A replica that lies. It keeps its own key and never forges another's; all else is allowed to it.

It runs the honest code, so that it takes part and is believed, and bends what leaves the node: different
proposals to different replicas, votes for both, silence towards some, results that are wrong, old messages
again, views out of reach, histories without proof, bytes that are no message.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from msgspec.structs import replace as replace_fields

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.effects import Send
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    Recollection,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
    encode_message,
)
from consensus.replica_set import VIEW_MAX, ReplicaId
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import compute_digest
from simulation.frames import (
    BlocksRequest,
    BodiesRequest,
    ConsensusFrame,
    Frame,
    TransactionsFrame,
    decode_shared,
)
from simulation.keys import Signer
from simulation.light_ledger import LightHeader
from simulation.node import Node
from simulation.node_parts import NodeParts

HABITS = (
    "equivocate",
    "double_vote",
    "silent_to_some",
    "withhold",
    "wrong_root",
    "replay",
    "view_storm",
    "lie",
    "delay",
    "garble",
    "two_views",
)
"""What a Byzantine replica may do; each draws two or three."""

REPLAYED_MAX = 100
VIEW_CHANGES_MAX = 1_000


class Plot:
    """What the Byzantine replicas of a run have agreed on among themselves."""

    def __init__(self, first_half: frozenset[ReplicaId]) -> None:
        self.first_half = first_half
        """Who hears the first of two stories, or nothing at all: the plotters and half of the honest."""
        self.twins: dict[bytes, bytes] = {}
        """The second proposal's digest by the first's, for one slot each."""


class ByzantineNode(Node):
    """See the module's docstring."""

    def __init__(
        self,
        parts: NodeParts,
        *,
        signer: Signer,
        chain_id: bytes,
        habits: tuple[str, ...],
        plot: Plot,
        **services: Any,
    ) -> None:
        super().__init__(parts, **services)
        self._signer = signer
        self._chain_id = chain_id
        self._habits = habits
        self._draw: Random = services["random"]
        self._plot = plot
        self._said: list[Message] = []
        self._view_changes: dict[tuple[int, int], ViewChange] = {}

    def send(self, item: Send) -> None:
        """Instead of what the honest code wants sent: whatever its habits make of it."""
        self._said = [*self._said[-REPLAYED_MAX:], item.message]
        for receiver in self.peers if item.to is None else (item.to,):
            for message in self._bend(item.message, receiver):
                self._deliver(receiver, message)
        if "replay" in self._habits and self._draw.random() < 0.3:
            self._deliver(self._draw.choice(self.peers), self._draw.choice(self._said))
        if "view_storm" in self._habits and self._draw.random() < 0.1:
            self._storm()
        if "lie" in self._habits and self._draw.random() < 0.1:
            self._claim_block()
        if "garble" in self._habits and self._draw.random() < 0.1:
            self._garble(item.message)

    def on_frame(self, sender: ReplicaId, frame: Frame) -> None:
        if isinstance(frame, BodiesRequest | BlocksRequest) and "withhold" in self._habits:
            self.counts["byzantine_withhold"] += 1
            return
        if isinstance(frame, ConsensusFrame) and "two_views" in self._habits:
            self._overhear(frame)
        super().on_frame(sender, frame)

    def send_frame(self, receiver: ReplicaId, frame: Frame) -> None:
        if isinstance(frame, TransactionsFrame) and "withhold" in self._habits:
            return
        super().send_frame(receiver, frame)

    def _deliver(self, receiver: ReplicaId, message: Message) -> None:
        if "silent_to_some" in self._habits and receiver in self._plot.first_half:
            self.counts["byzantine_silent_to_some"] += 1
            return
        frame = ConsensusFrame(encode_message(message))
        if "delay" in self._habits and isinstance(message, PrePrepare | NewView):
            self.counts["byzantine_delay"] += 1
            self._schedule.after(
                self._draw.randrange(350_000), partial(self._network.send, self.replica_id, receiver, frame)
            )
        else:
            self._network.send(self.replica_id, receiver, frame)

    def _bend(self, message: Message, receiver: ReplicaId) -> tuple[Message, ...]:
        """What `receiver` is told instead of `message`."""
        match message:
            case PrePrepare() if message.primary == self.replica_id:
                return self._bend_proposal(message, receiver)
            case Vote() if message.replica == self.replica_id:
                return self._bend_vote(message, receiver)
            case ViewChange() if message.replica == self.replica_id and "two_views" in self._habits:
                return (self._bend_view_change(message, receiver),)
            case NewView() if message.replica == self.replica_id and "two_views" in self._habits:
                return (self._bend_new_view(message, receiver),)
            case Status() | Recollection() if "lie" in self._habits:
                return (self._bend_status(message),)
            case _:
                return (message,)

    def _bend_proposal(self, message: PrePrepare, receiver: ReplicaId) -> tuple[Message, ...]:
        header = decode_as(LightHeader, message.header, size_max=512)
        if "wrong_root" in self._habits and self._draw.random() < 0.3:
            self.counts["byzantine_wrong_root"] += 1
            return (self._sign_proposal(message, replace_fields(header, state_root=bytes(32))),)
        if "equivocate" not in self._habits:
            return (message,)
        self.counts["byzantine_equivocate"] += 1
        twin = self._sign_proposal(message, replace_fields(header, time_ms=header.time_ms + 1))
        first, second = compute_digest(tags.HEADER, message.header), compute_digest(tags.HEADER, twin.header)
        self._plot.twins[first] = second
        return (message,) if receiver in self._plot.first_half else (twin,)

    def _sign_proposal(self, message: PrePrepare, header: LightHeader) -> PrePrepare:
        data = encode(header)
        digest = compute_digest(tags.HEADER, data)
        vote = self._sign_vote(message.epoch, message.height, message.view, Phase.PRE_PREPARE, digest)
        return replace_fields(message, header=data, signature=vote.signature)

    def _sign_vote(self, epoch: int, height: int, view: int, phase: Phase, digest: bytes) -> Vote:
        signed = compute_vote_bytes(self._chain_id, epoch, height, view, phase, digest)
        return Vote(epoch, height, view, phase, digest, self.replica_id, self._signer(tags.VOTE, signed))

    def _bend_vote(self, vote: Vote, receiver: ReplicaId) -> tuple[Message, ...]:
        twin = self._plot.twins.get(vote.digest)
        if twin is not None and receiver not in self._plot.first_half:
            return (self._sign_vote(vote.epoch, vote.height, vote.view, vote.phase, twin),)
        if "double_vote" in self._habits and self._draw.random() < 0.5:
            self.counts["byzantine_double_vote"] += 1
            other = compute_digest(b"another block", vote.digest)
            return (self._sign_vote(vote.epoch, vote.height, vote.view, vote.phase, other), vote)
        if "double_vote" in self._habits and vote.phase is Phase.PREPARE:
            # To commit what it has not seen prepared.
            return (vote, self._sign_vote(vote.epoch, vote.height, vote.view, Phase.COMMIT, vote.digest))
        return (vote,)

    def _bend_status(self, message: Status | Recollection) -> Message:
        self.counts["byzantine_lie"] += 1
        height = self._draw.choice((0, message.height, message.height + 1, message.height + 1_000))
        lie = replace_fields(message, height=height)
        if isinstance(lie, Status):
            lie = replace_fields(lie, view=self._draw.choice((0, lie.view, lie.view + 1, VIEW_MAX)))
        signature = self._signer(tags.STATUS, compute_signed_bytes(self._chain_id, lie))
        return replace_fields(lie, signature=signature)

    def _overhear(self, frame: ConsensusFrame) -> None:
        """Keep the VIEW-CHANGEs of others, to choose among them later."""
        try:
            message = decode_shared(frame.data)
        except EncodingError:
            return
        if isinstance(message, ViewChange) and len(self._view_changes) < VIEW_CHANGES_MAX:
            self._view_changes[message.view, message.replica] = message

    def _bend_view_change(self, message: ViewChange, receiver: ReplicaId) -> ViewChange:
        """To some: nothing is prepared here, or nothing was ever committed."""
        if receiver in self._plot.first_half:
            return message
        self.counts["byzantine_two_view_changes"] += 1
        base = self._draw.choice((message.base, None))
        lie = replace_fields(message, base=base, prepared=None)
        signature = self._signer(tags.VIEW_CHANGE, compute_signed_bytes(self._chain_id, lie))
        lie = replace_fields(lie, signature=signature)
        self._view_changes[lie.view, lie.replica] = lie
        return lie

    def _bend_new_view(self, message: NewView, receiver: ReplicaId) -> NewView:
        """To some: the same view from another quorum, which may force another choice."""
        known = {key[1]: item for key, item in self._view_changes.items() if key[0] == message.view}
        known = {**{item.replica: item for item in message.view_changes}, **known}
        if receiver in self._plot.first_half:
            return message
        self.counts["byzantine_two_new_views"] += 1
        ids = sorted(known)
        self._draw.shuffle(ids)
        chosen = tuple(known[item] for item in sorted(ids[: len(message.view_changes)]))
        lie = replace_fields(message, view_changes=chosen)
        signature = self._signer(tags.NEW_VIEW, compute_signed_bytes(self._chain_id, lie))
        return replace_fields(lie, signature=signature)

    def _storm(self) -> None:
        """A VIEW-CHANGE to a view that nobody else wants."""
        self.counts["byzantine_view_storm"] += 1
        head = self.disk.blocks[-1]
        view = self._draw.choice((1, 2, 3, 1_000, VIEW_MAX))
        unsigned = ViewChange(0, view, head.certificate, None, self.replica_id, bytes(64))
        signature = self._signer(tags.VIEW_CHANGE, compute_signed_bytes(self._chain_id, unsigned))
        message = replace_fields(unsigned, signature=signature)
        for receiver in self.peers:
            self._deliver(receiver, message)

    def _garble(self, message: Message) -> None:
        """Bytes with one of them changed."""
        self.counts["byzantine_garble"] += 1
        data = bytearray(encode_message(message))
        data[self._draw.randrange(len(data))] ^= 1 << self._draw.randrange(8)
        self._network.send(self.replica_id, self._draw.choice(self.peers), ConsensusFrame(bytes(data)))

    def _claim_block(self) -> None:
        """A certificate that only its maker signed."""
        head = self.disk.blocks[-1]
        digest = compute_digest(b"a block of my own", head.digest)
        vote = self._sign_vote(0, head.height + 1, 0, Phase.COMMIT, digest)
        signatures = tuple(VoteSignature(peer, vote.signature) for peer in (self.replica_id, *self.peers))
        certificate = Certificate(0, head.height + 1, 0, digest, signatures)
        self._deliver(self._draw.choice(self.peers), CommittedNotice(certificate))
