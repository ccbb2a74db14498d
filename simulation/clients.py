"""Clients: each has one transaction, and sends the identical bytes again, anywhere, until it is final."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from simulation.ledger_kit import SimulatedTransaction
from simulation.node import Node
from simulation.schedule import Schedule

RETRY_MS_MIN = 400
RETRY_MS_MAX = 900
REACH_US_MAX = 10_000
"""How long a request is on its way."""


class Clients:
    """All transactions of one run."""

    def __init__(
        self,
        *,
        schedule: Schedule,
        nodes: list[Node],
        random: Random,
        create_transaction: Callable[[int], SimulatedTransaction],
        on_submitted: Callable[[SimulatedTransaction], None],
        on_acknowledged: Callable[[bytes], None],
    ) -> None:
        """`on_acknowledged` is told the hash of what a node said is final."""
        self.hashes: list[bytes] = []
        """Of everything submitted so far."""
        self.acknowledged: set[bytes] = set()
        self._schedule = schedule
        self._nodes = nodes
        self._random = random
        self._create_transaction = create_transaction
        self._on_submitted = on_submitted
        self._on_acknowledged = on_acknowledged

    def submit(self, count: int, within_us: int) -> None:
        """New transactions, spread over a time."""
        for _ in range(count):
            self.submit_transaction(self._create_transaction(len(self.hashes)), within_us)

    def submit_transaction(self, transaction: SimulatedTransaction, within_us: int) -> None:
        """One transaction, some time from now."""
        self.hashes.append(transaction.signed_hash)
        self._on_submitted(transaction)
        self._schedule.after(self._random.randrange(within_us), self._send, transaction)

    def _send(self, transaction: SimulatedTransaction) -> None:
        node = self._random.choice(self._nodes)
        self._schedule.after(self._random.randrange(REACH_US_MAX), self._arrive, node, transaction)
        retry_us = self._random.randint(RETRY_MS_MIN, RETRY_MS_MAX) * 1_000
        self._schedule.after(retry_us, self._retry, transaction)

    def _retry(self, transaction: SimulatedTransaction) -> None:
        if transaction.signed_hash not in self.acknowledged:
            self._send(transaction)

    def _arrive(self, node: Node, transaction: SimulatedTransaction) -> None:
        if node.submit(transaction.body) and transaction.signed_hash not in self.acknowledged:
            self.acknowledged.add(transaction.signed_hash)
            self._on_acknowledged(transaction.signed_hash)
