"""Daemons whose replica set changes by vote; receipts of all epochs verify without them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.processes import LocalProcesses
from cli.main import app
from client.client import Client
from client.errors import ClientError
from client.models import StatusAnswer
from client.signing import TransactionSigner, draw_identifier
from config.local_network import LocalNetwork, LocalNode, create_local_network
from contracts.calls.folders import RegisterAlias
from crypto.key_files import generate_signing_key, read_key_file, write_key_file
from ledger.genesis import Parameters
from tests.end_to_end.ledger_audit import NetworkAudit, audit_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RUNNER = CliRunner()


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNetwork:
    monkeypatch.setenv("CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS", "1000")
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=100)
    return create_local_network(tmp_path / "network", parameters=parameters)


@pytest.fixture
def processes(network: LocalNetwork) -> Iterator[LocalProcesses]:
    with LocalProcesses.of_network(network) as running:
        running.start()
        asyncio.run(running.wait_ready())
        yield running


def command(*words: object) -> Any:
    """What `chartchain … --json` prints."""
    result = RUNNER.invoke(app, [str(word) for word in (*words, "--json")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ask(network: LocalNetwork, node: LocalNode, work: Callable[[Client], Any]) -> Any:
    async def run() -> Any:
        async with Client(node.gateway_url, network.ca_file, timeout_seconds=20) as client:
            key = read_key_file(node.folder.institution_key_file)
            await client.login(key, node.institution.hex())
            return await work(client)

    return asyncio.run(run())


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.5)  # A gateway takes so many logins a minute.


def commit_alias(network: LocalNetwork, node: LocalNode) -> str:
    """Register an alias; the transaction's id."""
    signer = TransactionSigner(read_key_file(node.folder.institution_key_file), chain_id=network.chain_id)
    call = RegisterAlias(draw_identifier(), node.institution, b"", b"")
    return str(ask(network, node, lambda client: client.submit_and_wait(signer.sign(call))).id)


def stop_and_audit(
    network: LocalNetwork, processes: LocalProcesses, transactions: Sequence[str], *, nodes: int = 4
) -> NetworkAudit:
    """Audit the first `nodes`; all these must have the transactions, and the others' journals count too."""
    processes.stop()
    acknowledged = [bytes.fromhex(transaction) for transaction in transactions]
    audit = audit_network(network, acknowledged, nodes=network.nodes[:nodes])
    for node in network.nodes[nodes:]:
        audit.journals.gather(node.folder.journal_directory)
    audit.journals.check()
    return audit


def find_status(network: LocalNetwork, node: LocalNode) -> StatusAnswer | None:
    """None while the node does not answer: it is down, or starts again with its new key."""

    async def run() -> StatusAnswer:
        async with Client(node.gateway_url, network.ca_file, timeout_seconds=5) as client:
            return await client.get_status()

    try:
        return asyncio.run(run())
    except ClientError:
        return None


def get_epoch(network: LocalNetwork, node: LocalNode) -> int:
    status = find_status(network, node)
    return -1 if status is None else status.epoch


def get_head(network: LocalNetwork, node: LocalNode) -> int:
    status = find_status(network, node)
    return -1 if status is None else status.height


def wait_until_all_follow(network: LocalNetwork, nodes: Sequence[LocalNode]) -> None:
    """Until each is ready and has what the first one has now; what it has is compared by the audit."""
    height = get_head(network, nodes[0])

    def do_follow() -> bool:
        statuses = [find_status(network, node) for node in nodes]
        return all(status is not None and status.ready and status.height >= height for status in statuses)

    wait_for(f"height {height} on all", do_follow)


def adopt(
    network: LocalNetwork, *words: object, by: int = 0, running: Sequence[LocalNode] | None = None
) -> None:
    """Propose at one node, vote at two others, wait until the change is effective on all that run."""
    running = running or network.nodes
    epoch = get_epoch(network, network.nodes[0])
    options = ("--network", network.directory, "--node")
    made = command("governance", "propose", *words, "--in-blocks", 40, *options, network.nodes[by].name)
    assert made["adopted"] is False
    others = [node for node in running if node is not network.nodes[by]][:2]
    votes = [command("governance", "vote", made["proposal"], *options, node.name) for node in others]
    assert [vote["adopted"] for vote in votes] == [False, True]

    def is_effective() -> bool:
        return all(get_epoch(network, node) == epoch + 1 for node in running)

    wait_for("the next epoch", is_effective)


def list_signers(network: LocalNetwork, node: LocalNode) -> set[int]:
    """Who has signed this node's copies of the last few certificates."""

    async def collect(client: Client) -> set[int]:
        height = (await client.get_status()).height
        blocks = [await client.get_block(number) for number in range(max(1, height - 5), height + 1)]
        return {signer for block in blocks for signer in block.signers}

    found: set[int] = ask(network, node, collect)
    return found


