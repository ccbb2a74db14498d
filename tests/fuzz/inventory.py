"""Finds every place of the product that turns bytes or text from outside into values."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

ROOMS: Final = (
    "client",
    "config",
    "consensus",
    "contracts",
    "crypto",
    "daemon",
    "gateway",
    "ledger",
    "network",
    "records",
    "vault",
)
"""Commands, benches and the simulator read their own files, and answers that `client` has checked."""

PRIMITIVES: Final = frozenset(
    {
        "decode_as",  # crypto.encoding
        "raw_decode",  # json
        "loads",  # json, tomllib
        "unpack",  # struct
        "unpack_from",
        "unpackb",  # msgpack
        "validate_json",  # pydantic
        "model_validate_json",
        "b64decode",
        "load_pem_private_key",
        "load_pem_x509_certificate",
        "load_der_x509_certificate",
    }
)
"""Library calls that parse, whatever they are called on."""

DECODERS: Final = ("crypto.encoding.decode", "msgspec.json.decode", "msgspec.msgpack.decode")
"""Functions that are called `decode`, as is a method of every byte string."""


@cache
def find_parsers() -> set[str]:
    """`module:function` of each function that calls a parser itself, methods with their class."""
    return {place for path in _list_modules() for place in _find_in(path)}


@cache
def find_decoders() -> set[str]:
    """`module:function` of each public function whose name says that it decodes."""
    return {
        f"{_name(path)}:{function}"
        for path in _list_modules()
        for function, node in _walk_functions(ast.parse(path.read_text()))
        if node.name.startswith(("decode_", "from_bytes", "read_model", "split_bundle"))
    }


def _list_modules() -> Iterator[Path]:
    yield ROOT / "node.py"
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _walk_functions(
    tree: ast.AST, outer: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield outer + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _walk_functions(node, f"{outer}{node.name}.")


def _find_in(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    decoders = _find_decoder_names(tree)
    for function, node in _walk_functions(tree):
        calls = (item for item in ast.walk(node) if isinstance(item, ast.Call))
        if any(_is_parser(call.func, decoders) for call in calls):
            yield f"{_name(path)}:{function}"


def _find_decoder_names(tree: ast.Module) -> set[str]:
    """Names in this module that stand for a decoder: imported, or made once from a library's."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {
                alias.asname or alias.name
                for alias in node.names
                if f"{node.module}.{alias.name}" in DECODERS
            }
        if isinstance(node, ast.Assign) and "Decoder(" in ast.unparse(node.value):
            names |= {ast.unparse(target) for target in node.targets}
    return names


def _is_parser(function: ast.expr, decoders: set[str]) -> bool:
    if isinstance(function, ast.Name):
        return function.id in PRIMITIVES or function.id in decoders
    if not isinstance(function, ast.Attribute):
        return False
    written = ast.unparse(function)
    owner = ast.unparse(function.value)
    return (
        function.attr in PRIMITIVES
        or written in DECODERS
        or (function.attr == "decode" and (owner in decoders or owner.endswith("decoder")))
        or written in ("self._decode",)
    )
