"""Reading request bodies: type and size first, then the bytes, then their meaning."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel

from gateway.errors import BadRequest, Handler, TooLarge, TooSlow, Unavailable, WrongMediaType
from gateway.settings import GatewaySettings
from gateway.strict_json import read_model

JSON_TYPE: Final = "application/json"

SHARED_PARAMETERS: Final = web.RequestKey("shared_parameters", tuple[str, ...])
"""Query parameters of this request that were read before its handler."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class BodyRoom:
    """How many bytes of bodies are in memory at once, each until its request has been answered."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.taken = 0

    def take(self, request: web.Request, size: int) -> None:
        """Room for so many bytes more of this request. Raises Unavailable."""
        if self.taken + size > self._bytes_max:
            raise Unavailable(
                "too_many_bodies",
                f"{self.taken} bytes of requests in progress found, at most {self._bytes_max} allowed",
                "send the request again",
                retry_after_seconds=1,
            )
        self.taken += size
        request[_TAKEN] = request.get(_TAKEN, 0) + size

    def give_back(self, request: web.Request) -> None:
        """The request has been answered, or given up."""
        self.taken -= request.get(_TAKEN, 0)


BODY_ROOM: Final = web.AppKey("body_room", BodyRoom)
_TAKEN: Final = web.RequestKey("body_bytes", int)


async def read_json_body(request: web.Request, kind: type[ModelT], *, settings: GatewaySettings) -> ModelT:
    """The body as `kind`. Raises BadRequest, TooLarge, TooSlow, WrongMediaType."""
    check_media_type(request, JSON_TYPE)
    data = await read_body(request, size_max=settings.json_bytes_max, timeout_ms=settings.body_timeout_ms)
    return read_model(kind, data)


def check_media_type(request: web.Request, *allowed: str) -> str:
    """The content type, one of `allowed`. Raises WrongMediaType for others and for compressed bodies."""
    if "Content-Encoding" in request.headers:
        raise WrongMediaType(
            "compressed_body", "a compressed body found, a plain one expected", "send it uncompressed"
        )
    if request.content_type not in allowed:
        raise WrongMediaType(
            "wrong_media_type",
            f"content type {request.content_type[:80]!r} found, {' or '.join(allowed)} expected",
            "set the Content-Type header",
        )
    return request.content_type


async def read_body(request: web.Request, *, size_max: int, timeout_ms: int) -> bytes:
    """At most `size_max` bytes; a longer body is refused before it is read.

    Raises TooLarge, TooSlow, Unavailable `too_many_bodies`.
    """
    if request.content_length is not None and request.content_length > size_max:
        raise _refuse_size(request.content_length, size_max)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await _read_parts(request, size_max)
    except TimeoutError:
        raise TooSlow(
            "too_slow", f"a body that took more than {timeout_ms} ms found", "send it faster, or in parts"
        ) from None


async def _read_parts(request: web.Request, size_max: int) -> bytes:
    parts, size = [], 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > size_max:
            raise _refuse_size(size, size_max)
        request.app[BODY_ROOM].take(request, len(part))
        parts.append(part)
    return b"".join(parts)


def refuse_body(handler: Handler) -> Handler:
    """The handler of an operation that takes no body: one that is sent is refused, and not read."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.can_read_body:
            raise BadRequest("unexpected_body", "a body found, none expected", "send it without a body")
        return await handler(request)

    return handle


def get_path_bytes(request: web.Request, name: str, size_bytes: int) -> bytes:
    """A path parameter of so many bytes in hexadecimal. Raises BadRequest `bad_id`."""
    return parse_hex(request.match_info[name], size_bytes, name)


def get_query_bytes(request: web.Request, name: str, size_bytes: int) -> bytes | None:
    """A query parameter of so many bytes in hexadecimal, or None. Raises BadRequest `bad_id`."""
    text = request.query.get(name)
    return None if text is None else parse_hex(text, size_bytes, name)


def get_query_integer(request: web.Request, name: str, *, largest: int) -> int | None:
    """A query parameter from 0 to `largest`, or None. Raises BadRequest `bad_parameter`."""
    text = request.query.get(name)
    if text is None:
        return None
    # isdigit alone takes superscripts and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > largest:
        raise BadRequest(
            "bad_parameter", f"{name}: a whole number from 0 to {largest} expected", "see /openapi.json"
        )
    return int(text)


def check_query(request: web.Request, *known: str) -> None:
    """Raises BadRequest `unknown_parameter` for any other query parameter, or one given twice.

    `min_height` is known too where the operation takes it.
    """
    known = (*known, *request.get(SHARED_PARAMETERS, ()))
    names = [name for name, _ in request.query.items()]
    extra = set(names) - set(known)
    if extra or len(names) != len(set(names)):
        raise BadRequest(
            "unknown_parameter",
            f"query parameters beyond {', '.join(known) or 'none'} found, or one twice",
            "see /openapi.json",
        )


def parse_hex(text: str, size_bytes: int, name: str) -> bytes:
    """Exactly so many bytes in lower-case hexadecimal. Raises BadRequest `bad_id`."""
    if len(text) != 2 * size_bytes or any(character not in "0123456789abcdef" for character in text):
        raise BadRequest(
            "bad_id", f"{name}: {2 * size_bytes} lower-case hexadecimal digits expected", "check the id"
        )
    return bytes.fromhex(text)


def build_json(answer: BaseModel, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=answer.model_dump_json().encode(), content_type=JSON_TYPE)


def _refuse_size(found: int, size_max: int) -> TooLarge:
    return TooLarge(
        "too_large", f"a body of {found} bytes or more found, at most {size_max} allowed", "send less at once"
    )
