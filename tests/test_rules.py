"""The table of docs/protocol.md, rule by rule: nothing is missing in it, and nothing in it has gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import dropwhile, takewhile
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs/protocol.md"

RULES = (
    *(f"V{number}" for number in range(1, 12)),
    *(f"L{number}" for number in range(1, 6)),
    *(f"E{number}" for number in range(1, 8)),
    "D1",
    *(f"P{number}" for number in range(1, 9)),
)
"""View change, liveness, execution, denial of service, persistence."""

ROW = re.compile(r"^\| ([VLEDP]\d+) \| .+ \| (.+) \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`([^`]+)`")
TAG = re.compile(r"[vledp]\d+", re.IGNORECASE)


@cache
def read_table() -> dict[str, tuple[tuple[str, str], ...]]:
    """File below tests/ and name, in which `…` stands for any text, of each test in the rows, by rule."""
    rows = ROW.findall(DOCUMENT.read_text())
    return {rule: (*read_cell(tried), *read_cell(more)) for rule, tried, more in rows}


def read_cell(cell: str) -> Iterator[tuple[str, str]]:
    file = ""
    for name in NAME.findall(cell):
        if name.endswith(".py"):
            file = name
        else:
            yield file, name


@cache
def read_tests() -> dict[str, tuple[str, ...]]:
    """The names of all tests, by file below tests/."""
    return {
        str(path.relative_to(TESTS)): tuple(
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        )
        for path in sorted(TESTS.rglob("test_*.py"))
    }


def find_rules(name: str) -> set[str]:
    """The rules that a test's name begins or ends with: `test_p1_p2_…`, `test_rules_P1_to_P3_…`, `…_V5`."""
    words = name.split("_")
    first = dropwhile(lambda word: word in ("test", "rule", "rules"), words)
    found = [word.upper() for word in takewhile(lambda word: word == "to" or TAG.fullmatch(word), first)]
    found += takewhile(lambda word: TAG.fullmatch(word) and word.isupper(), reversed(words))
    if "TO" in found:
        start, end = (RULES.index(found[found.index("TO") + step]) for step in (-1, 1))
        found = [word for word in found if word != "TO"] + list(RULES[start : end + 1])
    return set(found) & set(RULES)


def is_listed(rule: str, file: str, name: str) -> bool:
    patterns = [pattern for known, pattern in read_table().get(rule, ()) if known == file]
    return any(fnmatchcase(name, pattern.replace("…", "*")) for pattern in patterns)


def test_every_rule_has_its_row_in_order() -> None:
    assert tuple(read_table()) == RULES


def test_every_rule_names_the_very_test_that_tries_it() -> None:
    for rule, tried, _ in ROW.findall(DOCUMENT.read_text()):
        names = [name for _, name in read_cell(tried)]
        assert names, rule
        assert not [name for name in names if "…" in name], rule


def test_every_test_in_the_table_exists() -> None:
    missing = [
        (rule, file, pattern)
        for rule, tests in read_table().items()
        for file, pattern in tests
        if not any(fnmatchcase(name, pattern.replace("…", "*")) for name in read_tests().get(file, ()))
    ]
    assert missing == []


def test_every_test_that_is_named_for_a_rule_is_in_its_row() -> None:
    unlisted = [
        f"row {rule} of docs/protocol.md: add `{file}`: `{name}`"
        for file, names in read_tests().items()
        for name in names
        for rule in sorted(find_rules(name))
        if not is_listed(rule, file, name)
    ]
    assert not unlisted, "\n".join(unlisted)


def test_rules_of_links_are_numbered_from_1_on_and_each_once() -> None:
    numbers = re.findall(r"^- \*\*N(\d+)\*\* ", (TESTS.parent / "docs/links.md").read_text(), re.MULTILINE)
    assert sorted(map(int, numbers)) == list(range(1, len(numbers) + 1))


def test_rules_are_read_from_names() -> None:
    assert find_rules("test_rules_P1_to_P3_killed_at_every_sync") == {"P1", "P2", "P3"}
    assert find_rules("test_p1_p2_p5_a_crash") == {"P1", "P2", "P5"}
    assert find_rules("test_doubled_transaction_is_caught_V5") == {"V5"}
    assert find_rules("test_one_v2_in_the_middle_is_no_tag") == set()
