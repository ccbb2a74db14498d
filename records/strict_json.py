"""JSON with one meaning for every text, and with the place of each value in it.

Other parsers read what is malformed or ambiguous in different ways, and a record must not mean one thing to
its holder and another to its reader. Refused are: text that is not UTF-8 or begins with a byte order mark,
NaN and the infinities (also by overflow), numbers of too many digits, one key twice in an object, deep
nesting, anything after the document. Source: RFC 8259; RFC 7493 (I-JSON) for keys and text.

`Walker` goes through the members of chosen objects and arrays and tells where each value begins and ends,
so that a part can be kept exactly as it came.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Final, NoReturn, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

DEPTH_MAX: Final = 64
"""Arrays and objects in each other; FHIR's deepest customary resources need about 20."""
CONTAINERS_MAX: Final = 400_000
"""Arrays and objects in one document: a patient's whole history in 8 MiB has a fourth of it."""
QUOTES_MAX: Final = 1_500_000
"""Quotes in one document, of strings and in them: a patient's whole history in 8 MiB has half of it."""
INTEGER_DIGITS_MAX: Final = 20
NUMBER_CHARACTERS_MAX: Final = 64

_SPACE = re.compile(r"[ \t\n\r]*")
# The closing quote is optional and the repetition gives nothing back: an unfinished string is passed over
# once, and not tried again from each of its quotes, which would take time by the square of its length.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"
_NO_BRACKETS = bytes(set(range(256)) - set(_OPENING + _CLOSING))


class JsonRefused(ValueError):
    """The text is not JSON as it is taken here; `offset` counts characters, where it is known."""

    def __init__(self, found: str, expected: str, *, offset: int | None = None) -> None:
        place = "" if offset is None else f" at character {offset}"
        super().__init__(f"{found} found{place}, {expected} expected")
        self.found = found
        self.expected = expected
        self.offset = offset


def decode_text(raw: bytes) -> str:
    """The text of a document whose depth and number of parts are within bounds. Raises JsonRefused."""
    _check_structure(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonRefused(f"a byte that is no UTF-8, at byte {error.start}", "text in UTF-8") from None
    if text.startswith("\ufeff"):
        raise JsonRefused("a byte order mark", "UTF-8 without one", offset=0)
    return text


def _check_structure(raw: bytes) -> None:
    """Bound what a small text could make a parser build or a stack hold, before it is parsed."""
    if raw.count(b'"') > QUOTES_MAX:
        raise JsonRefused(f"more than {QUOTES_MAX} quotes", "a smaller document")
    brackets = _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS)
    if len(brackets) > 2 * CONTAINERS_MAX:
        raise JsonRefused(f"more than {CONTAINERS_MAX} arrays and objects", "a smaller document")
    depth = 0
    for bracket in brackets:
        if bracket in _OPENING:
            depth += 1
            if depth > DEPTH_MAX:
                raise JsonRefused(f"nesting deeper than {DEPTH_MAX} levels", "a flatter document")
        else:
            depth -= 1


class Walker:
    """Walks one text; positions are offsets in characters."""

    __slots__ = ("_decoder", "end", "text")

    def __init__(self, text: str) -> None:
        """`text` comes from `decode_text`, which has bounded its depth."""
        self.text = text
        self.end = 0
        """Where the array or object that was walked last ended."""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
            parse_float=_parse_float,
        )

    def skip_space(self, position: int) -> int:
        found = _SPACE.match(self.text, position)
        return found.end() if found else position

    def read_value(self, position: int) -> tuple[Json, int]:
        """The value that begins at `position`, and where it ends. Raises JsonRefused."""
        try:
            value, end = self._decoder.raw_decode(self.text, position)
        except json.JSONDecodeError as error:
            raise JsonRefused("no JSON value", "one", offset=error.pos) from None
        except RecursionError:
            raise JsonRefused("nesting too deep", "a flatter document") from None
        return value, end

    def read_members(self, position: int) -> Iterator[tuple[str, int, SkipTo]]:
        """Key and place of each member of the object at `position`; see `SkipTo`. Raises JsonRefused."""
        seen: set[str] = set()
        for place, skip_to in self._walk(position, "{", "}"):
            key, colon = self._read_key(place)
            if key in seen:
                raise JsonRefused("one key twice in an object", "each key once", offset=place)
            seen.add(key)
            yield key, self.skip_space(colon + 1), skip_to

    def read_items(self, position: int) -> Iterator[tuple[int, SkipTo]]:
        """Place of each item of the array at `position`; see `SkipTo`. Raises JsonRefused."""
        return self._walk(position, "[", "]")

    def finish(self, position: int) -> None:
        """Return when nothing but space follows. Raises JsonRefused."""
        position = self.skip_space(position)
        if position != len(self.text):
            raise JsonRefused("more text after the document", "one document", offset=position)

    def _walk(self, position: int, opening: str, closing: str) -> Iterator[tuple[int, SkipTo]]:
        if self.text[position : position + 1] != opening:
            raise JsonRefused("another value", f"a value beginning with {opening}", offset=position)
        position = self.skip_space(position + 1)
        skip_to = SkipTo()
        if self.text[position : position + 1] == closing:
            self.end = position + 1
            return
        while True:
            yield position, skip_to
            position = self.skip_space(skip_to.take())
            mark = self.text[position : position + 1]
            if mark == closing:
                self.end = position + 1
                return
            if mark != ",":
                raise JsonRefused("another character", f"a comma or {closing}", offset=position)
            position = self.skip_space(position + 1)
            if self.text[position : position + 1] == closing:
                raise JsonRefused(f"a comma before {closing}", "a value after a comma", offset=position)

    def _read_key(self, position: int) -> tuple[str, int]:
        if self.text[position : position + 1] != '"':
            raise JsonRefused("another character", "a key in quotes", offset=position)
        key, end = self.read_value(position)
        assert isinstance(key, str), "a value that begins with a quote is text"
        end = self.skip_space(end)
        if self.text[end : end + 1] != ":":
            raise JsonRefused("another character", "a colon", offset=end)
        return key, end


class SkipTo:
    """How the reader of a value tells the walk where that value ended."""

    __slots__ = ("_position",)

    def __init__(self) -> None:
        self._position: int | None = None

    def __call__(self, position: int) -> None:
        self._position = position

    def take(self) -> int:
        position, self._position = self._position, None
        assert position is not None, "the reader of a value tells where it ended"
        return position


def _refuse_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonRefused("one key twice in an object", "each key once")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise JsonRefused(name, "a finite number")


def _parse_integer(digits: str) -> int:
    if len(digits.lstrip("-")) > INTEGER_DIGITS_MAX:
        raise JsonRefused(f"an integer of {len(digits)} digits", f"at most {INTEGER_DIGITS_MAX}")
    return int(digits)


def _parse_float(text: str) -> float:
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise JsonRefused(f"a number of {len(text)} characters", f"at most {NUMBER_CHARACTERS_MAX}")
    value = float(text)
    if not math.isfinite(value):
        raise JsonRefused("a number beyond all bounds", "a finite number")
    return value
