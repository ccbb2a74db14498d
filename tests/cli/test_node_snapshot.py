"""`chartchain node snapshot`: of a node that runs, of one that does not, and of one that has nothing yet."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bench.processes import LocalProcesses
from cli import node as node_command
from cli.main import app
from config.genesis_file import read_genesis_file
from config.local_network import create_local_network
from ledger.genesis import Parameters
from ledger.snapshot import decode_manifest, verify_manifest
from ledger.snapshot_keeper import REQUEST_FILE
from ledger.snapshot_shelf import SnapshotShelf, list_heights


def take_snapshot(directory: Path) -> Result:
    return CliRunner().invoke(app, ["node", "snapshot", str(directory), "--json"], catch_exceptions=False)


@pytest.mark.slow
async def test_a_snapshot_is_written_by_the_running_node_and_by_the_command_once_it_is_stopped(
    tmp_path: Path,
) -> None:
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=100)
    network = create_local_network(tmp_path / "network", node_count=1, parameters=parameters)
    directory = network.nodes[0].directory
    shelf = directory / "data" / "snapshots"
    with LocalProcesses.of_network(network) as processes:
        processes.start()
        await processes.wait_ready()
        result = take_snapshot(directory)
        assert result.exit_code == 0, result.output
        (height,) = list_heights(shelf)
        answer = json.loads(result.stdout)
        assert (answer["height"], answer["written_by"]) == (height, "the running node")
        await asyncio.sleep(0.3)  # Another block, or two.
    result = take_snapshot(directory)
    assert result.exit_code == 0, result.output
    assert len(list_heights(shelf)) == 2
    opened = SnapshotShelf(shelf).open_newest()
    assert opened is not None
    verified = verify_manifest(decode_manifest(opened.manifest), read_genesis_file(network.genesis_file))
    assert verified.height == opened.height > height
    opened.chunks.close()


def test_a_node_without_a_block_has_nothing_to_write_and_says_so(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network", node_count=1)
    result = take_snapshot(network.nodes[0].directory)
    assert result.exit_code == 1
    assert "no certified block of height 0 is held" in result.stderr


def test_a_running_node_that_does_not_write_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_command, "SNAPSHOT_SECONDS_MAX", 0.2)
    with pytest.raises(typer.Exit):
        node_command._ask_for_snapshot(tmp_path / "snapshots")
    assert (tmp_path / "snapshots" / REQUEST_FILE).exists()
