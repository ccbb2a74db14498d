"""`chartchain governance`: the nodes of the network and who of them votes, by proposal and vote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.acting_institution import ActingInstitution, decode_adopted, read_key
from cli.output import show, show_rows
from cli.session import (
    DEFAULT_FOLDER,
    JsonOption,
    NetworkOption,
    NodeOption,
    with_client,
)
from client import models
from client.signing import draw_identifier
from contracts.calls import governance as calls
from crypto.encoding import decode

governance_app = typer.Typer(help="The network itself: nodes, replica set, votes.", no_args_is_help=True)

ReplicasOption = Annotated[list[int] | None, typer.Option(help="A replica id; may be given more than once.")]


@governance_app.command("register-node")
def register_node(
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The new node's own key file.")],
    host: Annotated[str, typer.Option(help="Where it will accept links.")],
    port: Annotated[int, typer.Option(min=1, max=65_535)],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Register a node of this institution, which follows without voting, and print its replica id."""
    prover = ActingInstitution(folder, node)
    node_key = read_key(key)
    call = calls.RegisterNode(node_key.public_key, host, port, prover.prove(node_key, prover.institution))
    answer = prover.send(call)
    replica = decode(bytes.fromhex(answer.results[0]), size_max=64)
    show({"replica": replica, "transaction": answer.id, "height": answer.height}, as_json=as_json)


@governance_app.command("retire-node")
def retire_node(
    replica: Annotated[int, typer.Argument(help="A node of this institution that does not vote.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """A node is gone for good; its links end with the next block."""
    answer = ActingInstitution(folder, node).send(calls.RetireNode(replica))
    show({"replica": replica, "transaction": answer.id, "height": answer.height}, as_json=as_json)


@governance_app.command("propose")
def propose(
    add: ReplicasOption = None,
    remove: ReplicasOption = None,
    rotate: Annotated[
        list[str] | None,
        typer.Option(help="REPLICA=KEYFILE: this member votes with that key; on the host that has it."),
    ] = None,
    in_blocks: Annotated[int, typer.Option(min=1, help="Effective so many blocks from now.")] = 1_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose a change of the replica set, and vote for it."""
    proposer = ActingInstitution(folder, node)
    found = proposer.get_governance()
    call = calls.Propose(
        proposal=draw_identifier(),
        add=tuple(sorted(set(add or ()))),
        remove=tuple(sorted(set(remove or ()))),
        rotate=tuple(
            sorted((_read_change(item, proposer, found) for item in rotate or ()), key=_get_replica)
        ),
        effective_height=found.height + 1 + in_blocks,
    )
    answer = proposer.send(call)
    show(
        {
            "proposal": call.proposal.hex(),
            "effective_height": call.effective_height,
            "adopted": decode_adopted(answer),
        },
        as_json=as_json,
    )


@governance_app.command("vote")
def vote(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    approve: Annotated[bool, typer.Option("--yes/--no", help="For it, or against it.")] = True,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Vote as this node's institution; a later vote takes the place of an earlier one."""
    answer = ActingInstitution(folder, node).send(calls.Vote(_read_identifier(proposal), approve))
    show({"height": answer.height, "adopted": decode_adopted(answer)}, as_json=as_json)


@governance_app.command("list")
def list_proposals(
    folder: NetworkOption = DEFAULT_FOLDER, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """Every proposal with its votes."""
    found = with_client(folder, node, "", lambda client: client.get_governance())
    rows = [
        {
            "proposal": item.proposal,
            "state": _name_state(item, found.height),
            "add": item.add,
            "remove": item.remove,
            "rotate": tuple(change.replica for change in item.rotate),
            "effective_height": item.effective_height,
            "for": len(item.approved_by),
            "against": len(item.rejected_by),
            "of": len(found.electorate),
        }
        for item in found.proposals
    ]
    show_rows(rows, as_json=as_json, title=f"proposals at height {found.height}")


@governance_app.command("replica-set")
def replica_set(
    folder: NetworkOption = DEFAULT_FOLDER, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """The nodes of the network and who of them votes."""
    found = with_client(folder, node, "", lambda client: client.get_governance())
    rows = [
        {
            "replica": item.replica,
            "role": "retired" if item.retired_height else "votes" if item.votes else "follows",
            "institution": item.institution,
            "links": f"{item.link_host}:{item.link_port}" if item.link_host else "",
            "public_key": item.public_key,
        }
        for item in found.nodes
    ]
    title = f"epoch {found.epoch} at height {found.height}, quorum {found.quorum}"
    for entry in found.recoveries:
        title += f"; epoch {entry.epoch} was opened by the institutions above height {entry.above_height}"
    show_rows(rows, as_json=as_json, title=title)


def _read_change(text: str, proposer: ActingInstitution, found: models.GovernanceAnswer) -> calls.KeyChange:
    replica, _, path = text.partition("=")
    holders = {str(node.replica): bytes.fromhex(node.institution) for node in found.nodes}
    if replica not in holders or not path:
        raise typer.BadParameter(f"{text}: REPLICA=KEYFILE of a node expected", param_hint="--rotate")
    key = read_key(Path(path))
    return calls.KeyChange(int(replica), key.public_key, proposer.prove(key, holders[replica]))


def _get_replica(change: calls.KeyChange) -> int:
    return change.replica


def _read_identifier(text: str) -> bytes:
    try:
        identifier = bytes.fromhex(text)
    except ValueError:
        identifier = b""
    if len(identifier) != 16:
        raise typer.BadParameter("32 hexadecimal digits expected", param_hint="PROPOSAL")
    return identifier


def _name_state(item: models.ProposalEntry, height: int) -> str:
    if item.lapsed:
        return "lapsed"
    if not item.adopted_height:
        return "open"
    return "scheduled" if height < item.effective_height else "effective"
