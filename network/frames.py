"""A frame: what one WebSocket message between two nodes holds.

The MessagePack array `[channel, [bytes, …]]`: many small messages of one kind share the cost of one frame.
The size is bounded before anything is decoded (the WebSocket's own bound), the number of messages after.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

MESSAGES_MAX: Final = 65_536


class Channel(IntEnum):
    """What kind of messages a frame holds; votes are sent before everything else."""

    CONSENSUS = 0
    TRANSACTIONS = 1
    REQUEST = 2
    ANSWER = 3
    GREETING = 4
    OLDEST = 5
    """One transaction, which has waited longest at the sender."""


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A decoded frame."""

    channel: Channel
    messages: Annotated[list[bytes], Meta(min_length=1, max_length=MESSAGES_MAX)]


class BadFrame(ValueError):
    """Bytes that are no frame: the peer's fault; it is dropped and counted."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode_frame(channel: Channel, messages: Sequence[bytes]) -> bytes:
    """The bytes of one frame; the messages are copied once."""
    return _encoder.encode((channel, messages))


def decode_frame(data: bytes, *, messages_max: int = MESSAGES_MAX) -> Frame:
    """Raises BadFrame."""
    try:
        frame = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(f"frame of {len(data)} bytes: {error}") from error
    if len(frame.messages) > messages_max:
        raise BadFrame(f"{len(frame.messages)} messages in one frame found, at most {messages_max} allowed")
    return frame
