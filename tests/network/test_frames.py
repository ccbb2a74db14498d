"""Frames: what is encoded comes out again, and nothing else comes out at all."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.frames import BadFrame, Channel, decode_frame, encode_frame


@given(st.sampled_from(Channel), st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_decoding_undoes_encoding(channel: Channel, messages: list[bytes]) -> None:
    frame = decode_frame(encode_frame(channel, messages))
    assert (frame.channel, frame.messages) == (channel, messages)


@given(st.sampled_from(Channel), st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_a_frame_is_plain_messagepack(channel: Channel, messages: list[bytes]) -> None:
    assert msgpack.unpackb(encode_frame(channel, messages)) == [int(channel), messages]


@given(st.binary(max_size=200))
def test_any_other_bytes_are_a_bad_frame_and_no_other_error(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except BadFrame:
        return
    assert decode_frame(encode_frame(frame.channel, frame.messages)) == frame


def test_d1_more_messages_than_allowed_are_refused() -> None:
    with pytest.raises(BadFrame, match="at most 3"):
        decode_frame(encode_frame(Channel.CONSENSUS, [b""] * 4), messages_max=3)


def test_d1_a_length_that_lies_allocates_nothing() -> None:
    with pytest.raises(BadFrame):
        decode_frame(b"\x92\x00\xdd\xff\xff\xff\xff")
    with pytest.raises(BadFrame):
        decode_frame(b"\x92\x00\x91\xc6\xff\xff\xff\xff")
