"""Strict validation of the settings dataclasses that the rooms own.

For each dataclass a pydantic model with the same fields is built, which refuses unknown keys and wrong types;
what it lets through is given to the dataclass, which checks what only it knows. So a setting is declared in
one place, its room, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from config.errors import Fault
from ledger.chunk_file import CHUNK_BYTES_MAX
from network.snapshot_sync import PIECES_MAX

_CONFIG: Final = ConfigDict(extra="forbid", strict=True)
INTEGER_MAX: Final = 2**53

_EXPECTED: Final = {
    "int_type": "an integer",
    "string_type": "text",
    "bool_type": "true or false",
    "float_type": "a number",
    "list_type": "a list of tables",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


class SettingsRefused(ValueError):
    """Values that a settings dataclass does not take."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def build_settings(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """An instance of the settings dataclass `kind`. Raises SettingsRefused with every fault found."""
    try:
        model = _build_model(kind).model_validate(dict(values))
    except ValidationError as error:
        faults = tuple(_explain(kind, item) for item in error.errors(include_url=False))
        raise SettingsRefused(faults) from error
    return _convert(kind, model, ())


def get_hidden_fields(kind: type[Any]) -> frozenset[str]:
    """Fields that no file may set, since all nodes must agree on them: the genesis says them."""
    return _HIDDEN.get(kind.__qualname__, frozenset())


_HIDDEN: Final = {
    "ReplicaSettings": frozenset({"blocks_per_primary", "idle_block_interval_ms", "clock_tolerance_ms"})
}


def get_upper_bound(kind: type[Any], name: str) -> int:
    """The most that a file may say for an integer."""
    return _UPPER_BOUNDS.get(kind.__qualname__, {}).get(name, INTEGER_MAX)


def get_lower_bound(kind: type[Any], name: str) -> int:
    """The least that a file may say for an integer: no count or size is negative, no bound is nothing."""
    is_bound = name.endswith(("_max", "_bytes", "_interval_ms", "_timeout_ms"))
    return _LOWER_BOUNDS.get(kind.__qualname__, {}).get(name, 1 if is_bound else 0)


_LOWER_BOUNDS: Final = {
    # Or the longest part of a snapshot needs more pieces than peers take, and they call that a lie.
    "FetchSettings": {"answer_bytes_max": CHUNK_BYTES_MAX // PIECES_MAX}
}

_UPPER_BOUNDS: Final = {
    # However long there was no quorum: once it is back, commits resume soon after this time (rule L1).
    "ReplicaSettings": {"view_timeout_ms_max": 10_000}
}


def get_item_kind(hint: object) -> type[Any] | None:
    """The dataclass of a table or of a list's tables, None for a plain value."""
    if typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def get_visible_fields(kind: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    """Each field that a file may set, with its type."""
    hints = typing.get_type_hints(kind)
    hidden = get_hidden_fields(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind) if field.name not in hidden]


def _build_model(kind: type[Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for field, hint in get_visible_fields(kind):
        item = get_item_kind(hint)
        default: Any = ... if _is_required(field) else None
        if item is None:
            fields[field.name] = (_constrain(kind, field.name, hint), default)
        elif typing.get_origin(hint) is tuple:
            fields[field.name] = (list[_build_model(item)], default)  # type: ignore[misc]  # made at run time
        else:
            fields[field.name] = (_build_model(item), default)
    return create_model(kind.__name__, __config__=_CONFIG, **fields)


def _constrain(kind: type[Any], name: str, hint: Any) -> Any:
    """An integer is within its bounds, a port is a port."""
    if hint is bytes:
        return Annotated[bytes, BeforeValidator(_read_hex)]
    if hint is not int:
        return hint
    if name == "port" or name.endswith("_port"):
        return Annotated[int, Field(ge=0, le=65_535)]
    return Annotated[int, Field(ge=get_lower_bound(kind, name), le=get_upper_bound(kind, name))]


def _read_hex(value: object) -> bytes:
    if isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    raise ValueError("bytes in hexadecimal")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(kind: type[Any], model: BaseModel, path: tuple[str, ...]) -> Any:
    values: dict[str, Any] = {}
    for field, hint in get_visible_fields(kind):
        if field.name not in model.model_fields_set:
            continue
        value = getattr(model, field.name)
        item = get_item_kind(hint)
        here = (*path, field.name)
        if item is not None and isinstance(value, list):
            value = tuple(_convert(item, each, (*here, str(n))) for n, each in enumerate(value))
        elif item is not None:
            value = _convert(item, value, here)
        values[field.name] = value
    try:
        return kind(**values)
    except ValueError as error:
        fault = Fault(key=".".join(path) or "-", found=str(error), expected="")
        raise SettingsRefused((fault,)) from error


def _explain(kind: type[Any], error: Any) -> Fault:
    location = [str(step) for step in error["loc"]]
    key = ".".join(location) or "-"
    match error["type"]:
        case "extra_forbidden":
            return Fault(key=key, found="an unknown key", expected=_suggest(kind, location))
        case "missing":
            return Fault(key=key, found="nothing", expected="a value")
        case "value_error":
            expected = str(error["ctx"]["error"])
        case "greater_than_equal":
            expected = f"at least {error['ctx']['ge']}"
        case "less_than_equal":
            expected = f"at most {error['ctx']['le']}"
        case other:
            expected = _EXPECTED.get(other, error["msg"])
    return Fault(key=key, found=_show(error["input"]), expected=expected)


def _show(value: object) -> str:
    """The beginning of a value as it stands in the file."""
    try:
        return repr(value)[:80]
    except ValueError:  # TOML lets one write integers, in hexadecimal, that Python does not write out.
        return "an integer of thousands of digits"


def _suggest(kind: type[Any], location: list[str]) -> str:
    """The key that may have been meant, or all that there are."""
    for step in location[:-1]:
        if step.isdigit():
            continue
        kind = get_item_kind({field.name: hint for field, hint in get_visible_fields(kind)}[step]) or kind
    names = [field.name for field, _ in get_visible_fields(kind)]
    close = difflib.get_close_matches(location[-1], names, n=1)
    return close[0] if close else f"one of {', '.join(names)}"
