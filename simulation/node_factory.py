"""Makes the nodes of a run: honest ones, and the cast's faulty ones, each from streams of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from consensus.certificates import Verify
from consensus.head import Head
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from consensus.settings import ReplicaSettings
from simulation.byzantine import ByzantineNode, Plot
from simulation.cast import Cast, Part
from simulation.coverage import Coverage
from simulation.disk import Disk
from simulation.forgery import Forger
from simulation.frames import SyncedBlock
from simulation.keys import Keychain, Signer
from simulation.ledger_kit import LedgerKit
from simulation.ledger_work import Durations
from simulation.light_ledger import GENESIS_TIME_MS, SimulatedLedger
from simulation.network import Network
from simulation.node import Node
from simulation.node_parts import NodeParts, Observer, SimulatedReplica
from simulation.schedule import Schedule
from simulation.settings import SimulationSettings
from simulation.streams import draw_stream
from simulation.trace import Trace
from simulation.twins import Junction

ReplicaFactory = Callable[..., SimulatedReplica]
"""`consensus.replica.Replica`, or a broken one to see the checkers catch it."""


class NodeFactory:
    """See the module's docstring."""

    def __init__(
        self,
        seed: int,
        settings: SimulationSettings,
        *,
        kit: LedgerKit,
        replica_set: ReplicaSet,
        replica_settings: ReplicaSettings,
        signers: Mapping[ReplicaId, Signer],
        keychain: Keychain,
        ids: Sequence[ReplicaId],
        verify: Verify,
        create_replica: ReplicaFactory,
        schedule: Schedule,
        network: Network,
        observer: Observer,
        trace: Trace,
        coverage: Coverage,
    ) -> None:
        self._seed = seed
        self._settings = settings
        self._kit = kit
        self._replica_set = replica_set
        self._replica_settings = replica_settings
        self._signers = signers
        self._keychain = keychain
        self._verify = verify
        self._create_replica = create_replica
        self._schedule = schedule
        self._network = network
        self._observer = observer
        self._trace = trace
        self._coverage = coverage
        self._random = draw_stream(seed, "clocks")
        self._ids = ids

    def create_nodes(self, cast: Cast) -> list[Node]:
        """One for each replica; two for twins. Liars tell two stories, the first to half of the honest."""
        honest = [item for item in self._ids if item not in cast.byzantine]
        self._plot = Plot(frozenset((*honest[: (len(honest) + 1) // 2], *cast.byzantine)))
        nodes: list[Node] = []
        for replica in self._ids:
            faulty = cast.faulty.get(replica)
            if faulty is not None:
                text = ", ".join((faulty.part.value, *faulty.habits, faulty.loss, str(faulty.offset_ms)))
                self._trace.add_note(0, f"node {replica}", f"is faulty: {text}")
            if faulty is not None and faulty.part is Part.TWINS:
                nodes += self._create_twins(replica)
            elif faulty is not None and faulty.part is Part.BYZANTINE:
                nodes.append(self._create_liar(replica, faulty.habits))
            else:
                parts = self._create_parts(replica, offset_ms=faulty.offset_ms if faulty else 0)
                nodes.append(Node(parts, network=self._network, **self._create_services(f"node {replica}")))
        return nodes

    def _create_parts(self, replica: ReplicaId, *, offset_ms: int = 0, suffix: str = "") -> NodeParts:
        offset_ms = offset_ms or self._random.randint(-100, 100)
        return NodeParts(
            replica_id=replica,
            disk=Disk(self._kit.genesis, f"{replica}{suffix}"),
            create_ledger=self._kit.open,
            create_replica=self._start_replica,
            verify_block=self._verify_block,
            wall_ms=GENESIS_TIME_MS + 1_000 + offset_ms,
            tick_us=self._settings.tick_ms * 1_000,
            durations=Durations(),
        )

    def _create_services(self, stream: str) -> dict[str, Any]:
        return {
            "schedule": self._schedule,
            "observer": self._observer,
            "trace": self._trace,
            "coverage": self._coverage,
            "random": draw_stream(self._seed, stream),
        }

    def _create_liar(self, replica: ReplicaId, habits: tuple[str, ...]) -> Node:
        services = self._create_services(f"node {replica}")
        forger = Forger(
            replica,
            signer=self._signers[replica],
            chain_id=self._kit.chain_id,
            replica_set=self._replica_set,
            blocks_per_primary=self._replica_settings.blocks_per_primary,
            random=services["random"],
        )
        return ByzantineNode(
            self._create_parts(replica),
            forger=forger,
            kit=self._kit,
            habits=habits,
            plot=self._plot,
            # With the way of its proposal and two rounds of votes it is just below the timeout.
            held_back_us=self._replica_settings.view_timeout_ms * 900
            - 4 * self._network.placement.delay_us_max,
            network=self._network,
            **services,
        )

    def _create_twins(self, replica: ReplicaId) -> list[Node]:
        """Two nodes with one key; `network` has one place for both."""
        junction = Junction(
            replica,
            [item for item in self._ids if item != replica],
            network=self._network,
            schedule=self._schedule,
            random=draw_stream(self._seed, f"junction {replica}"),
        )
        return [
            Node(
                self._create_parts(replica, suffix=suffix),
                network=links,
                **self._create_services(f"node {replica}{suffix}"),
            )
            for suffix, links in zip("ab", junction.links, strict=True)
        ]

    def _start_replica(self, replica: ReplicaId, disk: Disk, ledger: SimulatedLedger) -> SimulatedReplica:
        head, epoch = disk.blocks[-1], ledger.epoch
        public_key, signer = self._keychain.choose(replica, epoch.replica_set.get_public_key(replica))
        return self._create_replica(
            settings=self._replica_settings,
            chain_id=self._kit.chain_id,
            replica_id=replica,
            public_key=public_key,
            signer=signer,
            verify=self._verify,
            replica_set=epoch.replica_set,
            head=Head(
                height=Height(head.height),
                digest=head.digest,
                certificate=head.certificate,
                closing=epoch.closing,
            ),
            compute_digest=ledger.compute_digest,
            journal=disk.read_journal(),
            journal_missing=disk.journal_missing,
        )

    def _verify_block(self, block: SyncedBlock, digest: bytes, replica_set: ReplicaSet) -> None:
        """Raises InvalidCertificate, or ValueError when the certificate is another block's."""
        if block.certificate.digest != digest:
            raise ValueError("the certificate is another block's")
        block.certificate.verify(self._kit.chain_id, replica_set, self._verify)
