"""`chartchain network`: test networks of real daemons on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from bench.processes import DaemonFile, LocalProcesses, ProcessFailed
from cli.network_growth import add_node
from cli.output import console, error_console, fail, print_json, show, show_rows
from cli.session import DEFAULT_FOLDER, JsonOption, get_node, load_network
from client.client import Client
from client.errors import ClientError
from config.errors import ConfigError
from config.local_network import LocalNetwork, LocalNode, create_local_network

STOP_SECONDS: Final = 20.0
FAULT_TOLERANT_NODES_MIN: Final = 4

network_app = typer.Typer(help="Local test networks.", no_args_is_help=True)

network_app.command("add-node")(add_node)

FolderArgument = Annotated[Path, typer.Argument(envvar="CHARTCHAIN_NETWORK", help="The network's folder.")]


@network_app.command("init")
def init(
    folder: FolderArgument = DEFAULT_FOLDER,
    nodes: Annotated[int, typer.Option(min=1, max=100, help="How many; four survive one fault.")] = 4,
    base_port: Annotated[
        int | None, typer.Option(min=1024, max=65_000, help="First port; free ones are found if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the folder of a new network: genesis, keys, certificates, settings of every node."""
    try:
        network = create_local_network(folder, node_count=nodes, base_port=base_port)
    except ConfigError as error:
        fail(str(error))
    show(
        {
            "folder": str(network.directory),
            "genesis_digest": network.genesis_digest,
            "nodes": [node.name for node in network.nodes],
        },
        as_json=as_json,
    )
    if nodes < FAULT_TOLERANT_NODES_MIN:
        error_console.print(
            f"note: a network of {nodes} tolerates no fault, one of {FAULT_TOLERANT_NODES_MIN} tolerates one"
        )
    if not as_json:
        console.print(f"start it with `chartchain network up {folder}`")


@network_app.command("up")
def up(folder: FolderArgument = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """Start every node in the background and wait until all are ready."""
    network = load_network(folder)
    rows = []
    for node in network.nodes:
        file = DaemonFile(node.directory)
        was_running = file.get_process_id() is not None
        if not was_running:
            file.start()
        rows.append({"node": node.name, "gateway": node.gateway_url, "was_running": was_running})
    try:
        asyncio.run(LocalProcesses.of_network(network).wait_ready(is_child=False))
    except ProcessFailed as error:
        fail(f"{error}\nstop the others with `chartchain network down {folder}`")
    show_rows(rows, as_json=as_json, title=f"network {network.name}")
    if not as_json:
        console.print(f"all ready; the CA is {network.ca_file}; stop with `chartchain network down {folder}`")


@network_app.command("down")
def down(folder: FolderArgument = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """Stop every node of the network."""
    network = load_network(folder)
    running = {}
    for node in network.nodes:
        process_id = DaemonFile(node.directory).get_process_id()
        if process_id is not None:
            os.kill(process_id, signal.SIGTERM)
            running[node.name] = DaemonFile(node.directory)
    deadline = time.monotonic() + STOP_SECONDS
    while any(file.get_process_id() is not None for file in running.values()):
        if time.monotonic() > deadline:
            fail("some nodes have not stopped; look at their log/node.log")
        time.sleep(0.05)
    if as_json:
        print_json({"stopped": list(running)})
    else:
        console.print(f"stopped: {', '.join(running) or 'nothing was running'}")


@network_app.command("status")
def status(folder: FolderArgument = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """Where every node stands. Ends with 1 when a node does not answer or two disagree."""
    network = load_network(folder)
    rows = asyncio.run(_ask_all(network))
    shown = rows if as_json else [row | {"state_root": str(row["state_root"] or "")[:8]} for row in rows]
    show_rows(shown, as_json=as_json, title=f"network {network.name}, genesis {network.genesis_digest}")
    if all(row["height"] is None for row in rows):
        fail(f"no node answers: start the network with `chartchain network up {folder}`")
    silent = [str(row["node"]) for row in rows if row["height"] is None]
    if silent:
        fail(
            f"no answer from {', '.join(silent)}: see why with "
            f"`chartchain network logs {silent[0]} {folder}`, "
            f"start what is not running with `chartchain network up {folder}`"
        )
    roots: dict[object, set[object]] = {}
    for row in rows:
        roots.setdefault(row["height"], set()).add(row["state_root"])
    for height, found in roots.items():
        if len(found) > 1:
            fail(f"height {height}: the nodes do not agree on the state root: keep all folders and report it")


async def _ask_all(network: LocalNetwork) -> list[dict[str, object]]:
    return list(await asyncio.gather(*(_ask(network, node) for node in network.nodes)))


async def _ask(network: LocalNetwork, node: LocalNode) -> dict[str, object]:
    """One node's row; nothing but its name when it does not answer."""
    row: dict[str, object] = {"node": node.name, "replica": node.replica, "gateway": node.gateway_url}
    try:
        async with Client(node.gateway_url, network.ca_file, timeout_seconds=3) as client:
            answer = await client.get_status()
    except ClientError:
        return row | {"state": "no answer", "height": None, "view": None, "pending": None, "state_root": None}
    return row | {
        "state": "ready" if answer.ready else answer.reason,
        "height": answer.height,
        "view": answer.view,
        "pending": answer.pending,
        "state_root": answer.state_root,
    }


@network_app.command("logs")
def logs(
    node_name: Annotated[str, typer.Argument(help="Which node.")],
    folder: FolderArgument = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """The last lines of a node's log."""
    network = load_network(folder)
    node = get_node(network, node_name)
    process = next(item for item in LocalProcesses.of_network(network).nodes if item.name == node.name)
    tail = process.read_log_tail().rstrip()
    if as_json:
        print_json({"node": node.name, "file": str(process.log_path), "lines": tail.splitlines()})
    else:
        console.print(tail or f"{process.log_path}: nothing there yet", markup=False)
