"""The two kinds of check that a mutant must not get past: seeds of the simulator, and a named test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simulation.run import run_seed
from simulation.settings import SimulationSettings
from tests.mutants.mutant import Finding

ROOT = Path(__file__).parents[2]

FOUR = SimulationSettings(replica_count=4)
INTERCEPTED = SimulationSettings(replica_count=4, fault_kinds=("intercept",))
CRASHING = SimulationSettings(replica_count=4, fault_kinds=("crash", "crash_point", "partition", "pause"))

OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "0", "--capture", "no")


NONSENSE = re.compile(r"\b(NameError|UnboundLocalError|AttributeError|TypeError)\b")
"""What a wrongly written edit raises; a bug that is caught breaks something else."""


class CheckFailed(Exception):
    """The check itself did not run: no such test, or the mutant is nonsense and not a bug."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """The simulator finds one of these invariants broken within some seeds."""

    invariants: tuple[str, ...]
    settings: SimulationSettings = FOUR
    seeds: int = 60

    def find(self) -> Finding | None:
        """The first seed that breaks an invariant. Raises CheckFailed if it is not one of `invariants`."""
        found = (self._run(seed) for seed in range(self.seeds))
        return next((finding for finding in found if finding is not None), None)

    def find_again(self, finding: Finding) -> Finding | None:
        """Look at the seed of `finding` only."""
        return self._run(int(finding.where))

    def _run(self, seed: int) -> Finding | None:
        violations = run_seed(seed, self.settings).violations
        if not violations:
            return None
        violation = violations[0]
        if violation.invariant not in self.invariants:
            raise CheckFailed(f"caught by another invariant than {self.invariants}: {violation.format()}")
        if NONSENSE.search(violation.text):
            raise CheckFailed(f"the mutant is no valid code: {violation.format()}")
        return Finding(str(seed), violation.invariant)


@dataclass(eq=False, slots=True)
class _Failures:
    """A pytest plugin that remembers which tests failed, and with what."""

    found: list[Finding] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.found.append(Finding(report.nodeid, _read_errors(report.longreprtext)))


def _read_errors(text: str) -> str:
    """The errors in what pytest shows of a failure, without the code around them."""
    return "\n".join(line for line in text.splitlines() if line.startswith("E "))


@dataclass(frozen=True, slots=True)
class NamedTest:
    """A test of the suite fails; it is run by pytest within this process, in which the mutant is.

    That it passes without the mutant is what the suite shows.
    """

    node: str
    """`room/test_file.py::test_name`, below tests/."""

    def find(self) -> Finding | None:
        """The first failure. Raises CheckFailed when the test was not run, or the mutant is no valid code."""
        failures = _Failures()
        code = pytest.main([*OPTIONS, f"{ROOT}/tests/{self.node}"], plugins=[failures])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise CheckFailed(f"{self.node}: pytest ended with {code!r}")
        if not failures.found:
            return None
        if NONSENSE.search(failures.found[0].what):
            raise CheckFailed(f"{self.node}: the mutant is no valid code: {failures.found[0].what}")
        return failures.found[0]
