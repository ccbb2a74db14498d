"""How far a long series of seeds has come, in a file: a second start goes on where the first one ended.

The file is replaced as a whole, so that a kill at any time leaves the old state or the new one. What was
done since the last save is done again, to the same result.

    WrongProgress    the file is of another series, or no such file: the operator's to move away
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from simulation.profiles import Profile
from simulation.report import Report
from simulation.settings import SimulationSettings

FORMAT_VERSION: Final = 1
ROOMS: Final = ("consensus", "contracts", "crypto", "ledger", "simulation")
"""Whose code decides what a run does."""


class WrongProgress(ValueError):
    """A progress file that does not belong to this series of seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Seeds in a row, all run with the same settings."""

    first_seed: int
    settings: SimulationSettings

    def describe(self) -> dict[str, object]:
        """What must be the same for a series to be gone on with. Its length may change."""
        settings = {item.name: _to_plain(getattr(self.settings, item.name)) for item in fields(self.settings)}
        return {"format": FORMAT_VERSION, "first_seed": self.first_seed, "settings": settings}


def load_report(path: Path, series: Series) -> Report:
    """What the series had come to; nothing yet where there is no file. Raises WrongProgress."""
    if not path.exists():
        return Report()
    try:
        stored = json.loads(path.read_text())
        report = Report.from_plain(stored.pop("report"))
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise WrongProgress(f"{path}: no progress of a simulation: {error}") from error
    expected = json.loads(json.dumps(series.describe()))
    if stored != expected:
        raise WrongProgress(
            f"{path}: belongs to another series of seeds, {stored}, not {expected}: "
            "name another file, or move it away"
        )
    return report


def save_report(path: Path, series: Series, report: Report) -> None:
    """Replace the file at once. Raises OSError."""
    data = json.dumps({**series.describe(), "report": report.to_plain()})
    written = path.with_name(f".{path.name}.new")
    with written.open("w") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)


def compute_code_digest() -> str:
    """SHA-256 over the source that is run: seeds of a series may have been run by different code."""
    root, found = Path(__file__).parents[1], sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _to_plain(value: object) -> object:
    if isinstance(value, Profile):
        return value.name
    return value.value if isinstance(value, Enum) else value
