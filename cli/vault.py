"""`chartchain node rotate-keys` and `node erase-record`: what an operator does to a stopped node's vault."""

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
from vault.errors import VaultError, VaultFailed
from vault.key_ring import KeyRing
from vault.vault import Vault

RECORD_BYTES = 16

DirectoryArgument = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The node's folder.")]


def rotate_keys(directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """Wrap everything in a stopped node's vault under a new key, and forget the old one.

    Killed half-way, nothing is lost: the same command goes on. The sealed originals are not touched.
    """
    with _open_vault(directory) as vault:
        count = vault.rotate_keys()
    show({"rewrapped_rows": count, "key_ring": str(directory / "keys" / "vault.json")}, as_json=as_json)


def erase_record(
    directory: DirectoryArgument,
    record: Annotated[str, typer.Argument(help="The record's id: 32 hexadecimal digits.")],
    is_sure: Annotated[bool, typer.Option("--yes", help="Erase it; without this only look at it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Destroy every version of a record in a stopped node's vault, for good.

    The anchor on the ledger stays, and opens nothing any more: withdraw the record there too. Whether the
    record may be erased (retention over, no hold, a second person agrees) is for the institution to know.
    """
    try:
        identifier = bytes.fromhex(record)
    except ValueError:
        identifier = b""
    if len(identifier) != RECORD_BYTES:
        raise typer.BadParameter(f"{2 * RECORD_BYTES} hexadecimal digits expected", param_hint="RECORD")
    with _open_vault(directory) as vault:
        stored = vault.get_stored(identifier)
        if is_sure:
            vault.erase(identifier)
    show(
        {
            "record": record,
            "versions": stored.leaf.version,
            "alias": stored.alias.hex(),
            "class": stored.record_class,
            "erased": is_sure,
        },
        as_json=as_json,
    )
    if not is_sure:
        fail("nothing was erased: say --yes to destroy it for good")


@contextmanager
def _open_vault(directory: Path) -> Iterator[Vault]:
    """The vault of a node that is not running; what is wrong with it ends the command."""
    try:
        settings = load_node_settings(directory / "node.toml")
        check_node(settings)
        vault = Vault.open(
            settings.folder.vault_directory,
            holder=settings.node.institution,
            key_ring=KeyRing.open(settings.folder.key_ring_file),
            settings=settings.vault,
        )
    except VaultFailed as error:
        fail(f"{error}; if the node is running, stop it first")
    except (ConfigError, VaultError) as error:
        fail(str(error))
    try:
        yield vault
    except VaultError as error:
        fail(str(error))
    finally:
        vault.close()
