"""RFC 6962 trees: against vectors made from the definitions alone, published ones, and as properties."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.merkle import (
    ProofError,
    compute_consistency_path,
    compute_inclusion_path,
    compute_leaf_hash,
    compute_root,
    verify_consistency,
    verify_inclusion,
)
from tests.extra_data import list_extra_cases

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FOLDER / "merkle.json").read_text())


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def leaves(count: int) -> list[bytes]:
    return [compute_leaf_hash(b"leaf %d" % number) for number in range(count)]


def decide(verify: Any, *, holds: bool, **proof: Any) -> None:
    """The proof verifies, or is refused with ProofError, as it should."""
    if holds:
        verify(**proof)
        return
    with pytest.raises(ProofError):
        verify(**proof)


def read_case(case: dict[str, Any]) -> dict[str, Any]:
    def read(value: Any) -> Any:
        if isinstance(value, list):
            return [bytes.fromhex(item) for item in value]
        return bytes.fromhex(value) if isinstance(value, str) else value

    return {name: read(value) for name, value in case.items() if name != "name"}


def test_the_program_still_makes_the_stored_vectors() -> None:
    spec = importlib.util.spec_from_file_location("make_merkle_vectors", FOLDER / "make_merkle_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert program.compute_vectors() == VECTORS


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: case["name"])
def test_inclusion_proofs_pass_and_the_broken_ones_fail(case: dict[str, Any]) -> None:
    decide(verify_inclusion, **read_case(case))


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: case["name"])
def test_consistency_proofs_pass_and_the_broken_ones_fail(case: dict[str, Any]) -> None:
    decide(verify_consistency, **read_case(case))


@pytest.mark.parametrize("path", list_extra_cases("rfc6962/inclusion"))
def test_published_inclusion_vectors_pass_and_the_broken_ones_fail(path: Path) -> None:
    vector = json.loads(path.read_text())
    decide(
        verify_inclusion,
        holds=not vector["wantErr"],
        leaf_hash=raw(vector["leafHash"]),
        index=vector["leafIdx"],
        size=vector["treeSize"],
        path=[raw(item) for item in vector["proof"] or []],
        root=raw(vector["root"]),
    )


@pytest.mark.parametrize("path", list_extra_cases("rfc6962/consistency"))
def test_published_consistency_vectors_pass_and_the_broken_ones_fail(path: Path) -> None:
    vector = json.loads(path.read_text())
    decide(
        verify_consistency,
        holds=not vector["wantErr"],
        first_size=vector["size1"],
        first_root=raw(vector["root1"]),
        second_size=vector["size2"],
        second_root=raw(vector["root2"]),
        path=[raw(item) for item in vector["proof"] or []],
    )


@given(st.integers(1, 70), st.data())
def test_every_leaf_of_every_tree_is_provable_and_no_other(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    path, root = compute_inclusion_path(hashes, index), compute_root(hashes)
    verify_inclusion(leaf_hash=hashes[index], index=index, size=size, path=path, root=root)
    with pytest.raises(ProofError):
        verify_inclusion(leaf_hash=compute_leaf_hash(b"?"), index=index, size=size, path=path, root=root)
    if size > 1:
        wrong = (index + 1) % size
        with pytest.raises(ProofError):
            verify_inclusion(leaf_hash=hashes[index], index=wrong, size=size, path=path, root=root)


@given(st.integers(1, 70), st.data())
def test_every_prefix_is_consistent(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    first = data.draw(st.integers(1, size))
    path = compute_consistency_path(hashes, first)
    roots = compute_root(hashes[:first]), compute_root(hashes)
    verify_consistency(
        first_size=first, first_root=roots[0], second_size=size, second_root=roots[1], path=path
    )
    with pytest.raises(ProofError):
        verify_consistency(
            first_size=first,
            first_root=compute_leaf_hash(b"?"),
            second_size=size,
            second_root=roots[1],
            path=path,
        )
