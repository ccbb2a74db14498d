"""What the contracts go by: their parameters."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from cli.acting_institution import ActingInstitution, InBlocksOption
from cli.output import show, show_rows
from cli.session import DEFAULT_FOLDER, JsonOption, NetworkOption, NodeOption, with_client
from contracts.calls.changes import ParameterName, ParametersChange, ParameterValue


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


def _read_value(text: str) -> tuple[ParameterName, int]:
    name, _, value = text.partition("=")
    names = get_args(ParameterName)
    if name not in names or not (value.isascii() and value.isdigit() and len(value) <= 16):
        raise typer.BadParameter(
            f"{text}: NAME=VALUE expected, NAME one of {', '.join(names)}", param_hint="--set"
        )
    return cast(ParameterName, name), int(value)
