"""A further node for a local network that runs: its folder, its own keys, its place among the others.

An institution that the ledger knows runs it. It needs a replica id, which only the ledger gives: so keys and
certificates are made first, and settings once the node is registered. It belongs to the network from the
moment at which the network's file names it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from config.errors import Fault, NetworkFolderError
from config.genesis_file import read_genesis_file
from config.local_network import (
    HOST,
    NAME_ANOTHER,
    NAME_PATTERN,
    LocalNetwork,
    LocalNode,
    write_network_file,
    write_settings,
)
from config.local_ports import choose_free_ports
from config.new_node import make_node_folder
from config.node_folder import NodeFolder
from contracts.calls.registry import InstitutionKind
from crypto.key_files import generate_signing_key, read_key_file
from crypto.signatures import SigningKey
from network.certificates import KeyPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """The institution that runs the new node."""

    institution: bytes
    """16 bytes, its id on the ledger."""
    title: str
    kind: InstitutionKind
    key: SigningKey

    @classmethod
    def of(cls, node: LocalNode) -> Operator:
        """Who runs this node already. Raises KeyFileError."""
        key = read_key_file(node.folder.institution_key_file)
        return cls(institution=node.institution, title=node.title, kind=node.kind, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedNode:
    """A node with keys and certificates, and without a replica id yet."""

    name: str
    operator: Operator
    directory: Path
    key: SigningKey
    link_port: int
    gateway_port: int


def choose_node_name(network: LocalNetwork) -> str:
    """`node-5` after four nodes, or the next number that is free."""
    number = len(network.nodes) + 1
    while (network.directory / f"node-{number}").exists():
        number += 1
    return f"node-{number}"


def prepare_local_node(network: LocalNetwork, *, name: str, operator: Operator) -> PreparedNode:
    """Make the node's folder with fresh keys of its own, all but its settings.

    The institution's key is the institution's, at each of its nodes; node key, vault keys and the gateway's
    key are made anew. Raises NetworkFolderError, OSError.
    """
    directory = network.directory / name
    if not NAME_PATTERN.fullmatch(name) or directory.exists():
        fault = Fault(key="name", found=repr(name), expected="a new name of a-z, 0-9 and hyphens")
        raise NetworkFolderError(network.directory, (fault,), NAME_ANOTHER)
    authority = KeyPair(network.ca_file.read_bytes(), network.ca_key_file.read_bytes())
    node_key = generate_signing_key()
    link_port, gateway_port = choose_free_ports(HOST, 2)
    make_node_folder(
        NodeFolder(directory),
        name,
        node_key=node_key,
        institution_key=operator.key,
        authority=authority,
        genesis=read_genesis_file(network.genesis_file),
    )
    return PreparedNode(
        name=name,
        operator=operator,
        directory=directory,
        key=node_key,
        link_port=link_port,
        gateway_port=gateway_port,
    )


def add_local_node(network: LocalNetwork, prepared: PreparedNode, replica: int) -> LocalNetwork:
    """Write the settings of a node that is registered as `replica`; the network with it. Raises OSError."""
    node = LocalNode(
        name=prepared.name,
        title=f"{prepared.operator.title}, {prepared.name}",
        kind=prepared.operator.kind,
        directory=prepared.directory,
        replica=replica,
        institution=prepared.operator.institution,
        link_port=prepared.link_port,
        gateway_port=prepared.gateway_port,
        gateway_url=f"https://{HOST}:{prepared.gateway_port}",
    )
    grown = dataclasses.replace(network, nodes=(*network.nodes, node))
    write_settings(grown, node, public_url=node.gateway_url)
    write_network_file(grown)
    return grown
