"""Concurrent clients at all gateways, who race for the same grants and records, and what each of them saw.

An operation is one transaction: called when its bytes are first sent, returned when its receipt is known. A
client that gets no answer sends the identical bytes again, at the next gateway, so that it counts once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from msgspec import Struct

from client import Client
from client.errors import ClientError, Refused
from client.models import TransactionAnswer
from client.signing import TransactionSigner, draw_identifier
from config.local_network import LocalNetwork, LocalNode
from contracts.calls.authorization import Authorize, Grant, Revoke
from contracts.calls.evidence import Anchor, Inclusion, RecordLeaf, Supersede, Withdraw
from contracts.calls.folders import RegisterAlias
from contracts.calls.registry import RegisterMember
from crypto.encoding import decode_as
from crypto.hashing import compute_digest
from crypto.key_files import read_key_file
from ledger.transaction import SignedTransaction
from tests.end_to_end.linearizability import Operation
from tests.end_to_end.models import USES_MAX, GrantAction, RecordAction

REQUEST_SECONDS: Final = 3.0
"""After so long without an answer a client turns to the next gateway."""
WAIT_MS: Final = 1_500
OPERATION_SECONDS: Final = 90.0
RECORD_CLASS: Final = "laboratory_reports"

GrantHistory: TypeAlias = list[Operation[GrantAction]]
RecordHistory: TypeAlias = list[Operation[RecordAction]]


@dataclass(slots=True)
class Caller:
    """An institution's client: its own gateway first, the others when that does not answer."""

    node: LocalNode
    signer: TransactionSigner
    clients: Sequence[Client]
    """One for each gateway, the own one first and logged in as officer."""
    acknowledged: list[bytes] = field(default_factory=list)

    async def carry_out(self, call: Struct) -> str:
        """`ok` or the contract's code, once the receipt is known. Raises TimeoutError."""
        return (await self._settle(self.signer.sign(call), self.clients)).code

    async def authorize(self, call: Authorize) -> str:
        """`allowed` or the reason of the refusal, which the own gateway alone may tell."""
        transaction = self.signer.sign(call)
        answer = await self._settle(transaction, self.clients[:1])
        (result,) = answer.results
        decision = decode_as(tuple[str, ...], bytes.fromhex(result), size_max=1_000)
        return decision[-1]

    async def log_in(self) -> None:
        key = read_key_file(self.node.folder.institution_key_file)
        await self.clients[0].login(key, self.node.institution.hex())

    async def _settle(self, transaction: SignedTransaction, clients: Sequence[Client]) -> TransactionAnswer:
        async with asyncio.timeout(OPERATION_SECONDS):
            for client in itertools.cycle(clients):
                try:
                    answer = await _ask(client, transaction)
                except Refused as error:
                    if error.status == 401:  # Tokens end with the gateway that gave them.
                        await self._log_in_again()
                except ClientError:
                    await asyncio.sleep(0.05)
                else:
                    if answer.end in ("committed", "failed"):
                        self.acknowledged.append(transaction.transaction_id)
                        return answer
        raise AssertionError("cycles have no end")

    async def _log_in_again(self) -> None:
        try:
            await self.log_in()
        except ClientError:
            await asyncio.sleep(0.05)


async def _ask(client: Client, transaction: SignedTransaction) -> TransactionAnswer:
    """Send the bytes, again if need be, and wait a little for the end. Raises ClientError."""
    await client.submit([transaction])
    return await client.get_transaction(transaction.transaction_id.hex(), wait_ms=WAIT_MS)


