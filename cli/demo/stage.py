"""What the steps of the demo share: the network, who is logged in where, and the child's folder."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import LocalProcesses, NodeProcess
from client.client import Client
from client.errors import Refused
from config.local_network import LocalNetwork, LocalNode
from crypto.key_files import generate_signing_key, read_key_file
from crypto.signatures import SigningKey
from records.synthetic import SyntheticPatient


class StepFailed(Exception):
    """A step of the demo did not see what it must see; the text says what it saw instead."""


def expect(condition: bool, message: str) -> None:
    """Raises StepFailed with `message` unless `condition` holds."""
    if not condition:
        raise StepFailed(message)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account: the subject they log in as, and their key."""

    subject: str
    key: SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOutcome:
    """What became of a bundle from the command line."""

    file: str
    records: int = 0
    refused: str = ""
    """The refusal's code; empty when the bundle was taken in."""

    @property
    def is_broken(self) -> bool:
        """Refused for a fault of the bundle; an institution's own data merely has no folder to go to."""
        return self.refused not in ("", "no_patient")


@dataclass(slots=True)
class Child:
    """The main patient: folder alias at the children's hospital, and what was stored there."""

    alias: str
    guardian: Person
    mandate: str
    blobs: tuple[Path, ...] = ()
    """Files of the vault that hold this child's records, for the step that alters one."""
    records: int = 0
    classes: tuple[str, ...] = ()
    """The classes of these records."""
    grant: str = ""
    grant_transaction: str = ""
    first_grant_height: int = 0


@dataclass(slots=True)
class Stage:
    """The scenery. Steps read it and leave behind what later steps need."""

    network: LocalNetwork
    processes: LocalProcesses
    files: Path
    """Where receipts and proofs are written."""
    bundles: tuple[Path, ...]
    """FHIR bundles given on the command line."""
    synthetic_patients: int
    stack: AsyncExitStack
    """Closes the clients when the play is over."""
    _clients: dict[tuple[str, str], Client] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    """Aliases by the name of the node that holds them."""
    patients: dict[str, SyntheticPatient] = field(default_factory=dict)
    """The synthetic patient behind each alias: known here, not on the ledger."""
    bundle_outcomes: list[BundleOutcome] = field(default_factory=list)
    child: Child | None = None
    doctor: Person | None = None
    heights: dict[str, int] = field(default_factory=dict)
    state_roots: dict[str, str] = field(default_factory=dict)

    @property
    def hospital(self) -> LocalNode:
        """The children's hospital: holder and custodian of the child's records."""
        return self.network.nodes[0]

    @property
    def other_hospital(self) -> LocalNode:
        """The general hospital, where the doctor works."""
        return self.network.nodes[1]

    @property
    def regulator(self) -> LocalNode:
        return next(node for node in self.network.nodes if node.kind == "regulator")

    def get_child(self) -> Child:
        expect(self.child is not None, "the child's folder has not been registered yet")
        assert self.child is not None
        return self.child

    def get_doctor(self) -> Person:
        expect(self.doctor is not None, "the doctor has no account yet")
        assert self.doctor is not None
        return self.doctor

    def get_process(self, node: LocalNode) -> NodeProcess:
        return next(process for process in self.processes.nodes if process.name == node.name)

    def get_officer(self, node: LocalNode) -> Person:
        """The institution's own account: its key, which never leaves its node."""
        key = read_key_file(node.directory / "keys" / "institution.pem")
        return Person(subject=node.institution.hex(), key=key)

    async def connect(self, node: LocalNode, person: Person | None = None) -> Client:
        """A client at this node's gateway, logged in as `person`; kept for later steps."""
        subject = person.subject if person else ""
        client = self._clients.get((node.name, subject))
        if client is None:
            client = await self.stack.enter_async_context(Client(node.gateway_url, self.network.ca_file))
            self._clients[node.name, subject] = client
        if person is not None:
            await client.login(person.key, person.subject)
        return client

    async def connect_officer(self, node: LocalNode) -> Client:
        return await self.connect(node, self.get_officer(node))

    async def register_person(self, node: LocalNode, role: str) -> Person:
        """A new member of the node's institution with a key of their own."""
        key = generate_signing_key()
        officer = await self.connect_officer(node)
        answer = await officer.register_member(
            role=role,  # type: ignore[arg-type] # one of the roles, checked by the model
            public_key=key.public_key,
            evidence="licence shown to the registrar (synthetic)",
        )
        return Person(subject=answer.member, key=key)


async def expect_not_found(reading: Awaitable[object]) -> None:
    """Await a request that must be refused exactly as if nothing were there: 404. Raises StepFailed."""
    try:
        await reading
    except Refused as refused:
        expect(refused.status == 404, f"refused with {refused.status} {refused.code}, 404 expected")
        return
    raise StepFailed("the request was allowed, a refusal was expected")
