"""A small ledger for tests: four replicas, two institutions, and a contract of notes that can misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.replica_set import Member, ReplicaSet
from contracts.context import Context
from contracts.contract import Contract
from contracts.errors import NotPermitted
from contracts.tables import ReadableState, Table
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.chain import Chain
from ledger.contract_set import ContractSet
from ledger.errors import StoreFailed
from ledger.genesis import Genesis, Institution, Parameters
from ledger.settings import LedgerSettings
from ledger.speculation import CommittedBlock, Speculation
from ledger.transaction import Call, SignedTransaction, sign_transaction

GENESIS_MS = 1_800_000_000_000


class Note(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One row of the test contract, and the arguments that write it."""

    key: Annotated[bytes, Meta(max_length=64)]
    text: str


class Nothing(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """No arguments."""


class Prefix(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    prefix: bytes


notes = Table("notes", "notes", Note)
contract = Contract("notes", version=1)


@contract.method(Note)
def write(context: Context, arguments: Note) -> tuple[int, int]:
    """Write a note and tell of it."""
    context.put(notes, arguments.key, arguments)
    context.emit("notes", "written", (b"i" * 16,), arguments.key)
    return context.height, context.block_time_ms


@contract.method(Note)
def remove(context: Context, arguments: Note) -> None:
    context.delete(notes, arguments.key)


@contract.method(Prefix)
def count(context: Context, arguments: Prefix) -> int:
    return sum(1 for _ in context.scan(notes, arguments.prefix))


@contract.method(Prefix)
def keys(context: Context, arguments: Prefix) -> bytes:
    return b",".join(key for key, _ in context.scan(notes, arguments.prefix))


@contract.method(Nothing)
def refuse(context: Context, arguments: Nothing) -> None:
    context.put(notes, b"refused", Note(b"refused", "must not stay"))
    raise NotPermitted("never")


@contract.method(Nothing)
def fault(context: Context, arguments: Nothing) -> None:
    context.put(notes, b"fault", Note(b"fault", "must not stay"))
    raise ZeroDivisionError("a contract's own bug")


@contract.method(Nothing)
def break_memory(context: Context, arguments: Nothing) -> None:
    raise MemoryError


@contract.method(Nothing)
def break_recursion(context: Context, arguments: Nothing) -> None:
    raise RecursionError


@contract.method(Nothing)
def break_disk(context: Context, arguments: Nothing) -> None:
    raise OSError(5, "input/output error")


@contract.method(Nothing)
def break_store(context: Context, arguments: Nothing) -> None:
    raise StoreFailed("the database failed")


@contract.method(Nothing)
def spend(context: Context, arguments: Nothing) -> None:
    """Touch as many rows as a call may."""
    for number in range(4_000):
        context.get(notes, b"%d" % number)


@contract.method(Nothing, alone=True)
def hermit(context: Context, arguments: Nothing) -> None:
    """Must be its transaction's only call."""


def _compute_genesis_rows(genesis: Genesis) -> Mapping[bytes, bytes]:
    return {notes.compute_state_key(b"first"): notes.encode_row(Note(b"first", genesis.network))}


@dataclass
class Kit:
    """Keys, genesis and shortcuts; everything derives from fixed seeds."""

    directory: Path
    replica_count: int = 4
    parameters: Parameters = field(default_factory=lambda: Parameters(state_buckets_log2=8))
    settings: LedgerSettings = field(default_factory=LedgerSettings)
    chains: list[Chain] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replica_keys = [SigningKey(bytes((number + 1,)) * 32) for number in range(self.replica_count)]
        self.sender = SigningKey(b"s" * 32)
        self.other = SigningKey(b"o" * 32)
        self.stranger = SigningKey(b"x" * 32)
        self.genesis = Genesis(
            network="test",
            time_ms=GENESIS_MS,
            parameters=self.parameters,
            institutions=(
                Institution(b"i" * 16, "hospital", "East", self.sender.public_key, "https://east.example"),
                Institution(b"j" * 16, "regulator", "West", self.other.public_key, "https://west.example"),
            ),
            replica_set=ReplicaSet(
                0,
                tuple(
                    Member(number, key.public_key, b"i" * 16) for number, key in enumerate(self.replica_keys)
                ),
            ),
            contracts=(),
        )
        self.chain_id = self.genesis.compute_chain_id()
        known: dict[bytes, bytes] = {self.sender.public_key: b"i" * 16, self.other.public_key: b"j" * 16}
        self.contract_set = ContractSet(
            contracts=(contract,),
            compute_genesis_rows=_compute_genesis_rows,
            find_institution=lambda state, public_key: known.get(public_key),
        )
        self._nonce = 0

    def open(self, name: str = "ledger") -> Chain:
        chain = Chain.open(self.directory / name, self.genesis, self.settings, contract_set=self.contract_set)
        self.chains.append(chain)
        return chain

    def sign(
        self,
        *calls: tuple[str, Struct],
        by: SigningKey | None = None,
        expires_ms: int = GENESIS_MS + 60_000,
        chain_id: bytes | None = None,
        contract_name: str = "notes",
    ) -> SignedTransaction:
        """A transaction of `(method, arguments)` calls with a nonce that counts up."""
        self._nonce += 1
        return sign_transaction(
            by or self.sender,
            chain_id=chain_id or self.chain_id,
            calls=[Call(contract_name, method, encode(arguments)) for method, arguments in calls],
            expires_ms=expires_ms,
            nonce=self._nonce.to_bytes(16, "big"),
        )

    def note(self, key: bytes, text: str = "", **more: Any) -> SignedTransaction:
        return self.sign(("write", Note(key, text)), **more)

    def certify(
        self, block: Speculation, *, signers: Sequence[int] = (0, 1, 2), view: int = 0
    ) -> Certificate:
        height, digest = block.header.height, block.digest
        message = compute_vote_bytes(self.chain_id, 0, height, view, Phase.COMMIT, digest)
        signatures = tuple(
            VoteSignature(signer, self.replica_keys[signer].sign(tags.VOTE, message)) for signer in signers
        )
        return Certificate(0, height, view, digest, signatures)

    def commit(
        self, chain: Chain, *transactions: SignedTransaction, time_ms: int | None = None
    ) -> CommittedBlock:
        """Build, certify and commit one block, one second after its parent unless told."""
        if time_ms is None:
            time_ms = chain.head.header.time_ms + 1_000
        block = chain.execute(transactions, proposer=0, time_ms=time_ms)
        pending = chain.begin_commit(block.digest, self.certify(block))
        pending.write()
        return chain.finish_commit(pending)

    def get_note(self, state: ReadableState, key: bytes) -> str | None:
        row = notes.get(state, key)
        return None if row is None else row.text


@pytest.fixture
def arguments() -> SimpleNamespace:
    """Argument types and the table of the test contract."""
    return SimpleNamespace(Note=Note, Nothing=Nothing, Prefix=Prefix, notes=notes)


@pytest.fixture
def make_kit(tmp_path: Path) -> Iterator[Callable[..., Kit]]:
    kits: list[Kit] = []

    def make(**more: object) -> Kit:
        kits.append(Kit(tmp_path / f"kit-{len(kits)}", **more))  # type: ignore[arg-type]
        return kits[-1]

    yield make
    for kit in kits:
        for chain in kit.chains:
            chain.close()


@pytest.fixture
def kit(make_kit: Callable[..., Kit]) -> Kit:
    return make_kit()
