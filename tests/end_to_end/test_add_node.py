"""A node is added to a running network: it joins by a snapshot, follows, and then votes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from config.local_network import create_local_network, load_local_network
from crypto.key_files import read_key_file
from ledger.genesis import Parameters
from tests.end_to_end.ledger_audit import audit_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*words: object) -> Any:
    """What a command says with `--json`."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running network in which a snapshot is soon there, and soon worth while."""
    monkeypatch.setenv("CHARTCHAIN_SNAPSHOTS__INTERVAL_BLOCKS", "20")
    monkeypatch.setenv("CHARTCHAIN_NETWORK__FETCH__JOIN_BLOCKS_MIN", "20")
    path = tmp_path / "network"
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=150)
    create_local_network(path, parameters=parameters)
    run("network", "up", path)
    yield path
    run("network", "down", path)


def get_heights(folder: Path) -> dict[str, int]:
    return {row["node"]: row["height"] for row in run("network", "status", folder)}


def wait_for_height(folder: Path, height: int, seconds: float = 60) -> None:
    """On every node."""
    deadline = time.monotonic() + seconds
    while min(get_heights(folder).values()) < height:
        assert time.monotonic() < deadline, f"height {height}: not within {seconds} s"
        time.sleep(0.2)


def test_a_node_is_added_joins_by_snapshot_follows_and_is_voted_in(folder: Path) -> None:
    wait_for_height(folder, 25)
    added = run("network", "add-node", folder, "--name", "observer", "--institution", "general-hospital")
    assert added == {"node": "observer", "replica": 4, "gateway": added["gateway"], "votes": False}
    network = load_local_network(folder)
    node, sponsor = network.get_node("observer"), network.get_node("general-hospital")
    assert '"event": "joined"' in (node.directory / "log" / "node.log").read_text()
    assert node.institution == sponsor.institution
    own_keys = {read_key_file(item.folder.node_key_file).public_key for item in network.nodes}
    assert len(own_keys) == 5
    replicas = {row["replica"]: row["role"] for row in run("governance", "replica-set", "--network", folder)}
    assert replicas == {0: "votes", 1: "votes", 2: "votes", 3: "votes", 4: "follows"}
    # A height that the others reach later is reached there too, and its gateway takes transactions.
    wait_for_height(folder, max(get_heights(folder).values()) + 5)
    run("member", "add", "--role", "clerk", "--evidence", "seen", "--network", folder, "--node", "observer")
    voting = run("network", "add-node", folder, "--vote")
    assert (voting["node"], voting["replica"], voting["votes"]) == ("node-6", 5, True)
    replicas = {row["replica"]: row["role"] for row in run("governance", "replica-set", "--network", folder)}
    assert replicas == {0: "votes", 1: "votes", 2: "votes", 3: "votes", 4: "follows", 5: "votes"}
    assert len(run("network", "status", folder)) == 6
    wait_for_height(folder, max(get_heights(folder).values()) + 2)
    run("network", "down", folder)
    audit = audit_network(load_local_network(folder), ())
    assert audit.journals.epochs == {0, 1}
    assert audit.journals.count_of(4) == 0, "an observer signs nothing"


def test_what_cannot_be_added_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    create_local_network(tmp_path / "network", node_count=1)
    before = sorted((tmp_path / "network").iterdir())
    refused = CliRunner().invoke(app, ["network", "add-node", str(tmp_path / "network")])
    assert refused.exit_code == 1
    assert "does not answer" in refused.stderr
    assert sorted((tmp_path / "network").iterdir()) == before
    for name in ("childrens-hospital", "../elsewhere", "UPPER"):
        result = CliRunner().invoke(app, ["network", "add-node", str(tmp_path / "network"), "--name", name])
        assert result.exit_code == 1
        assert "a new name" in result.stderr
