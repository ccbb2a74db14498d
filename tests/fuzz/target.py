"""A target: one decoder, valid examples to alter, and the one way in which it may refuse."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from tests.fuzz.mutations import Format, mutate
from tests.fuzz.structures import generate

ResultT = TypeVar("ResultT")

VECTORS: Final[dict[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("vectors/ledger.json").read_text()
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Target:
    """What is fuzzed and what must hold: it returns a value or raises one of `refusals`, nothing else."""

    places: tuple[str, ...]
    """Every `module:function` of the inventory that this target runs through; the first names the target."""
    decode: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    make_examples: Callable[[], Sequence[bytes]]
    """Valid encodings; made when first needed."""
    encode: Callable[[Any], bytes] | None = None
    """For canonical formats: what decodes must encode to the very bytes it came from."""
    form: Format | None = None
    start: int = 0
    """Where the example's tree begins."""
    structure: Any = None
    """The msgspec type behind the bytes, for values made anew within its bounds."""
    wrap: Callable[[Any], bytes] | None = None
    """The bytes of a value of `structure`."""
    is_file: bool = False
    """Reads a file of the operator's own, at a start: nobody else can make it happen again and again."""

    def __repr__(self) -> str:
        return f"Target({self.name})"

    @property
    def name(self) -> str:
        return self.places[0]

    def make_input(self, random: Random, examples: Sequence[bytes]) -> bytes:
        """Hostile bytes: noise, an altered example, or another value of the same type."""
        kind = random.random()
        if kind < 0.05:
            return random.randbytes(random.choice((0, 1, 16, 64, 300)))
        if kind < 0.3 and self.wrap is not None:
            data = self.wrap(generate(random, self.structure))
            return data if random.random() < 0.5 else mutate(random, data, self.form, start=self.start)
        return mutate(random, random.choice(examples), self.form, start=self.start)

    def check(self, data: bytes) -> bool:
        """Whether `data` decodes. Raises whatever the decoder must not raise."""
        try:
            value = self.decode(data)
        except self.refusals:
            return False
        if self.encode is not None:
            assert self.encode(value) == data, f"{self.name}: decodes what it would not have encoded"
        return True


def finish(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What comes of a coroutine that waits for nothing real; much cheaper than an event loop for each."""
    try:
        work.send(None)
    except StopIteration as end:
        result: ResultT = end.value
        return result
    raise AssertionError("it waits for something")


@contextmanager
def folder_of() -> Iterator[Path]:
    """A folder for the length of one call."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def file_of(data: bytes, name: str = "file") -> Iterator[Path]:
    """A file of the owner's own, mode 0600, with these bytes."""
    with folder_of() as folder:
        path = folder / name
        path.touch(0o600)
        path.write_bytes(data)
        yield path
