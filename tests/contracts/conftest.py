"""A ledger in memory: committed rows, institutions with keys, and calls one transaction at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pytest

from contracts.calls import authorization, evidence, folders, governance, monitoring, registry
from contracts.calls.registry import InstitutionKind
from contracts.catalog import CONTRACTS, NEWEST, compute_genesis_rows
from contracts.context import Context, Event
from contracts.errors import CallFailed
from contracts.governance import close_block
from contracts.replica_sets import ReplicaRow
from crypto import tags
from crypto.encoding import Value, decode, encode
from crypto.signatures import SigningKey

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
"""On the hour, so that tests know where an hour of refusals turns."""


class MemoryState:
    """The simplest readable state: a dictionary, scanned in key order."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.rows = dict(rows)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.rows):
            if key.startswith(prefix):
                yield key, self.rows[key]


@dataclass(frozen=True)
class Founder:
    """A founding institution; id and key come from its name."""

    name: str
    kind: InstitutionKind
    gateway_url: str = "https://localhost:1"

    @property
    def institution(self) -> bytes:
        return make_id(self.name)

    @property
    def key(self) -> SigningKey:
        return make_key(self.name)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key


def make_id(name: str) -> bytes:
    return hashlib.sha256(b"id" + name.encode()).digest()[:16]


def make_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(b"key" + name.encode()).digest())


HOSPITAL = Founder("north hospital", "hospital")
OTHER = Founder("south hospital", "hospital")
CLINIC = Founder("clinic", "primary_care")
REGULATOR = Founder("regulator", "regulator")
FOUNDERS = (HOSPITAL, OTHER, CLINIC, REGULATOR)
REPLICAS = tuple(
    ReplicaRow(number, make_key(f"node {number}").public_key, founder.institution)
    for number, founder in enumerate(FOUNDERS)
)

_CONTRACT_OF = {
    kind: module.__name__.rsplit(".", 1)[1]
    for module in (authorization, evidence, folders, governance, monitoring, registry)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
}


