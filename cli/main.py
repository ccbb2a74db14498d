"""The command `chartchain`: puts the groups together and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from cli.audit import audit_app
from cli.bench import bench_app
from cli.demo.command import demo
from cli.evidence import evidence_app
from cli.folders import folder_app, grant_app, record_app
from cli.governance import governance_app
from cli.network import network_app
from cli.node import node_app
from cli.output import fail
from cli.people import institution_app, member_app
from cli.recovery import recover_app
from cli.rotation import prepare_key
from cli.silence import end_silence
from cli.simulate import simulate
from cli.vault import erase_record, rotate_keys
from client.models.faults import list_faults


class ChartchainGroup(TyperGroup):
    """What any command can meet, said in one line: a file that cannot be had, a value out of form."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # Whoever read our output has had enough; typer ends quietly.
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except ValidationError as error:
            raise typer.BadParameter(_describe(error)) from error


def _describe(error: ValidationError) -> str:
    """The first fault of each field that a request's model refused."""
    faults: dict[str, str] = {}
    for place, message in list_faults(error):
        faults.setdefault(place.partition(".")[0], message)
    return "; ".join(f"{field}: {message}" for field, message in faults.items())


app = typer.Typer(
    name="chartchain",
    cls=ChartchainGroup,
    help="A ledger by which institutions share patients' records under the patient's authorization.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo)
app.command("simulate")(simulate)
node_app.command("end-silence")(end_silence)
node_app.command("rotate-keys")(rotate_keys)
node_app.command("erase-record")(erase_record)
app.add_typer(network_app, name="network")
node_app.command("prepare-key")(prepare_key)
node_app.add_typer(recover_app, name="recover")
app.add_typer(node_app, name="node")
app.add_typer(institution_app, name="institution")
app.add_typer(member_app, name="member")
app.add_typer(folder_app, name="folder")
app.add_typer(record_app, name="record")
app.add_typer(grant_app, name="grant")
app.add_typer(evidence_app, name="evidence")
app.add_typer(governance_app, name="governance")
app.add_typer(audit_app, name="audit")
app.add_typer(bench_app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chartchain {importlib.metadata.version('chartchain')}")
        raise typer.Exit


@app.callback()
def chartchain(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    """Start with `chartchain demo`, or `chartchain network init` and `chartchain network up`."""


def main() -> None:
    """The console script."""
    app()
