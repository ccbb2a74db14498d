"""`chartchain node`: one node's daemon and its health."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.output import fail, show
from cli.session import JsonOption
from client.client import Client
from client.errors import ClientError
from config.errors import ConfigError
from config.node_check import check_node
from config.settings import NodeSettings, load_node_settings
from ledger.chain import Chain
from ledger.errors import LedgerError, StoreInUse
from ledger.genesis import Genesis
from ledger.pacing import Pacer
from ledger.snapshot_export import export_snapshot
from ledger.snapshot_keeper import REQUEST_FILE
from ledger.snapshot_shelf import list_heights

FREE_BYTES_MIN: Final = 1_073_741_824
SNAPSHOT_SECONDS_MAX: Final = 600.0
"""How long `node snapshot` waits for a running node."""

node_app = typer.Typer(help="One node: run it, ask it, look it over.", no_args_is_help=True)

DirectoryArgument = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The node's folder.")]


@node_app.command("run")
def run(directory: DirectoryArgument) -> None:
    """Run the daemon in the foreground until it is told to stop (SIGTERM or Ctrl-C)."""
    os.execv(sys.executable, [sys.executable, "-m", "node", "--config", str(directory / "node.toml")])  # noqa: S606


@node_app.command("status")
def status(directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """What the running node says of itself."""
    settings = _load(directory)
    genesis = _check(settings)
    # Of an institution that came later only the settings know where its gateway is.
    founders = {founder.institution: founder.gateway_url for founder in genesis.institutions}
    url = settings.gateway.public_url or founders.get(
        settings.node.institution, f"https://{settings.gateway.host}:{settings.gateway.port}"
    )
    try:
        answer = asyncio.run(_ask(url, settings.folder.ca_file))
    except ClientError:
        fail(
            f"{directory}: the node does not answer at {url}; start it with `chartchain node run {directory}`"
        )
    show(answer, as_json=as_json)


async def _ask(gateway_url: str, ca_file: Path) -> dict[str, object]:
    async with Client(gateway_url, ca_file, timeout_seconds=3) as client:
        return (await client.get_status()).model_dump()


@node_app.command("doctor")
def doctor(directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """Look over a node's folder without starting it: settings, genesis, keys, ledger, journal, disk."""
    settings = _load(directory)
    genesis = _check(settings)
    journal = settings.folder.journal_directory
    if not journal.exists():
        fail(
            f"{journal}: absent; the node would start silent until the others' certificates have passed "
            "all that it may have voted for"
        )
    free = shutil.disk_usage(directory).free
    if free < FREE_BYTES_MIN:
        fail(f"{directory}: {free >> 20} MiB free found, {FREE_BYTES_MIN >> 20} expected: make room")
    findings = {
        "settings": "ok",
        "genesis": f"ok: {genesis.compute_chain_id().hex()}",
        "keys": "ok: they and the certificates are there and fit",
        "ledger": _look_at_ledger(settings, genesis),
        "journal": "ok",
        "disk": f"ok: {free >> 30} GiB free",
    }
    show(findings, as_json=as_json)


def _look_at_ledger(settings: NodeSettings, genesis: Genesis) -> str:
    """Whether data/ledger is of this genesis and whole, in words; exits with 1 when it is not."""
    directory = settings.folder.ledger_directory
    if not directory.exists() or not any(directory.iterdir()):
        return "ok: none yet, the node makes it when it starts"
    try:
        chain = Chain.open(directory, genesis, settings.ledger)
    except StoreInUse:
        return "not looked at: the node is running"
    except LedgerError as error:
        fail(str(error))
    try:
        warning = chain.find_contract_warning()
        return warning or f"ok: height {chain.head.height}, of this genesis"
    finally:
        chain.close()


@node_app.command("snapshot")
def snapshot(directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """Write a snapshot of the node's ledger now, for nodes that join; the node may run or not."""
    settings = _load(directory)
    genesis, shelf = _check(settings), settings.folder.snapshots_directory
    try:
        chain = Chain.open(settings.folder.ledger_directory, genesis, settings.ledger)
    except StoreInUse:
        height = _ask_for_snapshot(shelf)
        _show_snapshot(shelf / str(height), "the running node", as_json=as_json)
        return
    except LedgerError as error:
        fail(str(error))
    try:
        height = chain.head.height
        export_snapshot(chain.archive.rows, genesis, height=height, shelf=shelf, pacer=Pacer(rest_seconds=0))
    except LedgerError as error:
        fail(str(error))
    finally:
        chain.close()
    _show_snapshot(shelf / str(height), "this command", as_json=as_json)


def _show_snapshot(folder: Path, writer: str, *, as_json: bool) -> None:
    show({"height": int(folder.name), "folder": str(folder), "written_by": writer}, as_json=as_json)


def _ask_for_snapshot(shelf: Path) -> int:
    """Have the running node write one at its next block; the height."""
    shelf.mkdir(parents=True, exist_ok=True)
    before = list_heights(shelf)
    request = shelf / REQUEST_FILE
    request.touch()
    deadline = time.monotonic() + SNAPSHOT_SECONDS_MAX
    while request.exists():
        if time.monotonic() > deadline:
            fail(
                f"{shelf}: no snapshot after {SNAPSHOT_SECONDS_MAX:.0f} s; see the node's log for the reason"
            )
        time.sleep(0.1)
    after = list_heights(shelf)
    if after[-1:] == before[-1:]:
        fail(f"{shelf}: no snapshot was written; see the node's log for the reason")
    return after[-1]


def _check(settings: NodeSettings) -> Genesis:
    try:
        return check_node(settings)
    except ConfigError as error:
        return fail(str(error))


def _load(directory: Path) -> NodeSettings:
    try:
        return load_node_settings(directory / "node.toml")
    except ConfigError as error:
        return fail(str(error))
