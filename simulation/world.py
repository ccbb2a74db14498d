"""One run: its replicas, their network and clients, its faults, all drawn from one seed; and how it ends."""

from __future__ import annotations

import traceback
from collections import Counter
from random import Random

from consensus.messages import Message, Vote
from consensus.replica import Replica
from consensus.replica_set import ReplicaId, ReplicaSet
from simulation.bounds import check_bounded, check_journal_bounded
from simulation.cast import Cast, FaultyReplica, Part, draw_cast, select_cast
from simulation.chain_ledger import ChainKit
from simulation.checkers import ChainChecker, InvariantBroken
from simulation.clients import Clients
from simulation.coverage import Coverage
from simulation.disk import Disk, StoredBlock
from simulation.faults import FaultInjector
from simulation.keys import Keychain, Signer, create_members, get_verifier
from simulation.ledger_kit import LedgerKit, LightKit, LightLedgerFactory, SimulatedTransaction
from simulation.membership import SPARE_REPLICAS, Membership
from simulation.network import Network
from simulation.node import Node
from simulation.node_factory import NodeFactory, ReplicaFactory
from simulation.profiles import draw_placement
from simulation.promises import PromiseChecker
from simulation.schedule import Schedule, TooManyEvents
from simulation.selection import Selection
from simulation.settings import LedgerKind, SimulationSettings
from simulation.streams import draw_stream
from simulation.trace import Trace

SIZE_CHECK_US = 3_000_000
"""How often sizes are checked; in very long runs fifty times in all."""


