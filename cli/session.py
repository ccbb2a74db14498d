"""Which local network, which node, and as whom: what commands that talk to a gateway have in common.

A local network is a folder (`chartchain network init`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from cli.output import fail
from client.client import Client
from client.errors import ClientError, Refused, Unreachable
from config.errors import ConfigError
from config.local_network import NETWORK_FILE, LocalNetwork, LocalNode, load_local_network
from crypto.key_files import KeyFileError, read_key_file
from crypto.signatures import SigningKey

DEFAULT_FOLDER: Final = Path("chartchain-network")

T = TypeVar("T")

NetworkOption = Annotated[
    Path, typer.Option("--network", envvar="CHARTCHAIN_NETWORK", help="Folder of the local network.")
]
NodeOption = Annotated[
    str, typer.Option("--node", help="Which node's gateway, by name; the first if not given.")
]
AccountOption = Annotated[
    str, typer.Option("--as", help="Subject of an account made here; the institution's officer if not given.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def load_network(folder: Path) -> LocalNetwork:
    """The network in `folder`, or exit with 1 and how to make one."""
    if not (folder / NETWORK_FILE).exists():
        fail(
            f"{folder}: no local network there; make one with `chartchain network init {folder}` "
            f"and start it with `chartchain network up {folder}`, or name the folder of one"
        )
    try:
        return load_local_network(folder)
    except ConfigError as error:
        fail(str(error))


def get_node(network: LocalNetwork, name: str) -> LocalNode:
    """The node called `name`, the first one for an empty name, or exit with 1."""
    if not name:
        return network.nodes[0]
    for node in network.nodes:
        if name in (node.name, str(node.replica)):
            return node
    names = ", ".join(node.name for node in network.nodes)
    return fail(f"node {name}: not in this network; its nodes are {names}")


def with_client(folder: Path, node_name: str, account: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a client that is logged in; refusals and silence end the command with the reason."""
    try:
        return run_with_client(folder, node_name, account, work)
    except FAILURES as error:
        fail(str(error))


def run_with_client(folder: Path, node_name: str, account: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """The same for commands that have more to say when it fails. Raises one of FAILURES."""
    network = load_network(folder)
    node = get_node(network, node_name)
    subject, key = _get_account(network, node, account)
    try:
        return asyncio.run(_run(node, network.ca_file, subject, key, work))
    except Unreachable as error:
        raise NodeSilent(node.name, folder, error) from error


class LoginRefused(Exception):
    """The gateway did not let the account in; it does not tell why."""

    def __init__(self, node_name: str, subject: str, code: str) -> None:
        super().__init__(
            f"{node_name}: no login for the account {subject} ({code}); "
            "it may be suspended: ask the institution's officer"
        )


class NodeSilent(Unreachable):
    """The node of a local network does not answer: here its folder is known, and so what starts it."""

    def __init__(self, node_name: str, folder: Path, error: Unreachable) -> None:
        ClientError.__init__(
            self,
            f"{node_name} does not answer at {error.gateway_url}; start the network with "
            f"`chartchain network up {folder}`, or see why it ended with "
            f"`chartchain network logs {node_name} {folder}`",
        )
        self.gateway_url = error.gateway_url


FAILURES: Final = (ClientError, KeyFileError, LoginRefused)
"""What ends work at a gateway with a reason that a person can act on."""


async def _run(
    node: LocalNode, ca_file: Path, subject: str, key: SigningKey, work: Callable[[Client], Awaitable[T]]
) -> T:
    async with Client(node.gateway_url, ca_file) as client:
        try:
            await client.login(key, subject)
        except Refused as refused:
            if refused.status == HTTPStatus.UNAUTHORIZED:
                raise LoginRefused(node.name, subject, refused.code) from refused
            raise
        return await work(client)


def _get_account(network: LocalNetwork, node: LocalNode, account: str) -> tuple[str, SigningKey]:
    if not account:
        return node.institution.hex(), read_key_file(node.directory / "keys" / "institution.pem")
    path = get_account_path(network, node, account)
    if not path.exists():
        fail(
            f"{path}: no account {account} was made here at {node.name}; `chartchain member add`, `folder "
            "register` and `folder mandate` make one, and --node says where it was made"
        )
    return account, read_key_file(path)


def get_account_path(network: LocalNetwork, node: LocalNode, subject: str) -> Path:
    return network.directory / "accounts" / f"{node.name}-{subject}.pem"
