"""The life of a node that has no ledger to live on: links that only ask, and a gateway that says to wait.

How a snapshot is chosen, fetched and installed is told in `network.joining`.
"""

from __future__ import annotations

import asyncio

from config.node_check import check_node
from config.node_identity import choose_identity
from config.settings import NodeSettings
from daemon.lifetime import Lifetime
from daemon.node_links import build_links
from gateway.server import start_gateway
from gateway.waiting import build_waiting_gateway
from ledger.contract_set import load_built_in
from ledger.genesis import Genesis
from network.joining import JoinFolders, Joining
from network.link_ports import LinkHandlers
from network.links import Links
from network.tls import build_gateway_server_context


async def join_by_snapshot(settings: NodeSettings, lifetime: Lifetime) -> bool:
    """Put a snapshot's ledger in the place of the node's own; False when told to stop before it is there.

    Raises one of `daemon.faults.CANNOT_START`.
    """
    folder, genesis = settings.folder, check_node(settings)
    identity = choose_identity(folder, None)
    links = build_links(settings, identity, genesis.replica_set, genesis.compute_chain_id())
    joining = _build_joining(settings, links, genesis)
    gateway = await start_gateway(
        build_waiting_gateway(lambda: joining.progress),
        settings=settings.gateway,
        tls=build_gateway_server_context(folder.gateway_certificate_file, folder.gateway_key_file),
    )
    try:
        await links.start(LinkHandlers.deaf())
        return await _run(joining, lifetime)
    finally:
        await links.close()
        await gateway.cleanup()


async def _run(joining: Joining, lifetime: Lifetime) -> bool:
    """Whether the ledger was in its place before the node was told to stop."""
    running = asyncio.create_task(joining.run())
    try:
        await asyncio.wait((running, lifetime.ended), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        return running.done()
    finally:
        joining.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _build_joining(settings: NodeSettings, links: Links, genesis: Genesis) -> Joining:
    folder = settings.folder
    return Joining(
        links,
        genesis,
        JoinFolders(
            joining=folder.joining_directory,
            ledger=folder.ledger_directory,
            snapshots=folder.snapshots_directory,
        ),
        contract_set=load_built_in(),
        store_settings=settings.ledger.store,
        settings=settings.network.fetch,
    )
