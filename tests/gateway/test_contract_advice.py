"""A refusal by a contract says what it means, for every code that a call of the gateway can end with."""

from __future__ import annotations

import ast
from pathlib import Path

from gateway.contract_advice import ADVICE, get_advice

CONTRACTS = Path(__file__).parents[2] / "contracts"
GOVERNANCE = {
    "admissions.py",
    "electorate.py",
    "governance.py",
    "nodes.py",
    "parameters.py",
    "proposals.py",
    "replica_sets.py",
    "schedule.py",
    "versions.py",
}
"""Signed by institutions themselves, never by the gateway."""
UNREACHED = {
    "already_frozen": "folders are frozen by transactions that institutions sign",
    "not_frozen": "likewise",
    "not_suspended": "members are reinstated likewise",
    "own_institution": "institutions are suspended likewise",
    "institution_removed": "likewise",
    "call_failed": "the base of codes, never on a receipt",
    "refused": "likewise",
    "not_found": "each raise names a code of its own",
    "conflict": "likewise",
}


def find_codes() -> set[str]:
    codes = set()
    for path in CONTRACTS.glob("*.py"):
        if path.name in GOVERNANCE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    codes.add(code)
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    codes.add(code)
    return codes


def test_every_code_has_its_advice() -> None:
    codes = find_codes()
    assert len(codes) > 40
    assert codes - ADVICE.keys() == UNREACHED.keys() & codes
    assert ADVICE.keys() - codes == {"contract_fault"}


def test_a_code_of_an_institutions_own_contract_is_told_where_to_look() -> None:
    assert get_advice("of_tomorrow") == "docs/contracts.md says what the code means; nothing was written"
    assert get_advice("already_revoked").startswith("the grant was revoked before")