class World:
    """Everything of one run; also the observer that passes what nodes do to the checkers."""

    def __init__(
        self,
        seed: int,
        settings: SimulationSettings,
        *,
        with_digest: bool = True,
        create_replica: ReplicaFactory = Replica,
        create_ledger: LightLedgerFactory | None = None,
    ) -> None:
        self.seed = seed
        self.settings = settings
        self.schedule = Schedule()
        self.trace = Trace(settings.transcript_lines, with_digest=with_digest)
        self.coverage = Coverage()
        self.views = 0
        self._counts: Counter[str] = Counter()
        self._verify = get_verifier(settings.signatures)
        self._promises = PromiseChecker()
        random = draw_stream(seed, "world")
        self.replica_set, signers = self._draw_members(random)
        self.ids = self._list_ids()
        self._keychain = Keychain(seed, self.ids, settings.signatures)
        self._kit = self._create_kit(create_ledger)
        self.chain = self._create_chain_checker()
        self.network = self._create_network()
        self.selection = Selection(settings.only)
        self.cast = select_cast(self._choose_cast(), self.selection)
        self._unreliable = set(self.cast.byzantine)
        """Whose promises are not checked."""
        self.nodes = NodeFactory(
            seed,
            settings,
            kit=self._kit,
            replica_set=self.replica_set,
            replica_settings=settings.compute_replica_settings(
                settings.blocks_per_primary or random.choice((1, 2, 5, 100))
            ),
            signers=signers,
            keychain=self._keychain,
            ids=self.ids,
            verify=self._verify,
            create_replica=create_replica,
            schedule=self.schedule,
            network=self.network,
            observer=self,
            trace=self.trace,
            coverage=self.coverage,
        ).create_nodes(self.cast)
        self.honest = [node for node in self.nodes if node.replica_id not in self.cast.byzantine]
        self.clients = self._create_clients()
        self.faults = self._create_faults()
        self.membership = self._create_membership()

    # Making the world

    def _draw_members(self, random: Random) -> tuple[ReplicaSet, dict[ReplicaId, Signer]]:
        """The founders and what signs for each."""
        drawn = random.choices((4, 1, 2, 3, 5, 7), (60, 5, 5, 5, 15, 10))[0]
        # Ids are not indexes: in half of the runs they have gaps.
        return create_members(
            self.seed,
            count=self.settings.replica_count or drawn,
            step=random.choice((1, 7)),
            kind=self.settings.signatures,
        )

    def _list_ids(self) -> list[ReplicaId]:
        """Of the founders, and of those that a change may add."""
        ids = [ReplicaId(member.replica) for member in self.replica_set.members]
        has_spare = self.settings.changes and self.settings.ledger is LedgerKind.LIGHT
        return ids + [ReplicaId(ids[-1] + 1 + number) for number in range(SPARE_REPLICAS if has_spare else 0)]

    def _create_kit(self, create_ledger: LightLedgerFactory | None) -> LedgerKit:
        if self.settings.ledger is LedgerKind.CHAIN:
            return ChainKit(self.seed, self.settings, self.replica_set)
        return LightKit(self.seed, self.settings, self.replica_set, create_ledger)

    def _create_network(self) -> Network:
        placement = draw_placement(draw_stream(self.seed, "placement"), self.ids, self.settings.profile)
        self.trace.add_note(0, "network", f"{placement.profile.name}, regions {placement.regions}")
        return Network(self.schedule, draw_stream(self.seed, "network"), placement)

    def _create_chain_checker(self) -> ChainChecker:
        return ChainChecker(
            self._kit.genesis,
            self._kit.genesis_root,
            chain_id=self._kit.chain_id,
            replica_set=self.replica_set,
            verify=self._verify,
            find_change=self._kit.find_change,
        )

    def _create_clients(self) -> Clients:
        return Clients(
            schedule=self.schedule,
            nodes=self.honest,
            random=draw_stream(self.seed, "clients"),
            create_transaction=self._kit.create_transaction,
            on_submitted=self._on_submitted,
            on_acknowledged=self._on_acknowledged,
        )

    def _create_faults(self) -> FaultInjector:
        return FaultInjector(
            schedule=self.schedule,
            network=self.network,
            nodes=self.nodes,
            trace=self.trace,
            random=draw_stream(self.seed, "faults"),
            faulty_ms=self.settings.faulty_ms,
            kinds=self.settings.fault_kinds,
            clock_jumps_ms=self._kit.clock_jumps_ms,
            selection=self.selection,
        )

    def _create_membership(self) -> Membership:
        return Membership(
            kit=self._kit,
            chain=self.chain,
            clients=self.clients,
            nodes=self.nodes,
            keychain=self._keychain,
            faulty=frozenset(self.cast.faulty),
            schedule=self.schedule,
            random=draw_stream(self.seed, "membership"),
            changes=self.settings.changes or 0,
            within_us=self.settings.faulty_ms * 1_000,
        )

    def _choose_cast(self) -> Cast:
        settings, random = self.settings, draw_stream(self.seed, "cast")
        if settings.parts is not None:
            return Cast(dict(zip(self.ids, settings.parts, strict=False)))
        if settings.byzantine_count is not None:
            liar = FaultyReplica(part=Part.BYZANTINE, habits=("equivocate",))
            return Cast(dict.fromkeys(random.sample(self.ids, settings.byzantine_count), liar))
        if not settings.faults:
            return Cast()
        founders = [ReplicaId(member.replica) for member in self.replica_set.members]
        return draw_cast(random, founders, may_lie=settings.byzantine, losses=self._kit.losses)

    # Running

    def run(self) -> None:
        """Faulty time, healing, late work. Raises InvariantBroken."""
        settings = self.settings
        try:
            for node in self.nodes:
                node.start()
            self.clients.submit(settings.transactions, settings.faulty_ms * 1_000)
            self.membership.plan()
            if settings.faults:
                self.faults.plan()
                self._plan_forgetting()
            self._plan_size_check()
            self.schedule.run(settings.faulty_ms * 1_000)
            self._await_progress("what was submitted in the faulty time")
            for _ in range(settings.late_transactions):
                self.clients.submit(1, 20_000)
                self._await_progress("what was submitted after healing")
            while (missing := settings.blocks_min - self.chain.height) > 0:
                self.clients.submit(missing, missing * settings.faulty_ms * 1_000 // settings.transactions)
                self._await_progress("what was submitted for more blocks")
            self._await_voices()
            self._check_sizes()
        except TooManyEvents as error:
            raise InvariantBroken("bounded", str(error)) from error
        except InvariantBroken:
            raise
        except Exception as error:
            text = "".join(traceback.format_exception(error)[-4:])
            raise InvariantBroken("no_exception", f"{error!r}\n{text}") from error

    def close(self) -> None:
        """Remove what the run left behind."""
        for node in self.nodes:
            if node.is_up:
                node.ledger.close()
        self._kit.close()

    def _await_progress(self, what: str) -> None:
        until_us = self.schedule.now_us + self.settings.healing_ms_max * 1_000
        if self.schedule.run(until_us, is_done=self._is_done):
            return
        state = "; ".join(
            f"{node.replica_id}: height {node.ledger.head.height}, {node.replica.status}"
            for node in self.honest
        )
        missing = sum(not self.chain.is_final(item) for item in self.clients.hashes)
        raise InvariantBroken(
            "progress",
            f"{what}: not on all replicas {self.settings.healing_ms_max} ms after healing; "
            f"{missing} of {len(self.clients.hashes)} in no block; {state}",
        )

    def _await_voices(self) -> None:
        """Nobody stays silent after healing, whatever it had forgotten (rule P6).

        Who was started again, or became a member, a moment ago has yet to hear the others.
        """
        if self._list_silent():
            until_us = self.schedule.now_us + self.settings.healing_ms_max * 1_000
            self.schedule.run(until_us, is_done=lambda: not self._list_silent())
        if silent := self._list_silent():
            raise InvariantBroken("progress", f"may still not vote: {'; '.join(silent)}")

    def _list_silent(self) -> list[str]:
        """Members that may not vote."""
        return [
            f"replica {node.replica_id}: {node.replica.status}"
            for node in self.honest
            if node.replica.status.is_member
            and (not node.is_up or node.replica.status.is_silent or node.replica.status.is_starting)
        ]

    def _is_done(self) -> bool:
        """Everything is final on every honest replica."""
        height = self.chain.find_height(self.clients.hashes)
        return height is not None and all(
            node.is_up and node.ledger.head.height >= height for node in self.honest
        )

    def _plan_forgetting(self) -> None:
        """Some lose their journal, or their whole disk, or find an old copy in its place (rule P6)."""
        forgetful = self.cast.select(Part.FORGETFUL)
        for node in self.nodes:
            if node.replica_id in forgetful:
                self._plan_loss(node, forgetful[node.replica_id].loss)

    def _plan_loss(self, node: Node, loss: str) -> None:
        random, faulty_us = draw_stream(self.seed, f"loss {node.replica_id}"), self.settings.faulty_ms * 1_000
        down_us = random.randrange(1_000, 500_000)
        at_us = random.randrange(faulty_us)
        copies = [node.disk.copy()]
        self.schedule.after(random.randrange(at_us + 1), lambda: copies.append(node.disk.copy()))

        def harm(disk: Disk) -> None:
            if loss == "journal":
                disk.lose_journal()
            elif loss == "all":
                disk.wipe()
            elif loss == "flip_block":
                disk.flip_block(random)
            else:
                # Others may not have seen what it forgot: one of the f that may do anything.
                self._unreliable.add(node.replica_id)
                if loss == "newest":
                    disk.restore(copies[-1])
                else:
                    self._counts[disk.flip_journal(random)] += 1

        def forget() -> None:
            if node.is_up:
                if loss not in ("journal", "flip_journal"):
                    self.chain.forget(node.replica_id)
                node.crash(f"losing_{loss}", down_us, harm)

        self.schedule.after(at_us, forget)

    def _check_sizes(self) -> None:
        count = len(self.ids)
        for node in self.honest:
            if node.is_up:
                check_bounded(node.replica_id, node.replica, replica_count=count)
                check_journal_bounded(node.replica_id, node.disk)
        self._plan_size_check()

    def _plan_size_check(self) -> None:
        self.schedule.after(max(SIZE_CHECK_US, self.settings.faulty_ms * 20), self._check_sizes)

    # What nodes report

    def on_sent(self, replica: ReplicaId, message: Message, disk: Disk) -> None:
        if replica not in self._unreliable:
            self._promises.on_sent(replica, message, disk)

    def on_committed(self, replica: ReplicaId, block: StoredBlock, state_root: bytes) -> None:
        if replica not in self.cast.byzantine:
            self.chain.on_committed(replica, block, state_root)
            self.membership.on_committed(replica, block)
            self.views = max(self.views, 0 if block.certificate is None else block.certificate.view)

    def on_started(self, replica: ReplicaId, disk: Disk, state_root: bytes) -> None:
        if replica not in self.cast.byzantine:
            self.chain.on_started(replica, disk, state_root)

    def on_halted(self, replica: ReplicaId, reason: str) -> None:
        if replica not in self.cast.byzantine:
            raise InvariantBroken("no_halt", f"replica {replica}: {reason}")

    def on_accused(self, reporter: ReplicaId, first: Vote, second: Vote) -> None:
        self._counts["evidence"] += 1
        if reporter not in self.cast.byzantine:
            self.chain.check_evidence(reporter, first, second)
        if reporter not in self.cast.byzantine and ReplicaId(first.replica) not in self._unreliable:
            raise InvariantBroken(
                "honest_not_accused", f"replica {reporter} accuses {first.replica}: {first}"
            )

    def on_refused(self, reporter: ReplicaId, sender: ReplicaId, reason: str) -> None:
        self._counts["refusals"] += 1
        if reporter not in self.cast.byzantine and sender not in self._unreliable:
            raise InvariantBroken("honest_not_accused", f"replica {reporter} refuses {sender}: {reason}")

    def _on_submitted(self, transaction: SimulatedTransaction) -> None:
        self.chain.submitted[transaction.signed_hash] = transaction.body

    def _on_acknowledged(self, signed_hash: bytes) -> None:
        if not self.chain.is_final(signed_hash):
            raise InvariantBroken(
                "not_lost", f"{signed_hash.hex()[:16]} is said to be final and is in no block"
            )

    def count_faults(self) -> dict[str, int]:
        """Injected faults by kind."""
        total = self._counts + self.network.counts + self.faults.counts + self.membership.counts
        for node in self.nodes:
            total += node.counts
        for faulty in self.cast.faulty.values():
            total[faulty.part.value] += 1
        return dict(sorted(total.items()))
