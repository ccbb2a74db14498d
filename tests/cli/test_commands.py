"""The commands as a person uses them: on a real local network, and without one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from config.genesis_file import read_genesis_file
from config.local_network import LocalNetwork, LocalNode, load_local_network
from ledger.chain import Chain
from records.synthetic import generate_patients

RUNNER = CliRunner()


def run(*words: object) -> Result:
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=False)


def succeed(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["network", "up"],
        ["network", "down"],
        ["network", "status"],
        ["institution", "list", "--network"],
        ["audit", "stats", "--network"],
    ],
)
def test_without_a_network_every_command_says_how_to_make_and_start_one(
    command: list[str], tmp_path: Path
) -> None:
    result = run(*command, tmp_path / "absent")
    assert result.exit_code == 1
    assert "chartchain network init" in result.stderr
    assert "chartchain network up" in result.stderr


def test_with_a_network_that_does_not_run_commands_say_how_to_start_it(tmp_path: Path) -> None:
    succeed("network", "init", tmp_path / "net")
    result = run("institution", "list", "--network", tmp_path / "net")
    assert result.exit_code == 1
    assert f"chartchain network up {tmp_path / 'net'}" in result.stderr
    assert "network init" not in result.stderr
    status = run("network", "status", tmp_path / "net")
    assert status.exit_code == 1
    assert "chartchain network up" in status.stderr


def test_a_folder_that_holds_something_is_not_made_a_network(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = run("network", "init", tmp_path)
    assert result.exit_code == 1
    assert str(tmp_path) in result.stderr


@pytest.mark.parametrize(
    "words", [["bench", "run", "--workers", "0"], ["no-such-command"], ["simulate", "-x"]]
)
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_a_proof_needs_a_whole_genesis_digest(tmp_path: Path) -> None:
    (tmp_path / "a.proof").write_bytes(b"nothing of ours")
    assert run("evidence", "verify", tmp_path / "a.proof", "--genesis", "00").exit_code == 2
    refused = run("evidence", "verify", tmp_path / "a.proof", "--genesis", "00" * 32)
    assert "nothing of ours" not in refused.stderr
    assert refused.exit_code == 1
    assert "does not verify" in refused.stderr


def test_a_network_file_that_is_damaged_is_named_and_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text("{")
    result = run("network", "status", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}/network.json: " in result.stderr
    assert "no local network there" not in result.stderr


def test_an_account_that_was_not_made_says_how_accounts_are_made(tmp_path: Path) -> None:
    succeed("network", "init", tmp_path / "net")
    result = run("folder", "show", "00" * 16, "--as", "11" * 16, "--network", tmp_path / "net")
    assert result.exit_code == 1
    assert "chartchain member add" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--class", "gossip", "--institution", "00" * 16],
        ["--class", "allergies", "--institution", "next door"],
    ],
)
def test_a_value_out_of_form_is_wrong_usage(options: list[str], tmp_path: Path) -> None:
    result = run("grant", "give", "00" * 16, *options, "--network", tmp_path)
    assert result.exit_code == 2
    assert "pydantic" not in result.stderr


def test_a_place_that_cannot_be_written_to_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("network", "init", tmp_path / "file" / "net")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Not a directory" in result.stderr


def test_records_are_read_into_a_new_folder_only(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = run(
        *("record", "read", "00" * 16, "--class", "allergies", "--reason", "care"),
        *("--out", tmp_path, "--network", tmp_path),
    )
    assert result.exit_code == 1
    assert "not empty" in result.stderr


def test_status_ends_with_1_when_two_nodes_disagree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    succeed("network", "init", tmp_path / "net")
    roots = iter(["aa" * 32, "aa" * 32, "bb" * 32, "aa" * 32])

    async def answer(network: LocalNetwork, node: LocalNode) -> dict[str, object]:
        return {"node": node.name, "height": 7, "state_root": next(roots)}

    monkeypatch.setattr("cli.network._ask", answer)
    result = run("network", "status", tmp_path / "net")
    assert result.exit_code == 1
    assert "height 7: the nodes do not agree" in result.stderr


def test_doctor_looks_a_node_over_and_names_what_is_wrong(tmp_path: Path) -> None:
    succeed("network", "init", tmp_path / "net")
    node = load_local_network(tmp_path / "net").nodes[0].directory
    assert "ok" in succeed("node", "doctor", node)
    key_file = node / "keys" / "node.pem"
    key_file.chmod(0o644)
    result = run("node", "doctor", node)
    assert result.exit_code == 1
    assert "chmod 600" in result.stderr


def test_fewer_than_four_nodes_tolerate_no_fault_and_init_says_so(tmp_path: Path) -> None:
    few = run("network", "init", tmp_path / "few", "--nodes", "2", "--json")
    assert "a network of 2 tolerates no fault" in few.stderr
    assert len(json.loads(few.stdout)["nodes"]) == 2
    assert "tolerate" not in run("network", "init", tmp_path / "four").output


def test_status_names_the_node_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    succeed("network", "init", tmp_path / "net")

    async def answer(network: LocalNetwork, node: LocalNode) -> dict[str, object]:
        height = None if node.replica == 1 else 7
        return {"node": node.name, "height": height, "state_root": height and "aa" * 32}

    monkeypatch.setattr("cli.network._ask", answer)
    result = run("network", "status", tmp_path / "net")
    assert result.exit_code == 1
    assert "no answer from general-hospital" in result.stderr
    assert f"chartchain network logs general-hospital {tmp_path / 'net'}" in result.stderr


def test_doctor_finds_a_ledger_of_another_genesis(tmp_path: Path) -> None:
    succeed("network", "init", tmp_path / "net")
    network = load_local_network(tmp_path / "net")
    node = network.nodes[0].directory
    assert "none yet" in json.loads(succeed("node", "doctor", node, "--json"))["ledger"]
    genesis = node / "genesis.json"
    Chain.open(node / "data" / "ledger", read_genesis_file(genesis)).close()
    assert "height 0, of this genesis" in json.loads(succeed("node", "doctor", node, "--json"))["ledger"]
    document = json.loads(genesis.read_text())
    genesis.write_text(json.dumps(document | {"network": "another"}))
    result = run("node", "doctor", node)
    assert result.exit_code == 1
    assert "another genesis" in result.stderr


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("commands") / "net"
    succeed("network", "init", folder)
    try:
        succeed("network", "up", folder)
        yield folder
    finally:
        succeed("network", "down", folder)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_record_is_taken_in_granted_read_revoked_and_audited(network: Path, tmp_path: Path) -> None:
    where = ("--network", network)
    status = json.loads(succeed("network", "status", network, "--json"))
    assert [row["state"] for row in status] == ["ready"] * 4
    institutions = {
        row["name"]: row["institution"]
        for row in json.loads(succeed("institution", "list", *where, "--json"))
    }
    patient = generate_patients(7, 1)[0]
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(patient.bundle)

    alias = json.loads(succeed("folder", "register", "number-1", *where, "--json"))["alias"]
    imported = json.loads(succeed("record", "import", alias, bundle, *where, "--json"))
    classes = {row["record_class"] for row in imported}
    assert "laboratory_reports" in classes

    other = ("--node", "general-hospital", *where)
    doctor = json.loads(
        succeed("member", "add", "--role", "clinician", "--evidence", "synthetic", *other, "--json")
    )["member"]
    reading = ("record", "read", alias, "--class", "laboratory_reports", "--reason", "check")
    refused = run(*reading, "--as", doctor, *other)
    assert refused.exit_code == 1

    given = json.loads(
        succeed(
            *("grant", "give", alias, "--class", "laboratory_reports"),
            *("--institution", institutions["General Hospital"], "--member", doctor, *where, "--json"),
        )
    )
    read = json.loads(
        succeed(
            *reading, "--grant", given["grant"], "--as", doctor, "--out", tmp_path / "out", *other, "--json"
        )
    )
    assert read
    assert all(row["verified"] for row in read)
    files = list((tmp_path / "out").iterdir())
    assert len(files) == len(read)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}

    succeed("grant", "revoke", given["grant"], *where)
    assert run(*reading, "--grant", given["grant"], "--as", doctor, *other).exit_code == 1

    regulator = ("--node", "health-regulator", *where)
    trail = json.loads(succeed("audit", "trail", alias, *regulator, "--json"))
    assert [(row["decision"], row["ending"]) for row in trail] == [
        ("refused", "no_grant"),
        ("allowed", "delivered"),
        ("refused", "revoked"),
    ]
    assert "statistics" in succeed("audit", "stats", *regulator)
    assert json.loads(succeed("audit", "alerts", *regulator, "--json")) == []

    genesis = load_local_network(network).genesis_digest
    proof = tmp_path / "grant.receipt"
    succeed("evidence", "receipt", given["transaction"], "--out", proof, *where)
    assert "verified" in succeed("evidence", "verify", proof, "--genesis", genesis)
    pair = tmp_path / "pair.proof"
    succeed(
        *("evidence", "grants", alias, "--institution", institutions["General Hospital"]),
        *("--member", doctor, "--out", pair, *regulator),
    )
    assert re.search(
        r"until revoked at height \d+", succeed("evidence", "verify", pair, "--genesis", genesis)
    )
    proved = json.loads(succeed("evidence", "verify", pair, "--genesis", genesis, "--json"))["proved"]
    assert alias in proved["state_key"]
    assert run("evidence", "receipt", given["transaction"], "--out", "/no/such/x", *where).exit_code == 1
    succeed("member", "suspend", doctor, "--reason", "left_institution", *other)
    suspended = run(*reading, "--as", doctor, *other)
    assert suspended.exit_code == 1
    assert "may be suspended" in suspended.stderr
    altered = bytearray(proof.read_bytes())
    altered[len(altered) // 2] ^= 1
    proof.write_bytes(altered)
    assert run("evidence", "verify", proof, "--genesis", genesis).exit_code == 1


@pytest.mark.slow
def test_up_twice_starts_nothing_twice_and_down_stops_all(network: Path) -> None:
    again = json.loads(succeed("network", "up", network, "--json"))
    assert [row["was_running"] for row in again] == [True] * 4
    logs = json.loads(succeed("network", "logs", again[0]["node"], network, "--json"))
    assert any("started" in line for line in logs["lines"])
    stopped = json.loads(succeed("network", "down", network, "--json"))["stopped"]
    assert stopped == [row["node"] for row in again]
    assert "nothing was running" in succeed("network", "down", network)
