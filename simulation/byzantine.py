"""A replica that lies. It keeps its own key and never forges another's; all else is allowed to it.

It runs the honest code, so that it takes part and is believed, and bends what leaves the node, by its habits:

    equivocate       one proposal to some, another to the rest, and votes for both
    double_vote      votes for another block too; COMMIT without having seen it prepared
    silent_to_some   the plotters and half of the honest never hear it
    withhold         no bodies, no blocks, no relayed transactions for anybody
    wrong_root       proposals whose results are wrong
    replay           old messages again: its own, and others' VIEW-CHANGEs and NEW-VIEWs
    view_storm       VIEW-CHANGEs to views that nobody else wants, near and out of reach
    wild_views       votes in stale and far-future views, and for heights gone by and far ahead
    forge            certificates, VIEW-CHANGEs, NEW-VIEWs with stolen, missing or altered proof, or in
                     others' names, that speak of a rival block as valid as the proposed one
    lie              STATUS and RECOLLECTION that are wrong, also of epochs to come; certificates that only
                     it signed
    lying_sync       altered, shifted, truncated blocks and bodies to who asks for them
    delay            proposals and NEW-VIEWs late
    almost_too_slow  proposals held back for nine tenths of the view timeout, but for one of four
    garble           bytes that are no message
    two_views        two VIEW-CHANGEs, or NEW-VIEWs, for one view
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from msgspec.structs import replace as replace_fields

from consensus.certificates import Phase
from consensus.effects import Send
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    ProposalRequest,
    ProposalResponse,
    Recollection,
    Status,
    ViewChange,
    Vote,
    encode_message,
)
from consensus.ports import Proposal
from consensus.replica_set import VIEW_MAX, ReplicaId
from crypto import tags
from crypto.encoding import EncodingError
from crypto.hashing import compute_digest
from simulation.disk import StoredBlock
from simulation.false_answers import falsify_blocks, falsify_bodies
from simulation.forgery import Forger
from simulation.frames import (
    BlocksRequest,
    BlocksResponse,
    BodiesRequest,
    BodiesResponse,
    ConsensusFrame,
    Frame,
    TransactionsFrame,
    decode_shared,
)
from simulation.ledger_kit import LedgerKit
from simulation.node import Node
from simulation.node_parts import NodeParts

REMEMBERED_MAX = 100
"""Messages of each kind that it keeps for later use."""
RIVALS = 3
EXTRA_CHANCE = 0.1
"""How often a message that leaves takes one of a habit's own along."""
OVERHEARING = frozenset({"two_views", "forge", "replay"})
"""Habits that make use of what others said."""


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
        forger: Forger,
        kit: LedgerKit,
        habits: tuple[str, ...],
        plot: Plot,
        held_back_us: int,
        **services: Any,
    ) -> None:
        """Proposals of an almost too slow primary are `held_back_us`."""
        super().__init__(parts, **services)
        self._forger = forger
        self._kit = kit
        self._habits = habits
        self._draw: Random = services["random"]
        self._plot = plot
        self._held_back_us = held_back_us
        self._said: deque[Message] = deque(maxlen=REMEMBERED_MAX)
        self._stolen: deque[Vote] = deque(maxlen=REMEMBERED_MAX)
        self._new_views: deque[NewView] = deque(maxlen=REMEMBERED_MAX)
        self._rivals: dict[bytes, Proposal] = {}
        """Blocks that nobody proposed, as valid as those that were: what forged proofs speak of."""
        self._rival: tuple[int, bytes] = (0, b"")
        """Height and digest of the last of them."""
        self._view_changes: dict[tuple[int, int], ViewChange] = {}

    def start(self) -> None:
        super().start()
        self._forger.follow(self.ledger.epoch.replica_set)

    def on_block(self, block: StoredBlock, state_root: bytes) -> None:
        super().on_block(block, state_root)
        self._forger.follow(self.ledger.epoch.replica_set)

    # What leaves the node

    def send(self, item: Send) -> None:
        """Instead of what the honest code wants sent: whatever its habits make of it."""
        self._said.append(item.message)
        if isinstance(item.message, PrePrepare) and "forge" in self._habits:
            self._make_rival(item.message)
        for receiver in self.peers if item.to is None else (item.to,):
            for message in self._bend(item.message, receiver):
                self._deliver(receiver, message)
        for habit in self._habits:
            self._add(habit, item.message)

    def send_frame(self, receiver: ReplicaId, frame: Frame) -> None:
        if isinstance(frame, TransactionsFrame) and "withhold" in self._habits:
            return
        if "lying_sync" in self._habits:
            frame = self._falsify(frame)
        super().send_frame(receiver, frame)

    def on_frame(self, sender: ReplicaId, frame: Frame) -> None:
        if isinstance(frame, BodiesRequest | BlocksRequest) and "withhold" in self._habits:
            self.counts["byzantine_withhold"] += 1
            return
        if isinstance(frame, ConsensusFrame) and not OVERHEARING.isdisjoint(self._habits):
            self._overhear(sender, frame)
        super().on_frame(sender, frame)

    def _deliver(self, receiver: ReplicaId, message: Message) -> None:
        if "silent_to_some" in self._habits and receiver in self._plot.first_half:
            self.counts["byzantine_silent_to_some"] += 1
            return
        frame, delay_us = ConsensusFrame(encode_message(message)), 0
        if "almost_too_slow" in self._habits and isinstance(message, PrePrepare) and message.height % 4:
            self.counts["byzantine_almost_too_slow"] += 1
            delay_us = self._held_back_us
        elif "delay" in self._habits and isinstance(message, PrePrepare | NewView):
            self.counts["byzantine_delay"] += 1
            delay_us = self._draw.randrange(350_000)
        if delay_us:
            self._schedule.after(delay_us, self._network.send, self.replica_id, receiver, frame)
        else:
            self._network.send(self.replica_id, receiver, frame)

    def _falsify(self, frame: Frame) -> Frame:
        if isinstance(frame, BlocksResponse):
            lie, frame = falsify_blocks(self._draw, frame, self.disk.blocks)
            self.counts[f"byzantine_sync_{lie}"] += 1
        elif isinstance(frame, BodiesResponse) and frame.bodies:
            self.counts["byzantine_false_bodies"] += 1
            frame = falsify_bodies(self._draw, frame)
        return frame

    # What others said, for later

    def _overhear(self, sender: ReplicaId, frame: ConsensusFrame) -> None:
        try:
            message = decode_shared(frame.data)
        except EncodingError:
            return
        match message:
            case ViewChange() if len(self._view_changes) < REMEMBERED_MAX:
                self._view_changes[message.view, message.replica] = message
            case NewView():
                self._new_views.append(message)
            case ProposalRequest():
                self._serve_rival(sender, message)
            case Vote():
                self._stolen.append(message)
            case PrePrepare():
                self._make_rival(message)
            case _:
                pass

    def _make_rival(self, message: PrePrepare) -> None:
        """A block just like the proposed one, only later; it is kept to be served.

        Of a few such the one whose digest is the highest: in a view change it wins where views are equal.
        """
        if len(self._rivals) > REMEMBERED_MAX:
            self._rivals.clear()
        header, made = message.header, {}
        try:
            for _ in range(RIVALS):
                header = self._kit.delay_header(header)
                made[compute_digest(tags.HEADER, header)] = Proposal(header, message.transaction_hashes)
        except ValueError:
            return  # The proposal is another liar's.
        digest = max(made)
        self._rivals[digest] = made[digest]
        self._rival = (message.height, digest)

    def _serve_rival(self, sender: ReplicaId, request: ProposalRequest) -> None:
        """The rival that was asked for; for another block a header with hashes that are not its own."""
        rival = self._rivals.get(request.digest)
        if rival is not None:
            self._deliver(sender, ProposalResponse(rival.header, rival.transaction_hashes))
        elif "forge" in self._habits and self._rivals:
            self.counts["byzantine_false_proposal"] += 1
            header = self._rivals[self._rival[1]].header
            self._deliver(sender, ProposalResponse(header, (request.digest,)))

    # Another message instead

    def _bend(self, message: Message, receiver: ReplicaId) -> tuple[Message, ...]:
        """What `receiver` is told instead of `message`."""
        match message:
            case PrePrepare() if message.primary == self.replica_id:
                return self._bend_proposal(message, receiver)
            case Vote() if message.replica == self.replica_id:
                return self._bend_vote(message, receiver)
            case ViewChange() if message.replica == self.replica_id:
                return (self._bend_view_change(message, receiver),)
            case NewView() if message.replica == self.replica_id:
                return (self._bend_new_view(message, receiver),)
            case Status() | Recollection() if "lie" in self._habits:
                return (self._bend_status(message),)
            case _:
                return (message,)

    def _bend_proposal(self, message: PrePrepare, receiver: ReplicaId) -> tuple[Message, ...]:
        if "wrong_root" in self._habits and self._draw.random() < 0.3:
            self.counts["byzantine_wrong_root"] += 1
            return (self._forger.sign_proposal(message, self._kit.spoil_header(message.header)),)
        if "equivocate" not in self._habits:
            return (message,)
        self.counts["byzantine_equivocate"] += 1
        twin = self._forger.sign_proposal(message, self._kit.delay_header(message.header))
        first, second = compute_digest(tags.HEADER, message.header), compute_digest(tags.HEADER, twin.header)
        self._plot.twins[first] = second
        return (message,) if receiver in self._plot.first_half else (twin,)

    def _bend_vote(self, vote: Vote, receiver: ReplicaId) -> tuple[Message, ...]:
        twin = self._plot.twins.get(vote.digest)
        if twin is not None and receiver not in self._plot.first_half:
            return (self._forger.sign_vote(vote.height, vote.view, vote.phase, twin),)
        if "double_vote" in self._habits and self._draw.random() < 0.5:
            self.counts["byzantine_double_vote"] += 1
            other = compute_digest(b"another block", vote.digest)
            return (self._forger.sign_vote(vote.height, vote.view, vote.phase, other), vote)
        if "double_vote" in self._habits and vote.phase is Phase.PREPARE:
            # To commit what it has not seen prepared.
            return (vote, self._forger.sign_vote(vote.height, vote.view, Phase.COMMIT, vote.digest))
        return (vote,)

    def _bend_status(self, message: Status | Recollection) -> Message:
        self.counts["byzantine_lie"] += 1
        height = self._draw.choice((0, message.height, message.height + 1, message.height + 1_000))
        if self._draw.random() < 0.1:
            return replace_fields(message, height=height)  # What was signed said something else.
        if isinstance(message, Recollection):
            return self._forger.sign(replace_fields(message, height=height))
        if self._draw.random() < 0.3:
            # Of an epoch that nobody has seen: whoever follows it fetches blocks while it votes.
            return self._forger.sign(replace_fields(message, epoch=message.epoch + 1, height=height))
        view = self._draw.choice((0, message.view, message.view + 1, VIEW_MAX))
        return self._forger.sign(replace_fields(message, height=height, view=view))

    def _bend_view_change(self, message: ViewChange, receiver: ReplicaId) -> ViewChange:
        """To some: nothing is prepared here, or nothing was ever committed; or another block is prepared."""
        height = 1 if message.base is None else message.base.height + 1
        if "forge" in self._habits and self._rival[0] == height and self._draw.random() < 0.8:
            self.counts["byzantine_forged_view_change"] += 1
            return self._forger.forge_view_change(message.view, message.base, self._rival[1], self._stolen)
        if receiver in self._plot.first_half or "two_views" not in self._habits:
            return message
        self.counts["byzantine_two_view_changes"] += 1
        base = self._draw.choice((message.base, None))
        lie = self._forger.sign_view_change(message.view, base, None)
        self._view_changes[lie.view, lie.replica] = lie
        return lie

    def _bend_new_view(self, message: NewView, receiver: ReplicaId) -> NewView:
        """To some: the same view from another quorum, or a forged one, which may force another choice."""
        if receiver in self._plot.first_half:
            return message
        if "forge" in self._habits and len(message.view_changes) > 1:
            self.counts["byzantine_spoilt_new_view"] += 1
            return self._forger.spoil_new_view(message)
        if "two_views" not in self._habits:
            return message
        self.counts["byzantine_two_new_views"] += 1
        known = {key[1]: item for key, item in self._view_changes.items() if key[0] == message.view}
        known = {**{item.replica: item for item in message.view_changes}, **known}
        ids = sorted(known)
        self._draw.shuffle(ids)
        chosen = tuple(known[item] for item in sorted(ids[: len(message.view_changes)]))
        return self._forger.sign(replace_fields(message, view_changes=chosen))

    # Messages of its own

    def _add(self, habit: str, message: Message) -> None:
        """Beside what was to be sent, now and then something that nobody asked for."""
        if self._draw.random() >= (3 * EXTRA_CHANCE if habit == "replay" else EXTRA_CHANCE):
            return
        match habit:
            case "replay":
                self._replay()
            case "view_storm":
                self._storm()
            case "wild_views":
                self._vote_wildly()
            case "forge":
                self._forge()
            case "lie":
                self._claim_block()
            case "garble":
                self._garble(message)
            case _:
                pass

    def _replay(self) -> None:
        self.counts["byzantine_replay"] += 1
        old = [*self._said, *self._view_changes.values(), *self._new_views]
        self._deliver(self._draw.choice(self.peers), self._draw.choice(old))

    def _storm(self) -> None:
        """A VIEW-CHANGE to a view that nobody else wants."""
        self.counts["byzantine_view_storm"] += 1
        view = self._draw.choice((1, 2, 3, 1_000, VIEW_MAX))
        message = self._forger.sign_view_change(view, self.disk.blocks[-1].certificate, None)
        for receiver in self.peers:
            self._deliver(receiver, message)

    def _vote_wildly(self) -> None:
        self.counts["byzantine_wild_vote"] += 1
        status = self.replica.status
        height = max(0, status.height + self._draw.choice((-1, 0, 1, 1, 1, 2, 3, 1_000)))
        view = self._draw.choice((0, max(0, status.view - 1), status.view + 1, status.view + 3, VIEW_MAX))
        digest = compute_digest(b"a block of another time", self.disk.blocks[-1].digest)
        vote = self._forger.sign_vote(height, view, self._draw.choice(tuple(Phase)), digest)
        for receiver in self.peers:
            self._deliver(receiver, vote)

    def _forge(self) -> None:
        self.counts["byzantine_forge"] += 1
        head, status = self.disk.blocks[-1], self.replica.status
        height, digest = self._rival if self._rival[0] == head.height + 1 else (head.height + 1, head.digest)
        asked = max((view for view, _ in self._view_changes), default=0)
        view = self._forger.find_own_view(height, max(asked, status.view) - 1)
        known = tuple(self._view_changes.values())
        forged = self._forger.forge_view_change(view, head.certificate, digest, self._stolen)
        message: Message
        match self._draw.choice(("certificate", "view_change", "other", "new_view", "vote")):
            case "certificate":
                message = CommittedNotice(
                    self._forger.forge_certificate(height, status.view, digest, self._stolen)
                )
            case "view_change":
                message = forged
            case "other":
                message = self._forger.forge_other(view, head.certificate, known)
            case "new_view":
                message = self._forger.forge_new_view(view, head.certificate, forged, known)
            case _:
                phase = self._draw.choice((Phase.PREPARE, Phase.COMMIT))
                message = self._forger.forge_vote(self._forger.sign_vote(height, status.view, phase, digest))
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
        certificate = self._forger.forge_certificate(head.height + 1, self.replica.status.view, digest, ())
        self._deliver(self._draw.choice(self.peers), CommittedNotice(certificate))
