"""A power cut as the disk sees it: a small ext4 whose file system is shut down without flushing its log.

Unlike SIGKILL this loses what was written and not synced: it finds a missing sync, which is tested too.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgpack
import pytest

from bench.processes import LocalProcesses
from bench.workload import AnchorWorkload
from config.local_network import create_local_network
from consensus.journal import Entry, Journal
from crypto.key_files import read_key_file
from ledger.genesis import Parameters
from ledger.settings import StoreSettings
from ledger.store import Store
from ledger.transaction import decode_transaction, encode_transaction
from tests.end_to_end.clients import Clients, open_clients
from tests.end_to_end.ledger_audit import NetworkAudit, audit_network, stop_and_audit
from tests.end_to_end.pauses import standing_still
from tests.end_to_end.system_call_faults import SKIP, compute_prefix
from tests.end_to_end.traffic import run_traffic

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]

FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
VICTIM = 2
CUTS = 10
VOTE_SECONDS = 0.5
"""Far longer than a vote takes."""


class CutDisk:
    """An ext4 in a file, mounted at `path`."""

    def __init__(self, directory: Path) -> None:
        # In memory if possible: a busy disk underneath would only make it slow, and proves nothing more.
        memory = Path("/dev/shm")
        descriptor, name = tempfile.mkstemp(".img", dir=memory if os.access(memory, os.W_OK) else directory)
        self._image, self.path = Path(name), directory / "disk"
        self.path.mkdir()
        os.truncate(descriptor, 64 << 20)
        os.close(descriptor)
        run("mkfs.ext4", "-q", str(self._image))

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def take(self, data: Path) -> None:
        """A new node's `data` lies on this disk from now on."""
        shutil.move(data / "journal", self.path / "journal")
        data.rmdir()
        data.symlink_to(self.path)
        self.sync()

    def sync(self) -> None:
        run("sync", "-f", str(self.path))

    def cut(self) -> None:
        """From here on nothing written and not synced can reach the disk."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        self._image.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=False, capture_output=True)


def run(*command: str) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    if done.returncode:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.decode().strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[CutDisk]:
    made = CutDisk(tmp_path)
    try:
        made.mount()
        yield made
    finally:
        made.unmount()
        made.remove()


@pytest.mark.parametrize("is_synced", [True, False], ids=["synced", "sabotaged"])
def test_rule_P1_the_journal_holds_after_a_power_cut_exactly_because_it_syncs(
    disk: CutDisk, monkeypatch: pytest.MonkeyPatch, is_synced: bool
) -> None:
    directory = disk.path / "journal"
    Journal.create(directory)
    disk.sync()
    journal = Journal.open(directory)
    with monkeypatch.context() as patch:
        if not is_synced:
            patch.setattr(os, "fdatasync", lambda descriptor: None)
        for height in range(1, 21):
            journal.append([Entry(height, 0, secrets.token_bytes(500))])
        disk.cut()
    journal.close()
    disk.unmount()
    disk.mount()
    reopened = Journal.open(directory)
    assert [entry.height for entry in reopened.entries] == (list(range(1, 21)) if is_synced else [])
    reopened.close()


@pytest.mark.parametrize("is_synced", [True, False], ids=["synced", "sabotaged"])
def test_rule_P4_a_block_batch_holds_after_a_power_cut_exactly_because_it_syncs(
    disk: CutDisk, is_synced: bool
) -> None:
    directory = disk.path / "ledger"
    store = Store.open(directory, StoreSettings())
    store.write([(b"first", b"row")])
    disk.sync()
    for number in range(20):
        store.write([(b"row %d" % number, secrets.token_bytes(500))], is_synced=is_synced)
    disk.cut()
    store.close()
    disk.unmount()
    disk.mount()
    store = Store.open(directory, StoreSettings())
    assert store.get(b"first") == b"row"
    found = [store.get(b"row %d" % number) is not None for number in range(20)]
    store.close()
    assert all(found) is is_synced


@pytest.mark.timeout(120)
async def test_rule_P4_a_daemon_has_every_acknowledged_transaction_after_power_cuts(
    disk: CutDisk, tmp_path: Path
) -> None:
    parameters = Parameters(state_buckets_log2=8)
    network = create_local_network(tmp_path / "network", node_count=1, parameters=parameters)
    disk.take(network.nodes[0].directory / "data")
    workload = AnchorWorkload(
        key=read_key_file(network.nodes[0].folder.institution_key_file),
        institution=network.nodes[0].institution,
        chain_id=network.chain_id,
        aliases=(secrets.token_bytes(16),),
    )
    expires_ms = time.time_ns() // 1_000_000 + 300_000
    waiting = [encode_transaction(item) for item in workload.sign_aliases(expires_ms)]
    waiting += workload.sign_anchors(30, expires_ms)
    acknowledged: list[bytes] = []
    tls = ssl.create_default_context(cafile=str(network.ca_file))
    with LocalProcesses.of_network(network) as processes:
        for _ in range(3):
            processes.start()
            await processes.wait_ready()
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
                for signed in acknowledged:
                    assert await get_end(session, network.gateway_urls[0], signed, 0) == "committed"
                for _ in range(10):
                    signed = waiting.pop(0)
                    await submit(session, network.gateway_urls[0], signed)
                    assert await get_end(session, network.gateway_urls[0], signed, 5_000) == "committed"
                    acknowledged.append(signed)
                disk.cut()
            processes.nodes[0].kill()
            await asyncio.to_thread(disk.unmount)
            await asyncio.to_thread(disk.mount)
    audit = audit_network(network, [decode_transaction(signed).transaction_id for signed in acknowledged])
    with pytest.raises(AssertionError, match=f"lacks .*{'00' * 32}"):
        audit.check([bytes(32)])


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_synced", [True, False], ids=["synced", "sabotaged"])
async def test_rule_P1_one_of_four_whose_power_is_cut_under_traffic_forgets_no_vote(
    disk: CutDisk, tmp_path: Path, is_synced: bool
) -> None:
    """A node that the others tell of votes that its journal lacks says so, and is silent."""
    network = create_local_network(tmp_path / "network", parameters=Parameters(state_buckets_log2=8))
    audit = NetworkAudit(network)
    disk.take(network.nodes[VICTIM].directory / "data")
    with LocalProcesses.of_network(network) as processes:
        processes.nodes[VICTIM].command_prefix = () if is_synced else compute_prefix("fdatasync", SKIP)
        processes.start()
        await processes.wait_ready()
        async with open_clients(network) as clients, run_traffic(clients) as traffic:
            ends: list[str] = []
            while len(ends) < CUTS and set(ends) <= {"ready"}:
                disk.sync()  # Of use to the saboteur only: databases open again, without what came since.
                await traffic.wait_progress(8)
                ends.append(await cut_while_a_height_is_open(clients, processes, disk, audit))
            await traffic.wait_progress(8)
        await stop_and_audit(network, processes, traffic, audit=audit)
    assert (set(ends) == {"ready"}) is is_synced, ends


async def cut_while_a_height_is_open(
    clients: Clients, processes: LocalProcesses, disk: CutDisk, audit: NetworkAudit
) -> str:
    """`ready`, or why the victim is silent after it.

    With two nodes standing still nothing becomes final, and the third has what the victim voted for; unless
    the others have all that they need for the height when the second of them goes on.
    """
    victim = processes.nodes[VICTIM]
    primary = (await clients.get_status(victim.gateway_url))["primary"]
    second, third = [node for node in processes.nodes if node not in (victim, processes.nodes[primary])][:2]
    with standing_still(third):
        with standing_still(second):
            await asyncio.sleep(VOTE_SECONDS)
            disk.cut()
            victim.kill()
        await asyncio.to_thread(disk.unmount)
        await asyncio.to_thread(disk.mount)
        audit.journals.gather(victim.directory / "data" / "journal")
        victim.start()
        async with asyncio.timeout(60):
            reason = ""
            while reason != "ready" and "silent until" not in reason:
                await asyncio.sleep(0.02)
                reason = await clients.get_readiness(victim.gateway_url)
    return reason


async def submit(session: aiohttp.ClientSession, url: str, signed: bytes) -> None:
    headers = {"Content-Type": "application/msgpack"}
    body = msgpack.packb([signed])
    async with session.post(f"{url}/v1/transactions", data=body, headers=headers) as response:
        assert response.status == 202, await response.text()


async def get_end(session: aiohttp.ClientSession, url: str, signed: bytes, wait_ms: int) -> str:
    transaction_id = decode_transaction(signed).transaction_id.hex()
    async with session.get(
        f"{url}/v1/transactions/{transaction_id}", params={"wait_ms": wait_ms}
    ) as response:
        return str((await response.json())["end"])
