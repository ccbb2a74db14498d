"""A consortium in one process: real ledgers, vaults, cryptography, TLS, gateways; only the ordering is short.

Where the nodes' consensus would be stands `Orderer`: it takes what a gateway submits, makes a block of it at
once and commits the same block on every institution's ledger. Everything else is what the daemon runs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from client import Client, TransactionSigner
from client.models import GrantRequest, MandateRequest, PatientAnswer
from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.replica_set import Member, ReplicaSet
from contracts.catalog import NEWEST
from crypto import tags
from crypto.key_files import generate_signing_key
from crypto.signatures import SigningKey
from gateway.app import Gateway
from gateway.ports import Readiness
from gateway.server import start_gateway
from gateway.settings import GatewaySettings
from ledger.chain import Chain
from ledger.genesis import Genesis, Institution, Parameters
from ledger.transaction import SignedTransaction, TransactionRefused, decode_transaction
from network.certificates import create_authority, issue_gateway_certificate
from vault.key_ring import KeyRing
from vault.vault import Vault


@dataclass(frozen=True)
class Result:
    transaction_id: bytes | None
    code: str
    message: str


@dataclass
class Orderer:
    """Commits what is submitted, at once, on all ledgers alike; `is_paused` keeps it pending."""

    key: SigningKey
    chains: list[Chain] = field(default_factory=list)
    is_paused: bool = False
    shift_ms: int = 0
    """How far block time is ahead of the clock."""

    def submit_to(self, chain: Chain) -> Callable[[Sequence[bytes]], Any]:
        async def submit(signed: Sequence[bytes]) -> list[Result]:
            results = [self._admit(chain, item) for item in signed]
            if not self.is_paused:
                self.commit()
            return results

        return submit

    def commit(self) -> None:
        """One block with everything that is pending anywhere."""
        first = self.chains[0]
        pending = {
            item.signed_hash: item for chain in self.chains for item in chain.mempool.take(1_000, 2**24)
        }
        time_ms = time.time_ns() // 1_000_000 + self.shift_ms
        block = first.execute(list(pending.values()), proposer=0, time_ms=time_ms)
        height = block.header.height
        message = compute_vote_bytes(first.chain_id, 0, height, 0, Phase.COMMIT, block.digest)
        vote = VoteSignature(0, self.key.sign(tags.VOTE, message))
        certificate = Certificate(0, height, 0, block.digest, (vote,))
        for number in range(len(self.chains)):
            self._apply(number, block.header_bytes, block.transactions, certificate)

    def _apply(
        self,
        number: int,
        header_bytes: bytes,
        transactions: tuple[SignedTransaction, ...],
        certificate: Certificate,
    ) -> None:
        chain = self.chains[number]
        chain.validate(header_bytes, transactions)
        pending = chain.begin_commit(certificate.digest, certificate)
        pending.write()
        chain.finish_commit(pending)

    def _admit(self, chain: Chain, signed_bytes: bytes) -> Result:
        transaction = None
        try:
            transaction = decode_transaction(signed_bytes)
            chain.mempool.verify_and_add(transaction, head_time_ms=chain.head.header.time_ms)
        except TransactionRefused as error:
            return Result(None if transaction is None else transaction.transaction_id, error.code, str(error))
        return Result(transaction.transaction_id, "accepted", "")


@dataclass
class House:
    """One institution: its key, ledger, vault and gateway."""

    institution: bytes
    key: SigningKey
    url: str
    directory: Path
    chain: Chain
    vault: Vault
    start: Callable[[], Awaitable[web.AppRunner]]
    """A new gateway over the same ledger and vault."""
    runner: web.AppRunner
    readiness: list[Readiness]
    """What /readyz tells: the last one."""
    halted: list[BaseException]

    @property
    def id(self) -> str:
        return self.institution.hex()


@dataclass
class Consortium:
    """East and west are hospitals, watch is the regulator."""

    orderer: Orderer
    ca_file: Path
    east: House
    west: House
    watch: House
    session: aiohttp.ClientSession
    clients: list[Client] = field(default_factory=list)

    async def open(self, house: House) -> Client:
        """A client without a login; closed with the consortium."""
        client = Client(house.url, self.ca_file)
        await client.__aenter__()
        self.clients.append(client)
        return client

    async def login(self, house: House, key: SigningKey | None = None, subject: str | None = None) -> Client:
        """A client logged in, as the institution's officer unless told."""
        client = await self.open(house)
        await client.login(key or house.key, subject or house.id)
        return client

    async def add_member(self, house: House, role: Any) -> Client:
        """A new member of the house, logged in; its handle is `client.subject`."""
        officer, key = await self.login(house), generate_signing_key()
        answer = await officer.register_member(role=role, public_key=key.public_key, evidence="licence 1")
        client = await self.login(house, key, answer.member)
        client.subject = answer.member  # type: ignore[attr-defined]
        return client

    async def add_patient(self, house: House, number: str = "p-1", **more: Any) -> PatientAnswer:
        return await (await self.login(house)).register_patient(number, **more)

    async def add_guardian(self, house: House, alias: str, scope: Sequence[str]) -> Client:
        officer, key = await self.login(house), generate_signing_key()
        answer = await officer.attest_mandate(
            MandateRequest(
                alias=alias,
                scope=tuple(scope),  # type: ignore[arg-type]
                evidence="family register seen",
                until_ms=now_ms() + 3_600_000,
                public_key=key.public_key.hex(),
            )
        )
        client = await self.login(house, key, answer.representative)
        client.mandate = answer.mandate  # type: ignore[attr-defined]
        return client

    def sign(self, house: House) -> TransactionSigner:
        return TransactionSigner(house.key, chain_id=house.chain.chain_id)

    async def request(
        self, method: str, house: House, path: str, *, client: Client | None = None, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        """A raw request; status and JSON body, empty when there is none."""
        headers = dict(more.pop("headers", {}))
        if client is not None:
            headers["Authorization"] = f"Bearer {client._transport.access_token}"
        async with self.session.request(method, house.url + path, headers=headers, **more) as response:
            data = await response.read()
            return response.status, json.loads(data) if data[:1] == b"{" else {}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def build_bundle(*texts: str) -> bytes:
    """A FHIR R4 collection of one patient with one observation for each text."""
    patient = {"resourceType": "Patient", "id": "p", "name": [{"family": "Test", "given": ["Ada"]}]}
    observations = [
        {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final",
            "category": [{"coding": [{"code": "laboratory"}]}],
            "code": {"text": text},
            "subject": {"reference": "Patient/p"},
        }
        for number, text in enumerate(texts)
    ]
    entries = [{"fullUrl": f"urn:x:{n}", "resource": item} for n, item in enumerate([patient, *observations])]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()


def build_grant(alias: str, institution: str, *classes: str, **more: Any) -> GrantRequest:
    fields: dict[str, Any] = {
        "alias": alias,
        "institution": institution,
        "classes": classes or ("laboratory_reports",),
        "until_ms": now_ms() + 3_600_000,
        "notice_version": "1",
    }
    return GrantRequest(**(fields | more))


def read_contents(answer: Any) -> list[bytes]:
    return [base64.b64decode(record.content) for record in answer.records]


def _find_port() -> int:
    """A free port below those that the system itself gives to outgoing connections."""
    while True:
        port = random.randrange(18_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The consortium's certificate files."""
    directory = tmp_path_factory.mktemp("tls")
    root = create_authority("test consortium")
    gateway = issue_gateway_certificate(root, "gateway")
    files = {"ca": root.certificate_pem, "gateway": gateway.certificate_pem, "gateway-key": gateway.key_pem}
    for name, pem in files.items():
        (directory / f"{name}.pem").write_bytes(pem)
        (directory / f"{name}.pem").chmod(0o600)
    return {name: directory / f"{name}.pem" for name in files}


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    """Overridden by tests that look at limits."""
    return GatewaySettings(
        commit_timeout_ms=300, ticket_wait_ms=100, event_ping_ms=200, anchoring_retry_ms=20
    )


@pytest.fixture
def ticket_age_ms_max() -> int:
    return 30_000


@pytest.fixture
async def consortium(
    tmp_path: Path,
    authority: dict[str, Path],
    gateway_settings: GatewaySettings,
    ticket_age_ms_max: int,
) -> AsyncIterator[Consortium]:
    kinds = {"east": "hospital", "west": "hospital", "watch": "regulator"}
    keys = {name: generate_signing_key() for name in kinds}
    urls = {name: f"https://127.0.0.1:{_find_port()}" for name in kinds}
    replica_key = generate_signing_key()
    genesis = Genesis(
        network="test",
        time_ms=now_ms() - 1_000,
        parameters=Parameters(state_buckets_log2=8, ticket_age_ms_max=ticket_age_ms_max),
        institutions=tuple(
            Institution(name.encode().ljust(16, b"."), kind, name, keys[name].public_key, urls[name])  # type: ignore[arg-type]
            for name, kind in kinds.items()
        ),
        replica_set=ReplicaSet(0, (Member(0, replica_key.public_key, b"east".ljust(16, b".")),)),
        contracts=NEWEST,
    )
    orderer = Orderer(replica_key)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(authority["gateway"], authority["gateway-key"])
    client_tls = ssl.create_default_context(cafile=str(authority["ca"]))
    houses = {}
    for name in kinds:
        houses[name] = await _start_house(
            name,
            tmp_path / name,
            genesis,
            keys[name],
            urls[name],
            orderer,
            gateway_settings,
            client_tls,
            server_tls,
        )
    orderer.commit()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_tls))
    consortium = Consortium(orderer=orderer, ca_file=authority["ca"], session=session, **houses)  # type: ignore[arg-type]
    yield consortium
    for client in consortium.clients:
        await client.__aexit__(None, None, None)
    await session.close()
    for house in houses.values():
        await house.runner.cleanup()
    # As the daemon does: a database that is closed under a thread crashes the process.
    await asyncio.get_running_loop().shutdown_default_executor()
    for house in houses.values():
        house.vault.close()
        house.chain.close()


