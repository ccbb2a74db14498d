"""The long tests one after the other: each file's tests marked `soak`, then the fuzz room at full depth.

    python -m tests.soak [FOLDER]

Each series leaves FOLDER/COMMIT/SERIES.xml (`soak` unless told); one that has passed at this commit is not
run again, so a run that was interrupted goes on where it ended. The table at the end has what each came to;
the exit code is 1 when anything failed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from cli.output import show_rows

ROOT: Final = Path(__file__).parents[1]
PYTEST: Final = (sys.executable, "-m", "pytest")
FUZZ: Final = ("tests/fuzz", "-n", "2", "-m", "not slow and not soak", "--hypothesis-profile", "soak")


@dataclass(frozen=True, slots=True)
class Series:
    """Some tests that one run of pytest takes."""

    name: str
    arguments: Sequence[str]

    def run(self, result: Path) -> None:
        command = [*PYTEST, *self.arguments, "--timeout", "3600", "-rs", f"--junitxml={result}"]
        subprocess.run(command, cwd=ROOT, check=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a series came to, as its file says."""

    tests: int
    failed: int
    skipped: int
    seconds: float

    @classmethod
    def read(cls, result: Path) -> Outcome | None:
        """None where the series did not come to its end."""
        if not result.exists():
            return None
        suites = ElementTree.parse(result).getroot().findall("testsuite")

        def add_up(*names: str) -> int:
            return sum(int(suite.get(name, 0)) for suite in suites for name in names)

        return cls(
            tests=add_up("tests"),
            failed=add_up("failures", "errors"),
            skipped=add_up("skipped"),
            seconds=sum(float(suite.get("time", 0)) for suite in suites),
        )

    @property
    def is_passed(self) -> bool:
        return self.tests > 0 and not self.failed


def list_series() -> list[Series]:
    """Raises CalledProcessError when tests cannot be collected."""
    command = [*PYTEST, "-m", "soak", "--collect-only", "-q"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [line.partition(":")[0] for line in listed.splitlines() if line.startswith("tests/")]
    named = [(file.removeprefix("tests/").removesuffix(".py").replace("/", "."), file) for file in files]
    return [*(Series(name, (file, "-m", "soak")) for name, file in named), Series("fuzz", FUZZ)]


def describe_commit() -> str:
    """Of the work tree, with `-dirty` when it may hold what is not committed."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown-dirty"


def main(folder: Path) -> int:
    commit = describe_commit()
    folder = (folder / commit).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for series in list_series():
        result = folder / f"{series.name}.xml"
        outcome = Outcome.read(result)
        if outcome is None or not outcome.is_passed or commit.endswith("-dirty"):
            result.unlink(missing_ok=True)
            series.run(result)
            outcome = Outcome.read(result) or Outcome(tests=0, failed=1, skipped=0, seconds=0)
        passed = outcome.tests - outcome.failed - outcome.skipped
        rows.append(
            {
                "series": series.name,
                "tests": outcome.tests,
                "passed": passed,
                "failed": outcome.failed,
                "skipped": outcome.skipped,
                "minutes": round(outcome.seconds / 60, 1),
            }
        )
    show_rows(rows, as_json=False, title=f"soak at {commit}")
    return 1 if any(row["failed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "soak")))
