"""Daemons as processes: one that has ended is not waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import START_TIMEOUT_SECONDS, DaemonFile, LocalProcesses, ProcessFailed
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


def test_a_daemon_that_is_just_being_started_counts_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command line is empty for a moment, as is that of a process that has ended."""
    file = DaemonFile(tmp_path)
    file.path.write_text(f"{os.getpid()}\n")
    shown = iter([b"", b"", f"python -m node --config {tmp_path}/node.toml".encode()])
    monkeypatch.setattr(Path, "read_bytes", lambda path: next(shown))
    assert file.get_process_id() == os.getpid()


def test_a_process_that_has_ended_or_is_another_is_not_the_daemon(tmp_path: Path) -> None:
    file = DaemonFile(tmp_path)
    file.path.write_text(f"{os.getpid()}\n")
    assert file.get_process_id() is None
    ended = subprocess.Popen([sys.executable, "-c", "", str(tmp_path)])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    file.path.write_text(f"{ended.pid}\n")
    assert file.get_process_id() is None
    ended.wait()
    assert file.get_process_id() is None
