"""Canonical encoding: one value, one spelling; everything else is refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from crypto.encoding import DEPTH_MAX, EncodingError, decode, decode_as, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=20,
)


class Pair(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    number: int
    data: bytes


@given(VALUES)
def test_decoding_what_was_encoded_gives_the_value_back(value: object) -> None:
    assert decode(encode(value), size_max=10_000) == value


@given(st.binary(max_size=60))
def test_whatever_decodes_is_the_one_spelling_of_its_value(data: bytes) -> None:
    try:
        value = decode(data, size_max=60)
    except EncodingError:
        return
    assert encode(value) == data


@given(st.integers(-(2**63), 2**64 - 1), st.binary(max_size=40))
def test_a_struct_has_the_same_bytes_as_the_plain_array(number: int, data: bytes) -> None:
    assert encode(Pair(number, data)) == encode((number, data))
    assert decode_as(Pair, encode((number, data)), size_max=100) == Pair(number, data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xcd\x00\x01", "an integer in three bytes that fits in one"),
        (b"\xc5\x00\x01x", "a byte string with a longer length than needed"),
        (msgpack.packb(1.5), "a float"),
        (msgpack.packb({1: 2}), "a map"),
        (msgpack.packb({}), "an empty map"),
        (b"\x91" * 100_000, "arrays nested without end"),
        (b"\x91" * (DEPTH_MAX + 1) + b"\x01", "arrays nested one level too deep"),
        (b"\x92\x01" * 50_000, "arrays nested behind other values"),
        (b"\x01\x02", "two values"),
        (b"\x92\x01", "a truncated array"),
        (b"\xa1\xff", "text that is not UTF-8"),
        (b"\xc7\x01\x05x", "an extension type"),
        (b"\xdd\xff\xff\xff\xff", "a length of four billion"),
        (b"", "nothing"),
    ],
)
def test_other_spellings_and_types_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(EncodingError):
        decode(data, size_max=1_000_000)
    with pytest.raises(EncodingError):
        decode_as(Pair, data, size_max=1_000_000)


def test_size_is_checked_before_anything_is_built() -> None:
    with pytest.raises(EncodingError, match="at most 10"):
        decode(b"\xc4\x20" + bytes(32), size_max=10)


@pytest.mark.parametrize("value", [1.5, {1: 2}, {1}, 2**64, object(), [[1.0]], "\ud800"])
def test_what_has_no_canonical_form_is_not_encoded(value: object) -> None:
    with pytest.raises(EncodingError):
        encode(value)


def test_missing_and_surplus_fields_are_refused() -> None:
    for fields in ((1,), (1, b"", 2), ("1", b"")):
        with pytest.raises(EncodingError, match="Pair"):
            decode_as(Pair, encode(fields), size_max=100)
