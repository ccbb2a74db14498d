"""What consensus, links, relay and block sync have counted, for Prometheus.

Counts are kept by the parts themselves and read when asked for; replica ids are the only labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consensus.driver import Driver
from ledger.snapshot_keeper import SnapshotKeeper
from network.block_sync import BlockSync
from network.bodies import BodyFetcher
from network.equivocation_reports import EquivocationReports
from network.links import Links
from network.relay import TransactionRelay
from network.snapshot_serving import SnapshotServer

_DRIVER_TEXTS: Final = {
    "messages_received": "Consensus messages that came in.",
    "messages_dropped": "Consensus messages beyond a peer's bound.",
    "messages_undecodable": "Consensus messages that were none.",
    "messages_sent": "Consensus messages that went out, a broadcast counted once.",
    "journal_syncs": "Syncs of the journal.",
    "equivocations": "Pairs of votes that contradict each other.",
    "proposals_refused": "Proposals that were not what the ledger says or whose bodies could not be had.",
}


class NodeCollector(Collector):
    """Reads the counters of one node's parts."""

    def __init__(
        self,
        driver: Driver,
        links: Links,
        relay: TransactionRelay,
        block_sync: BlockSync,
        bodies: BodyFetcher,
        snapshots: SnapshotKeeper,
        snapshot_server: SnapshotServer,
        equivocation_reports: EquivocationReports,
    ) -> None:
        self._driver = driver
        self._links = links
        self._relay = relay
        self._block_sync = block_sync
        self._bodies = bodies
        self._snapshots = snapshots
        self._snapshot_server = snapshot_server
        self._equivocation_reports = equivocation_reports

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_consensus()
        yield from self._collect_links()
        for room, counters in (
            ("relay", self._relay.counters),
            ("block_sync", self._block_sync.counters),
            ("snapshots", self._snapshots.counters),
            ("equivocation_reports", self._equivocation_reports.counters),
        ):
            for field in fields(counters):
                name = f"chartchain_{room}_{field.name}"
                yield CounterMetricFamily(
                    name, f"Since the start: {field.name}.", value=getattr(counters, field.name)
                )
        yield CounterMetricFamily(
            "chartchain_bodies_fetched", "Bodies that came from peers on request.", value=self._bodies.fetched
        )
        yield GaugeMetricFamily(
            "chartchain_relay_waiting", "Relayed transactions not verified yet.", self._relay.waiting_count
        )
        yield CounterMetricFamily(
            "chartchain_snapshots_served", "Answers given to nodes that join.", self._snapshot_server.served
        )

    def _collect_consensus(self) -> Iterator[Metric]:
        counters, status = self._driver.counters, self._driver.status
        for name, text in _DRIVER_TEXTS.items():
            yield CounterMetricFamily(f"chartchain_consensus_{name}", text, value=getattr(counters, name))
        refusals = CounterMetricFamily(
            "chartchain_consensus_refusals", "What no honest replica sends, by sender.", labels=("replica",)
        )
        for replica, count in counters.refusals.items():
            refusals.add_metric((str(replica),), count)
        yield refusals
        yield CounterMetricFamily(
            "chartchain_consensus_view_changes", "VIEW-CHANGEs sent.", value=status.view_changes_sent
        )
        yield GaugeMetricFamily(
            "chartchain_consensus_silent", "1 while this replica follows without voting.", status.is_silent
        )

    def _collect_links(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "chartchain_links_connected", "Peers with a link now.", len(self._links.connected)
        )
        by_peer = self._links.counters
        for field in fields(next(iter(by_peer.values()))) if by_peer else ():
            name = f"chartchain_links_{field.name}"
            family = CounterMetricFamily(name, f"Since the start: {field.name}.", labels=("replica",))
            for replica, counters in by_peer.items():
                family.add_metric((str(replica),), getattr(counters, field.name))
            yield family
        dropped = CounterMetricFamily(
            "chartchain_links_dropped", "What gave way to a peer's bounds.", labels=("replica", "kind")
        )
        for replica, (messages, frames) in self._links.dropped.items():
            dropped.add_metric((str(replica), "consensus_messages"), messages)
            dropped.add_metric((str(replica), "relay_frames"), frames)
        yield dropped
        refused = CounterMetricFamily("chartchain_links_refused", "Links not let in.", labels=("reason",))
        for reason, count in self._links.refused.counts.items():
            refused.add_metric((reason,), count)
        yield refused
