"""`chartchain institution` and `chartchain member`: who takes part."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cli.accounts import make_account
from cli.output import show, show_rows
from cli.session import (
    DEFAULT_FOLDER,
    AccountOption,
    JsonOption,
    NetworkOption,
    NodeOption,
    with_client,
)

institution_app = typer.Typer(help="The institutions of the network.", no_args_is_help=True)
member_app = typer.Typer(help="Clinicians, clerks, officers, auditors.", no_args_is_help=True)


@institution_app.command("list")
def list_institutions(
    folder: NetworkOption = DEFAULT_FOLDER, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """Every institution that the ledger knows."""
    found = with_client(folder, node, "", lambda client: client.list_institutions())
    rows = [
        {
            "institution": item.institution,
            "name": item.name,
            "kind": item.kind,
            "gateway": item.gateway_url,
            "suspended": item.suspended,
            "removed_height": item.removed_height,
        }
        for item in found
    ]
    show_rows(rows, as_json=as_json, title="institutions")


@member_app.command("add")
def add_member(
    role: Annotated[
        Literal["clinician", "clerk", "officer", "auditor", "operator"],
        typer.Option(help="What they may do."),
    ],
    evidence: Annotated[str, typer.Option(help="Licence and employment; stays sealed at this institution.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """A new account with a key of its own; the ledger learns a random handle and the role."""
    answer, path = make_account(
        folder,
        node,
        "",
        ("member", role, evidence),
        lambda client, key: client.register_member(role=role, public_key=key.public_key, evidence=evidence),
        lambda answer: answer.member,
    )
    show({"member": answer.member, "transaction": answer.transaction, "key": str(path)}, as_json=as_json)


@member_app.command("suspend")
def suspend_member(
    member: Annotated[str, typer.Argument(help="The handle.")],
    reason: Annotated[str, typer.Option(help="A code such as left_institution.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Close an account at once; the handle is refused from the next block on."""
    answer = with_client(folder, node, account, lambda client: client.suspend_member(member, reason=reason))
    show(answer.model_dump(), as_json=as_json)
