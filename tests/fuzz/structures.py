"""Values of a msgspec type, made at random within its bounds: well-formed, and without any sense."""

from __future__ import annotations

import enum
from functools import cache
from random import Random
from typing import Any, Final

import msgspec
from msgspec import inspect

ITEMS_MAX: Final = 4
TEXTS: Final = ("", "a", "ok", "commit", "\x00", "é" * 40, "x" * 41, "\U0001f9ea", "../..", "care", "0" * 64)


def generate(random: Random, kind: Any) -> Any:
    """A value of `kind`; integers and sizes lean to the ends of their ranges."""
    return _generate(random, _describe(kind))


@cache
def _describe(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _generate(random: Random, info: inspect.Type) -> Any:
    match info:
        case inspect.Metadata():
            return _generate(random, info.type)
        case inspect.StructType():
            values = {field.name: _generate(random, field.type) for field in info.fields}
            try:
                return info.cls(**values)
            except (ValueError, AttributeError):
                return _force(info.cls, values)
        case inspect.UnionType():
            return _generate(random, random.choice(info.types))
        case inspect.IntType():
            return _generate_integer(random, info)
        case inspect.BytesType():
            return random.choice((bytes, random.randbytes))(_choose_length(random, info, 80))
        case inspect.StrType():
            return _generate_text(random, info)
        case inspect.BoolType():
            return random.random() < 0.5
        case inspect.NoneType():
            return None
        case inspect.LiteralType():
            return random.choice(info.values)
        case inspect.EnumType():
            return random.choice(list[enum.Enum](info.cls))
        case inspect.VarTupleType() | inspect.ListType():
            items = [
                _generate(random, info.item_type) for _ in range(_choose_length(random, info, ITEMS_MAX))
            ]
            return tuple(items) if isinstance(info, inspect.VarTupleType) else items
        case inspect.TupleType():
            return tuple(_generate(random, item) for item in info.item_types)
    raise AssertionError(f"no values for {info}")


def _generate_integer(random: Random, info: inspect.IntType) -> int:
    low = 0 if info.ge is None else info.ge
    high = 2**63 - 1
    if info.le is not None:
        high = info.le
    elif info.lt is not None:
        high = info.lt - 1
    return random.choice((low, high, min(low + 1, high), random.randint(low, min(high, low + 10))))


def _generate_text(random: Random, info: inspect.StrType) -> str:
    text = random.choice(TEXTS)[: info.max_length]
    return text + "a" * ((info.min_length or 0) - len(text))


def _choose_length(random: Random, info: Any, usual: int) -> int:
    low = info.min_length or 0
    high = min(info.max_length, max(low, usual)) if info.max_length is not None else low + usual
    return random.choice((low, high, random.randint(low, high)))


def _force(kind: type[msgspec.Struct], values: dict[str, Any]) -> Any:
    """A struct that its own checks refuse, as it would come over the wire."""
    return tuple(values[name] for name in kind.__struct_fields__)
