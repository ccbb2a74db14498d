"""docs/contracts.md names every method, code and reason that the contracts have."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

from contracts.accesses import RefusalReason
from contracts.catalog import CONTRACTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")


def find_codes() -> set[str]:
    """Every text given as `code`, to an error or as an error's own."""
    codes = set()
    for path in (ROOT / "contracts").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                codes.add(str(node.value.value))
    return codes


def test_page_names_every_method() -> None:
    methods = {method for contract in CONTRACTS.values() for method in contract.methods}
    assert len(methods) > 20
    assert {method for method in methods if f"`{method}`" not in PAGE} == set()


def test_page_names_every_code() -> None:
    codes = find_codes()
    assert len(codes) > 30
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()


def test_page_names_every_reason_of_refusal() -> None:
    assert {reason for reason in get_args(RefusalReason) if f"`{reason}`" not in PAGE} == set()
