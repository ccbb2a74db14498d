"""`chartchain folder`, `record` and `grant`: patients' folders, what is in them, who may read."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.accounts import make_account
from cli.audit import format_time
from cli.output import fail, show, show_rows
from cli.session import (
    DEFAULT_FOLDER,
    AccountOption,
    JsonOption,
    NetworkOption,
    NodeOption,
    with_client,
)
from client.models import GrantRequest, MandateRequest
from crypto.key_files import write_secret_file

folder_app = typer.Typer(help="Patients' folders.", no_args_is_help=True)
record_app = typer.Typer(help="Take records in; read them.", no_args_is_help=True)
grant_app = typer.Typer(help="Who may read what, until when.", no_args_is_help=True)

AliasArgument = Annotated[str, typer.Argument(help="The folder's alias at its holder.")]
ClassesOption = Annotated[
    list[str], typer.Option("--class", help="A record class, such as laboratory_reports; may be repeated.")
]
NOTICE_VERSION = "2026-11"


@folder_app.command("register")
def register(
    patient: Annotated[str, typer.Argument(help="The number that the institution's own systems use.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Open a folder for a patient, with an account that its key can log in with."""
    answer, path = make_account(
        folder,
        node,
        account,
        ("patient", patient),
        lambda client, key: client.register_patient(patient, public_key=key.public_key),
        lambda answer: answer.subject,
    )
    show(answer.model_dump() | {"key": str(path)}, as_json=as_json)


@folder_app.command("show")
def show_folder(
    alias: AliasArgument,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """The records of a folder as its holder or its owner may see them."""
    answer = with_client(folder, node, account, lambda client: client.get_folder(alias))
    show_rows([record.model_dump() for record in answer.records], as_json=as_json, title=f"folder {alias}")


@folder_app.command("mandate")
def mandate(
    alias: AliasArgument,
    scope: ClassesOption,
    evidence: Annotated[str, typer.Option(help="What was seen; stays sealed at this institution.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="For how long.")] = 300,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Attest that a representative may speak for the patient; makes an account for them."""
    fields = {
        "alias": alias,
        "scope": tuple(sorted(scope)),
        "evidence": evidence,
        "until_ms": _in(days * 1_440),
    }
    MandateRequest.model_validate(fields | {"public_key": "0" * 64})  # Before a key is made for it.
    answer, path = make_account(
        folder,
        node,
        account,
        ("mandate", alias, *sorted(scope), evidence),
        lambda client, key: client.attest_mandate(
            MandateRequest.model_validate(fields | {"public_key": key.public_key.hex()})
        ),
        lambda answer: answer.representative,
    )
    show(answer.model_dump() | {"key": str(path)}, as_json=as_json)


@record_app.command("import")
def import_bundle(
    alias: AliasArgument,
    bundle: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A FHIR R4 bundle.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Seal and anchor every entry of a bundle, or none of them."""
    data = bundle.read_bytes()
    answer = with_client(folder, node, account, lambda client: client.store_bundle(alias, data))
    show_rows(
        [record.model_dump() for record in answer.records], as_json=as_json, title=f"from {bundle.name}"
    )


@record_app.command("read")
def read(
    alias: AliasArgument,
    classes: ClassesOption,
    reason: Annotated[str, typer.Option(help="Why; committed to on the ledger.")],
    grant: Annotated[str | None, typer.Option(help="The grant relied on.")] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write each record into this new folder.")
    ] = None,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """As a clinician: ask for classes of a folder; what is allowed is fetched and verified."""
    if out is not None:
        # Before anything is asked for: a read that is on the ledger as delivered must not get lost here.
        _make_private_folder(out)
    answer = with_client(
        folder,
        node,
        account,
        lambda client: client.read_records(alias=alias, classes=sorted(classes), reason=reason, grant=grant),
    )
    rows = []
    for record in answer.records:
        content = base64.b64decode(record.content)
        if out is not None:
            write_secret_file(out / f"{record.record}.json", content)
        rows.append(
            {
                "record": record.record,
                "class": record.record_class,
                "bytes": len(content),
                "anchored_at": record.checks.anchored_height,
                "verified": record.checks.inclusion and record.checks.commitment_opened,
            }
        )
    show_rows(rows, as_json=as_json, title=f"read by ticket {answer.ticket}")


@grant_app.command("give")
def give(
    alias: AliasArgument,
    classes: ClassesOption,
    institution: Annotated[str, typer.Option(help="The reader's institution.")],
    member: Annotated[str | None, typer.Option(help="One member of it; any clinician if not given.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=527_040, help="For how long.")] = 60,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """As the patient, their representative, or the custodian's officer for them."""
    request = GrantRequest.model_validate(
        {
            "alias": alias,
            "institution": institution,
            "member": member,
            "classes": tuple(sorted(classes)),
            "until_ms": _in(minutes),
            "notice_version": NOTICE_VERSION,
        }
    )
    answer = with_client(folder, node, account, lambda client: client.create_grant(request))
    show(answer.model_dump(), as_json=as_json)


@grant_app.command("revoke")
def revoke(
    grant: Annotated[str, typer.Argument(help="The grant's id.")],
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """No authorisation after this relies on the grant; copies already delivered stay where they are."""
    answer = with_client(folder, node, account, lambda client: client.revoke_grant(grant))
    show(answer.model_dump(), as_json=as_json)


@grant_app.command("list")
def list_grants(
    alias: AliasArgument,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Every grant of a folder, revoked ones too."""
    found = with_client(folder, node, account, lambda client: client.list_grants(alias))
    rows = [entry.model_dump() for entry in found]
    if not as_json:
        for row in rows:
            row["from_ms"], row["until_ms"] = format_time(row["from_ms"]), format_time(row["until_ms"])
            row["uses_max"] = row["uses_max"] or "no limit"
        rows = [{name.removesuffix("_ms"): value for name, value in row.items()} for row in rows]
    show_rows(rows, as_json=as_json, title=f"grants of {alias}")


def _make_private_folder(folder: Path) -> None:
    """An empty folder that only its owner may enter; exits with 1 when there is something in it."""
    if folder.exists() and any(folder.iterdir()):
        fail(f"{folder}: not empty; name a new folder for --out")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _in(minutes: int) -> int:
    """Milliseconds since 1970 at so many minutes from now."""
    return time.time_ns() // 1_000_000 + minutes * 60_000
