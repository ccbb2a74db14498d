"""Writes a `node.toml`: who the node is and where its peers are; every other setting keeps its default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerValues:
    replica: int
    host: str
    port: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFileValues:
    """What differs from node to node."""

    name: str
    replica: int
    institution: bytes
    host: str
    link_port: int
    gateway_port: int
    peers: tuple[PeerValues, ...]
    public_url: str = ""
    """Of the gateway, where it is not the one that the institution has on the ledger."""


def format_node_file(values: NodeFileValues) -> str:
    """The text of the file. Names and hosts are of letters, digits, dots, colons and hyphens: no escapes."""
    lines = [
        "# A node of chartchain. Every setting with its default and its meaning: docs/settings.md.",
        "",
        "[node]",
        f'name = "{values.name}"',
        f"replica = {values.replica}",
        f'institution = "{values.institution.hex()}"',
        f'link_host = "{values.host}"',
        f"link_port = {values.link_port}",
        "",
        "[gateway]",
        f'host = "{values.host}"',
        f"port = {values.gateway_port}",
    ]
    if values.public_url:
        lines.append(f'public_url = "{values.public_url}"')
    for peer in values.peers:
        lines += [
            "",
            f"# {peer.name}",
            "[[peers]]",
            f"replica = {peer.replica}",
            f'host = "{peer.host}"',
            f"port = {peer.port}",
        ]
    return "\n".join(lines) + "\n"
