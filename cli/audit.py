"""`chartchain audit`: what a regulator, or the owner of a folder, may see of what happened."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.output import show, show_rows
from cli.session import DEFAULT_FOLDER, AccountOption, JsonOption, NetworkOption, NodeOption, with_client

audit_app = typer.Typer(help="Audit trail, statistics, alerts.", no_args_is_help=True)


@audit_app.command("trail")
def trail(
    alias: Annotated[str, typer.Argument(help="Whose folder.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Every request to read this folder, allowed or refused, in ledger order."""
    answer = with_client(folder, node, account, lambda client: client.get_audit_trail(alias))
    rows = [
        {
            "height": entry.height,
            "time": format_time(entry.time_ms),
            "institution": entry.institution,
            "member": entry.member,
            "purpose": entry.purpose,
            "decision": entry.decision,
            "ending": entry.outcome or entry.reason or "no outcome yet",
            "ticket": entry.ticket,
        }
        for entry in answer.entries
    ]
    show_rows(rows, as_json=as_json, title=f"requests to read {alias}")


@audit_app.command("stats")
def stats(
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Counts by institution; fewer than ten are not told."""
    answer = with_client(folder, node, account, lambda client: client.get_statistics())
    rows = [
        {
            "institution": cell.institution,
            "kind": cell.kind,
            "count": "fewer than 10" if cell.count is None else cell.count,
        }
        for cell in answer.cells
    ]
    show_rows(rows, as_json=as_json, title=f"statistics at height {answer.height}")


@audit_app.command("alerts")
def alerts(
    open_only: Annotated[bool, typer.Option("--open", help="Only those not yet acknowledged.")] = False,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """What the monitoring rules found."""
    found = with_client(folder, node, account, lambda client: client.list_alerts(open_only=open_only))
    rows = [
        {
            "alert": alert.alert,
            "kind": alert.kind,
            "time": format_time(alert.time_ms),
            "institution": alert.institution,
            "finding": alert.finding,
            "acknowledged": alert.acknowledged,
        }
        for alert in found
    ]
    show_rows(rows, as_json=as_json, title="alerts")


@audit_app.command("acknowledge")
def acknowledge(
    alert: Annotated[str, typer.Argument(help="The alert's id.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """As a regulator: this alert has been seen and is followed up."""
    answer = with_client(folder, node, account, lambda client: client.acknowledge_alert(alert))
    show(answer.model_dump(), as_json=as_json)


def format_time(time_ms: int) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
