"""Keys of nodes and recovery files by command; what runs is in tests/end_to_end/test_membership.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from client.models import TransactionAnswer
from config.local_network import create_local_network
from config.node_check import check_node
from config.settings import load_node_settings
from contracts.calls.governance import MoveNode, RetireNode
from crypto.key_files import generate_signing_key, read_key_file, write_key_file

RUNNER = CliRunner()


def run(*words: object) -> Any:
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_the_next_key_of_a_node_is_made_once_with_its_certificate(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "net", node_count=1)
    node = network.nodes[0]
    made = run("node", "prepare-key", node.directory, "--ca", network.directory / "ca", "--json")
    assert made.exit_code == 0
    assert json.loads(made.stdout)["key"] == str(node.folder.next_node_key_file)
    assert node.folder.next_node_key_file.stat().st_mode & 0o777 == 0o600
    check_node(load_node_settings(node.folder.settings_file, environment={}))
    again = run("node", "prepare-key", node.directory, "--ca", network.directory / "ca")
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_a_recovery_is_not_prepared_before_the_first_block_nor_from_any_file(tmp_path: Path) -> None:
    node = create_local_network(tmp_path / "net", node_count=1).nodes[0]
    out = tmp_path / "recovery"
    prepared = run("node", "recover", "prepare", node.directory, "--keep", "0", "--out", out)
    assert prepared.exit_code == 1
    assert "no block is certified yet" in prepared.stderr
    out.write_bytes(b"nothing of ours")
    for words in (("show", out), ("apply", node.directory, out)):
        refused = run("node", "recover", *words)
        assert refused.exit_code == 1
        assert "a recovery file of this version was expected" in refused.stderr


def test_a_node_is_moved_and_retired_by_its_replica_id(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []

    class Institution:
        def __init__(self, *where: object) -> None:
            pass

        def send(self, call: object) -> TransactionAnswer:
            sent.append(call)
            return TransactionAnswer(id="ab" * 32, end="committed", code="ok", height=3, results=("",))

    monkeypatch.setattr("cli.governance.ActingInstitution", Institution)
    moved = run("governance", "move-node", 4, "--host", "node.example", "--port", 7443, "--json")
    assert json.loads(moved.stdout) == {"replica": 4, "transaction": "ab" * 32, "height": 3}
    assert run("governance", "retire-node", 4).exit_code == 0
    assert sent == [MoveNode(4, "node.example", 7443), RetireNode(4)]


def test_governance_says_what_is_out_of_form(tmp_path: Path) -> None:
    create_local_network(tmp_path / "net", node_count=1)
    assert run("governance", "vote", "no id", "--network", tmp_path / "net").exit_code == 2
    for text in ("ticket_age_ms_max", "ticket_age_ms_max=-1", "unknown=1"):
        words = ("governance", "propose-parameters", "--set", text, "--network", tmp_path / "net")
        assert run(*words).exit_code == 2
    key = tmp_path / "key.pem"
    write_key_file(key, generate_signing_key())
    absent = run(
        "governance", "register-node", "--key", key, "--host", "h", "--port", 1, "--network", tmp_path
    )
    assert absent.exit_code == 1
    assert "chartchain network init" in absent.stderr


def test_an_institution_asks_for_admission_without_a_network(tmp_path: Path) -> None:
    key, file = tmp_path / "institution.pem", tmp_path / "request"
    words = ("--name", "East [1] Hospital", "--kind", "hospital", "--gateway-url", "https://east.example")
    request = ("governance", "request-admission", *words, "--key", key, "--out", file)
    made = run(*request, "--genesis", "ab" * 32, "--json")
    assert made.exit_code == 0
    said = json.loads(made.stdout)
    assert said["public_key"] == read_key_file(key).public_key.hex()
    assert (said["name"], said["genesis"]) == ("East [1] Hospital", "ab" * 32)
    assert key.stat().st_mode & 0o777 == 0o600
    shown = run("governance", "show-request", file)
    assert shown.exit_code == 0
    assert "East [1] Hospital" in shown.stdout
    assert run(*request, "--genesis", "ab" * 32).exit_code == 1  # The key is never written over.
    assert run(*request, "--genesis", "short").exit_code == 2


def test_a_request_that_was_altered_or_is_for_another_network_is_not_proposed(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "net", node_count=1)
    key, file = tmp_path / "institution.pem", tmp_path / "request"
    words = ("--name", "East", "--kind", "regulator", "--gateway-url", "https://east.example")
    made = run("governance", "request-admission", *words, "--genesis", "ab" * 32, "--key", key, "--out", file)
    assert made.exit_code == 0
    elsewhere = run("governance", "propose-admission", file, "--network", network.directory)
    assert elsewhere.exit_code == 1
    assert "not for this one" in elsewhere.stderr
    data = file.read_bytes()
    for altered in (data.replace(b"East", b"Ease"), data[:-1], b"nothing of ours", data + bytes(5_000)):
        file.write_bytes(altered)
        refused = run("governance", "propose-admission", file, "--network", network.directory)
        assert refused.exit_code == 1
        assert str(file) in refused.stderr
