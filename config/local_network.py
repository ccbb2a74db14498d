"""A network of nodes on one machine, for trying, testing and measuring.

`create_local_network` founds it: one folder for each node, all keys and certificates, one genesis. What it
makes is real in every part but one: the keys of all institutions come from one process, so it is not for
patients' data. `load_local_network` reads such a folder again.

    network.json     what is where: read by the command, the bench and the demo
    ca/              ca.pem, ca-key.pem (0600): for adding nodes
    genesis.json     the same file as in every node's folder
    <node>/          a node's folder each (`config.node_folder`)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from config.errors import Fault, NetworkFolderError
from config.genesis_file import write_genesis_file
from config.local_founders import (
    Founder,
    LocalInstitution,
    compose_genesis,
    draw_founders,
    list_default_institutions,
)
from config.local_ports import choose_free_ports
from config.new_node import make_node_folder
from config.node_file import NodeFileValues, PeerValues, format_node_file
from config.node_folder import NodeFolder
from consensus.replica_set import REPLICAS_MAX
from contracts.calls.registry import InstitutionKind
from crypto.key_files import write_secret_file
from ledger.genesis import Genesis, Parameters
from network.certificates import LOCAL_HOSTS, create_authority

FORMAT_VERSION: Final = 1
HOST: Final = "127.0.0.1"
NETWORK_FILE: Final = "network.json"
MAKE_ONE: Final = "make one with `chartchain network init FOLDER`"
NAME_ANOTHER: Final = "name another folder"
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """One node of a local network."""

    name: str
    title: str
    kind: InstitutionKind
    directory: Path
    replica: int
    institution: bytes
    """16 bytes, the institution's id on the ledger."""
    link_port: int
    gateway_port: int
    gateway_url: str

    @property
    def host(self) -> str:
        """The address at which links and gateway listen."""
        return urlsplit(self.gateway_url).hostname or HOST

    @property
    def folder(self) -> NodeFolder:
        return NodeFolder(self.directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNetwork:
    """A local network's folder and what is in it."""

    directory: Path
    name: str
    chain_id: bytes
    """Digest of the genesis, 32 bytes."""
    nodes: tuple[LocalNode, ...]

    @property
    def genesis_digest(self) -> str:
        """What offline verification asks for, in hexadecimal."""
        return self.chain_id.hex()

    @property
    def genesis_file(self) -> Path:
        return self.directory / "genesis.json"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca" / "ca.pem"

    @property
    def ca_key_file(self) -> Path:
        return self.directory / "ca" / "ca-key.pem"

    @property
    def gateway_urls(self) -> tuple[str, ...]:
        return tuple(node.gateway_url for node in self.nodes)

    def get_node(self, name: str) -> LocalNode:
        """The node of this name. Raises NetworkFolderError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise _refuse(self.directory, "nodes", f"no node {name}", f"one of {names}")


def create_local_network(
    directory: Path,
    *,
    node_count: int = 4,
    base_port: int | None = None,
    hosts: Sequence[str] | None = None,
    parameters: Parameters | None = None,
    institutions: Sequence[LocalInstitution] | None = None,
    name: str = "local",
    seed: bytes | None = None,
    time_ms: int | None = None,
) -> LocalNetwork:
    """Write a network's folder, which must be absent or empty, and say what is in it.

    Links listen at `base_port` and the following ports, gateways behind them; free ports are found when it
    is None. `hosts` are the nodes' addresses, one for each; all are on loopback unless given. With a `seed`
    ids and signing keys follow from it: for tests only, who knows it has the keys. Raises NetworkFolderError.
    """
    _check_empty(directory)
    founders = draw_founders(_choose_institutions(directory, node_count, institutions), seed)
    ports = _choose_ports(directory, base_port, 2 * len(founders))
    if hosts is not None and len(hosts) != len(founders):
        raise _refuse(directory, "hosts", f"{len(hosts)} addresses", f"one for each of {len(founders)} nodes")
    nodes = tuple(
        LocalNode(
            name=founder.institution.name,
            title=founder.institution.title,
            kind=founder.institution.kind,
            directory=directory / founder.institution.name,
            replica=number,
            institution=founder.identifier,
            link_port=ports[number],
            gateway_port=ports[len(founders) + number],
            gateway_url=f"https://{hosts[number] if hosts else HOST}:{ports[len(founders) + number]}",
        )
        for number, founder in enumerate(founders)
    )
    genesis = compose_genesis(
        name,
        founders,
        [node.gateway_url for node in nodes],
        parameters=parameters or Parameters(),
        time_ms=time_ms,
    )
    network = LocalNetwork(directory=directory, name=name, chain_id=genesis.compute_chain_id(), nodes=nodes)
    _write_network(network, genesis, founders)
    return network


def load_local_network(directory: Path) -> LocalNetwork:
    """The network in `directory`. Raises NetworkFolderError when there is none, or a damaged one."""
    path = directory / NETWORK_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _refuse(path, "-", str(error.strerror), "the folder of a local network") from error
    try:
        file = msgspec.json.decode(data, type=_NetworkFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _refuse(path, "-", str(error), "what `chartchain network init` writes") from error
    if file.format_version != FORMAT_VERSION:
        raise _refuse(path, "format_version", str(file.format_version), str(FORMAT_VERSION))
    return LocalNetwork(
        directory=directory,
        name=file.name,
        chain_id=_read_hex(path, "genesis_digest", file.genesis_digest, 32),
        nodes=tuple(
            LocalNode(
                name=node.name,
                title=node.title,
                kind=node.kind,
                directory=directory / node.directory,
                replica=node.replica,
                institution=_read_hex(path, f"nodes.{number}.institution", node.institution, 16),
                link_port=node.link_port,
                gateway_port=node.gateway_port,
                gateway_url=node.gateway_url,
            )
            for number, node in enumerate(file.nodes)
        ),
    )


class _NodeEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    title: str
    kind: InstitutionKind
    directory: str
    replica: int
    institution: str
    link_port: int
    gateway_port: int
    gateway_url: str


class _NetworkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format_version: int
    name: str
    genesis_digest: str
    nodes: tuple[_NodeEntry, ...]


def _write_network(network: LocalNetwork, genesis: Genesis, founders: Sequence[Founder]) -> None:
    authority = create_authority(f"{network.name} consortium")
    (network.directory / "ca").mkdir(parents=True)
    network.ca_file.write_bytes(authority.certificate_pem)
    write_secret_file(network.ca_key_file, authority.key_pem)
    write_genesis_file(network.genesis_file, genesis)
    for node, founder in zip(network.nodes, founders, strict=True):
        make_node_folder(
            node.folder,
            node.name,
            node_key=founder.node_key,
            institution_key=founder.key,
            authority=authority,
            genesis=genesis,
            hosts=sorted({*LOCAL_HOSTS, node.host}),
        )
        write_settings(network, node)
    # Last, so that a folder with this file in it is a whole network.
    write_network_file(network)


def write_settings(network: LocalNetwork, node: LocalNode, *, public_url: str = "") -> None:
    """What the node's settings say: itself, and every other node of the network as its peer.

    `public_url` as in `NodeFileValues`.
    """
    values = NodeFileValues(
        name=node.name,
        replica=node.replica,
        institution=node.institution,
        host=node.host,
        link_port=node.link_port,
        gateway_port=node.gateway_port,
        peers=tuple(
            PeerValues(replica=peer.replica, host=peer.host, port=peer.link_port, name=peer.name)
            for peer in network.nodes
            if peer.replica != node.replica
        ),
        public_url=public_url,
    )
    node.folder.settings_file.write_text(format_node_file(values), encoding="utf-8")


def write_network_file(network: LocalNetwork) -> None:
    """Say in the network's folder what is in it; another version of the file gives way at once."""
    path = network.directory / NETWORK_FILE
    written = path.with_suffix(".new")
    written.write_text(_format_network_file(network), encoding="utf-8")
    written.rename(path)


def _format_network_file(network: LocalNetwork) -> str:
    nodes = [
        {
            "name": node.name,
            "title": node.title,
            "kind": node.kind,
            "directory": node.directory.name,
            "replica": node.replica,
            "institution": node.institution.hex(),
            "link_port": node.link_port,
            "gateway_port": node.gateway_port,
            "gateway_url": node.gateway_url,
        }
        for node in network.nodes
    ]
    document = {
        "format_version": FORMAT_VERSION,
        "name": network.name,
        "genesis_digest": network.genesis_digest,
        "nodes": nodes,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _check_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise _refuse(
            directory, "-", "is there and not empty, an absent or empty folder expected", "", NAME_ANOTHER
        )


def _choose_institutions(
    directory: Path, node_count: int, institutions: Sequence[LocalInstitution] | None
) -> tuple[LocalInstitution, ...]:
    if institutions is not None:
        names = [institution.name for institution in institutions]
        for name in names:
            if not NAME_PATTERN.fullmatch(name) or names.count(name) > 1:
                raise _refuse(directory, "institutions", repr(name), "distinct names of a-z, 0-9 and hyphens")
        return tuple(institutions)
    if not 1 <= node_count <= REPLICAS_MAX:
        raise _refuse(directory, "node_count", str(node_count), f"1 to {REPLICAS_MAX}")
    return list_default_institutions(node_count)


def _choose_ports(directory: Path, base_port: int | None, count: int) -> Sequence[int]:
    if base_port is None:
        return choose_free_ports(HOST, count)
    if not 1 <= base_port <= 65_536 - count:
        raise _refuse(directory, "base_port", str(base_port), f"1 to {65_536 - count}")
    return range(base_port, base_port + count)


def _read_hex(path: Path, key: str, text: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise _refuse(path, key, text[:80], f"{size} bytes in hexadecimal")
    return value


def _refuse(path: Path, key: str, found: str, expected: str, advice: str = MAKE_ONE) -> NetworkFolderError:
    return NetworkFolderError(path, (Fault(key=key, found=found, expected=expected),), advice)
