"""`chartchain network add-node`: a further node for a local network that runs."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from bench.processes import DaemonFile, LocalProcesses, ProcessFailed
from cli.acting_institution import ActingInstitution, decode_adopted, read_key
from cli.output import console, fail, show
from cli.session import DEFAULT_FOLDER, JsonOption, get_node, load_network
from client.signing import draw_identifier
from config.errors import ConfigError
from config.local_growth import Operator, PreparedNode, add_local_node, choose_node_name, prepare_local_node
from config.local_network import HOST, LocalNetwork, LocalNode
from contracts.calls import governance as calls
from contracts.calls.changes import ReplicaSetChange
from crypto.encoding import decode
from crypto.key_files import KeyFileError

IN_BLOCKS_MIN: Final = 3
"""At least so many blocks after the votes the node is to vote; each takes an idle interval at most."""
VOTING_SECONDS: Final = 10
"""How long the institutions may take to vote: blocks that come meanwhile must not overtake them."""
EPOCH_SECONDS_MAX: Final = 180.0
POLL_SECONDS: Final = 0.5


def add_node(
    folder: Annotated[Path, typer.Argument(envvar="CHARTCHAIN_NETWORK", help="The network's folder.")] = (
        DEFAULT_FOLDER
    ),
    name: Annotated[
        str, typer.Option(help="The node's name and folder; `node-5` and so on if not given.")
    ] = "",
    institution: Annotated[
        str, typer.Option(help="The node whose institution runs the new one too; the first if not given.")
    ] = "",
    institution_key: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Instead: key file of an admitted institution without a node."
        ),
    ] = None,
    vote: Annotated[
        bool, typer.Option("--vote", help="Have the institutions vote it into the replica set.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a node to the running network: it follows without voting, and with --vote becomes a replica."""
    network = load_network(folder)
    sponsor = get_node(network, institution)
    acting = ActingInstitution(
        folder, sponsor.name, key=read_key(institution_key) if institution_key else None
    )
    try:
        prepared = prepare_local_node(
            network,
            name=name or choose_node_name(network),
            operator=acting.describe_operator() if institution_key else Operator.of(sponsor),
        )
    except (ConfigError, KeyFileError, OSError) as error:
        fail(str(error))
    _tell(f"made {prepared.directory} with keys and certificates of its own", as_json)
    try:
        replica = _register(acting, prepared)
    except typer.Exit:
        shutil.rmtree(prepared.directory)  # Nobody knows these keys yet.
        raise
    _tell(f"registered on the ledger as replica {replica}, which follows without voting", as_json)
    network = add_local_node(network, prepared, replica)
    node = network.nodes[-1]
    DaemonFile(node.directory).start()
    _wait_until_it_follows(network, node)
    _tell(f"runs and follows at {node.gateway_url}", as_json)
    if vote:
        height = _vote_in(folder, network, node, as_json=as_json)
        _tell(f"votes since height {height}", as_json)
    show({"node": node.name, "replica": replica, "gateway": node.gateway_url, "votes": vote}, as_json=as_json)


def _tell(step: str, as_json: bool) -> None:
    if not as_json:
        console.print(step)


def _register(acting: ActingInstitution, prepared: PreparedNode) -> int:
    """Have the institution that is to run the node register it; its replica id."""
    possession = acting.prove(prepared.key, acting.institution)
    answer = acting.send(calls.RegisterNode(prepared.key.public_key, HOST, prepared.link_port, possession))
    replica = decode(bytes.fromhex(answer.results[0]), size_max=64)
    assert isinstance(replica, int)
    return replica


def _wait_until_it_follows(network: LocalNetwork, node: LocalNode) -> None:
    processes = LocalProcesses.of_network(network)
    added = LocalProcesses([item for item in processes.nodes if item.name == node.name], network.ca_file)
    try:
        asyncio.run(added.wait_ready(is_child=False))
    except ProcessFailed as error:
        fail(f"{error}\nit is registered; start it with `chartchain network up {network.directory}`")


def _choose_height(proposer: ActingInstitution, votes: int) -> int:
    """Soon, and yet not before everybody has voted, by the pace of the ledger now."""
    before = proposer.get_governance().height
    time.sleep(1)
    height = proposer.get_governance().height
    return height + 1 + votes + IN_BLOCKS_MIN + VOTING_SECONDS * (height - before)


def _vote_in(folder: Path, network: LocalNetwork, node: LocalNode, *, as_json: bool) -> int:
    """Propose the node as a replica and have the others vote; the height at which it was seen to be one."""
    voters = {item.institution: item.name for item in reversed(network.nodes) if item.name != node.name}
    proposer, *others = (ActingInstitution(folder, name) for name in voters.values())
    due_height = _choose_height(proposer, len(others))
    proposal = draw_identifier()
    call = calls.Propose(proposal, ReplicaSetChange(add=(node.replica,)), due_height)
    is_adopted = decode_adopted(proposer.send(call))
    for other in others:
        if is_adopted:
            break
        is_adopted = decode_adopted(other.send(calls.Vote(proposal, approve=True)))
    if not is_adopted:
        fail(f"proposal {proposal.hex()} was not adopted: `chartchain governance list` shows the votes")
    _tell(f"adopted by vote; effective above height {due_height}", as_json)
    deadline = time.monotonic() + EPOCH_SECONDS_MAX
    while time.monotonic() < deadline:
        found = proposer.get_governance()
        if any(item.replica == node.replica and item.votes for item in found.nodes):
            return found.height
        time.sleep(POLL_SECONDS)
    return fail(f"no block above height {due_height} within {EPOCH_SECONDS_MAX:.0f} s; look at the logs")
