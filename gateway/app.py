"""The application: builds the parts of one gateway, connects them to routes, starts and stops them.

This is the one module of the gateway that knows all of its others.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from aiohttp import web
from prometheus_client.registry import Collector

from contracts.registry import InstitutionRow, get_institution
from crypto.signatures import SigningKey
from gateway.accounts import Accounts
from gateway.anchoring import Anchoring
from gateway.audit import Audit
from gateway.authentication import Authenticator
from gateway.bodies import BODY_ROOM, refuse_body
from gateway.desk import Desk
from gateway.errors import answer_problems
from gateway.events import Events
from gateway.folders import Folders
from gateway.governance_view import GovernanceView
from gateway.grants import Grants
from gateway.guard import Guard
from gateway.health import Health
from gateway.holders import Holders
from gateway.ledger_view import LedgerView
from gateway.metrics import Metrics
from gateway.min_height import MinHeight
from gateway.openapi import build_openapi
from gateway.operations import Operation
from gateway.ports import GetReadiness, Halt, Submit
from gateway.rates import RateLimit
from gateway.reading import Reading
from gateway.receipts import ReceiptWaiter
from gateway.registration import Registration
from gateway.serving import Serving
from gateway.settings import GatewaySettings
from gateway.transactions import Transactions
from gateway.visibility import Visibility
from ledger.chain import Chain
from ledger.errors import StoreFailed
from vault.errors import VaultFailed
from vault.vault import Vault


class Gateway:
    """The gateway of the vault's institution; `gateway.server.start_gateway` serves its application."""

    def __init__(
        self,
        *,
        chain: Chain,
        submit: Submit,
        vault: Vault,
        institution_key: SigningKey,
        settings: GatewaySettings,
        readiness: GetReadiness,
        client_tls: ssl.SSLContext,
        halt: Halt,
        collectors: Sequence[Collector] = (),
    ) -> None:
        """`client_tls` verifies other institutions' gateways; `halt` is told when a disk has failed;
        `collectors` add to /metrics what the rest of the node has counted.

        Raises ValueError when the key is not the open key of the vault's institution on this ledger.
        """
        own = _find_institution(chain, vault.holder, institution_key)
        self._server_url = settings.public_url or own.gateway_url
        self._chain = chain
        self._vault = vault
        self._settings = settings
        self._get_readiness = readiness
        self._submit = submit
        self._halt = halt
        self._guard = Guard(settings, halt)
        # Clients' waits must not use up those that the gateway's own transactions need.
        self._waiter = ReceiptWaiter(chain, waits_max=settings.waits_max)
        self._clients_waiter = ReceiptWaiter(chain, waits_max=settings.waits_max)
        self._min_height = MinHeight(
            chain=chain, waiter=self._clients_waiter, wait_ms_max=settings.wait_ms_max
        )
        self._accounts = Accounts(vault)
        self._visibility = Visibility(chain, vault.holder)
        self._holders = Holders(tls=client_tls, settings=settings)
        self._authenticator = self._build_authenticator()
        self._desk = self._build_desk(institution_key)
        self._anchoring = Anchoring(
            chain=chain, desk=self._desk, vault=vault, retry_ms=settings.anchoring_retry_ms
        )
        self._events = Events(
            chain=chain, authenticator=self._authenticator, visibility=self._visibility, settings=settings
        )
        self._metrics = Metrics(
            chain=chain, events=self._events, get_readiness=readiness, collectors=collectors
        )
        self.operations: tuple[Operation, ...] = (
            *self._list_ledger_operations(),
            *self._list_account_operations(),
            *self._list_record_operations(),
            *self._events.list_operations(),
        )

    def _build_authenticator(self) -> Authenticator:
        return Authenticator(
            chain=self._chain,
            accounts=self._accounts,
            institution=self._vault.holder,
            audience=self._server_url.rstrip("/"),
            settings=self._settings,
        )

    def _build_desk(self, institution_key: SigningKey) -> Desk:
        """Where the gateway's own transactions are signed."""
        return Desk(
            chain=self._chain,
            submit=self._submit,
            waiter=self._waiter,
            key=institution_key,
            institution=self._vault.holder,
            commit_timeout_ms=self._settings.commit_timeout_ms,
        )

    def _list_ledger_operations(self) -> Iterator[Operation]:
        """Status, blocks and proofs; transactions; supervision."""
        chain, visibility = self._chain, self._visibility
        yield from LedgerView(
            chain=chain,
            visibility=visibility,
            get_readiness=self._get_readiness,
            institution=self._vault.holder,
        ).list_operations()
        yield from GovernanceView(chain=chain).list_operations()
        yield from Transactions(
            chain=chain,
            submit=self._submit,
            waiter=self._clients_waiter,
            authenticator=self._authenticator,
            visibility=visibility,
            settings=self._settings,
        ).list_operations()
        yield from Audit(chain=chain, desk=self._desk, visibility=visibility).list_operations()

    def _list_account_operations(self) -> Iterator[Operation]:
        """Login and registration."""
        yield from self._authenticator.list_operations()
        yield from Registration(
            chain=self._chain,
            desk=self._desk,
            accounts=self._accounts,
            visibility=self._visibility,
            settings=self._settings,
        ).list_operations()

    def _list_record_operations(self) -> Iterator[Operation]:
        """Storing, granting, reading and serving."""
        chain, vault, settings = self._chain, self._vault, self._settings
        visibility, desk = self._visibility, self._desk
        rate = RateLimit(
            name=f"{settings.subject_requests_per_minute_max} such requests a minute of one account",
            per_second=settings.subject_requests_per_minute_max / 60,
            burst=settings.subject_requests_per_minute_max,
            keys_max=settings.clients_max,
        )
        yield from Folders(
            chain=chain,
            vault=vault,
            anchoring=self._anchoring,
            visibility=visibility,
            institution=vault.holder,
            rate=rate,
            settings=settings,
        ).list_operations()
        yield from Grants(
            chain=chain, desk=desk, visibility=visibility, rate=rate, settings=settings
        ).list_operations()
        serving = Serving(chain=chain, vault=vault, desk=desk, waiter=self._waiter, settings=settings)
        yield from serving.list_operations()
        yield from Reading(
            chain=chain,
            vault=vault,
            desk=desk,
            serving=serving,
            holders=self._holders,
            rate=rate,
            settings=settings,
        ).list_operations()

    def build_application(self) -> web.Application:
        application = web.Application(
            middlewares=(self._metrics.measure, answer_problems, self._guard.admit), client_max_size=0
        )
        application[BODY_ROOM] = self._guard.body_room
        for operation in self.operations:
            handler = self._min_height.wrap(operation, self._authenticator.admit(operation))
            if not operation.takes_body:
                handler = refuse_body(handler)
            application.router.add_route(operation.method, operation.path, handler)
        Health(self._get_readiness).add_routes(application.router)
        application.router.add_get("/metrics", self._metrics.handle_metrics)
        application.router.add_get("/openapi.json", self._handle_openapi)
        application.cleanup_ctx.append(self._run)
        application.on_shutdown.append(self._end_streams)
        return application

    async def _handle_openapi(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._openapi, content_type="application/json")

    @cached_property
    def _openapi(self) -> bytes:
        """Built when first asked for: a tenth of a second that no start has to wait."""
        document = build_openapi(self.operations, server=self._server_url)
        return json.dumps(document, ensure_ascii=False).encode()

    async def _run(self, application: web.Application) -> AsyncIterator[None]:
        await self._holders.open()
        follow_up = asyncio.create_task(self._follow_up())
        yield
        follow_up.cancel()
        with suppress(asyncio.CancelledError):
            await follow_up
        await self._holders.close()
        self._metrics.close()
        self._waiter.close()
        self._clients_waiter.close()

    async def _follow_up(self) -> None:
        try:
            await self._anchoring.run()
        except (StoreFailed, VaultFailed) as error:
            self._halt(error)

    async def _end_streams(self, application: web.Application) -> None:
        self._events.close()


def _find_institution(chain: Chain, holder: bytes, key: SigningKey) -> InstitutionRow:
    own = get_institution(chain.state, holder)
    if own is None or own.public_key != key.public_key:
        raise ValueError(
            f"institution {holder.hex()}: its open key on this ledger is not "
            f"{key.public_key.hex()}; check the genesis and keys/institution.pem"
        )
    return own
