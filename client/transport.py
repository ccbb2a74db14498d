"""One HTTP connection pool to one gateway: sends, bounds and checks answers, turns refusals into errors."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from pydantic import BaseModel, ValidationError

from client.errors import AnswerRejected, Refused, Unreachable

ANSWER_BYTES_MAX: Final = 134_217_728
"""A larger answer is refused unread."""

EVENT_LINE_BYTES_MAX: Final = 262_144

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

ModelT = TypeVar("ModelT", bound=BaseModel)
Parameters = Mapping[str, str]


class Transport:
    """Requests to `gateway_url`; TLS verified against `ca_file`, or the system's authorities without one."""

    def __init__(self, gateway_url: str, *, ca_file: Path | None, timeout_seconds: float) -> None:
        self.gateway_url = gateway_url.rstrip("/")
        self._ca_file = ca_file
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=10)
        self._session: aiohttp.ClientSession | None = None
        self.access_token: str | None = None

    async def open(self) -> None:
        url = urlsplit(self.gateway_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in LOOPBACK):
            raise Unreachable(self.gateway_url, "https expected; plain http is for loopback only")
        try:
            context = ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))
        except OSError as error:
            raise Unreachable(
                self.gateway_url, f"CA file {self._ca_file}: {error.strerror or error}"
            ) from error
        connector = aiohttp.TCPConnector(ssl=context)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        answer: type[ModelT],
        *,
        body: BaseModel | bytes | None = None,
        content_type: str = "application/json",
        parameters: Parameters | None = None,
    ) -> ModelT:
        """The answer as `answer`. Raises Refused, Unreachable, AnswerRejected."""
        data = await self.request_bytes(
            method, path, body=body, content_type=content_type, parameters=parameters
        )
        try:
            return answer.model_validate_json(data)
        except ValidationError as error:
            raise AnswerRejected(
                f"{self.gateway_url}{path}: {answer.__name__} expected, found otherwise: {error}"
            ) from error

    async def request_bytes(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | bytes | None = None,
        content_type: str = "application/json",
        parameters: Parameters | None = None,
    ) -> bytes:
        """The answer's bytes, at most ANSWER_BYTES_MAX. Raises Refused for any status but 2xx."""
        status, data = await self.exchange(
            method, path, body=body, content_type=content_type, parameters=parameters
        )
        if not 200 <= status < 300:
            raise _read_problem(status, data)
        return data

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | bytes | None = None,
        content_type: str = "application/json",
        parameters: Parameters | None = None,
    ) -> tuple[int, bytes]:
        """Status and bytes of the answer, whatever the status."""
        data = body.model_dump_json().encode() if isinstance(body, BaseModel) else body
        headers = self._build_headers()
        if data is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._get_session().request(
                method,
                self.gateway_url + path,
                # aiohttp sends a file in pieces, so a large body does not hold up the loop.
                data=None if data is None else io.BytesIO(data),
                headers=headers,
                params=parameters,
                allow_redirects=False,
            ) as response:
                return response.status, await self._read_bounded(response, path)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(self.gateway_url, str(error) or type(error).__name__) from error

    async def stream_lines(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[str]:
        """The lines of an endless answer, without their line ends."""
        no_timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
        try:
            async with self._get_session().get(
                self.gateway_url + path,
                headers={**self._build_headers(), **headers},
                timeout=no_timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise _read_problem(response.status, await self._read_bounded(response, path))
                while line := await response.content.readline(max_line_length=EVENT_LINE_BYTES_MAX):
                    yield line.decode("utf-8", errors="replace").rstrip("\r\n")
        except LineTooLong as error:
            raise AnswerRejected(
                f"{self.gateway_url}{path}: a line of more than {EVENT_LINE_BYTES_MAX} bytes found"
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(self.gateway_url, str(error) or type(error).__name__) from error

    async def _read_bounded(self, response: aiohttp.ClientResponse, path: str) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_chunked(65_536):
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise AnswerRejected(f"{self.gateway_url}{path}: more than {ANSWER_BYTES_MAX} bytes found")
            parts.append(part)
        return b"".join(parts)

    def _build_headers(self) -> dict[str, str]:
        return {} if self.access_token is None else {"Authorization": f"Bearer {self.access_token}"}

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use it as `async with Client(...) as client`")
        return self._session


def _read_problem(status: int, data: bytes) -> Refused:
    """A refusal as the gateway told it, or the bare status where something else answered."""
    try:
        problem = json.loads(data)
        return Refused(status, problem["code"], problem["message"], problem.get("what_to_do", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Refused(status, f"status_{status}", f"HTTP status {status} without an explanation found")
