"""What the simulator's tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.ledger_kit import LightLedgerFactory
from simulation.node_factory import ReplicaFactory
from simulation.result import Violation
from simulation.run import run_seed
from simulation.settings import SimulationSettings

Hunt = Callable[..., Violation | None]


@pytest.fixture
def find_violation() -> Hunt:
    """The first violation that a sabotaged replica or ledger causes within some seeds, or None.

    With `invariant`, the first of that one: seeds that break another one are passed over.
    """

    def find(
        *,
        seeds: int = 60,
        settings: SimulationSettings | None = None,
        create_replica: ReplicaFactory | None = None,
        create_ledger: LightLedgerFactory | None = None,
        invariant: str | None = None,
    ) -> Violation | None:
        for seed in range(seeds):
            if create_replica is None:
                result = run_seed(seed, settings, create_ledger=create_ledger)
            else:
                result = run_seed(seed, settings, create_replica=create_replica, create_ledger=create_ledger)
            if result.violations and invariant in (None, result.violations[0].invariant):
                return result.violations[0]
        return None

    return find
