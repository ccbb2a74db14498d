"""Networks of real daemons; each module says by a fixture `network` of what kind its own is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.processes import LocalProcesses
from config.local_network import LocalNetwork


@pytest.fixture
def processes(network: LocalNetwork) -> Iterator[LocalProcesses]:
    """All daemons of the network, started a moment ago; they are ended with the test."""
    with LocalProcesses.of_network(network) as running:
        running.start()
        yield running
