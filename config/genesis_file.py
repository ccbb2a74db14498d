"""The genesis as a JSON file for people to read and compare.

Bytes are written in hexadecimal. The digest of a genesis is over its canonical encoding, so spacing and the
order of keys do not matter; everything else does, and a key that is missing, unknown or written twice is
refused rather than guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from config.errors import Fault, GenesisFileError
from consensus.replica_set import Member, ReplicaSet
from contracts.calls.changes import ContractVersion
from crypto.encoding import EncodingError
from ledger.genesis import Genesis, Institution, Parameters, decode_genesis

FILE_BYTES_MAX: Final = 1_048_576
_ADVICE: Final = "take the genesis file that all institutions agreed on, unchanged"
_STEP: Final = re.compile(r"\[(\d+)\]")


def write_genesis_file(path: Path, genesis: Genesis) -> None:
    """Write the genesis as indented JSON, replacing the file."""
    path.write_text(json.dumps(_to_json(genesis), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_genesis_file(path: Path) -> Genesis:
    """The genesis in `path`. Raises GenesisFileError: file, key, found, expected."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _refuse(path, "-", str(error.strerror), "a readable file") from error
    if len(data) > FILE_BYTES_MAX:
        raise _refuse(path, "-", f"more than {FILE_BYTES_MAX} bytes", "a genesis file")
    return _Reader(path).read(data)


class _Reader:
    """Turns one file's JSON into the genesis, naming each fault by its key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, data: bytes) -> Genesis:
        try:
            document = json.loads(
                data, object_pairs_hook=self._refuse_twins, parse_constant=self._refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise _refuse(self.path, "-", f"{error}", "JSON in UTF-8") from error
        genesis = cast(Genesis, self._read_struct(Genesis, document, ""))
        try:
            return decode_genesis(genesis.encode())
        except EncodingError as error:
            key, found, expected = _explain(str(error), document)
            raise _refuse(self.path, key, found, expected) from error

    def _read_struct(self, kind: type[msgspec.Struct], value: object, key: str) -> msgspec.Struct:
        if not isinstance(value, dict):
            raise _refuse(self.path, key or "-", _describe(value), "an object")
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for name in value:
            if name not in fields:
                raise _refuse(self.path, _join(key, name), "an unknown key", f"one of {', '.join(fields)}")
        for name, field in fields.items():
            # A default of the code may change with its version: a genesis says everything itself.
            if name not in value:
                raise _refuse(self.path, _join(key, name), "nothing", _EXPECTED[_get_kind(kind, field.name)])
        try:
            return kind(**{name: self._read_field(kind, name, value[name], key) for name in fields})
        except ValueError as error:
            raise _refuse(self.path, key or "-", str(error), "") from error

    def _read_field(self, kind: type[msgspec.Struct], name: str, value: object, key: str) -> object:
        key = _join(key, name)
        match _get_kind(kind, name):
            case "bytes":
                return self._read_bytes(value, key)
            case "integer":
                if not isinstance(value, int) or isinstance(value, bool):
                    raise _refuse(self.path, key, _describe(value), _EXPECTED["integer"])
                return value
            case "text":
                if not isinstance(value, str):
                    raise _refuse(self.path, key, _describe(value), _EXPECTED["text"])
                return value
            case "struct":
                return self._read_struct(_STRUCTS[name], value, key)
            case _:
                if not isinstance(value, list):
                    raise _refuse(self.path, key, _describe(value), _EXPECTED["list"])
                item = _STRUCTS[name]
                return tuple(self._read_struct(item, each, f"{key}.{i}") for i, each in enumerate(value))

    def _read_bytes(self, value: object, key: str) -> bytes:
        if isinstance(value, str) and re.fullmatch(r"(?:[0-9a-f]{2})+", value):
            return bytes.fromhex(value)
        raise _refuse(self.path, key, _describe(value), _EXPECTED["bytes"])

    def _refuse_twins(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, value in pairs:
            if name in seen:
                raise _refuse(self.path, name, "the key twice in one object", "it once")
            seen[name] = value
        return seen

    def _refuse_constant(self, text: str) -> None:
        raise _refuse(self.path, "-", text, "integers only")


_STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "parameters": Parameters,
    "institutions": Institution,
    "replica_set": ReplicaSet,
    "members": Member,
    "contracts": ContractVersion,
}
_BYTES: Final = {(Institution, "institution"), (Member, "institution"), (None, "public_key")}
_TEXTS: Final = {"network", "kind", "name", "gateway_url", "contract"}
_LISTS: Final = {"institutions", "members", "contracts"}
_EXPECTED: Final = {
    "bytes": "bytes in lower-case hexadecimal",
    "integer": "an integer",
    "text": "text",
    "struct": "an object",
    "list": "a list of objects",
}


def _get_kind(kind: type[msgspec.Struct], name: str) -> str:
    if (kind, name) in _BYTES or (None, name) in _BYTES:
        return "bytes"
    if name in _TEXTS:
        return "text"
    if name in _LISTS:
        return "list"
    return "struct" if name in _STRUCTS else "integer"


def _to_json(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return {field.name: _to_json(getattr(value, field.name)) for field in msgspec.structs.fields(value)}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _explain(message: str, document: Any) -> tuple[str, str, str]:
    """Key, found and expected of a decoder's message, which names fields by position (`$[3][2]`)."""
    problem, _, path = message.partition(" - at `$")
    problem = problem.removeprefix("not a Genesis: ").replace("`", "")
    steps = list(_name_steps(int(step) for step in _STEP.findall(path)))
    key = ".".join(steps) or "-"
    if problem.startswith("Invalid enum value "):
        return key, problem.removeprefix("Invalid enum value "), "a value that this version knows"
    if not problem.startswith("Expected "):
        return key, problem, ""
    for step in steps:
        document = document[int(step) if step.isdigit() else step]
    return key, _describe(document), problem.removeprefix("Expected ")


def _name_steps(steps: Iterable[int]) -> Iterator[str]:
    kind: type[msgspec.Struct] | None = Genesis
    items: type[msgspec.Struct] | None = None
    for step in steps:
        if kind is None:
            yield str(step)
            kind, items = items, None
            continue
        name = msgspec.structs.fields(kind)[step].name
        yield name
        kind, items = (None, _STRUCTS[name]) if name in _LISTS else (_STRUCTS.get(name), None)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _describe(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    text = json.dumps(value, ensure_ascii=False)
    return f"{names.get(type(value), 'a number')} ({text if len(text) <= 40 else text[:40] + '…'})"


def _refuse(path: Path, key: str, found: str, expected: str) -> GenesisFileError:
    return GenesisFileError(path, (Fault(key=key, found=found, expected=expected),), _ADVICE)
