"""`chartchain node prepare-key`: the next key of a node, which takes over when an epoch names it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import fail, show
from cli.session import JsonOption
from config.errors import ConfigError
from config.settings import load_node_settings
from crypto.key_files import generate_signing_key, write_key_file
from network.certificates import CertificateError, KeyPair, issue_node_certificate


def prepare_key(
    directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The node's folder.")],
    ca: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder with ca.pem and ca-key.pem.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make the next key of a node and its link certificate, beside the present ones.

    Then propose it: `chartchain governance propose --rotate REPLICA=KEYFILE`. The running node takes it up by
    itself as soon as it is effective.
    """
    try:
        settings = load_node_settings(directory / "node.toml")
    except ConfigError as error:
        fail(str(error))
    folder, key = settings.folder, generate_signing_key()
    if folder.next_node_key_file.exists():
        fail(
            f"{folder.next_node_key_file}: is there already; propose it, or move it away if it was never "
            "proposed. If it is in use, put it in the place of keys/node.pem first"
        )
    authority = KeyPair((ca / "ca.pem").read_bytes(), (ca / "ca-key.pem").read_bytes())
    try:
        certificate = issue_node_certificate(authority, key, settings.node.name)
    except CertificateError as error:
        fail(f"{ca}: {error}")
    folder.next_node_certificate_file.write_bytes(certificate)
    write_key_file(folder.next_node_key_file, key)
    show(
        {
            "replica": settings.node.replica,
            "public_key": key.public_key.hex(),
            "key": str(folder.next_node_key_file),
        },
        as_json=as_json,
    )
