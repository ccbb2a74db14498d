"""Hostile bytes made from valid ones: flipped, cut, doubled, and changed in their structure.

Everything takes a `random.Random`, so hypothesis can drive and shrink it, and a plain loop can run it for
long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import msgpack

Change = Callable[[Random, Any], Any]

INTEGERS: Final = (0, 1, -1, 127, 128, 2**16, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
DEPTH: Final = 200


def nest(depth: int) -> list[Any]:
    """Arrays in each other, deeper than any format here allows."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: Final[tuple[Any, ...]] = (
    *INTEGERS,
    True,
    False,
    None,
    "",
    "\x00",
    "é" * 1_000,
    "../../etc/passwd",
    [],
    [[]] * 100,
    nest(DEPTH),
    1.5,
    float("inf"),
    float("nan"),
    {},
    {"a": {"b": [1]}},
)
BYTES: Final = (b"", b"\x00", bytes(16), bytes(32), bytes(64), b"\xff" * 65, bytes(70_000))

LENGTHS: Final = (
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
)
"""MessagePack heads that announce gigabytes."""


WORDS: Final = (
    b"9" * 5_000,
    b"0x" + b"f" * 5_000,
    b"-9223372036854775809",
    b"1e999",
    b"1." + b"0" * 5_000,
    b"NaN",
    b"-Infinity",
    b"inf",
    b'"\\ud800"',
    b"\xed\xa0\x80",
    b"\xff",
    b"null",
    b"[]",
    b"{}",
    b"9999-99-99",
)
"""For formats that people can read."""
_WORD = re.compile(rb"-?[0-9][0-9_.]*|\b[a-z]+")


@dataclass(frozen=True, slots=True)
class Format:
    """How a format's tree is read and written, for changes that raw bytes would hardly hit upon."""

    load: Callable[[bytes], Any]
    dump: Callable[[Any], bytes]


def _dump_json(value: Any) -> bytes:
    return json.dumps(value, default=lambda item: item.hex()).encode("utf-8", "surrogatepass")


MSGPACK: Final = Format(lambda data: msgpack.unpackb(data, strict_map_key=False), msgpack.packb)
JSON: Final = Format(json.loads, _dump_json)


def mutate(random: Random, data: bytes, form: Format | None = None, *, start: int = 0) -> bytes:
    """One to four changes of a valid encoding; `start` is where its tree begins, after what is no tree."""
    for _ in range(random.randint(1, 4)):
        if form is not None and random.random() < 0.6:
            data = data[:start] + mutate_tree(random, data[start:], form)
        else:
            data = random.choice(RAW_CHANGES)(random, data)
    return data


def mutate_tree(random: Random, data: bytes, form: Format) -> bytes:
    """One change somewhere in the tree; the bytes as they are when they hold none (any more)."""
    try:
        return form.dump(_change_within(random, form.load(data), form, 0))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
        return data


def _change_within(random: Random, value: Any, form: Format, depth: int) -> Any:
    """Go down at random, then change what is there."""
    if depth < DEPTH and random.random() < 0.85:
        if isinstance(value, list) and value:
            index = random.randrange(len(value))
            return [
                *value[:index],
                _change_within(random, value[index], form, depth + 1),
                *value[index + 1 :],
            ]
        if isinstance(value, dict) and value:
            key = random.choice(sorted(value, key=repr))
            return {**value, key: _change_within(random, value[key], form, depth + 1)}
        if isinstance(value, bytes) and len(value) > 64 and form is MSGPACK:
            return mutate_tree(random, value, form)  # Formats within formats: entries, proofs, calls.
    return random.choice(TREE_CHANGES)(random, value)


def _replace(random: Random, value: Any) -> Any:
    return random.choice(BYTES if isinstance(value, bytes) and random.random() < 0.5 else HOSTILE)


def _nudge(random: Random, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value + random.choice((-1, 1))
    if isinstance(value, bytes) and value:
        return _flip(random, value)
    if isinstance(value, str):
        return value + random.choice(("x", "\u202e", "\ud800", " "))
    return _replace(random, value)


def _rearrange(random: Random, value: Any) -> Any:
    """Doubled, dropped, reversed, swapped or appended items."""
    if isinstance(value, dict):
        return {**value, random.choice(("x", "", "__proto__")): random.choice(HOSTILE)}
    if not isinstance(value, list) or not value:
        return [value, value]
    index = random.randrange(len(value))
    match random.randrange(5):
        case 0:
            return [*value, value[index]]
        case 1:
            return value[:index] + value[index + 1 :]
        case 2:
            return value[::-1]
        case 3:
            return [*value[index:], *value[:index]]
        case _:
            return [*value, random.choice(HOSTILE)]


TREE_CHANGES: Final[Sequence[Change]] = (_replace, _nudge, _rearrange)


def _flip(random: Random, data: bytes) -> bytes:
    if not data:
        return b"\x80"
    index = random.randrange(len(data))
    return data[:index] + bytes((data[index] ^ (1 << random.randrange(8)),)) + data[index + 1 :]


def _overwrite(random: Random, data: bytes) -> bytes:
    index = random.randint(0, len(data))
    return data[:index] + random.randbytes(random.randint(1, 8)) + data[index + random.randint(0, 8) :]


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def _double(random: Random, data: bytes) -> bytes:
    index = random.randint(0, len(data))
    return data[:index] + data[random.randint(0, index) :]


def _announce(random: Random, data: bytes) -> bytes:
    """Claim a length that never comes."""
    index = random.randint(0, len(data))
    return data[:index] + random.choice(LENGTHS) + data[index:]


def _bury(random: Random, data: bytes) -> bytes:
    """Open many arrays, in either format."""
    index = random.randint(0, len(data))
    return data[:index] + random.choice((b"\x91", b"[", b'{"a":')) * random.choice((20, 2_000)) + data[index:]


def _misspell(random: Random, data: bytes) -> bytes:
    """Put a hostile word in the place of a number or of the start of a word."""
    places = [match.span() for match in _WORD.finditer(data[:4_096])]
    start, end = random.choice(places) if places else (0, 0)
    return data[:start] + random.choice(WORDS) + data[end:]


RAW_CHANGES: Final[Sequence[Callable[[Random, bytes], bytes]]] = (
    _flip,
    _overwrite,
    _cut,
    _double,
    _announce,
    _bury,
    _misspell,
)
