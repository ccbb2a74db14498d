"""What the contracts go by: their parameters and their versions."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from cli.acting_institution import ActingInstitution, InBlocksOption
from cli.output import fail, show, show_rows
from cli.session import DEFAULT_FOLDER, JsonOption, NetworkOption, NodeOption, with_client
from client import models
from contracts.calls.changes import ContractActivation, ParameterName, ParametersChange, ParameterValue


def parameters(
    folder: NetworkOption = DEFAULT_FOLDER, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """What contracts decide by, and between what a vote can move it."""
    found = with_client(folder, node, "", lambda client: client.get_governance())
    rows = [item.model_dump() for item in found.parameters]
    show_rows(rows, as_json=as_json, title=f"parameters at height {found.height}")


def propose_parameters(
    values: Annotated[
        list[str], typer.Option("--set", help="NAME=VALUE, milliseconds for times; once for each parameter.")
    ],
    in_blocks: InBlocksOption = 1_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose other parameters of the contracts, effective above the due height, and vote for it."""
    read = dict(map(_read_value, values))
    change = ParametersChange(values=tuple(ParameterValue(name, read[name]) for name in sorted(read)))
    show(ActingInstitution(folder, node).propose(change, in_blocks), as_json=as_json)


def contracts(
    folder: NetworkOption = DEFAULT_FOLDER, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """Which version of each contract is active, and which ones this node's software has."""
    found = with_client(folder, node, "", lambda client: client.get_governance())
    rows = [item.model_dump() for item in found.contracts]
    show_rows(rows, as_json=as_json, title=f"contracts at height {found.height}")


def propose_contract(
    contract: Annotated[str, typer.Argument(help="The contract's name.")],
    version: Annotated[int, typer.Argument(min=1, help="The version after the one that is active.")],
    in_blocks: InBlocksOption = 10_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose that a contract's next version takes over above the due height, and vote for it.

    A node whose software does not have it by then stops there. Leave time for all to be brought up to date.
    """
    proposer = ActingInstitution(folder, node)
    _require_known(proposer.get_governance(), contract, version)
    show(proposer.propose(ContractActivation(contract=contract, version=version), in_blocks), as_json=as_json)


def require_known_contract(found: models.GovernanceAnswer, proposal: bytes) -> None:
    """Nobody votes for a version that its own node could not run; one that does not exist would stop all."""
    for item in found.proposals:
        if item.proposal == proposal.hex() and isinstance(item.change, models.ContractEntry):
            _require_known(found, item.change.contract, item.change.version)


def _require_known(found: models.GovernanceAnswer, contract: str, version: int) -> None:
    if not any(item.contract == contract and version in item.known_versions for item in found.contracts):
        fail(
            f"contract {contract}: this node's software has no version {version}, and would stop there; "
            "install software that has it first, or speak through a node that has (`--node`)"
        )


def _read_value(text: str) -> tuple[ParameterName, int]:
    name, _, value = text.partition("=")
    names = get_args(ParameterName)
    if name not in names or not (value.isascii() and value.isdigit() and len(value) <= 16):
        raise typer.BadParameter(
            f"{text}: NAME=VALUE expected, NAME one of {', '.join(names)}", param_hint="--set"
        )
    return cast(ParameterName, name), int(value)
