"""Anchoring: from records in the vault to commitments on the ledger, whatever fails in between.

What is about to be anchored is noted in the vault, sealed, before the transaction is sent. If its end is not
known in time, or the process dies, the note says what to do: send the identical bytes again while they can
still be included, note the anchors once they are, and forget the note when they cannot be any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import structlog
from msgspec import Struct

from client.signing import draw_identifier
from contracts.calls.evidence import AnchorMany, Inclusion
from contracts.calls.fields import RecordClass
from crypto.encoding import decode_as, encode
from crypto.merkle import compute_node_hash, compute_root
from gateway.desk import Desk, require_ok
from gateway.errors import Refusal, Unavailable
from ledger.chain import Chain
from ledger.errors import StoreFailed
from ledger.receipt import OK
from ledger.transaction import SignedTransaction, decode_transaction, encode_transaction
from vault.errors import VaultFailed, VaultMismatch, VaultRefused
from vault.vault import StoredVersion, Vault

PLAN_BYTES_MAX: Final = 1_048_576

_CLASSES: Final[tuple[RecordClass, ...]] = get_args(RecordClass)
_log = structlog.get_logger("gateway.anchoring")


class PlannedAnchor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One anchor of a transaction, and the versions under it in the order of its leaves."""

    anchor: bytes
    versions: tuple[tuple[bytes, int], ...]


