"""`node end-silence` writes the operator's act into the journal of a stopped node, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from cli.main import app
from config.local_network import create_local_network
from config.node_check import check_node
from config.settings import load_node_settings
from consensus.journal import Journal
from consensus.journal_entries import decode_entries
from consensus.journal_records import OverrideRecord
from ledger.chain import Chain


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["node", "end-silence", *arguments])


def create_node(tmp_path: Path) -> Path:
    return create_local_network(tmp_path / "net", node_count=1).nodes[0].directory


def test_p6_the_act_is_kept_in_the_journal_with_height_time_and_reason(tmp_path: Path) -> None:
    directory = create_node(tmp_path)
    for file in (directory / "data" / "journal").iterdir():
        file.unlink()
    result = run(str(directory), "--reason", "it never voted", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["height"] == 0
    journal = Journal.open(load_node_settings(directory / "node.toml").folder.journal_directory)
    assert not journal.is_missing
    (record,) = decode_entries(journal.entries).records
    assert isinstance(record, OverrideRecord)
    assert (record.height, record.reason) == (0, "it never voted")
    journal.close()


def test_a_running_nodes_journal_is_left_alone(tmp_path: Path) -> None:
    directory = create_node(tmp_path)
    settings = load_node_settings(directory / "node.toml")
    chain = Chain.open(settings.folder.ledger_directory, check_node(settings), settings.ledger)
    before = {file: file.read_bytes() for file in settings.folder.journal_directory.iterdir()}
    result = run(str(directory), "--reason", "in a hurry")
    assert result.exit_code == 1
    assert "another process holds it" in result.stderr
    assert {file: file.read_bytes() for file in settings.folder.journal_directory.iterdir()} == before
    chain.close()


def test_a_reason_is_asked_for(tmp_path: Path) -> None:
    directory = create_node(tmp_path)
    assert run(str(directory), "--reason", "").exit_code == 2