async def _start_house(
    name: str,
    directory: Path,
    genesis: Genesis,
    key: SigningKey,
    url: str,
    orderer: Orderer,
    settings: GatewaySettings,
    client_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
) -> House:
    chain = Chain.open(directory / "ledger", genesis)
    orderer.chains.append(chain)
    institution = name.encode().ljust(16, b".")
    vault = Vault.open(
        directory / "vault", holder=institution, key_ring=KeyRing.create(directory / "vault.json")
    )
    readiness = [Readiness(is_ready=True, replica=0)]
    halted: list[BaseException] = []

    async def start() -> web.AppRunner:
        gateway = Gateway(
            chain=chain,
            submit=orderer.submit_to(chain),
            vault=vault,
            institution_key=key,
            settings=settings,
            readiness=lambda: readiness[-1],
            halt=halted.append,
            client_tls=client_tls,
        )
        port = int(url.rpartition(":")[2])
        return await start_gateway(gateway.build_application(), settings=settings, port=port, tls=server_tls)

    return House(
        institution=institution,
        key=key,
        url=url,
        directory=directory,
        chain=chain,
        vault=vault,
        start=start,
        runner=await start(),
        readiness=readiness,
        halted=halted,
    )


@pytest.fixture
def kit() -> Any:
    """Helpers that tests call."""
    return SimpleNamespace(
        build_bundle=build_bundle, build_grant=build_grant, read_contents=read_contents, now_ms=now_ms
    )
