"""RFC 6962 trees against the published vectors, and as properties."""

from __future__ import annotations

import base64
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

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "rfc6962"


def load(folder: str) -> list[Any]:
    files = sorted((VECTORS / folder).rglob("*.json"))
    if not files:
        return [
            pytest.param(None, marks=pytest.mark.skip(reason="the RFC 6962 vectors are not on this machine"))
        ]
    return [pytest.param(json.loads(file.read_text()), id="/".join(file.parts[-2:])) for file in files]


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def leaves(count: int) -> list[bytes]:
    return [compute_leaf_hash(b"leaf %d" % number) for number in range(count)]


@pytest.mark.parametrize("vector", load("inclusion"))
def test_inclusion_vectors_pass_and_the_broken_ones_fail(vector: dict[str, Any]) -> None:
    def verify() -> None:
        verify_inclusion(
            leaf_hash=raw(vector["leafHash"]),
            index=vector["leafIdx"],
            size=vector["treeSize"],
            path=[raw(item) for item in vector["proof"] or []],
            root=raw(vector["root"]),
        )

    if vector["wantErr"]:
        with pytest.raises(ProofError):
            verify()
    else:
        verify()


@pytest.mark.parametrize("vector", load("consistency"))
def test_consistency_vectors_pass_and_the_broken_ones_fail(vector: dict[str, Any]) -> None:
    def verify() -> None:
        verify_consistency(
            first_size=vector["size1"],
            first_root=raw(vector["root1"]),
            second_size=vector["size2"],
            second_root=raw(vector["root2"]),
            path=[raw(item) for item in vector["proof"] or []],
        )

    if vector["wantErr"]:
        with pytest.raises(ProofError):
            verify()
    else:
        verify()


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