def test_a_replica_is_removed_and_another_gets_a_new_key_by_vote(
    network: LocalNetwork, processes: LocalProcesses, tmp_path: Path
) -> None:
    first, second, removed, _ = network.nodes
    receipts = [commit_alias(network, first)]
    adopt(network, "--remove", removed.replica)
    receipts.append(commit_alias(network, first))

    made = command("node", "prepare-key", second.directory, "--ca", network.directory / "ca")
    key_file = second.folder.next_node_key_file
    assert made["public_key"] == read_key_file(key_file).public_key.hex()
    adopt(network, "--rotate", f"{second.replica}={key_file}", by=1)
    receipts.append(commit_alias(network, first))
    wait_for("the vote of the new key", lambda: second.replica in list_signers(network, first))
    assert removed.replica not in list_signers(network, first)

    shown = command("governance", "replica-set", "--network", network.directory)
    assert [row["role"] for row in shown] == ["votes", "votes", "follows", "votes"]
    assert shown[1]["public_key"] == made["public_key"]
    listed = command("governance", "list", "--network", network.directory)
    assert {row["state"] for row in listed} == {"effective"}

    # The removed node follows: it takes a transaction in, and finds the same state as the others.
    late = commit_alias(network, removed)
    wait_until_all_follow(network, network.nodes)
    for number, transaction in enumerate((*receipts, late)):
        file, source = tmp_path / f"{number}.receipt", first if number < len(receipts) else removed
        where = ("--network", network.directory, "--node", source.name)
        command("evidence", "receipt", transaction, "--out", file, *where)
        proved = command("evidence", "verify", file, "--genesis", network.genesis_digest)
        assert proved["verified"] is True
        assert proved["proved"]["epoch"] == min(number, 2)
    audit = stop_and_audit(network, processes, (*receipts, late))
    assert audit.journals.epochs == {0, 1, 2}


@pytest.mark.soak
def test_a_daemon_that_was_down_while_the_set_changed_catches_up_and_votes_without_an_operator(
    network: LocalNetwork, processes: LocalProcesses
) -> None:
    first, _, removed, absent = network.nodes
    processes.nodes[3].kill()
    running = network.nodes[:3]
    adopt(network, "--remove", removed.replica, running=running)
    adopt(network, "--add", removed.replica, running=running)
    committed = [commit_alias(network, first)]
    processes.nodes[3].start()
    wait_for("the epoch of the others", lambda: get_epoch(network, absent) == 2)
    committed.append(commit_alias(network, first))
    wait_for("the vote of the one that was down", lambda: absent.replica in list_signers(network, first))
    wait_until_all_follow(network, network.nodes)
    audit = stop_and_audit(network, processes, committed)
    assert audit.journals.epochs == {0, 1, 2}


def recover(
    file: Path,
    nodes: Sequence[LocalNode],
    *,
    keep: Sequence[LocalNode],
    by: Sequence[LocalNode],
    epoch: int = 1,
) -> Any:
    """Prepare a recovery at the first of these stopped nodes, have it signed, apply it at all of them."""
    kept = [word for node in keep for word in ("--keep", node.replica)]
    prepared = command("node", "recover", "prepare", nodes[0].directory, *kept, "--out", file)
    assert prepared["is_majority"] is False
    refused = RUNNER.invoke(app, ["node", "recover", "apply", str(nodes[0].directory), str(file)])
    assert refused.exit_code == 1
    assert "majority" in refused.stderr
    for node in by:
        signed = command("node", "recover", "sign", file, "--key", node.folder.institution_key_file)
    assert (signed["is_majority"], signed["epoch"]) == (True, epoch)
    for node in nodes:
        command("node", "recover", "apply", node.directory, file)
    return prepared


def test_two_nodes_that_are_left_of_four_go_on_by_vote_of_the_institutions(
    network: LocalNetwork, processes: LocalProcesses, tmp_path: Path
) -> None:
    first, second, *lost = network.nodes
    before = commit_alias(network, first)
    for process in processes.nodes[2:]:
        process.kill()
    wait_for("one head", lambda: get_head(network, first) == get_head(network, second))
    time.sleep(1)
    for process in processes.nodes[:2]:
        process.stop()

    # The lost hospital still has its institution's key.
    prepared = recover(
        tmp_path / "recovery", (first, second), keep=(first, second), by=(first, second, lost[0])
    )
    for process in processes.nodes[:2]:
        process.start()

    remaining = LocalProcesses(processes.nodes[:2], network.ca_file)
    asyncio.run(remaining.wait_ready())
    after = commit_alias(network, first)
    wait_until_all_follow(network, (first, second))
    found = ask(network, second, lambda client: client.get_governance())
    assert [entry.above_height for entry in found.recoveries] == [prepared["above_height"]]
    for transaction, recovered in ((before, []), (after, [prepared["above_height"]])):
        proof = tmp_path / transaction
        where = ("--network", network.directory, "--node", first.name)
        command("evidence", "receipt", transaction, "--out", proof, *where)
        proved = command("evidence", "verify", proof, "--genesis", network.genesis_digest)
        assert proved["proved"]["recovered_above_heights"] == recovered
    audit = stop_and_audit(network, processes, (before, after), nodes=2)
    assert audit.journals.epochs == {0, 1}


