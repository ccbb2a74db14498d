"""`chartchain governance`: nodes, the replica set and institutions, by proposal and vote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, assert_never

import typer

from cli.acting_institution import (
    ActingInstitution,
    InBlocksOption,
    decode_adopted,
    read_identifier,
    read_key,
)
from cli.admission import propose_admission, propose_removal, request_admission, show_request
from cli.contract_changes import (
    contracts,
    parameters,
    propose_contract,
    propose_parameters,
    require_known_contract,
)
from cli.output import show, show_rows
from cli.session import (
    DEFAULT_FOLDER,
    JsonOption,
    NetworkOption,
    NodeOption,
    with_client,
)
from client import models
from contracts.calls import changes
from contracts.calls import governance as calls
from crypto.encoding import decode

governance_app = typer.Typer(help="The network itself: nodes, replica set, votes.", no_args_is_help=True)
governance_app.command("request-admission")(request_admission)
governance_app.command("show-request")(show_request)
governance_app.command("propose-admission")(propose_admission)
governance_app.command("propose-removal")(propose_removal)
governance_app.command("parameters")(parameters)
governance_app.command("propose-parameters")(propose_parameters)
governance_app.command("contracts")(contracts)
governance_app.command("propose-contract")(propose_contract)

ReplicasOption = Annotated[list[int] | None, typer.Option(help="A replica id; may be given more than once.")]


@governance_app.command("register-node")
def register_node(
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The new node's own key file.")],
    host: Annotated[str, typer.Option(help="Where it will accept links.")],
    port: Annotated[int, typer.Option(min=1, max=65_535)],
    institution_key: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Key file of an institution that has no node yet to go through."
        ),
    ] = None,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Register a node of this institution, which follows without voting, and print its replica id."""
    prover = ActingInstitution(folder, node, key=read_key(institution_key) if institution_key else None)
    node_key = read_key(key)
    call = calls.RegisterNode(node_key.public_key, host, port, prover.prove(node_key, prover.institution))
    answer = prover.send(call)
    replica = decode(bytes.fromhex(answer.results[0]), size_max=64)
    show({"replica": replica, "transaction": answer.id, "height": answer.height}, as_json=as_json)


@governance_app.command("move-node")
def move_node(
    replica: Annotated[int, typer.Argument(help="A node of this institution.")],
    host: Annotated[str, typer.Option(help="Where it accepts links from now on.")],
    port: Annotated[int, typer.Option(min=1, max=65_535)],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """A node goes to another address and keeps its replica id; the others link with it there."""
    answer = ActingInstitution(folder, node).send(calls.MoveNode(replica, host, port))
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
    in_blocks: InBlocksOption = 1_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose a change of the replica set, effective above the due height, and vote for it."""
    proposer = ActingInstitution(folder, node)
    change = changes.ReplicaSetChange(
        add=tuple(sorted(set(add or ()))),
        remove=tuple(sorted(set(remove or ()))),
        rotate=_read_key_changes(rotate or (), proposer),
    )
    show(proposer.propose(change, in_blocks), as_json=as_json)


@governance_app.command("vote")
def vote(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    approve: Annotated[bool, typer.Option("--yes/--no", help="For it, or against it.")] = True,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Vote as this node's institution; a later vote takes the place of an earlier one."""
    voter, identifier = ActingInstitution(folder, node), read_identifier(proposal, "PROPOSAL")
    if approve:
        require_known_contract(voter.get_governance(), identifier)
    answer = voter.send(calls.Vote(identifier, approve))
    show({"height": answer.height, "adopted": decode_adopted(answer)}, as_json=as_json)


@governance_app.command("propose-cancellation")
def propose_cancellation(
    proposal: Annotated[str, typer.Argument(help="The id of one that is scheduled.")],
    in_blocks: InBlocksOption = 1_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose that a scheduled change is not made after all, and vote for it; it takes effect at once."""
    change = changes.Cancellation(proposal=read_identifier(proposal, "PROPOSAL"))
    show(ActingInstitution(folder, node).propose(change, in_blocks), as_json=as_json)


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
            "change": item.change.model_dump() if as_json else _describe_change(item.change),
            "due_height": item.due_height,
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


def _read_key_changes(items: Sequence[str], proposer: ActingInstitution) -> tuple[changes.KeyChange, ...]:
    """From REPLICA=KEYFILE, in the order of the replicas."""
    if not items:
        return ()
    holders = {str(item.replica): bytes.fromhex(item.institution) for item in proposer.get_governance().nodes}
    found = {}
    for text in items:
        replica, _, path = text.partition("=")
        if replica not in holders or not path:
            raise typer.BadParameter(f"{text}: REPLICA=KEYFILE of a node expected", param_hint="--rotate")
        key = read_key(Path(path))
        found[int(replica)] = changes.KeyChange(
            int(replica), key.public_key, proposer.prove(key, holders[replica])
        )
    return tuple(found[replica] for replica in sorted(found))


def _describe_change(change: models.ChangeEntry) -> str:
    """One line for people."""
    match change:
        case models.ReplicaSetEntry():
            named = {
                "add": change.add,
                "remove": change.remove,
                "rotate": tuple(key.replica for key in change.rotate),
            }
            parts = [
                f"{verb} {', '.join(map(str, replicas))}" for verb, replicas in named.items() if replicas
            ]
            return f"replicas: {'; '.join(parts)}"
        case models.AdmissionEntry():
            return f"admit {change.institution_kind} {change.name} ({change.institution})"
        case models.RemovalEntry():
            return f"remove institution {change.institution}"
        case models.ParametersEntry():
            return f"set {', '.join(f'{item.name} {item.value}' for item in change.values)}"
        case models.ContractEntry():
            return f"activate version {change.version} of contract {change.contract}"
        case models.CancellationEntry():
            return f"cancel proposal {change.proposal}"
    assert_never(change)


def _name_state(item: models.ProposalEntry, height: int) -> str:
    if item.lapsed:
        return "lapsed"
    if not item.adopted_height:
        return "open"
    if item.cancelled_height:
        return "cancelled"
    is_at_once = isinstance(
        item.change, models.AdmissionEntry | models.RemovalEntry | models.CancellationEntry
    )
    return "effective" if is_at_once or height >= item.due_height else "scheduled"
