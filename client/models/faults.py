"""What a model refused, in words that are told to people: where, and what was expected there."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

FAULTS_SHOWN_MAX: Final = 5
_PLACE_CHARACTERS_MAX: Final = 80
_LENGTHS: Final = {"too_short": ("at least", "min_length"), "too_long": ("at most", "max_length")}


def list_faults(error: ValidationError) -> list[tuple[str, str]]:
    """Place (dotted, `body` for the whole) and message of the first faults; no value is repeated."""
    faults = error.errors(include_url=False, include_input=False)
    places = [fault["loc"] for fault in faults]
    shown = []
    for fault in faults:
        place = fault["loc"]
        is_consequence = fault["type"] in _LENGTHS and any(
            other != place and other[: len(place)] == place for other in places
        )
        # What was refused within a list is missing from its count: that is no second fault.
        if not is_consequence:
            shown.append((".".join(map(str, place))[:_PLACE_CHARACTERS_MAX] or "body", _describe(fault)))
    return shown[:FAULTS_SHOWN_MAX]


def _describe(fault: object) -> str:
    assert isinstance(fault, dict)
    if fault["type"] not in _LENGTHS:
        return str(fault["msg"])
    words, limit = _LENGTHS[fault["type"]]
    context = fault["ctx"]
    return f"{context.get('actual_length', 'more')} items found, {words} {context[limit]} expected"
