"""Other institutions' gateways: one pool of connections, only to addresses that the registry names."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from contracts.registry import InstitutionRow
from crypto.encoding import EncodingError, decode_as, encode
from gateway.delivery import DELIVERY_TYPE, Delivery, TicketRequest
from gateway.errors import CopyRejected, NotThere, Refusal, Unavailable
from gateway.settings import GatewaySettings

ENVELOPE_BYTES: Final = 1_024
"""What a delivery holds beside the sealed bytes."""

PROBLEM_BYTES_MAX: Final = 65_536
RETRY_SECONDS: Final = 0.5


class RecordAlteredThere(CopyRejected):
    """The holder found that its stored record is not what it committed to."""


class Holders:
    """Fetches sealed copies by ticket. TLS is verified against the consortium's authority."""

    def __init__(self, *, tls: ssl.SSLContext, settings: GatewaySettings) -> None:
        self._tls = tls
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=64, limit_per_host=16),
            timeout=aiohttp.ClientTimeout(total=self._settings.holder_timeout_ms / 1000, connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(self, holder: InstitutionRow, ticket: bytes, request: TicketRequest) -> Delivery:
        """The holder's answer to a ticket, not verified yet.

        Raises NotThere when it refuses, RecordAlteredThere, Unavailable when it is down or stays behind,
        CopyRejected for an answer out of form or bounds.
        """
        url = urlsplit(holder.gateway_url)
        if url.scheme != "https":
            raise Unavailable("holder_unreachable", f"address {holder.gateway_url} is not https", "tell them")
        address = f"{holder.gateway_url.rstrip('/')}/v1/tickets/{ticket.hex()}/records"
        for attempt in range(self._settings.holder_attempts_max):
            if attempt:
                await asyncio.sleep(RETRY_SECONDS * attempt)
            try:
                status, data = await self._post(address, encode(request))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unavailable(
                    "holder_unreachable",
                    f"institution {holder.institution.hex()}: {type(error).__name__}",
                    "ask again later",
                    retry_after_seconds=5,
                ) from None
            if status not in (429, 503):
                break
        return _read_answer(holder, status, data)

    async def _post(self, address: str, body: bytes) -> tuple[int, bytes]:
        assert self._session is not None, "the pool is opened with the application"
        size_max = self._settings.delivery_bytes_max + ENVELOPE_BYTES
        async with self._session.post(
            address, data=body, headers={"Content-Type": DELIVERY_TYPE}, allow_redirects=False
        ) as response:
            limit = size_max if response.status == 200 else PROBLEM_BYTES_MAX
            parts, size = [], 0
            async for part in response.content.iter_chunked(65_536):
                size += len(part)
                if size > limit:
                    raise CopyRejected("copy_rejected", f"more than {limit} bytes found", "tell the holder")
                parts.append(part)
            return response.status, b"".join(parts)


def _read_answer(holder: InstitutionRow, status: int, data: bytes) -> Delivery:
    match status:
        case 200:
            try:
                return decode_as(Delivery, data, size_max=len(data))
            except EncodingError as error:
                raise CopyRejected("copy_rejected", f"delivery: {error}", "tell the holder") from None
        case 404:
            raise NotThere
        case 409 if b"record_altered" in data:
            raise RecordAlteredThere(
                "record_altered",
                f"institution {holder.institution.hex()} found a record altered; nothing was served",
                "the alert is on the ledger; ask the holder to restore the record",
            )
        case 429 | 503:
            raise Unavailable(
                "holder_busy",
                f"institution {holder.institution.hex()} answers {status}",
                "ask again",
                retry_after_seconds=2,
            )
        case _:
            raise _refuse_status(holder, status)


def _refuse_status(holder: InstitutionRow, status: int) -> Refusal:
    return CopyRejected(
        "copy_rejected", f"institution {holder.institution.hex()} answers {status}", "tell the holder"
    )