@dataclass
class Ledger:
    """Runs each call as a block of its own; a failed one leaves nothing behind."""

    state: MemoryState
    chain_id: bytes = bytes(32)
    height: int = 0
    time_ms: int = START_MS
    transaction_id: bytes = b""
    events: list[Event] = field(default_factory=list)
    """Of the last transaction."""

    hospital = HOSPITAL
    other = OTHER
    clinic = CLINIC
    regulator = REGULATOR
    make_id = staticmethod(make_id)
    make_key = staticmethod(make_key)

    def run(self, sender: Founder | SigningKey, *calls: msgspec.Struct) -> Value:
        """The last call's result. Raises CallFailed, having written nothing."""
        key = sender.key if isinstance(sender, Founder) else sender
        self.height += 1
        self.time_ms += 1
        self.transaction_id = hashlib.sha256(b"transaction %d" % self.height).digest()
        context = Context(
            self.state,
            caller=key.public_key,
            chain_id=self.chain_id,
            height=self.height,
            block_time_ms=self.time_ms,
            transaction_id=self.transaction_id,
        )
        self.events = []
        result = b""
        for call in calls:
            contract = CONTRACTS[_CONTRACT_OF[type(call)]]
            result = contract.call(context, _compute_method(type(call)), encode(call))
        self._apply(context.writes)
        self._apply(close_block(self.state, self.height))
        self.events = context.events
        return decode(result, size_max=4_096) if result else None

    def _apply(self, writes: Mapping[bytes, bytes | None]) -> None:
        for full_key, data in writes.items():
            if data is None:
                self.state.rows.pop(full_key, None)
            else:
                self.state.rows[full_key] = data

    def fail(self, sender: Founder | SigningKey, *calls: msgspec.Struct) -> str:
        """The code of a transaction that must fail."""
        before = dict(self.state.rows)
        with pytest.raises(CallFailed) as caught:
            self.run(sender, *calls)
        assert self.state.rows == before
        return caught.value.code

    # What most tests begin with; each can be varied by its arguments.

    def register_alias(
        self, name: str = "alias", *, patient: SigningKey | None = None, **changes: bytes
    ) -> bytes:
        call = folders.RegisterAlias(make_id(name), CLINIC.institution, b"", b"")
        if patient is not None:
            possession = self.prove_patient_key(patient)
            call = msgspec.structs.replace(call, patient_key=patient.public_key, possession=possession)
        self.run(HOSPITAL, msgspec.structs.replace(call, **changes))
        return make_id(name)

    def prove_patient_key(self, patient: SigningKey, holder: Founder = HOSPITAL) -> bytes:
        message = folders.compute_patient_key_bytes(self.chain_id, holder.institution, patient.public_key)
        return patient.sign(tags.PATIENT_KEY, message)

    def register_member(
        self, name: str = "doctor", founder: Founder = OTHER, role: registry.MemberRole = "clinician"
    ) -> bytes:
        self.run(founder, registry.RegisterMember(make_id(name), role, bytes(32)))
        return make_id(name)

    def make_leaf(self, name: str, version: int = 1) -> evidence.RecordLeaf:
        commitment = hashlib.sha256(f"{name} {version}".encode()).digest()
        return evidence.RecordLeaf(make_id(name), version, commitment, make_id(f"locator {name}"))

    def anchor(self, name: str = "record", record_class: str = "laboratory_reports") -> bytes:
        """Anchor one record under the alias `alias`; the anchor's id."""
        leaf = self.make_leaf(name)
        self.run(HOSPITAL, evidence.Anchor(make_id("alias"), record_class, leaf))  # type: ignore[arg-type]
        return leaf.record

    def make_grant(self, name: str = "grant", /, **changes: object) -> authorization.Grant:
        """One hour of laboratory reports for the doctor of the other hospital."""
        call = authorization.Grant(
            grant=make_id(name),
            alias=make_id("alias"),
            institution=OTHER.institution,
            member=make_id("doctor"),
            classes=("laboratory_reports",),
            purpose="care",
            profile="original",
            from_ms=self.time_ms,
            until_ms=self.time_ms + HOUR_MS,
            uses_max=0,
            assurance="custodial",
            mandate=b"",
            notice_version="1",
        )
        return msgspec.structs.replace(call, **changes)

    def make_request(self, **changes: object) -> authorization.Authorize:
        """The doctor asks for the record `record` by the grant `grant`."""
        call = authorization.Authorize(
            alias=make_id("alias"),
            grant=make_id("grant"),
            anchors=(make_id("record"),),
            purpose="care",
            member=make_id("doctor"),
            ephemeral_key=bytes(32),
            details=bytes(32),
        )
        return msgspec.structs.replace(call, **changes)

    def make_mandate(self, name: str = "mandate", /, **changes: object) -> folders.AttestMandate:
        call = folders.AttestMandate(
            mandate=make_id(name),
            alias=make_id("alias"),
            representative=make_id("guardian"),
            scope=("discharge_summaries", "laboratory_reports"),
            evidence=bytes(32),
            from_ms=self.time_ms,
            until_ms=self.time_ms + 300 * 24 * HOUR_MS,
        )
        return msgspec.structs.replace(call, **changes)


def _compute_method(kind: type) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)[1:]


def _make_ledger() -> Ledger:
    rows = compute_genesis_rows(
        institutions=FOUNDERS,
        replicas=REPLICAS,
        contracts=NEWEST,
        mandate_term_ms_max=366 * 24 * HOUR_MS,
        ticket_age_ms_max=30_000,
        alert_refusals_per_hour=3,
    )
    return Ledger(MemoryState(rows))


@pytest.fixture
def ledger() -> Ledger:
    """Two hospitals, a primary-care institution and a regulator; nothing else."""
    return _make_ledger()


@pytest.fixture(scope="session")
def make_ledger() -> Callable[[], Ledger]:
    """Makes such ledgers, for tests that need a fresh one for each example."""
    return _make_ledger


@pytest.fixture
def folder(ledger: Ledger) -> Ledger:
    """An alias held by the hospital, kept by the clinic; a doctor of the other hospital; one record."""
    ledger.register_alias()
    ledger.register_member()
    ledger.anchor()
    return ledger
