"""Metrics for Prometheus: requests by route, and where the ledger stands. No ids of any kind as labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from gateway.errors import Handler
from gateway.events import Events
from gateway.ports import GetReadiness
from ledger.chain import Chain
from ledger.speculation import CommittedBlock

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry for each application; nothing global."""

    def __init__(
        self,
        *,
        chain: Chain,
        events: Events,
        get_readiness: GetReadiness,
        collectors: Sequence[Collector] = (),
    ) -> None:
        """`collectors` read what other parts of the node have counted."""
        self.registry = CollectorRegistry()
        for collector in collectors:
            self.registry.register(collector)
        self._chain = chain
        self._events = events
        self._get_readiness = get_readiness
        self._requests = Counter(
            "chartchain_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "chartchain_http_request_seconds",
            "Time to answer, waits included.",
            ("route",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._transactions = Counter(
            "chartchain_transactions_committed",
            "Transactions committed since this process started.",
            ("code",),
            registry=self.registry,
        )
        self._gauges = {
            name: Gauge(f"chartchain_{name}", text, registry=self.registry)
            for name, text in (
                ("height", "Height of the committed head."),
                ("head_time_seconds", "Block time of the head."),
                ("pending_transactions", "Transactions that wait for a block."),
                ("view", "View of this node's replica."),
                ("ready", "1 while this node is ready, 0 otherwise."),
                ("event_streams", "Event streams open."),
            )
        }
        self._unsubscribe = chain.subscribe(self._on_committed)

    def close(self) -> None:
        self._unsubscribe()

    async def handle_metrics(self, request: web.Request) -> web.StreamResponse:
        readiness, head = self._get_readiness(), self._chain.head
        self._gauges["height"].set(head.height)
        self._gauges["head_time_seconds"].set(head.header.time_ms / 1000)
        self._gauges["pending_transactions"].set(len(self._chain.mempool))
        self._gauges["view"].set(readiness.view)
        self._gauges["ready"].set(readiness.is_ready)
        self._gauges["event_streams"].set(self._events.client_count)
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": METRICS_TYPE})

    @web.middleware
    async def measure(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count and time every request by its route's pattern, never by its path."""
        start = time.perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
        finally:
            resource = request.match_info.route.resource
            route = "none" if resource is None else resource.canonical
            # Methods are the client's to invent; only those that we route become a label.
            method = request.method if resource is not None else "other"
            self._requests.labels(method=method, route=route, status=str(status)).inc()
            self._seconds.labels(route=route).observe(time.perf_counter() - start)
        return response

    def _on_committed(self, block: CommittedBlock) -> None:
        failed = sum(receipt.code != "ok" for receipt in block.receipts)
        self._transactions.labels(code="ok").inc(len(block.receipts) - failed)
        if failed:
            self._transactions.labels(code="failed").inc(failed)
