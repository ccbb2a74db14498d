"""The genesis file: read back as written, and refused by file, key, found and expected otherwise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.errors import GenesisFileError
from config.genesis_file import read_genesis_file, write_genesis_file
from config.local_network import LocalNetwork


@pytest.fixture
def document(network: LocalNetwork) -> Any:
    return json.loads(network.genesis_file.read_text())


def test_a_genesis_is_read_back_as_it_was_written(network: LocalNetwork, tmp_path: Path) -> None:
    genesis = read_genesis_file(network.genesis_file)
    write_genesis_file(tmp_path / "genesis.json", genesis)
    assert read_genesis_file(tmp_path / "genesis.json") == genesis
    assert (tmp_path / "genesis.json").read_bytes() == network.genesis_file.read_bytes()


def test_spacing_and_order_of_keys_do_not_change_the_digest(
    network: LocalNetwork, document: Any, tmp_path: Path
) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(dict(reversed(document.items()))))
    assert read_genesis_file(path).compute_chain_id() == network.chain_id


Change = Callable[[Any], object]


def put(value: object, *steps: Any) -> Change:
    """Sets one value in the document."""

    def change(document: Any) -> None:
        for step in steps[:-1]:
            document = document[step]
        document[steps[-1]] = value

    return change


def copy_over(source: tuple[Any, ...], *steps: Any) -> Change:
    def change(document: Any) -> None:
        value = document
        for step in source:
            value = value[step]
        put(copy.deepcopy(value), *steps)(document)

    return change


REFUSED: dict[str, tuple[Change, str, str]] = {
    "unknown key": (put(1, "x"), "x", "an unknown key"),
    "unknown parameter": (put(1, "parameters", "x"), "parameters.x", "an unknown key"),
    "missing parameter": (
        lambda document: document["parameters"].pop("block_bytes_max"),
        "parameters.block_bytes_max",
        "nothing found, an integer expected",
    ),
    "missing list": (lambda document: document.pop("institutions"), "institutions", "a list of objects"),
    "text for an integer": (
        put("1", "parameters", "block_bytes_max"),
        "parameters.block_bytes_max",
        "an integer expected",
    ),
    "truth for an integer": (put(True, "time_ms"), "time_ms", "an integer expected"),
    "fraction": (put(1.5, "time_ms"), "time_ms", "an integer expected"),
    "zero for a bound": (
        put(0, "parameters", "block_bytes_max"),
        "parameters.block_bytes_max",
        "a number (0) found, int >= ",
    ),
    "beyond 64 bits": (put(2**70, "time_ms"), "-", "can't serialize ints"),
    "list for an object": (put([], "replica_set"), "replica_set", "an object expected"),
    "object for a list": (put({}, "institutions"), "institutions", "a list of objects"),
    "number for bytes": (put(1, "institutions", 0, "public_key"), "institutions.0.public_key", "hexadecimal"),
    "upper case": (
        put("AB" * 32, "institutions", 0, "public_key"),
        "institutions.0.public_key",
        "lower-case hexadecimal",
    ),
    "short key": (
        put("ab", "institutions", 1, "public_key"),
        "institutions.1.public_key",
        "length >= 32 expected",
    ),
    "no such kind": (
        put("insurer", "institutions", 2, "kind"),
        "institutions.2.kind",
        "'insurer' found, a value that this version knows",
    ),
    "name with spaces": (put("a b", "network"), "network", "matching regex"),
    "no replicas": (put([], "replica_set", "members"), "replica_set.members", "length >= 1"),
    "replica of nobody": (
        put("ab" * 16, "replica_set", "members", 2, "institution"),
        "-",
        "institution is not in the genesis",
    ),
    "shared replica key": (
        copy_over(("replica_set", "members", 0, "public_key"), "replica_set", "members", 1, "public_key"),
        "replica_set",
        "share one public key",
    ),
    "replica twice": (put(0, "replica_set", "members", 1, "replica"), "replica_set", "distinct ids"),
    "institution twice": (
        copy_over(("institutions", 0, "institution"), "institutions", 1, "institution"),
        "-",
        "two institutions have one id",
    ),
    "later epoch": (put(1, "replica_set", "epoch"), "-", "first epoch is 0"),
    "odd tree": (put(18, "parameters", "state_buckets_log2"), "-", "multiple of 4"),
    "another format": (put(2, "format_version"), "format_version", "<= 1"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_inconsistent_genesis_is_refused_with_file_key_and_what_is_wrong(
    document: Any, tmp_path: Path, name: str
) -> None:
    change, key, text = REFUSED[name]
    change(document)
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(document))
    with pytest.raises(GenesisFileError) as refused:
        read_genesis_file(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: " if key == "-" else f"{path}: {key}: ")
    assert text in message
    assert message.count(" found") <= 1, "what contradicts itself is told in its own words"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ('{"network": "a", "network": "b"}', "the key twice"),
        ('{"time_ms": NaN}', "NaN found"),
        ("[" * 100_000, "recursion"),
        ("[]", "a list"),
        ('{"time_ms": ' + "9" * 5_000 + "}", "integer string conversion"),
    ],
    ids=["empty", "torn", "twice", "NaN", "deep", "list", "digits"],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(text)
    with pytest.raises(GenesisFileError, match=found):
        read_genesis_file(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(GenesisFileError, match="JSON in UTF-8"):
        read_genesis_file(path)


def test_a_huge_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    with pytest.raises(GenesisFileError, match="No such file"):
        read_genesis_file(path)
    path.write_bytes(b" " * 1_100_000)
    with pytest.raises(GenesisFileError, match="more than 1048576 bytes"):
        read_genesis_file(path)
