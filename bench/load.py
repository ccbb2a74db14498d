"""A closed-loop load generator: so many transactions outstanding, never more, until all are committed.

Each worker sends a batch to one gateway, waits for the receipt of the batch's last transaction, and sends the
next. Transactions that a gateway has no room for are sent again, byte for byte, after a pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import aiohttp
import msgpack

from ledger.transaction import compute_transaction_id

RETRY_SECONDS: Final = 0.02
WAIT_MS: Final = 10_000
WAITS_MAX: Final = 6
ATTEMPTS_MAX: Final = 500
RETRY_CODES: Final = frozenset({"mempool_full", "share_full", "too_many_requests"})
KNOWN_CODES: Final = frozenset({"duplicate", "already_committed"})


class LoadFailed(Exception):
    """The network refused a transaction that it should have taken, or did not commit it."""


@dataclass(slots=True)
class LoadReport:
    """What the workers have seen so far."""

    committed: int = 0
    retried: int = 0
    latencies_ms: list[float] = field(default_factory=list)


class LoadGenerator:
    """Workers over the gateways of one network; `session` trusts its certificates."""

    def __init__(self, session: aiohttp.ClientSession, gateway_urls: Sequence[str]) -> None:
        self._session = session
        self._gateway_urls = tuple(gateway_urls)
        self.report = LoadReport()

    async def run(self, transactions: Iterator[bytes], *, workers: int, batch_size: int) -> LoadReport:
        """Send and see committed all of `transactions`; `workers * batch_size` are outstanding at most.

        Raises LoadFailed when the network refuses one for good or loses one.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    url = self._gateway_urls[number % len(self._gateway_urls)]
                    group.create_task(self._work(url, transactions, batch_size))
        except* (LoadFailed, aiohttp.ClientError) as errors:
            first = errors.exceptions[0]
            raise LoadFailed(str(first)) from first
        return self.report

    async def measure_lone(self, transactions: Iterator[bytes]) -> list[float]:
        """Milliseconds from sending to receipt, one transaction at a time."""
        samples = []
        for number, signed_bytes in enumerate(transactions):
            url = self._gateway_urls[number % len(self._gateway_urls)]
            start = time.perf_counter()
            await self._send(url, [signed_bytes])
            await self._wait(url, signed_bytes)
            samples.append((time.perf_counter() - start) * 1000)
        return samples

    async def _work(self, url: str, transactions: Iterator[bytes], batch_size: int) -> None:
        while batch := list(islice(transactions, batch_size)):
            start = time.perf_counter()
            await self._send(url, batch)
            await self._wait(url, batch[-1])
            self.report.latencies_ms.append((time.perf_counter() - start) * 1000)
            self.report.committed += len(batch)

    async def _send(self, url: str, batch: list[bytes]) -> None:
        """Until the gateway has taken every transaction of the batch."""
        for _ in range(ATTEMPTS_MAX):
            async with self._session.post(
                f"{url}/v1/transactions",
                data=msgpack.packb(batch),
                headers={"Content-Type": "application/msgpack"},
            ) as response:
                answer = await response.json(content_type=None)
                status = response.status
            results = answer.get("results")
            if results is None:
                codes = [answer.get("code", f"status_{status}")] * len(batch)
            else:
                codes = [result["code"] for result in results]
            batch = [signed for signed, code in zip(batch, codes, strict=True) if code in RETRY_CODES]
            refused = set(codes) - RETRY_CODES - KNOWN_CODES - {"accepted"}
            if refused:
                raise LoadFailed(f"{url} answered {status} and refused with {', '.join(sorted(refused))}")
            if not batch:
                return
            self.report.retried += len(batch)
            await asyncio.sleep(RETRY_SECONDS)
        raise LoadFailed(f"{url} had no room for a batch in {ATTEMPTS_MAX} attempts")

    async def _wait(self, url: str, signed_bytes: bytes) -> None:
        transaction_id = compute_transaction_id(signed_bytes).hex()
        answer: dict[str, object] = {}
        for _ in range(WAITS_MAX):
            async with self._session.get(
                f"{url}/v1/transactions/{transaction_id}", params={"wait_ms": WAIT_MS}
            ) as response:
                answer = await response.json(content_type=None)
            if answer.get("end") == "committed":
                return
            if answer.get("end") != "pending":
                break
        raise LoadFailed(f"{url}: transaction {transaction_id} ended as {answer}")