class Plan(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A note of what a transaction anchors; kept under the transaction's id."""

    signed_bytes: bytes
    anchors: tuple[PlannedAnchor, ...]


@dataclass(frozen=True, slots=True)
class Anchored:
    """Versions with their anchors, and the transaction that wrote these."""

    versions: tuple[StoredVersion, ...]
    transaction_id: bytes


class Anchoring:
    """Anchors of one institution's own records."""

    def __init__(self, *, chain: Chain, desk: Desk, vault: Vault, retry_ms: int) -> None:
        self._chain = chain
        self._desk = desk
        self._vault = vault
        self._retry_ms = retry_ms
        self._plans = vault.table("anchorings")
        self._in_progress: set[bytes] = set()
        self._has_left_over = asyncio.Event()
        self._has_left_over.set()

    async def anchor(self, alias: bytes, versions: Sequence[StoredVersion]) -> Anchored:
        """One anchor for each class, all in one transaction. Raises Refusal when it does not commit.

        After Unavailable the anchors may still come: `run` follows them up.
        """
        await self._check_not_planned(versions)
        calls, anchors = _plan_anchors(alias, versions)
        transaction = self._desk.sign(*calls)
        plan = Plan(encode_transaction(transaction), anchors)
        self._in_progress.add(transaction.transaction_id)
        try:
            await asyncio.to_thread(self._plans.put, transaction.transaction_id, encode(plan))
            try:
                await self._desk.send(transaction)
                receipt = await self._desk.wait(transaction)
            except Unavailable:
                raise
            except Refusal:
                # Not taken in: nobody has the bytes, so the note may go.
                await asyncio.to_thread(self._plans.delete, transaction.transaction_id)
                raise
            if receipt.code != OK:
                await asyncio.to_thread(self._plans.delete, transaction.transaction_id)
            require_ok(receipt)
            anchored = await asyncio.to_thread(self._finish, transaction.transaction_id, plan)
            return Anchored(anchored, transaction.transaction_id)
        finally:
            self._in_progress.discard(transaction.transaction_id)
            self._has_left_over.set()

    async def run(self) -> None:
        """Follow up what was left over, for ever; cancel it to stop."""
        while True:
            await self._has_left_over.wait()
            self._has_left_over.clear()
            try:
                left = await self.follow_up()
            except (StoreFailed, VaultFailed):
                raise
            except Exception as error:
                # One note that cannot be followed up must not end the following up of all others.
                _log.error("follow-up failed", kind=type(error).__name__)
                left = 1
            if left:
                self._has_left_over.set()
            await asyncio.sleep(self._retry_ms / 1000)

    async def follow_up(self) -> int:
        """Look once at every note that nobody is working on; how many are left."""
        left = 0
        rows = await asyncio.to_thread(lambda: list(self._plans.scan()))
        for transaction_id, row in rows:
            if transaction_id in self._in_progress:
                continue
            plan = decode_as(Plan, row, size_max=PLAN_BYTES_MAX)
            left += not await self._settle(decode_transaction(plan.signed_bytes), plan)
        return left

    async def _settle(self, transaction: SignedTransaction, plan: Plan) -> bool:
        """Whether the note could go, one way or the other."""
        transaction_id = transaction.transaction_id
        end = self._chain.find_end(transaction_id, transaction.body.expires_ms)
        match end.status:
            case "committed":
                try:
                    await asyncio.to_thread(self._finish, transaction_id, plan)
                except (VaultRefused, VaultMismatch) as error:
                    # Erased or altered meanwhile: reading will say so, there is nothing left to note.
                    _log.warning(
                        "anchors not noted", transaction=transaction_id.hex(), kind=type(error).__name__
                    )
                    await asyncio.to_thread(self._plans.delete, transaction_id)
                return True
            case "failed" | "expired":
                _log.warning("anchoring ended", transaction=transaction_id.hex(), end=end.status)
                await asyncio.to_thread(self._plans.delete, transaction_id)
                return True
            case _:
                try:
                    await self._desk.send(transaction)
                except Refusal as refusal:
                    _log.info("anchoring waits", transaction=transaction_id.hex(), code=refusal.code)
                return False

    async def _check_not_planned(self, versions: Sequence[StoredVersion]) -> None:
        """Two anchors over one record would make the holder owe it twice. Raises Unavailable."""
        wanted = {(item.record, item.version) for item in versions}
        for _, row in await asyncio.to_thread(lambda: list(self._plans.scan())):
            for item in decode_as(Plan, row, size_max=PLAN_BYTES_MAX).anchors:
                if not wanted.isdisjoint(item.versions):
                    raise Unavailable(
                        "anchoring_under_way",
                        "these records are being anchored already",
                        "ask for the folder until they are",
                        retry_after_seconds=2,
                    )

    def _finish(self, transaction_id: bytes, plan: Plan) -> tuple[StoredVersion, ...]:
        """Blocking: note the anchors in the vault, then drop the plan. Doing it twice changes nothing."""
        anchored: list[StoredVersion] = []
        for item in plan.anchors:
            versions = [self._vault.get_stored(record, version) for record, version in item.versions]
            inclusions = compute_inclusions([stored.leaf.compute_hash() for stored in versions])
            anchored += self._vault.set_anchor(versions, item.anchor, inclusions)
        self._plans.delete(transaction_id)
        return tuple(anchored)


def _plan_anchors(
    alias: bytes, versions: Sequence[StoredVersion]
) -> tuple[list[AnchorMany], tuple[PlannedAnchor, ...]]:
    """For each class that occurs: the call that anchors it, and the note of what it covers."""
    calls, anchors = [], []
    for record_class in _CLASSES:
        members = [item for item in versions if item.record_class == record_class]
        if not members:
            continue
        anchor = draw_identifier()
        root = compute_root([item.leaf.compute_hash() for item in members])
        calls.append(
            AnchorMany(alias=alias, anchor=anchor, record_class=record_class, root=root, count=len(members))
        )
        anchors.append(PlannedAnchor(anchor, tuple((item.record, item.version) for item in members)))
    return calls, tuple(anchors)


def compute_inclusions(leaf_hashes: Sequence[bytes]) -> list[Inclusion]:
    """Where each leaf stands in the tree over all of them; the tree is built once."""
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        pairs = zip(level[0::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        levels.append([*(compute_node_hash(left, right) for left, right in pairs), *odd])
    inclusions = []
    for index in range(len(leaf_hashes)):
        siblings = ((level, (index >> height) ^ 1) for height, level in enumerate(levels[:-1]))
        path = tuple(level[sibling] for level, sibling in siblings if sibling < len(level))
        inclusions.append(Inclusion(index=index, path=path))
    return inclusions
