"""Clients of a local network: they send transactions, again if need be, and ask how they ended."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgpack

from bench.workload import AnchorWorkload
from config.local_network import LocalNetwork
from crypto.key_files import read_key_file
from ledger.transaction import SignedTransaction, decode_transaction, encode_transaction

TAKEN: Final = frozenset({"accepted", "duplicate", "already_committed"})


class TransactionsExpired(Exception):
    """Block time has passed what these say: none of those not committed yet ever will be."""


class Clients:
    """Signs transactions, sends them to any gateway that answers, and asks how they ended."""

    def __init__(self, session: aiohttp.ClientSession, network: LocalNetwork) -> None:
        self._session = session
        self.urls = network.gateway_urls
        self.expiry_ms = 300_000
        """How long what is signed from now on may take to be committed."""
        node = network.nodes[0]
        self._workload = AnchorWorkload(
            key=read_key_file(node.folder.institution_key_file),
            institution=node.institution,
            chain_id=network.chain_id,
            aliases=(secrets.token_bytes(16),),
        )

    def sign(self, count: int) -> list[SignedTransaction]:
        """Transactions that all succeed once the folder is open: it is the first of the first list."""
        expires_ms = time.time_ns() // 1_000_000 + self.expiry_ms
        return [decode_transaction(data) for data in self._workload.sign_anchors(count, expires_ms)]

    async def open_folder(self) -> SignedTransaction:
        (opening,) = self._workload.sign_aliases(time.time_ns() // 1_000_000 + self.expiry_ms)
        await self.commit([opening], self.urls[0])
        return opening

    async def submit(self, transactions: Sequence[SignedTransaction], url: str) -> None:
        """Raises ConnectionError unless this gateway has taken them all, or TransactionsExpired."""
        body = msgpack.packb([encode_transaction(item) for item in transactions])
        headers = {"Content-Type": "application/msgpack"}
        try:
            async with self._session.post(f"{url}/v1/transactions", data=body, headers=headers) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(f"{url}: {error!r}") from error
        codes = {result["code"] for result in answer.get("results", ())} or {answer.get("code")}
        if "expired" in codes:
            raise TransactionsExpired(url)
        if not codes <= TAKEN:
            raise ConnectionError(f"{url}: {codes}")

    async def get_end(self, transaction: SignedTransaction, url: str, wait_ms: int = 2_000) -> str:
        path = f"{url}/v1/transactions/{transaction.transaction_id.hex()}"
        try:
            async with self._session.get(path, params={"wait_ms": wait_ms}) as response:
                return str((await response.json(content_type=None)).get("end"))
        except (aiohttp.ClientError, TimeoutError):
            return "unreachable"

    async def get_height(self, transaction: SignedTransaction, url: str) -> int:
        """Of the block that holds a committed transaction."""
        async with self._session.get(f"{url}/v1/transactions/{transaction.transaction_id.hex()}") as response:
            return int((await response.json(content_type=None))["height"])

    async def commit(
        self, transactions: Sequence[SignedTransaction], url: str, *, timeout_seconds: float = 60.0
    ) -> None:
        """Send the same bytes, at one gateway after the other, until all are committed.

        Raises TimeoutError, TransactionsExpired.
        """
        urls = itertools.cycle([url, *(other for other in self.urls if other != url)])
        async with asyncio.timeout(timeout_seconds):
            for url in urls:
                try:
                    await self.submit(transactions, url)
                except ConnectionError:
                    await asyncio.sleep(0.05)
                    continue
                if await self._are_committed(transactions, url):
                    return

    async def _are_committed(self, transactions: Sequence[SignedTransaction], url: str) -> bool:
        """Whether this gateway says so of every one; it waits for the last."""
        for item in (transactions[-1], *transactions):
            if await self.get_end(item, url) != "committed":
                return False
        return True

    async def get_readiness(self, url: str) -> str:
        """`ready`, or why not."""
        try:
            async with self._session.get(f"{url}/readyz") as response:
                answer = await response.json(content_type=None)
                return "ready" if answer["ready"] else str(answer["reason"])
        except (aiohttp.ClientError, TimeoutError):
            return "unreachable"

    async def get_status(self, url: str) -> dict[str, Any]:
        async with self._session.get(f"{url}/v1/status") as response:
            status: dict[str, Any] = await response.json(content_type=None)
            return status

    async def read_metrics(self, url: str) -> dict[str, float]:
        async with self._session.get(f"{url}/metrics") as response:
            lines = [line for line in (await response.text()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def wait_agreement(self, urls: Sequence[str], history_size: int) -> list[dict[str, Any]]:
        """Every node's status once all stand at one height and so many transactions are committed."""
        async with asyncio.timeout(60):
            while True:
                statuses = [await self.get_status(url) for url in urls]
                heights = {status["height"] for status in statuses}
                if len(heights) == 1 and statuses[0]["history_size"] >= history_size:
                    return statuses
                await asyncio.sleep(0.05)


@asynccontextmanager
async def open_clients(network: LocalNetwork) -> AsyncIterator[Clients]:
    tls = ssl.create_default_context(cafile=str(network.ca_file))
    timeout = aiohttp.ClientTimeout(total=20)
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Clients(session, network)
