"""A fifth institution comes to a running network by vote, runs a replica of its own, and goes for good."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.acting_institution import ActingInstitution
from cli.main import app
from config.local_network import create_local_network, load_local_network
from contracts.calls.changes import ContractActivation
from ledger.genesis import Parameters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NEWCOMER = "east-hospital"


def run(*words: object) -> Any:
    """What a command says with `--json`."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CHARTCHAIN_NETWORK", str(tmp_path / "network"))
    path = tmp_path / "network"
    create_local_network(path, parameters=Parameters(state_buckets_log2=8, idle_block_interval_ms=150))
    run("network", "up", path)
    yield path
    run("network", "down", path)


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def adopt(*words: object, voters: tuple[str, ...] = ("general-hospital", "health-regulator")) -> str:
    """The first institution proposes; with the last of the voters it is adopted. The proposal's id."""
    made = run("governance", *words, "--in-blocks", 60)
    votes = [run("governance", "vote", made["proposal"], "--node", voter) for voter in voters]
    assert [vote["adopted"] for vote in votes] == [False, True]
    return str(made["proposal"])


def list_roles() -> dict[int, str]:
    return {row["replica"]: row["role"] for row in run("governance", "replica-set")}


def find_newcomer() -> dict[str, Any]:
    (row,) = [row for row in run("institution", "list") if row["name"] == "East Hospital"]
    return dict(row)


def admit(folder: Path) -> tuple[str, Path]:
    """Have the newcomer admitted; its id and its key file."""
    digest = load_local_network(folder).genesis_digest
    key, file = folder.parent / "institution.pem", folder.parent / "request"
    asked = run(
        *("governance", "request-admission", "--name", "East Hospital", "--kind", "hospital"),
        *("--gateway-url", "https://east.example", "--genesis", digest, "--key", key, "--out", file),
    )
    assert run("governance", "show-request", file) == asked
    adopt("propose-admission", file)
    assert find_newcomer()["institution"] == asked["institution"]
    (listed,) = run("governance", "list")
    assert (listed["state"], listed["change"]["kind"], listed["of"]) == ("effective", "admission", 5)
    return str(asked["institution"]), key


def add_member(node: str) -> int:
    """A transaction through a node's gateway, in its institution's name; the command's exit code."""
    words = ("member", "add", "--role", "clerk", "--evidence", "seen", "--node", node)
    return CliRunner().invoke(app, words).exit_code


def test_an_admitted_institution_runs_a_node_of_its_own(folder: Path) -> None:
    _, key = admit(folder)
    run("network", "add-node", folder, "--name", NEWCOMER, "--institution-key", key)
    assert list_roles() == dict.fromkeys(range(4), "votes") | {4: "follows"}
    assert add_member(NEWCOMER) == 0


def test_parameters_change_are_cancelled_and_no_contract_is_voted_for_that_a_node_lacks(
    folder: Path,
) -> None:
    scheduled = adopt("propose-parameters", "--set", "ticket_age_ms_max=60000")
    adopt("propose-cancellation", scheduled)
    states = {row["proposal"]: row["state"] for row in run("governance", "list")}
    assert states.pop(scheduled) == "cancelled"
    assert set(states.values()) == {"effective"}
    found = {row["name"]: row for row in run("governance", "parameters")}
    assert (found["ticket_age_ms_max"]["value"], found["ticket_age_ms_max"]["value_min"]) == (30_000, 1_000)

    contracts = {row["contract"]: row for row in run("governance", "contracts")}
    assert (contracts["evidence"]["active_version"], contracts["evidence"]["known_versions"]) == (1, [1])
    # Somebody else may have proposed it by other means.
    other = ActingInstitution(folder, "general-hospital")
    made = other.propose(ContractActivation(contract="evidence", version=2), 1_000)
    for words in (("propose-contract", "evidence", "2"), ("vote", str(made["proposal"]))):
        refused = CliRunner().invoke(app, ["governance", *words])
        assert refused.exit_code == 1
        assert "this node's software has no version 2" in refused.stderr


@pytest.mark.soak
def test_an_admitted_institution_gets_a_replica_and_is_removed_for_good(folder: Path) -> None:
    institution, key = admit(folder)
    run("network", "add-node", folder, "--name", NEWCOMER, "--institution-key", key, "--vote")
    assert add_member(NEWCOMER) == 0
    assert list_roles() == dict.fromkeys(range(5), "votes")

    adopt("propose", "--remove", 4, voters=("general-hospital", NEWCOMER))
    wait_for("the set without it", lambda: list_roles()[4] == "follows")
    adopt("propose-removal", institution)
    assert find_newcomer()["removed_height"] > 0
    assert list_roles() == dict.fromkeys(range(4), "votes") | {4: "retired"}
    assert add_member(NEWCOMER) == 1
    assert add_member("general-hospital") == 0
