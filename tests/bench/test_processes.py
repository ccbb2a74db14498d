"""Daemons as processes: one that has ended is not waited for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.processes import START_TIMEOUT_SECONDS, LocalProcesses, ProcessFailed
from config.local_network import create_local_network


async def test_a_daemon_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network", node_count=1)
    log = network.nodes[0].directory / "log" / "node.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("node: cannot start: the port is taken\n")
    begin = time.monotonic()
    with pytest.raises(ProcessFailed, match="the port is taken"):
        await LocalProcesses.of_network(network).wait_ready(is_child=False)
    assert time.monotonic() - begin < START_TIMEOUT_SECONDS / 2
