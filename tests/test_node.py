"""The daemon starts only from a folder in which everything is right, and says what is not."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path

import pytest
import structlog

import node as node_module
from client.signing import TransactionSigner, draw_identifier
from config.local_network import LocalNetwork, create_local_network
from config.log import configure_logging
from config.settings import NodeSettings, load_node_settings
from consensus.journal import Journal
from consensus.journal_entries import encode_entry
from consensus.journal_records import OverrideRecord
from consensus.replica_set import Height
from contracts.calls.changes import ContractActivation
from contracts.calls.governance import Propose
from crypto.key_files import generate_signing_key, read_key_file, write_key_file
from daemon.disks import Disks
from daemon.lifetime import Ending
from daemon.node import Node
from daemon.stop_request import StopRequest
from ledger.errors import ContractUnknown, StoreFailed
from ledger.genesis import Parameters
from ledger.transaction import encode_transaction
from node import (
    DESCRIPTORS_WANTED,
    EXIT_NOT_STARTED,
    EXIT_OK,
    main,
    raise_descriptor_limit,
    run_node,
)


@pytest.fixture(autouse=True)
def _log_of_one_test() -> Iterator[None]:
    """The daemon's log goes to the stderr of the test that configured it, and no further."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def network(tmp_path: Path) -> LocalNetwork:
    """A network of one, which commits alone, so that a test needs no peers."""
    parameters = Parameters(state_buckets_log2=8, idle_block_interval_ms=50)
    return create_local_network(tmp_path / "network", node_count=1, parameters=parameters)


@pytest.fixture
def folder(network: LocalNetwork) -> Path:
    return network.nodes[0].directory


@pytest.fixture
async def disks(folder: Path) -> AsyncIterator[Disks]:
    opened = Disks.open(load_node_settings(folder / "node.toml"))
    yield opened
    await asyncio.get_running_loop().shutdown_default_executor()
    opened.close()


