"""What goes wrong in a run, and when: drawn from the seed, injected over the faulty time, then ended.

Each run draws which kinds of fault it has at all: a run in which everything fails at once hides what a lone
partition would show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from consensus.messages import Message, Vote
from consensus.replica_set import ReplicaId
from simulation.network import Intercept, LinkQuality, Network
from simulation.node import Node
from simulation.node_parts import CrashPoint
from simulation.schedule import Schedule
from simulation.selection import Selection
from simulation.trace import Trace

KINDS = (
    "loss",
    "duplication",
    "reordering",
    "slow",
    "narrow",
    "intercept",
    "partition",
    "one_way",
    "flap",
    "crash",
    "crash_point",
    "pause",
    "clock_jump",
    "disk_error",
)
QUALITIES = ("loss", "duplication", "reordering", "slow")
"""Those of KINDS that last for the whole faulty time."""
KIND_CHANCE = 0.35
INTERCEPTED = ("PrePrepare", "PREPARE", "COMMIT", "COMMIT", "COMMIT", "ViewChange", "NewView", "Status")
CRASH_PLACES = ("before_sync", "after_sync", "while_sending", "while_committing")
_MS = 1_000


class FaultInjector:
    """Plans the faults of one run and carries them out."""

    def __init__(
        self,
        *,
        schedule: Schedule,
        network: Network,
        nodes: list[Node],
        trace: Trace,
        random: Random,
        faulty_ms: int,
        kinds: tuple[str, ...] | None = None,
        clock_jumps_ms: tuple[int, ...],
        selection: Selection,
    ) -> None:
        """`kinds` are those that happen; None draws them. Clocks jump by one of `clock_jumps_ms`.

        Of what is drawn, only what `selection` keeps happens.
        """
        self.counts: Counter[str] = Counter()
        self._schedule = schedule
        self._network = network
        self._nodes = nodes
        self._trace = trace
        self._random = random
        self._kinds = kinds
        self._keeps = selection.keeps
        self._clock_jumps_ms = clock_jumps_ms
        self._faulty_us = faulty_ms * _MS

    def plan(self) -> None:
        """Draw the kinds of this run, then each fault."""
        random = self._random
        drawn = tuple(kind for kind in KINDS if random.random() < KIND_CHANCE)
        kinds = drawn if self._kinds is None else self._kinds
        slowness, loss = random.choice((3, 10, 40)), random.choice((0.01, 0.05, 0.2))
        duplication, reordering = random.choice((0.02, 0.2)), random.choice((0.02, 0.1))
        bad = [kind for kind in kinds if kind in QUALITIES and self._keeps(f"network-{kind}")]
        self._network.quality = LinkQuality(
            slowness=slowness if "slow" in bad else 1,
            loss=loss if "loss" in bad else 0.0,
            duplication=duplication if "duplication" in bad else 0.0,
            reordering=reordering if "reordering" in bad else 0.0,
        )
        self._note(f"faults of this run: {', '.join(kinds) or 'none'}; {self._network.quality}")
        for kind in kinds:
            if kind in QUALITIES:
                continue
            for number in range(random.randint(1, 4)):
                at_us, stream = random.randrange(self._faulty_us), random.getrandbits(64)
                if self._keeps(f"{kind}-{number}"):
                    self._schedule.after(at_us, self._begin, kind, stream)
        self._schedule.after(self._faulty_us, self.heal)

    def _begin(self, kind: str, stream: int) -> None:
        """Each fault draws from a stream of its own: it is the same whatever other faults there are."""
        self._random = Random(stream)  # noqa: S311
        self._choose(kind)()

    def heal(self) -> None:
        """No more faults: links are whole and quick, nodes start again and run."""
        self._network.quality = LinkQuality()
        self._network.mend_all()
        for node in self._nodes:
            node.clock_jump_ms = 0
            node.disk.failure = None
            node.crash_points.clear()
            self._schedule.after(0, node.restart)
            for peer in node.peers:
                node.connect(peer)
        self._note("healed")

    def _choose(self, kind: str) -> Callable[[], None]:
        match kind:
            case "crash":
                return self._crash
            case "crash_point":
                return self._plan_crash_point
            case "partition":
                return self._part
            case "one_way":
                return self._deafen
            case "flap":
                return self._flap
            case "pause":
                return self._pause
            case "narrow":
                return self._narrow
            case "intercept":
                return self._intercept
            case "disk_error":
                return self._fail_disk
            case "clock_jump":
                return self._jump_clock
            case _:
                return lambda: None

    def _draw_node(self) -> Node:
        return self._random.choice(self._nodes)

    def _draw_duration_us(self, longest_ms: int) -> int:
        """Never past the end of the faulty time."""
        left_us = self._faulty_us - self._schedule.now_us
        return max(1, min(self._random.randint(5, longest_ms) * _MS, left_us - 1))

    def _crash(self) -> None:
        down_us = self._draw_duration_us(1_500)
        if self._random.random() < 0.1:
            for node in self._nodes:  # A power cut takes all at once.
                node.crash("anywhere", down_us + self._random.randrange(50 * _MS))
        else:
            self._draw_node().crash("anywhere", down_us)

    def _plan_crash_point(self) -> None:
        point = CrashPoint(
            where=self._random.choice(CRASH_PLACES),
            countdown=self._random.randrange(12),
            down_us=self._draw_duration_us(800),
        )
        self._draw_node().crash_points.append(point)

    def _pause(self) -> None:
        self._draw_node().pause(self._draw_duration_us(1_200))

    def _fail_disk(self) -> None:
        """A node's disk is full, or refuses: the node stops whenever it has something to write."""
        node, failure = self._draw_node(), self._random.choice(("eio", "enospc"))
        duration_us = self._draw_duration_us(1_200)
        self.counts[failure] += 1
        self._note(f"the disk of {node.replica_id} answers {failure} for {duration_us // _MS} ms")
        node.disk.failure = failure
        self._schedule.after(duration_us, setattr, node.disk, "failure", None)

    def _jump_clock(self) -> None:
        """Somebody sets a node's wall clock; time servers have put it right again by the end."""
        node = self._draw_node()
        jump_ms = self._random.choice((-1, 1)) * self._random.choice(self._clock_jumps_ms)
        node.jump_clock(jump_ms)
        self.counts["clock_jump"] += 1

    def _narrow(self) -> None:
        """All that one node sends, or one link, has to pass a bottleneck; until the end."""
        one = self._draw_node()
        peers = one.peers if self._random.random() < 0.5 else one.peers[:1]
        bytes_per_second = self._random.choice((8_000, 30_000, 120_000))
        self._network.narrow([(one.replica_id, peer) for peer in peers], bytes_per_second)
        text = " ".join(f"{one.replica_id}→{peer}" for peer in peers)
        self._note(f"narrow: {text} carries {bytes_per_second} bytes a second")

    def _intercept(self) -> None:
        """Messages of one kind reach a lucky few, who may not be heard for longer than that; or all but one.

        This is how one replica comes to know alone that a block is prepared, or final; and how one comes to
        lead a view that must propose again what it has never seen.
        """
        kind = self._random.choice(INTERCEPTED)
        ids = sorted({node.replica_id for node in self._nodes})
        half = (len(ids) + 1) // 2
        count = self._random.choice((1, 1, 1, self._random.randint(0, half), len(ids) - 1))
        lucky = frozenset(self._random.sample(ids, count))
        duration_us = self._draw_duration_us(1_500)
        mute_us = 0
        if count <= half and self._random.random() < 0.7:
            mute_us = max(duration_us, self._draw_duration_us(2_500))
        self.counts["intercept"] += 1
        self._note(
            f"{kind} reaches only {sorted(lucky)} for {duration_us // _MS} ms, "
            f"who are not heard for {mute_us // _MS} ms"
        )
        self._lose(
            lambda sender, receiver, message: receiver not in lucky and get_message_kind(message) == kind,
            duration_us,
        )
        if mute_us:
            self._lose(lambda sender, receiver, message: sender in lucky, mute_us)

    def _lose(self, intercept: Intercept, duration_us: int) -> None:
        self._network.intercept(intercept)
        self._schedule.after(duration_us, self._network.release, intercept)

    def _part(self) -> None:
        """Two halves that do not hear each other."""
        ids = [node.replica_id for node in self._nodes]
        self._random.shuffle(ids)
        size = self._random.randint(1, max(1, len(ids) // 2))
        apart = [(a, b) for a in ids[:size] for b in ids[size:]]
        self._cut("partition", [*apart, *((b, a) for a, b in apart)], self._draw_duration_us(2_000))

    def _deafen(self) -> None:
        """One node is heard but does not hear, or hears and is not heard, or a single link is one-way."""
        one = self._draw_node()
        peers = one.peers
        kind = self._random.choice(("deaf", "mute", "link"))
        links = [(peer, one.replica_id) for peer in peers]
        if kind == "mute":
            links = [(one.replica_id, peer) for peer in peers]
        elif kind == "link" and links:
            links = [self._random.choice(links)]
        self._cut(f"one_way_{kind}", links, self._draw_duration_us(2_000))

    def _flap(self) -> None:
        """A node whose links come and go."""
        one = self._draw_node()
        links = [(peer, one.replica_id) for peer in one.peers]
        links += [(one.replica_id, peer) for peer in one.peers]
        for _ in range(6):
            self._schedule.after(
                self._draw_duration_us(1_000),
                lambda: self._cut("flap", links, self._draw_duration_us(100)),
            )

    def _cut(self, kind: str, links: list[tuple[ReplicaId, ReplicaId]], duration_us: int) -> None:
        self.counts[kind] += 1
        text = " ".join(f"{a}→{b}" for a, b in links)
        self._note(f"{kind}: {text} for {duration_us // _MS} ms")
        self._network.cut(links)
        self._schedule.after(duration_us, self._mend, links)

    def _mend(self, links: list[tuple[ReplicaId, ReplicaId]]) -> None:
        self._network.mend(links)
        by_id = {node.replica_id: node for node in self._nodes}
        for one, other in dict.fromkeys((*links, *((b, a) for a, b in links))):
            by_id[one].connect(other)

    def _note(self, text: str) -> None:
        self._trace.add_note(self._schedule.now_us, "network", text)


def get_message_kind(message: Message) -> str:
    """One of INTERCEPTED, or the name of another kind."""
    return message.phase.name if isinstance(message, Vote) else type(message).__name__