@pytest.mark.soak
def test_a_node_that_was_down_during_a_recovery_has_it_from_the_others_and_votes(
    network: LocalNetwork, processes: LocalProcesses, tmp_path: Path
) -> None:
    first, second, lost, late = network.nodes
    committed = [commit_alias(network, first)]
    processes.nodes[3].kill()
    committed.append(commit_alias(network, first))
    processes.nodes[2].kill()
    wait_for("one head", lambda: get_head(network, first) == get_head(network, second))
    time.sleep(1)
    for process in processes.nodes[:2]:
        process.stop()
    prepared = recover(
        tmp_path / "recovery", (first, second), keep=(first, second, late), by=(first, second, lost)
    )
    for process in processes.nodes[:2]:
        process.start()
    asyncio.run(LocalProcesses(processes.nodes[:2], network.ca_file).wait_ready())
    committed.append(commit_alias(network, first))

    processes.nodes[3].start()
    wait_for("the epoch of the others", lambda: get_epoch(network, late) == 1)
    processes.nodes[1].kill()  # From here on nothing is certified without the one that was down.
    committed.append(commit_alias(network, first))
    assert late.replica in list_signers(network, first)
    proof, where = tmp_path / "proof", ("--network", network.directory, "--node", late.name)
    wait_until_all_follow(network, (first, late))
    command("evidence", "receipt", committed[-1], "--out", proof, *where)
    proved = command("evidence", "verify", proof, "--genesis", network.genesis_digest)
    assert proved["proved"]["recovered_above_heights"] == [prepared["above_height"]]
    processes.nodes[1].start()
    asyncio.run(LocalProcesses((*processes.nodes[:2], processes.nodes[3]), network.ca_file).wait_ready())
    wait_until_all_follow(network, (first, second, late))
    processes.stop()
    audit = audit_network(network, [bytes.fromhex(item) for item in committed], nodes=(first, second, late))
    audit.journals.gather(lost.folder.journal_directory)
    audit.journals.check()
    assert audit.journals.epochs == {0, 1}


@pytest.mark.soak
def test_a_quorum_that_is_lost_as_a_change_takes_effect_is_recovered_above_the_closing_block(
    network: LocalNetwork, processes: LocalProcesses, tmp_path: Path
) -> None:
    """A node is voted in that never comes up, and a member is down: three of five, where four are needed."""
    first, second, third, down = network.nodes
    key, where = tmp_path / "node.key", ("--network", network.directory, "--node")
    write_key_file(key, generate_signing_key())
    registered = command(
        *("governance", "register-node", "--key", key, "--host", "127.0.0.1", "--port", 9), *where, first.name
    )
    committed = [commit_alias(network, first)]
    processes.nodes[3].kill()
    adopt(network, "--add", registered["replica"], running=network.nodes[:3])
    closing = get_head(network, first)
    time.sleep(3)
    assert {get_head(network, node) for node in (first, second, third)} == {closing}
    for process in processes.nodes[:3]:
        process.stop()

    prepared = recover(
        *(tmp_path / "recovery", (first, second)),
        keep=(first, second, third),
        by=(first, second, down),
        epoch=2,
    )
    assert prepared["above_height"] == closing
    for process in processes.nodes[:2]:
        process.start()
    asyncio.run(LocalProcesses(processes.nodes[:2], network.ca_file).wait_ready())
    committed.append(commit_alias(network, first))

    # Nobody told these two of the recovery: one stands in the epoch that was lost, one in that before it.
    for process in processes.nodes[2:]:
        process.start()
    wait_for("the recovered epoch", lambda: {get_epoch(network, node) for node in (third, down)} == {2})
    processes.nodes[1].kill()
    committed.append(commit_alias(network, first))
    assert third.replica in list_signers(network, first)
    wait_until_all_follow(network, (first, third, down))
    proof = tmp_path / "proof"
    command("evidence", "receipt", committed[-1], "--out", proof, *where, down.name)
    proved = command("evidence", "verify", proof, "--genesis", network.genesis_digest)["proved"]
    assert (proved["epoch"], proved["recovered_above_heights"]) == (2, [closing])

    processes.nodes[1].start()
    asyncio.run(processes.wait_ready())
    wait_until_all_follow(network, network.nodes)
    audit = stop_and_audit(network, processes, committed)
    assert audit.journals.epochs >= {0, 2}