def start(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a daemon that cannot start says; one message, no traceback."""
    assert main(["--config", str(folder / "node.toml")]) == EXIT_NOT_STARTED
    *logged, said = capsys.readouterr().err.split("node: cannot start: ")
    assert [line for text in logged for line in text.splitlines() if '"opening"' not in line] == []
    assert "Traceback" not in said
    return said


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file or directory found" in start(tmp_path / "nowhere", capsys)


def test_an_unknown_setting_is_refused_with_file_and_key(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = folder / "node.toml"
    settings.write_text(settings.read_text() + "\n[consensus]\nview_timeout = 3\n")
    said = start(folder, capsys)
    assert str(settings) in said
    assert "consensus.view_timeout: an unknown key found, view_timeout_ms expected" in said


def test_a_key_that_others_may_read_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "keys" / "node.pem").chmod(0o644)
    assert "0600 expected; run: chmod 600" in start(folder, capsys)


def test_another_nodes_key_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "keys" / "institution.pem", folder / "keys" / "node.pem")
    assert "key in the genesis" in start(folder, capsys)


def test_an_institutions_key_that_the_ledger_does_not_know_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "keys" / "institution.pem"
    path.unlink()
    write_key_file(path, generate_signing_key())
    said = start(folder, capsys)
    assert str(path) in said
    assert "its open key on this ledger is not" in said


def test_a_genesis_of_another_ledger_is_refused(
    folder: Path, tmp_path: Path, disks: Disks, capsys: pytest.CaptureFixture[str]
) -> None:
    disks.close()
    genesis = folder / "genesis.json"
    genesis.write_text(genesis.read_text().replace('"local"', '"other"'))
    assert "another genesis" in start(folder, capsys)


def test_a_ledger_in_use_is_refused(folder: Path, disks: Disks, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ledger" in start(folder, capsys)


def test_a_damaged_journal_is_refused_and_nothing_is_left_open(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (segment,) = (folder / "data" / "journal").glob("*.segment")
    whole = segment.read_bytes()
    segment.write_bytes(b"x" + whole[1:])
    assert "header damaged" in start(folder, capsys)
    segment.write_bytes(whole)
    Disks.open(load_node_settings(folder / "node.toml")).close()


def test_an_address_in_use_is_refused_while_threads_read_the_vault(
    network: LocalNetwork, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", network.nodes[0].gateway_port))
        taken.listen()
        said = start(folder, capsys)
    assert os.strerror(errno.EADDRINUSE) in said.lower() or "address already in use" in said


@pytest.fixture
def _sigterm_fails_the_test() -> Iterator[None]:
    """Where nobody listens it would end the test run."""

    def on_signal(number: int, frame: object) -> None:
        raise AssertionError("nobody listens to SIGTERM")

    previous = signal.signal(signal.SIGTERM, on_signal)
    yield
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.usefixtures("_sigterm_fails_the_test")
def test_a_stop_while_disks_are_opened_ends_the_node_before_it_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_disks, opened = Disks.open, list[Disks]()

    def open_slowly(settings: NodeSettings) -> Disks:
        os.kill(os.getpid(), signal.SIGTERM)
        opened.append(open_disks(settings))
        return opened[0]

    monkeypatch.setattr(Disks, "open", open_slowly)
    monkeypatch.setattr(node_module, "Node", None)
    assert main(["--config", str(folder / "node.toml")]) == EXIT_OK
    assert len(opened) == 1
    monkeypatch.undo()
    Disks.open(load_node_settings(folder / "node.toml")).close()


@pytest.mark.usefixtures("_sigterm_fails_the_test")
def test_a_stop_between_two_lives_is_heard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lives = []

    async def live(settings: NodeSettings, stop: object) -> Ending:
        lives.append(settings)
        return Ending.FOR_NEW_KEY

    def run_and_stop(life: Coroutine[object, object, Ending]) -> Ending:
        with asyncio.Runner() as runner:
            ending = runner.run(life)
        os.kill(os.getpid(), signal.SIGTERM)
        return ending

    monkeypatch.setattr(node_module, "run_node", live)
    monkeypatch.setattr(asyncio, "run", run_and_stop)
    assert main(["--config", str(folder / "node.toml")]) == EXIT_OK
    assert len(lives) == 1


async def test_a_running_node_does_not_keep_what_its_journal_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bodies of proposals among it: as much as the journal may hold."""
    override = OverrideRecord(height=Height(1), time_ms=1, reason="a test")
    journal = Journal.open(folder / "data" / "journal")
    journal.append([encode_entry(override)])
    journal.close()
    opened = Disks.open(load_node_settings(folder / "node.toml"))
    try:
        assert opened.journal.entries == ()
        Node(opened)
        assert opened.take_journal_content().records == ()
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()
        opened.close()


def test_wrong_usage_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "--config" in capsys.readouterr().err


async def test_a_network_of_one_commits_alone_and_stops_on_request(disks: Disks) -> None:
    running = Node(disks)
    task = asyncio.create_task(running.run())
    async with asyncio.timeout(60):
        while not (disks.chain.head.height >= 3 and running.get_readiness().is_ready):
            assert not task.done()
            await asyncio.sleep(0.01)
    running.stop()
    assert await asyncio.wait_for(task, 10) is Ending.ON_REQUEST


async def test_rule_P7_a_failing_ledger_halts_the_node_with_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Node] = []

    class Watched(Node):
        def __init__(self, disks: Disks) -> None:
            super().__init__(disks)
            opened.append(self)

    monkeypatch.setattr(node_module, "Node", Watched)
    configure_logging("info")
    settings = load_node_settings(folder / "node.toml")
    task = asyncio.create_task(run_node(settings, StopRequest()))
    async with asyncio.timeout(60):
        while not (opened and opened[0].is_started) and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    class FullDisk:
        def __getattr__(self, name: str) -> object:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            pass

    monkeypatch.setattr(opened[0]._disks.chain._store, "_database", FullDisk())
    assert await asyncio.wait_for(task, 20) is Ending.HALTED
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.slow
async def test_a_node_that_lacks_a_contract_warns_and_stops_above_its_height(
    network: LocalNetwork, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Node] = []

    class Watched(Node):
        def __init__(self, disks: Disks) -> None:
            super().__init__(disks)
            opened.append(self)

    monkeypatch.setattr(node_module, "Node", Watched)
    configure_logging("info")
    task = asyncio.create_task(run_node(load_node_settings(folder / "node.toml"), StopRequest()))
    async with asyncio.timeout(60):
        while not (opened and opened[0].get_readiness().is_ready) and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running = opened[0]
    chain, parts = running._disks.chain, running._parts
    signer = TransactionSigner(
        read_key_file(network.nodes[0].folder.institution_key_file), chain_id=network.chain_id
    )
    change = ContractActivation(contract="evidence", version=2)
    due_height = chain.head.height + 20
    transaction = signer.sign(Propose(draw_identifier(), change, due_height))
    await parts.relay.submit([encode_transaction(transaction)])
    async with asyncio.timeout(60):
        while not ((found := running.get_readiness()).warning and found.is_ready):
            assert not task.done()
            await asyncio.sleep(0.01)
    assert f"above height {due_height} contract evidence" in found.warning
    assert await asyncio.wait_for(task, 60) is Ending.HALTED
    said = capsys.readouterr().err
    assert "contract unknown" in said
    assert "ContractUnknown: contract evidence: version 2 is active in the next block" in said
    assert "Traceback" not in said
    with pytest.raises(ContractUnknown, match="this software has 1"):
        Disks.open(load_node_settings(folder / "node.toml"))


async def test_whatever_a_part_reports_as_fatal_halts_the_node(disks: Disks) -> None:
    running = Node(disks)
    task = asyncio.create_task(running.run())
    async with asyncio.timeout(60):
        while not running.is_started and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.halt(StoreFailed("vault or gateway: the disk failed"))
    running.halt(ValueError("a second fault changes nothing"))
    with pytest.raises(StoreFailed, match="the disk failed"):
        await asyncio.wait_for(task, 10)


@pytest.mark.slow
def test_a_new_nodes_journal_is_not_missing_and_a_removed_one_is(folder: Path) -> None:
    journal = Journal.open(folder / "data" / "journal")
    assert not journal.is_missing
    journal.close()
    shutil.rmtree(folder / "data" / "journal")
    with subprocess.Popen(
        [sys.executable, "-m", "node", "--config", str(folder / "node.toml"), "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stderr is not None
        assert b'"opening"' in process.stderr.readline()
        assert b'"started"' in process.stderr.readline()
        assert b"no fault is tolerated" in process.stderr.readline()
        _, said = process.communicate(timeout=20)
    assert process.returncode == EXIT_OK, said


def test_a_node_takes_the_file_descriptors_that_it_may_have() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_descriptor_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == (
            DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
