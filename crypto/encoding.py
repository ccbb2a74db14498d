"""Canonical encoding: one value, one byte string (a strict subset of MessagePack).

Allowed are integers of 64 bits, byte strings, text, booleans, nil and arrays. Maps and floats are not:
a map has no natural order and a float no single spelling. Integers and lengths take their shortest form.
`decode` refuses whatever `encode` would not have produced, and checks size and depth before it builds
anything, so a hostile peer can neither exhaust memory nor find a second spelling of signed bytes.

Typed data (`msgspec.Struct` with `array_like=True`) uses the same subset through `decode_as`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

import msgpack
import msgspec

DEPTH_MAX: Final = 16
"""How deep arrays may nest; the deepest format of the ledger needs 8."""

Value: TypeAlias = "int | bytes | str | bool | Sequence[Value] | None"

_LEAVES: Final = frozenset((bytes, int, str, bool, type(None)))
_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[object, msgspec.msgpack.Decoder[object]] = {}


class EncodingError(ValueError):
    """Bytes that are not the canonical encoding of an allowed value: the sender's fault."""


def encode(value: object) -> bytes:
    """The canonical bytes of a plain value or of an `array_like` struct.

    Raises EncodingError for floats, maps, integers beyond 64 bits and arrays deeper than DEPTH_MAX.
    """
    if not isinstance(value, msgspec.Struct):
        _check_value(value, DEPTH_MAX)
    try:
        encoded: bytes = _encoder.encode(value)
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise EncodingError(f"value cannot be encoded: {error}") from error
    return encoded


def decode(data: bytes, *, size_max: int) -> Value:
    """The plain value that `data` encodes; arrays come back as tuples.

    Raises EncodingError when `data` is longer than `size_max` bytes, nests deeper than DEPTH_MAX, holds a
    float or a map, or is not the one canonical spelling.
    """
    _check_size(data, size_max)
    try:
        value: Value = msgpack.unpackb(data, use_list=False, raw=False, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise EncodingError(f"not canonical MessagePack: {error or type(error).__name__}") from error
    if encode(value) != data:
        raise EncodingError("not the shortest encoding of its value: encode it canonically")
    return value


def decode_as(kind: type[_T], data: bytes, *, size_max: int) -> _T:
    """The struct of type `kind` that `data` encodes, its field constraints checked.

    Raises EncodingError like `decode`, and when a field is missing, unknown or out of its bounds; the
    message names the field by its position.
    """
    _check_size(data, size_max)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value = decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise EncodingError(f"not a {kind.__name__}: {error}") from error
    if _encoder.encode(value) != data:
        raise EncodingError(f"not the canonical encoding of a {kind.__name__}")
    return value  # type: ignore[return-value]


def _check_size(data: bytes, size_max: int) -> None:
    if len(data) > size_max:
        raise EncodingError(f"{len(data)} bytes found, at most {size_max} allowed: send less at once")


def _check_value(value: object, depth_left: int) -> None:
    if isinstance(value, (list, tuple)):
        if depth_left == 0:
            raise EncodingError(f"arrays nest deeper than {DEPTH_MAX} levels")
        for item in value:
            if type(item) not in _LEAVES:  # Most are leaves, and a call for each would be most of the cost.
                _check_value(item, depth_left - 1)
    elif value is not None and not isinstance(value, (bytes, int, str, msgspec.Struct)):
        raise EncodingError(
            f"{type(value).__name__} has no canonical encoding: use integers, bytes, text, arrays"
        )