@dataclass(slots=True)
class Race:
    """Grants and records under one alias of the first institution; `run` lets the clients at them."""

    callers: Sequence[Caller]
    source: random.Random
    objects: int = 3
    """So many grants and so many records at once; they are replaced by new ones now and then."""
    alias: bytes = field(default_factory=draw_identifier)
    members: list[bytes] = field(default_factory=list)
    """A clinician of each institution."""
    anchor: bytes = field(default_factory=draw_identifier)
    grants: dict[bytes, GrantHistory] = field(default_factory=lambda: defaultdict(list))
    records: dict[bytes, RecordHistory] = field(default_factory=lambda: defaultdict(list))
    _current: list[bytes] = field(default_factory=list)
    _is_stopped: bool = False

    async def prepare(self) -> None:
        """Open the folder, anchor one record to ask for, and register the readers."""
        holder = self.callers[0]
        for call in (
            RegisterAlias(
                alias=self.alias, custodian=holder.node.institution, patient_key=b"", credential=b""
            ),
            Anchor(alias=self.alias, record_class=RECORD_CLASS, leaf=_make_leaf(self.anchor, 1, "asked for")),
        ):
            assert await holder.carry_out(call) == "ok"
        for caller in self.callers:
            await caller.log_in()
            self.members.append(draw_identifier())
            call_member = RegisterMember(member=self.members[-1], role="clinician", evidence=bytes(32))
            assert await caller.carry_out(call_member) == "ok"
        self._current = [draw_identifier() for _ in range(self.objects)]

    def count_results(self) -> Counter[str]:
        """How often each result was seen so far."""
        results = [done.result for history in self.grants.values() for done in history]
        results += [done.result for history in self.records.values() for done in history]
        return Counter(results)

    def stop(self) -> None:
        self._is_stopped = True

    async def run(self) -> None:
        """Two clients of each institution, and new objects every second, until `stop`."""
        clients = [self._act(place, number) for place in range(len(self.callers)) for number in range(2)]
        await asyncio.gather(self._renew(), *clients)

    async def _renew(self) -> None:
        for place in itertools.cycle(range(self.objects)):
            await asyncio.sleep(1.0 / self.objects)
            if self._is_stopped:
                return
            self._current[place] = draw_identifier()

    async def _act(self, place: int, number: int) -> None:
        name = f"{self.callers[place].node.name} {number}"
        while not self._is_stopped:
            target = self.source.choice(self._current)
            if self.source.random() < 0.5:
                await self._act_on_grant(name, place, target)
            else:
                await self._act_on_record(name, place, target)

    async def _act_on_grant(self, name: str, place: int, grant: bytes) -> None:
        """The grant is for one of the institutions, which alone may rely on it; everybody else's clients
        bring the custodian's signature, each to their own gateway."""
        grantee = grant[0] % len(self.callers)
        action: GrantAction = (
            "authorize" if place == grantee else self.source.choice(("grant", "grant", "revoke"))
        )
        called = time.monotonic()
        if action == "authorize":
            result = await self.callers[place].authorize(self._build_request(grant, place))
        elif action == "grant":
            result = await self._sign_as_holder(place).carry_out(self._build_grant(grant, grantee))
        else:
            result = await self._sign_as_holder(place).carry_out(Revoke(grant=grant))
        self.grants[grant].append(
            Operation(client=name, action=action, result=result, called=called, returned=time.monotonic())
        )

    async def _act_on_record(self, name: str, place: int, record: bytes) -> None:
        action = self._choose_record_action(record)
        called = time.monotonic()
        result = await self._sign_as_holder(place).carry_out(self._build_record_call(record, action))
        self.records[record].append(
            Operation(client=name, action=action, result=result, called=called, returned=time.monotonic())
        )

    def _sign_as_holder(self, place: int) -> Caller:
        """The holder's signature, at the gateways in this client's order."""
        caller = self.callers[place]
        return Caller(caller.node, self.callers[0].signer, caller.clients, caller.acknowledged)

    def _choose_record_action(self, record: bytes) -> RecordAction:
        """Upon a version that somebody has made, mostly the newest: so clients contradict each other."""
        content = self.source.choice("abcdefgh")
        versions = [(1, "never written")]
        for done in self.records[record]:
            if done.result == "ok" and done.action.kind == "anchor":
                versions.append((1, done.action.content))
            elif done.result == "ok" and done.action.kind == "supersede":
                versions.append((done.action.version + 1, done.action.replacement))
        version, known = versions[-1] if self.source.random() < 0.8 else self.source.choice(versions)
        chance = self.source.random()
        if not self.records[record] or chance < 0.2:
            return RecordAction("anchor", 1, content)
        if chance < 0.25:
            return RecordAction("withdraw", version, known)
        return RecordAction("supersede", version, known, content)

    def _build_request(self, grant: bytes, place: int) -> Authorize:
        return Authorize(
            alias=self.alias,
            grant=grant,
            anchors=(self.anchor,),
            purpose="care",
            member=self.members[place],
            ephemeral_key=bytes(32),
            details=self.source.randbytes(32),
        )

    def _build_grant(self, grant: bytes, grantee: int) -> Grant:
        now_ms = time.time_ns() // 1_000_000
        return Grant(
            grant=grant,
            alias=self.alias,
            institution=self.callers[grantee].node.institution,
            member=b"",
            classes=(RECORD_CLASS,),
            purpose="care",
            profile="original",
            from_ms=now_ms - 60_000,
            until_ms=now_ms + 3_600_000,
            uses_max=USES_MAX,
            assurance="custodial",
            mandate=b"",
            notice_version="1",
        )

    def _build_record_call(self, record: bytes, action: RecordAction) -> Anchor | Supersede | Withdraw:
        leaf, inclusion = _make_leaf(record, action.version, action.content), Inclusion(0, ())
        match action.kind:
            case "anchor":
                return Anchor(alias=self.alias, record_class=RECORD_CLASS, leaf=leaf)
            case "withdraw":
                return Withdraw(self.alias, record, leaf, inclusion, "closed")
            case "supersede":
                replacement = _make_leaf(record, action.version + 1, action.replacement)
                return Supersede(self.alias, record, leaf, inclusion, replacement)


def _make_leaf(record: bytes, version: int, content: str) -> RecordLeaf:
    return RecordLeaf(
        record=record, version=version, commitment=compute_digest(content.encode()), locator=record
    )


@asynccontextmanager
async def open_race(network: LocalNetwork, seed: int) -> AsyncIterator[Race]:
    async with AsyncExitStack() as stack:
        callers = []
        for node in network.nodes:
            urls = [node.gateway_url, *(url for url in network.gateway_urls if url != node.gateway_url)]
            clients = [
                await stack.enter_async_context(Client(url, network.ca_file, timeout_seconds=REQUEST_SECONDS))
                for url in urls
            ]
            key = read_key_file(node.folder.institution_key_file)
            callers.append(Caller(node, TransactionSigner(key, chain_id=network.chain_id), clients))
        race = Race(callers=callers, source=random.Random(seed))
        await race.prepare()
        running = asyncio.create_task(race.run())
        try:
            yield race
            race.stop()
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
