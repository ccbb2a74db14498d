"""A node that joins leaves nothing open behind it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from config.local_network import create_local_network
from config.settings import load_node_settings
from daemon.joining import join_by_snapshot
from daemon.lifetime import Lifetime
from gateway.server import start_gateway
from network.links import Links


async def test_an_address_in_use_leaves_neither_gateway_nor_links_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = create_local_network(tmp_path / "net", node_count=1).nodes[0]
    settings = load_node_settings(node.directory / "node.toml")
    gateways, closed = list[web.AppRunner](), list[Links]()
    close_links = Links.close

    async def start(*arguments: Any, **named: Any) -> web.AppRunner:
        gateways.append(await start_gateway(*arguments, **named))
        return gateways[0]

    async def close(links: Links) -> None:
        await close_links(links)
        closed.append(links)

    monkeypatch.setattr("daemon.joining.start_gateway", start)
    monkeypatch.setattr(Links, "close", close)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.link_port))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await join_by_snapshot(settings, Lifetime())
    assert len(closed) == 1
    assert [gateway.sites for gateway in gateways] == [set()]
