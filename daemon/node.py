"""One running node: starts its parts in order, says how it stands, and winds up when its time is over.

Links first, then the gateway: clients are let in by a node that can relay what they send. At the end it is
the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import structlog
from aiohttp import web

from config.errors import ConfigError, Fault
from daemon.disks import Disks
from daemon.front_door import FrontDoor
from daemon.lifetime import Ending, Lifetime
from daemon.parts import Parts
from gateway.app import Gateway
from gateway.ports import Readiness
from gateway.server import start_gateway
from network.readiness import find_obstacle
from network.tls import build_gateway_client_context, build_gateway_server_context

CLOSE_TIMEOUT_SECONDS: Final = 5.0

_log = structlog.get_logger("node")


class Node:
    """A node upon its open disks, for one life. Made and used on the event loop."""

    def __init__(self, disks: Disks) -> None:
        """Raises TlsSetupFailed."""
        self._disks = disks
        self._lifetime = Lifetime()
        self._parts = Parts(disks, self._lifetime)
        self._front_door = FrontDoor(
            chain=disks.chain,
            institution=disks.settings.node.institution,
            build=self._build_gateway,
            serve=self._serve_gateway,
            halt=self.halt,
        )
        self.is_started = False

    def stop(self) -> None:
        self._lifetime.stop()

    def halt(self, error: BaseException) -> None:
        """Something that the node must not outlive."""
        self._lifetime.halt(error)

    async def run(self) -> Ending:
        """Return why it left off. Raises what halted the node; OSError when an address cannot be had."""
        chain, ended = self._disks.chain, self._lifetime.ended
        driving = asyncio.create_task(self._parts.driver.run())
        try:
            await self._parts.start()
            await self._front_door.open()
            self.is_started = True
            _log.info("started", height=chain.head.height, chain=chain.chain_id.hex())
            self._warn_of_few_replicas()
            await asyncio.wait((driving, ended), return_when=asyncio.FIRST_COMPLETED)
            if driving.done():
                driving.result()  # Raises: a driver goes on until it is stopped, which only happens below.
            return ended.result()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await self._close(driving)
            # Whatever else hangs: no disk is closed under the thread that writes snapshots.
            self._parts.snapshots.close()

    def get_readiness(self) -> Readiness:
        """Whether clients may be sent here, and if not, why."""
        status, links, chain = self._parts.driver.status, self._parts.links, self._disks.chain
        reason = links.copy_reason or find_obstacle(
            status,
            connected=sum(map(chain.replica_set.has, links.connected)),
            quorum=chain.replica_set.quorum,
            clock_offset_ms=self._parts.clock_watch.offset_ms,
            block_age_ms=time.time_ns() // 1_000_000 - chain.head.header.time_ms,
            block_age_ms_max=chain.genesis.parameters.expiry_window_ms_max,
        )
        return Readiness(
            is_ready=not reason,
            reason=reason,
            epoch=status.epoch,
            view=status.view,
            primary=status.primary,
            replica=self._disks.replica,
            warning=chain.find_contract_warning(),
        )

    def _build_gateway(self) -> web.Application:
        """Raises ConfigError when the institution's key is not the ledger's."""
        disks, folder = self._disks, self._disks.settings.folder
        try:
            gateway = Gateway(
                chain=disks.chain,
                submit=self._parts.relay.submit,
                vault=disks.vault,
                institution_key=disks.institution_key,
                settings=disks.settings.gateway,
                readiness=self.get_readiness,
                client_tls=build_gateway_client_context(folder.ca_file),
                halt=self.halt,
                collectors=(self._parts.build_collector(),),
            )
        except ValueError as error:
            fault = Fault(key="-", found=str(error), expected="the institution's key on this ledger")
            path = folder.institution_key_file
            raise ConfigError(path, (fault,), "use the key that was registered last") from error
        return gateway.build_application()

    async def _serve_gateway(self, application: web.Application) -> web.AppRunner:
        """Raises OSError."""
        folder = self._disks.settings.folder
        tls = build_gateway_server_context(folder.gateway_certificate_file, folder.gateway_key_file)
        return await start_gateway(application, settings=self._disks.settings.gateway, tls=tls)

    async def _close(self, driving: asyncio.Task[None]) -> None:
        """Clients first, then the replica, then the network."""
        await self._front_door.close()
        self._parts.driver.stop()
        await asyncio.wait((driving,))
        if not driving.cancelled():
            driving.exception()
        await self._parts.close()

    def _warn_of_few_replicas(self) -> None:
        quorum = self._disks.chain.replica_set.quorum
        if quorum.faults_max == 0:
            _log.warning("no fault is tolerated", replicas=quorum.replica_count, expected="4 or more")
