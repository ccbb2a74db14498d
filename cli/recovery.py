"""`chartchain node recover`: go on after the quorum was lost for good, by vote of the institutions.

The nodes are stopped. One prepares the file, each institution signs it with its own key, wherever that is,
and every remaining node applies it before it starts again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cli.output import fail, show
from cli.session import JsonOption
from config.errors import ConfigError
from config.node_check import check_node
from config.settings import load_node_settings
from crypto.key_files import KeyFileError, read_key_file
from ledger.chain import Chain
from ledger.epochs import EpochChange
from ledger.errors import LedgerError, NotHeld, ProofRefused
from ledger.recovery import decode_electorate
from ledger.recovery_file import (
    FILE_BYTES_MAX,
    decode_recovery,
    encode_recovery,
    get_recovery,
    prepare_recovery,
    sign_change,
)

recover_app = typer.Typer(help="After the quorum was lost for good.", no_args_is_help=True)

DirectoryArgument = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The node's folder.")]
FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The recovery file.")]


@recover_app.command("prepare")
def prepare(
    directory: DirectoryArgument,
    out: Annotated[Path, typer.Option(dir_okay=False, help="The recovery file to write.")],
    keep: Annotated[list[int], typer.Option(help="A replica that goes on; once for each.")],
    as_json: JsonOption = False,
) -> None:
    """Write the statement that these replicas go on above the last block of this stopped node.

    Use the node with the highest block: what the lost replicas certified above it is lost with them.
    """
    with _open_chain(directory) as chain:
        change = prepare_recovery(chain, keep)
    out.write_bytes(encode_recovery(change))
    show(_describe(change), as_json=as_json)


@recover_app.command("sign")
def sign(
    file: FileArgument,
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The institution's key file.")],
    as_json: JsonOption = False,
) -> None:
    """Sign as the institution that this key belongs to; the file is passed from one to the next."""
    try:
        change = sign_change(_read(file), read_key_file(key))
    except (ProofRefused, KeyFileError) as error:
        fail(str(error))
    file.write_bytes(encode_recovery(change))
    show(_describe(change), as_json=as_json)


@recover_app.command("show")
def show_file(file: FileArgument, as_json: JsonOption = False) -> None:
    """What a recovery file says and who has signed it; nothing is verified."""
    show(_describe(_read(file)), as_json=as_json)


@recover_app.command("apply")
def apply(directory: DirectoryArgument, file: FileArgument, as_json: JsonOption = False) -> None:
    """Verify the file and open its epoch on this stopped node; every proof will tell of it for good."""
    change = _read(file)
    with _open_chain(directory) as chain:
        chain.recover(change)
    show(_describe(change), as_json=as_json)


@contextmanager
def _open_chain(directory: Path) -> Iterator[Chain]:
    """The ledger of a stopped node; refusals end the command with the reason."""
    try:
        settings = load_node_settings(directory / "node.toml")
        chain = Chain.open(settings.folder.ledger_directory, check_node(settings), settings.ledger)
        try:
            yield chain
        finally:
            chain.close()
    except (ConfigError, LedgerError, NotHeld, ProofRefused) as error:
        fail(str(error))


def _read(file: Path) -> EpochChange:
    if file.stat().st_size > FILE_BYTES_MAX:
        fail(f"{file}: more than {FILE_BYTES_MAX} bytes; this is no recovery file")
    try:
        return decode_recovery(file.read_bytes())
    except ProofRefused as error:
        return fail(f"{file}: {error}")


def _describe(change: EpochChange) -> dict[str, object]:
    recovery, header = get_recovery(change)
    electorate = decode_electorate(recovery)
    return {
        "above_height": header.height,
        "block": change.certificate.digest.hex(),
        "epoch": change.replica_set.epoch,
        "replicas": [member.replica for member in change.replica_set.members],
        "signed_by": [institution.hex() for institution in recovery.signers],
        "of_institutions": len(electorate.active),
        "is_majority": electorate.is_majority(recovery.signers),
    }
