"""Accounts made by commands: their keys lie in the network's `accounts` folder, one 0600 file each.

Invariant: a key is on the disk before a gateway hears of it. An answer that does not come, or comes late, so
costs nobody their account: the same command again finds the key that it began with, and goes on with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from cli.output import fail
from cli.session import FAILURES, get_account_path, get_node, load_network, run_with_client
from client.client import Client
from client.errors import Refused, Unreachable
from crypto.key_files import KeyFileError, generate_signing_key, read_key_file, write_key_file
from crypto.signatures import SigningKey

T = TypeVar("T")


def make_account(
    folder: Path,
    node_name: str,
    account: str,
    request: tuple[str, ...],
    register: Callable[[Client, SigningKey], Awaitable[T]],
    get_subject: Callable[[T], str],
) -> tuple[T, Path]:
    """Have a gateway make an account: its answer, and the file that the account's key is kept in.

    `request` tells this account from others that are being made; it ends up in the file's name as a digest.
    Ends the command when the gateway refuses or does not answer.
    """
    network = load_network(folder)
    node = get_node(network, node_name)
    digest = sha256("\0".join(request).encode()).hexdigest()[:16]
    path = get_account_path(network, node, f"begun-{digest}")
    try:
        key, is_new = _prepare_key(path)
    except KeyFileError as error:
        fail(str(error))
    try:
        answer = run_with_client(folder, node_name, account, lambda client: register(client, key))
    except FAILURES as error:
        if _may_have_come_through(error) or not is_new:
            fail(
                f"{error}; the account may yet come about and its key is kept in {path}: "
                "run the same command again, which goes on with it"
            )
        path.unlink()
        fail(str(error))
    return answer, path.rename(get_account_path(network, node, get_subject(answer)))


def _prepare_key(path: Path) -> tuple[SigningKey, bool]:
    """The key that this request was begun with, or a new one, and whether it is new. Raises KeyFileError."""
    if path.exists():
        return read_key_file(path), False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    key = generate_signing_key()
    write_key_file(path, key)
    return key, True


def _may_have_come_through(error: Exception) -> bool:
    """Whether the gateway may have the account although its answer was not a plain yes or no."""
    if isinstance(error, Refused):
        return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, Unreachable)
