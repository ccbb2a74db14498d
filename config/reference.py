"""The reference of all settings, written from the code: `python -m config.reference > docs/settings.md`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.settings import ENVIRONMENT_PREFIX, FileSettings
from config.settings_model import (
    INTEGER_MAX,
    get_item_kind,
    get_lower_bound,
    get_upper_bound,
    get_visible_fields,
)

_HEAD: Final = f"""\
# Settings

Every setting of `node.toml`, with its default and its meaning. Sizes are in bytes and times in milliseconds
unless a name says otherwise. Unknown keys, values of a wrong type and values out of range keep the node from
starting; the message names the file, the key, what was found and what was expected.

An environment variable overrides the file: `{ENVIRONMENT_PREFIX}LEDGER__MEMPOOL__TRANSACTIONS_MAX=1000` sets
`transactions_max` of `[ledger.mempool]`.

What all nodes must agree on (block bounds, expiry window, clock tolerance and the like) stands in the genesis
and cannot be set here. `config/samples/node.toml` is a commented example.

This page is written by `python -m config.reference` from the docstrings of the settings.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One documented setting."""

    section: str
    """As in the file: `ledger.mempool`, or `[peers]` for a list of tables."""
    key: str
    default: str
    """As in the file, or `required`."""
    meaning: str


def list_settings() -> list[Setting]:
    """Every setting, in the order of the file."""
    return list(_walk(FileSettings, ""))


def format_reference() -> str:
    """The whole page."""
    lines = [_HEAD]
    section = None
    for setting in list_settings():
        if setting.section != section:
            section = setting.section
            lines += ["", f"## [{section}]", "", "| setting | default | meaning |", "|---|---|---|"]
        lines.append(f"| `{setting.key}` | `{setting.default}` | {setting.meaning} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _walk(kind: type[Any], section: str) -> Iterator[Setting]:
    meanings = _read_meanings(kind)
    tables: list[tuple[str, type[Any]]] = []
    for field, hint in get_visible_fields(kind):
        item = get_item_kind(hint)
        name = f"{section}.{field.name}".strip(".")
        if item is None:
            low, high = get_lower_bound(kind, field.name), get_upper_bound(kind, field.name)
            meaning = meanings[field.name]
            meaning += f" At least {low}." if low > 1 else ""
            meaning += f" At most {high}." if high < INTEGER_MAX else ""
            yield Setting(section=section, key=field.name, default=_format_default(field), meaning=meaning)
        elif item is hint:
            tables.append((name, item))
        else:
            tables.append((f"[{name}]", item))
    for name, item in tables:
        yield from _walk(item, name)


def _read_meanings(kind: type[Any]) -> Mapping[str, str]:
    """The text under each field. A field without one is a fault that the tests find."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    meanings: dict[str, str] = dict.fromkeys((field.name for field in dataclasses.fields(kind)), "")
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            meanings[statement.target.id] = " ".join(str(following.value.value).split())
    return meanings


def _format_default(field: dataclasses.Field[Any]) -> str:
    default = field.default
    if default is dataclasses.MISSING:
        return "required"
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if isinstance(default, str) else str(default)


if __name__ == "__main__":
    print(format_reference(), end="")  # noqa: T201
