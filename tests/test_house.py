"""The house keeps its floors: imports go down only, and each sharp tool stays in its own room."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "crypto": 0,
    "consensus": 1,
    "contracts": 1,
    "ledger": 2,
    "vault": 2,
    "records": 2,
    "network": 3,
    "client": 3,
    "gateway": 4,
    "portal": 4,
    "config": 5,
    "simulation": 5,
    "bench": 5,
    "cli": 5,
    "daemon": 5,
    "node": 5,
}

# Neighbours on one floor that may be imported, each with its reason.
NEIGHBOURS = {
    ("daemon", "config"),  # a node is built from settings
    ("node", "config"),
    ("node", "daemon"),  # the front door, and what is behind it
    ("bench", "config"),
    ("cli", "config"),  # the command is the front door of the whole top floor
    ("cli", "bench"),
    ("cli", "simulation"),
}

# From a room, only these modules of another may be imported although the floors would allow all of it.
ONLY = {
    ("ledger", "consensus"): ("consensus.certificates", "consensus.replica_set", "consensus.quorum"),
    ("client", "contracts"): ("contracts.calls", "contracts.context"),
    ("vault", "contracts"): ("contracts.calls",),
    ("records", "contracts"): ("contracts.calls",),
}

# Third-party packages that stay in one place.
KEPT_IN = {
    "plyvel": ("ledger/store.py", "vault/store.py"),
    "nacl": ("crypto/",),
    "cryptography": ("crypto/", "network/certificates.py"),
    "asyncio": (
        "network/",
        "client/",
        "gateway/",
        "bench/",
        "cli/",
        "daemon/",
        "node.py",
        "consensus/driver.py",
    ),
}

CORE_LINES_MAX = 2_000
"""With docstrings and empty lines: what can be read in one sitting."""


@cache
def modules() -> tuple[tuple[Path, str, list[str]], ...]:
    """Each of our modules: its path, its room, and the dotted names that it imports."""
    return tuple(read_modules())


def read_modules() -> Iterator[tuple[Path, str, list[str]]]:
    for path in sorted(
        [ROOT / "node.py", *(path for room in FLOORS for path in (ROOT / room).rglob("*.py"))]
    ):
        relative = path.relative_to(ROOT)
        room = relative.parts[0].removesuffix(".py")
        if room not in FLOORS:
            continue
        names = []
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names += [f"{node.module}.{alias.name}" for alias in node.names]
        yield relative, room, names


def test_imports_go_down_only() -> None:
    faults = []
    for path, room, names in modules():
        for name in names:
            other = name.split(".", maxsplit=1)[0]
            if other == room or other not in FLOORS:
                continue
            goes_down = FLOORS[other] < FLOORS[room]
            if not goes_down and (room, other) not in NEIGHBOURS:
                faults.append(f"{path} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[other]})")
    assert not faults, "\n".join(faults)


def test_rooms_take_from_others_only_what_is_theirs_to_give() -> None:
    faults = []
    for path, room, names in modules():
        for name in names:
            allowed = ONLY.get((room, name.split(".", maxsplit=1)[0]))
            if allowed and not name.startswith(allowed):
                faults.append(f"{path} imports {name}; from there only {', '.join(allowed)}")
    assert not faults, "\n".join(faults)


def test_sharp_tools_stay_in_their_rooms() -> None:
    faults = []
    for path, _, names in modules():
        for name in names:
            places = KEPT_IN.get(name.split(".", maxsplit=1)[0])
            if places and not str(path).startswith(places):
                faults.append(f"{path} imports {name}, which belongs in {', '.join(places)}")
    assert not faults, "\n".join(faults)


def test_the_page_on_architecture_shows_every_room_and_names_only_modules_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    present = {room for _, room, _ in modules()}
    shown = {
        name.removesuffix("/").removesuffix(".py") for name in re.findall(r"^\| \d \| `(.+?)`", page, re.M)
    }
    assert shown == present
    rooms = "|".join(sorted(present - {"node"}))
    named = re.findall(rf"\b({rooms})[./](?!md\b)([a-z_]+)\b", page)
    missing = [f"{room}.{name}" for room, name in named if not _is_there(ROOT / room / name)]
    assert named
    assert not missing


def _is_there(place: Path) -> bool:
    return place.is_dir() or place.with_suffix(".py").is_file()


def test_the_core_of_consensus_can_be_read_in_one_sitting() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, table = page.split("| part of `consensus/` |")
    rows = re.findall(r"^\| (?:\*\*)?(.+?)(?:\*\*)? \| (`.+`) \| ([\d,]+) \|$", table, re.M)
    listed = [name for _, modules_of_part, _ in rows for name in re.findall(r"`(\w+)`", modules_of_part)]
    assert sorted(listed) == sorted(
        path.stem for path in (ROOT / "consensus").glob("*.py") if path.stem != "__init__"
    )
    bounds = {part: int(most.replace(",", "")) for part, _, most in rows}
    assert bounds["the core"] <= CORE_LINES_MAX
    for part, modules_of_part, _ in rows:
        files = [ROOT / f"consensus/{name}.py" for name in re.findall(r"`(\w+)`", modules_of_part)]
        lines = sum(len(path.read_text().splitlines()) for path in files)
        assert lines <= bounds[part], part


def test_every_room_ships_and_tests_stay_out_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = {
        name.removesuffix(".py")
        for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    }
    present = {room for _, room, _ in modules()}
    assert shipped == present


@pytest.mark.parametrize("room", sorted(FLOORS))
def test_no_installed_distribution_brings_one_of_our_names(room: str) -> None:
    owners = importlib.metadata.packages_distributions().get(room, [])
    assert set(owners) <= {"chartchain"}
