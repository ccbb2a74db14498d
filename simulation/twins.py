"""Twins: two nodes with one replica's key and id, each on links of its own; together they count as one liar.

Both run the honest code and know nothing of each other. Every peer's link leads to one of the two, and which
one changes now and then, so that between them they say two things of one slot without a line of lying code.
Source: Bano et al. 2021, "Twins: BFT Systems Made Robust".
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from consensus.replica_set import ReplicaId
from simulation.frames import Frame
from simulation.network import Network, Receive
from simulation.schedule import Schedule

SHUFFLE_US = 30_000
"""How often each peer's link is led to one of the two anew: about once a block, or no peer hears both."""


class TwinLinks:
    """The links of one of two twins: those peers that lead to it now."""

    def __init__(self, network: Network, junction: Junction, index: int) -> None:
        self._network = network
        self._junction = junction
        self._index = index

    @property
    def replicas(self) -> tuple[ReplicaId, ...]:
        return self._network.replicas

    def attach(self, replica: ReplicaId, receive: Receive) -> None:
        self._junction.receivers[self._index] = receive

    def send(self, sender: ReplicaId, receiver: ReplicaId, frame: Frame) -> None:
        if self._junction.side.get(receiver) == self._index:
            self._network.send(sender, receiver, frame)

    def broadcast(self, sender: ReplicaId, frame: Frame) -> None:
        for receiver in self._network.replicas:
            if receiver != sender:
                self.send(sender, receiver, frame)


class Junction:
    """Where the links of all peers part for the one and for the other twin."""

    def __init__(
        self,
        replica: ReplicaId,
        peers: Sequence[ReplicaId],
        *,
        network: Network,
        schedule: Schedule,
        random: Random,
    ) -> None:
        self.receivers: dict[int, Receive] = {}
        """What takes frames, by twin: 0 or 1."""
        self.side: dict[ReplicaId, int] = {}
        """With which twin a peer speaks."""
        self._peers = tuple(peers)
        self._schedule = schedule
        self._random = random
        self.links = tuple(TwinLinks(network, self, index) for index in (0, 1))
        network.attach(replica, self._on_frame)
        self._shuffle()

    def _shuffle(self) -> None:
        self.side = {peer: self._random.randrange(2) for peer in self._peers}
        self._schedule.after(SHUFFLE_US, self._shuffle)

    def _on_frame(self, sender: ReplicaId, frame: Frame) -> None:
        receive = self.receivers.get(self.side[sender])
        if receive is not None:
            receive(sender, frame)
