"""A bug that a published system had, as a small change of our own code in the running test process.

Invariant: an edit names the text that it replaces, and that text must occur exactly once. So a mutant whose
target has changed fails loudly and is rewritten, instead of patching nothing and being "caught" by chance.

    EditDoesNotFit      the code is no longer what the mutant was written for
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import FunctionType
from typing import Protocol

import pytest


class EditDoesNotFit(ValueError):
    """The text to replace is not there exactly once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in the body of one function, method or property; one for each function."""

    target: str
    """`module:name` or `module:Class.name`."""
    before: str
    after: str

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Exchange the function's code; whoever has imported the function has it too.

        Raises EditDoesNotFit.
        """
        function = _find(self.target)
        source = textwrap.dedent(inspect.getsource(function))
        if (found := source.count(self.before)) != 1:
            raise EditDoesNotFit(f"{self.target}: {self.before!r} found {found} times, once expected")
        patch.setattr(function, "__code__", _compile(function, source.replace(self.before, self.after)))


def _find(target: str) -> FunctionType:
    module, _, path = target.partition(":")
    found: object = import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    elif isinstance(found, classmethod | staticmethod):
        found = found.__func__
    if not isinstance(found, FunctionType):
        raise EditDoesNotFit(f"{target}: {type(found).__name__} found, a function expected")
    return found


def _compile(function: FunctionType, source: str) -> object:
    lines = source.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(("def ", "async def ")))
    text = "\n".join(lines[first:])
    made: dict[str, FunctionType] = {}
    flags = __future__.annotations.compiler_flag
    exec(
        compile(text, f"<mutant of {function.__qualname__}>", "exec", flags=flags), function.__globals__, made
    )
    return made[function.__name__].__code__


@dataclass(frozen=True, slots=True)
class Finding:
    """How a mutant was caught."""

    where: str
    """The seed, or the test that failed."""
    what: str
    """The invariant that was broken, or the error of the test."""


class Check(Protocol):
    """What must catch a mutant."""

    def find(self) -> Finding | None:
        """Look for the bug in the code as it now runs; None when nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One entry of the catalogue."""

    name: str
    """Says what the bug does, as an identifier."""
    rule: str
    """Number of the rule in docs/protocol.md that it breaks."""
    history: str
    """Who had it: project and issue, or paper; and what came of it."""
    edits: tuple[Edit, ...]
    caught_by: Check

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        for edit in self.edits:
            edit.apply(patch)
