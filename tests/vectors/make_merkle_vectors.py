"""Writes merkle.json: inclusion and consistency proofs of small trees, good ones and broken ones.

Computed here straight from the definitions of RFC 6962, section 2.1, by recursion and without the project's
code, so that the two are checked against each other. Run `python tests/vectors/make_merkle_vectors.py`.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("merkle.json")
LEAVES = (b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno")
SIZES = (1, 2, 3, 5, 7, 8)


def compute_tree_hash(leaves: tuple[bytes, ...]) -> bytes:
    """MTH of section 2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = compute_split(len(leaves))
    return sha256(b"\x01" + compute_tree_hash(leaves[:k]) + compute_tree_hash(leaves[k:])).digest()


def compute_path(m: int, leaves: tuple[bytes, ...]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = compute_split(len(leaves))
    if m < k:
        return [*compute_path(m, leaves[:k]), compute_tree_hash(leaves[k:])]
    return [*compute_path(m - k, leaves[k:]), compute_tree_hash(leaves[:k])]


def compute_subproof(m: int, leaves: tuple[bytes, ...], *, is_whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.2; PROOF is the one with `is_whole`."""
    if m == len(leaves):
        return [] if is_whole else [compute_tree_hash(leaves)]
    k = compute_split(len(leaves))
    if m <= k:
        return [*compute_subproof(m, leaves[:k], is_whole=is_whole), compute_tree_hash(leaves[k:])]
    return [*compute_subproof(m - k, leaves[k:], is_whole=False), compute_tree_hash(leaves[:k])]


def compute_split(size: int) -> int:
    """The largest power of two below `size`."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def flip(digest: bytes) -> bytes:
    return bytes((digest[0] ^ 1,)) + digest[1:]


def list_inclusions() -> list[dict[str, Any]]:
    cases = []
    for size in SIZES:
        leaves = LEAVES[:size]
        for index in range(size):
            good: dict[str, Any] = {
                "leaf_hash": compute_tree_hash(leaves[index : index + 1]),
                "index": index,
                "size": size,
                "path": compute_path(index, leaves),
                "root": compute_tree_hash(leaves),
            }
            broken: dict[str, dict[str, Any]] = {
                "leaf altered": {"leaf_hash": flip(good["leaf_hash"])},
                "root altered": {"root": flip(good["root"])},
                "root cut short": {"root": good["root"][:-1]},
                "index of no leaf": {"index": size},
                "path too long": {"path": [*good["path"], good["root"]]},
            }
            if good["path"]:
                broken |= {
                    "path too short": {"path": good["path"][:-1]},
                    "path altered": {"path": [flip(good["path"][0]), *good["path"][1:]]},
                    "other index": {"index": index ^ 1 if index ^ 1 < size else index - 1},
                }
            if len(good["path"]) > 1:
                broken["path in reverse"] = {"path": good["path"][::-1]}
            cases += list_cases(f"leaf {index} of {size}", good, broken)
    return cases


def list_consistencies() -> list[dict[str, Any]]:
    cases = []
    for second in SIZES:
        for first in range(1, second + 1):
            good: dict[str, Any] = {
                "first_size": first,
                "first_root": compute_tree_hash(LEAVES[:first]),
                "second_size": second,
                "second_root": compute_tree_hash(LEAVES[:second]),
                "path": compute_subproof(first, LEAVES[:second], is_whole=True),
            }
            broken: dict[str, dict[str, Any]] = {
                "first root altered": {"first_root": flip(good["first_root"])},
                "second root altered": {"second_root": flip(good["second_root"])},
                "sizes swapped": {"first_size": second + 1},
                "path too long": {"path": [*good["path"], good["second_root"]]},
            }
            if good["path"]:
                broken |= {
                    "path too short": {"path": good["path"][:-1]},
                    "path altered": {"path": [*good["path"][:-1], flip(good["path"][-1])]},
                    "no path": {"path": []},
                }
            cases += list_cases(f"{first} of {second}", good, broken)
    return cases


def list_cases(name: str, good: dict[str, Any], broken: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The good proof and each way in which it is broken."""
    return [
        {"name": name, "holds": True, **good},
        *({"name": f"{name}, {how}", "holds": False, **good, **change} for how, change in broken.items()),
    ]


def compute_vectors() -> dict[str, Any]:
    """Everything that merkle.json pins; bytes in hexadecimal."""
    vectors: dict[str, Any] = json.loads(
        json.dumps({"inclusion": list_inclusions(), "consistency": list_consistencies()}, default=bytes.hex)
    )
    return vectors


if __name__ == "__main__":
    sections = (
        f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]"
        for name, cases in compute_vectors().items()
    )
    FILE.write_text("{\n" + ",\n".join(sections) + "\n}\n")
