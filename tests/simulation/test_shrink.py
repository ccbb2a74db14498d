"""A failing seed is made small: fewer faults, replicas and transactions, the same broken invariant."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import typer
from msgspec.structs import replace as replace_fields
from typer.testing import CliRunner

from cli.simulate import simulate
from consensus.effects import Effects, Halt
from consensus.events import ChainSynced, Event
from consensus.replica import Replica
from simulation.replay import format_replay, parse_only
from simulation.result import RunResult
from simulation.run import run_seed
from simulation.settings import LedgerKind, SimulationSettings
from simulation.shrink import shrink

FOUR = SimulationSettings(replica_count=4)


class _Quitter(Replica):
    """Halts when it had to be helped to a block."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        if isinstance(event, ChainSynced):
            return replace_fields(effects, apply=(*effects.apply, Halt(reason="tired")))
        return effects


run_quitter = partial(run_seed, create_replica=_Quitter)


def find_failure() -> RunResult:
    """The first seed with many faults in which the quitter halts."""
    for seed in range(100):
        result = run_quitter(seed, FOUR)
        if result.violations and len(result.elements) > 8:
            return result
    raise AssertionError("no seed makes the quitter halt")


@pytest.mark.slow
def test_failing_seed_is_shrunk_to_what_breaks_the_invariant() -> None:
    failure = find_failure()
    smallest = shrink(failure, FOUR, run=run_quitter)
    assert smallest.violation.invariant == failure.violations[0].invariant == "no_halt"
    assert len(smallest.settings.only or ()) <= 2
    assert smallest.settings.transactions < FOUR.transactions
    assert smallest.settings.late_transactions == 0
    again = run_quitter(failure.seed, smallest.settings)
    assert again.trace_digest == smallest.result.trace_digest


@pytest.mark.slow
def test_shrinking_is_deterministic_and_stops_at_its_bound() -> None:
    failure = find_failure()
    runs: list[int] = []
    short = [shrink(failure, FOUR, run=run_quitter, runs_max=12, on_run=lambda: runs.append(1)) for _ in "ab"]
    assert short[0] == replace(
        short[1], result=replace(short[1].result, milliseconds=short[0].result.milliseconds)
    )
    assert len(runs) == 24


@pytest.mark.slow
def test_a_reduction_that_breaks_another_invariant_is_not_kept() -> None:
    failure = find_failure()

    def run(seed: int, settings: SimulationSettings) -> RunResult:
        result = run_quitter(seed, settings)
        other = tuple(replace(found, invariant="agreement") for found in result.violations)
        return replace(result, violations=other)

    smallest = shrink(failure, FOUR, run=run, runs_max=30)
    assert smallest.settings.only == failure.elements
    assert smallest.result == failure


def test_without_its_elements_a_run_has_no_faults() -> None:
    whole = run_seed(3, FOUR)
    assert whole.elements
    nothing = run_seed(3, replace(FOUR, only=()))
    assert nothing.elements == ()
    assert nothing.faults == {}
    same = run_seed(3, replace(FOUR, only=whole.elements))
    assert same.trace_digest == whole.trace_digest


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SimulationSettings(ledger=LedgerKind.MIXED, changes=None), "--seed 7"),
        (
            SimulationSettings(
                replica_count=4, transactions=2, late_transactions=0, only=("crash-1", "lie-by-3")
            ),
            "--seed 7 --replicas 4 --transactions 2 --late-transactions 0 --changes 0 --ledger light "
            "--only crash-1,lie-by-3",
        ),
        (
            SimulationSettings(ledger=LedgerKind.MIXED, changes=None, only=(), faulty_ms=50),
            "--seed 7 --faulty-ms 50 --only nothing",
        ),
    ],
)
def test_replay_names_what_is_not_usual(settings: SimulationSettings, expected: str) -> None:
    assert format_replay(7, settings) == f"chartchain simulate {expected}"


def test_replay_command_leads_to_the_same_trace() -> None:
    settings = SimulationSettings.create(replica_count=4, blocks=12, only=("crash-0", "network-loss"))
    command = format_replay(3, settings).removeprefix("chartchain simulate ").split()
    app = typer.Typer()
    app.command()(simulate)
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    assert str(run_seed(3, settings).trace_digest) in outcome.output


def test_only_is_parsed_as_it_is_written() -> None:
    assert parse_only(None) is None
    assert parse_only("nothing") == ()
    assert parse_only("crash-1,lie-by-3") == ("crash-1", "lie-by-3")


def test_shrink_prints_the_smallest_run_and_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Replica.step

    def break_down(self: Replica, event: Event) -> Effects:
        return replace_fields(step(self, event), apply=(Halt(reason="tired"),))

    monkeypatch.setattr(Replica, "step", break_down)
    app = typer.Typer()
    app.command()(simulate)
    outcome = CliRunner().invoke(app, ["--seed", "5", "--jobs", "1", "--shrink"])
    assert outcome.exit_code == 1
    assert "1 replicas, 1 transactions and 0 late ones" in outcome.output
    assert "--replicas 1 --transactions 1 --late-transactions 0" in outcome.output
