"""The replica set changes while all else goes wrong: nothing is lost, doubled or forked (rule E4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from consensus.credentials import Credentials
from consensus.reception import Reception
from consensus.replica import Replica
from consensus.replica_set import Member, ReplicaId, ReplicaSet
from simulation.light_epochs import encode_change, find_change
from simulation.result import RunResult
from simulation.run import run_seed
from simulation.settings import LedgerKind, SimulationSettings

CHANGING = SimulationSettings(changes=6)


def run(seeds: Sequence[int], settings: SimulationSettings = CHANGING) -> Counter[str]:
    """Run all and count what happened in them; every run must hold."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        result = run_seed(seed, settings)
        assert result.violations == (), f"seed {seed}: {result.violations[0].text}"
        counts.update(result.faults)
        counts["views"] += result.views
    return counts


def test_e4_replicas_come_and_go_and_change_keys_during_faults_and_view_changes() -> None:
    counts = run(range(4))
    assert all(counts[f"change_{kind}"] for kind in ("add", "remove", "exchange", "rotate")), counts
    assert counts["views"]


@pytest.mark.slow
def test_e4_many_seeds_of_changing_sets() -> None:
    run((*range(4, 40), 106, 117, 277, 1639, 1657, 3326, 6084, 7163))


@pytest.mark.soak
def test_e4_thousands_of_seeds_of_changing_sets() -> None:
    run(range(40, 4_000))


@pytest.mark.slow
def test_e4_sets_change_on_the_daemons_own_ledger() -> None:
    settings = SimulationSettings(changes=4, ledger=LedgerKind.CHAIN, replica_count=5)
    counts = run(range(8), settings)
    assert all(counts[f"change_{kind}"] for kind in ("add", "remove", "exchange")), counts


def test_without_changes_no_replica_but_the_founders_takes_part() -> None:
    result = run_seed(3, SimulationSettings())
    assert not [kind for kind in result.faults if kind.startswith("change_")]


class StubbornCredentials(Credentials):
    """Believes that the founders decide for ever."""

    def open_epoch(self, replica_set: ReplicaSet, epoch_base: Any) -> Credentials:
        return super().open_epoch(ReplicaSet(replica_set.epoch, self.replica_set.members), epoch_base)


def find_broken(seeds: Sequence[int], **factories: Any) -> set[str]:
    results: list[RunResult] = [run_seed(seed, CHANGING, **factories) for seed in seeds]
    return {violation.invariant for result in results for violation in result.violations}


def test_e4_a_replica_that_keeps_the_former_set_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.replica.Credentials", StubbornCredentials)
    assert find_broken(range(3), create_replica=Replica)


def test_e4_a_replica_that_votes_with_its_former_key_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Credentials, "is_member", property(lambda self: self.is_voter(self.replica)))
    monkeypatch.setattr(Credentials, "is_displaced", property(lambda self: False))
    assert "honest_not_accused" in find_broken(range(6))


@pytest.mark.slow
def test_e4_without_a_hint_from_later_epochs_a_replica_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.catch_up.CatchUp.follow", lambda *_, **__: None)
    monkeypatch.setattr(
        Reception, "_is_of_epoch", lambda self, sender, epoch: epoch == self._state.credentials.epoch
    )
    assert "progress" in find_broken(range(13, 17))


def test_the_light_ledger_takes_the_first_change_of_the_next_epoch_only() -> None:
    sets = [ReplicaSet(epoch, (_member(number),)) for number, epoch in enumerate((3, 2, 2))]
    bodies = [b"a transaction", *map(encode_change, sets)]
    assert find_change(bodies, 2) == sets[1]
    assert find_change(bodies, 1) is None
    assert find_change([b"replica set of no form"], 1) is None


def _member(number: int) -> Member:
    return Member(ReplicaId(number), bytes([number]) * 32, bytes(16))
