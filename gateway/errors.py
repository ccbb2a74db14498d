"""Refusals of the HTTP interface: whose fault, told as application/problem+json (RFC 9457).

    Refusal                     any answer but success: status, code, found and expected, what to do
    ├── BadRequest        400   the body or a parameter is not what the interface takes
    ├── NotLoggedIn       401   no token, or one that does not hold; why is not told
    ├── NotAllowed        403   the account's role may not do this at all
    ├── NotThere          404   absent, or not yours: the same answer for both
    ├── TooSlow           408   a body that does not come
    ├── InConflict        409   what was asked contradicts what is there
    ├── Gone              410   it was here and was deleted: another node may have it
    ├── TooLarge          413   a body beyond its limit
    ├── WrongMediaType    415   a content type or encoding that is not taken
    ├── TooMany           429   a rate or a number at once
    ├── CopyRejected      502   a holder's answer did not verify
    └── Unavailable       503   not now: Retry-After says when

Nothing else leaves a handler: any other exception is logged with the request's id and answered 500 without
a word about it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from client.models import Problem

PROBLEM_TYPE: Final = "application/problem+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger("gateway")


class Refusal(Exception):
    """An answer that refuses."""

    status = 400

    def __init__(
        self, code: str, message: str, what_to_do: str = "", *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.what_to_do = what_to_do
        self.retry_after_seconds = retry_after_seconds

    def build_response(self) -> web.Response:
        problem = Problem(
            status=self.status, code=self.code, message=self.message, what_to_do=self.what_to_do
        )
        response = web.Response(
            status=self.status, body=problem.model_dump_json().encode(), content_type=PROBLEM_TYPE
        )
        if self.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(self.retry_after_seconds)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


class BadRequest(Refusal):
    status = 400


class NotLoggedIn(Refusal):
    status = 401

    def __init__(self) -> None:
        super().__init__("not_logged_in", "no valid access token found", "log in and send the token")


class NotAllowed(Refusal):
    status = 403

    def __init__(self) -> None:
        super().__init__("not_allowed", "this account's role may not do this", "ask an officer")


class NotThere(Refusal):
    status = 404

    def __init__(self, what_to_do: str = "check the id") -> None:
        super().__init__("not_found", "nothing is here, or nothing that is yours", what_to_do)


class TooSlow(Refusal):
    status = 408


class InConflict(Refusal):
    status = 409


class Gone(Refusal):
    """Blocks below the lowest height that this node holds."""

    status = 410

    def __init__(self, base: int) -> None:
        super().__init__(
            "pruned", f"blocks below height {base} are not held here", "ask a node that keeps all blocks"
        )


class TooLarge(Refusal):
    status = 413


class WrongMediaType(Refusal):
    status = 415


class TooMany(Refusal):
    status = 429


class CopyRejected(Refusal):
    status = 502


class Unavailable(Refusal):
    status = 503


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals into problem bodies and anything unforeseen into a bare 500."""
    try:
        response = await handler(request)
    except Refusal as refusal:
        return refusal.build_response()
    except web.HTTPException as error:
        return _answer_http(error)
    except ConnectionResetError:
        raise  # The client left: there is nobody to answer.
    except Exception as error:
        request_id = secrets.token_hex(8)
        # The text of an exception may hold a patient's data; its kind and place do not.
        _log.error("request failed", request=request_id, kind=type(error).__name__, where=_find_place(error))
        return _build_internal(request_id)
    if not response.prepared:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _answer_http(error: web.HTTPException) -> web.StreamResponse:
    """aiohttp's own refusals (no such path, no such method, too large) in our form."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    refusal = Refusal(codes.get(error.status, f"status_{error.status}"), error.reason, "see /openapi.json")
    refusal.status = error.status
    response = refusal.build_response()
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _build_internal(request_id: str) -> web.Response:
    refusal = Refusal(
        "internal_error", f"request {request_id} failed", "tell the operator this id; their log has more"
    )
    refusal.status = 500
    return refusal.build_response()


def _find_place(error: BaseException) -> str:
    """Module and line where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
