"""Questions to one peer and their answers, matched by number.

An answer that nobody waits for is dropped; so a late one does no harm and an invented one none either.
"""

from __future__ import annotations

import asyncio
import itertools
from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta


class RequestKind(IntEnum):
    """What is asked for."""

    BODIES = 1
    BLOCKS = 2
    SNAPSHOT = 3


class RequestFailed(Exception):
    """No answer: not connected, too many open requests, refused by the peer, or too late."""


REQUEST_BYTES_MAX: Final = 65_536
"""What one request may say: 2,048 hashes."""


class Request(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    number: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    kind: RequestKind
    payload: Annotated[bytes, Meta(max_length=REQUEST_BYTES_MAX)]


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    number: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    payload: bytes | None
    """None: the peer refuses or has nothing."""


class BadRequest(ValueError):
    """Bytes that are no request or answer, or a payload that makes no sense: the peer's fault."""


_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_answer_decoder = msgspec.msgpack.Decoder(Answer)


def encode_answer(answer: Answer) -> bytes:
    return _encoder.encode(answer)


def decode_request(data: bytes) -> Request:
    """Raises BadRequest."""
    try:
        return _request_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"request: {error}") from error


def decode_answer(data: bytes) -> Answer:
    """Raises BadRequest."""
    try:
        return _answer_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"answer: {error}") from error


class OpenRequests:
    """The requests to one peer that wait for an answer."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}

    def open(self, kind: RequestKind, payload: bytes) -> tuple[bytes, asyncio.Future[bytes | None]]:
        """The encoded request and what will hold the answer's payload. Raises RequestFailed."""
        if len(self._waiting) >= self._requests_max:
            raise RequestFailed(f"{len(self._waiting)} requests are open, no more allowed")
        number = next(self._numbers)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        answer.add_done_callback(lambda _: self._waiting.pop(number, None))
        return _encoder.encode(Request(number, kind, payload)), answer

    def close(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.payload)

    def fail_all(self, reason: str) -> None:
        """The link is gone."""
        for waiting in tuple(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(RequestFailed(reason))
