"""JSON as this interface takes it: bounded before it is parsed, and one meaning for every text.

Refused, each as BadRequest with a code: deeper nesting than DEPTH_MAX, integers of more digits than
INTEGER_DIGITS_MAX, NaN and the infinities (also by overflow), duplicate keys, anything after the document.
The standard parser takes some of these silently and answers others with an exception of its own kind.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from client.models.faults import list_faults
from gateway.errors import BadRequest

DEPTH_MAX: Final = 32
INTEGER_DIGITS_MAX: Final = 20

ModelT = TypeVar("ModelT", bound=BaseModel)

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def read_model(kind: type[ModelT], data: bytes) -> ModelT:
    """The model that `data` holds. Raises BadRequest: `bad_json`, `too_deep`, …, `bad_field`."""
    check_json(data)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise BadRequest(
            "bad_field", f"{kind.__name__}: {describe_faults(error)}", "see /openapi.json for the fields"
        ) from None


def check_json(data: bytes) -> None:
    """Return when `data` is one unambiguous JSON document. Raises BadRequest."""
    _check_depth(data)
    try:
        json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_check_integer,
            parse_float=_check_float,
        )
    except (ValueError, RecursionError) as error:
        # Positions are told, never the text: it may be a patient's.
        place = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequest("bad_json", f"no JSON document in UTF-8 found{place}", "send valid JSON") from None


def describe_faults(error: ValidationError) -> str:
    """Where and why, without the values."""
    return "; ".join(f"{place}: {message}" for place, message in list_faults(error))


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _BRACKETS.finditer(data):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > DEPTH_MAX:
                raise BadRequest(
                    "too_deep", f"nesting deeper than {DEPTH_MAX} levels found", "send a flatter document"
                )
        elif token in (b"]", b"}"):
            depth -= 1


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("duplicate_key", "one key found twice in an object", "send each key once")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest("bad_number", f"{name} found, a finite number expected", "send valid JSON")


def _check_integer(digits: str) -> int:
    if len(digits.lstrip("-")) > INTEGER_DIGITS_MAX:
        raise BadRequest(
            "bad_number",
            f"an integer of {len(digits)} digits found, at most {INTEGER_DIGITS_MAX} expected",
            "send a smaller number",
        )
    return int(digits)


def _check_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRequest("bad_number", "a number beyond all bounds found", "send a finite number")
    return value
