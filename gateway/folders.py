"""Folders: what an institution stores of its patients, and lists for those whose it is."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from aiohttp import web

from client import models
from contracts.authorization import compute_pair_state_key
from gateway.anchoring import Anchoring
from gateway.authentication import get_session
from gateway.bodies import (
    build_json,
    check_media_type,
    check_query,
    get_path_bytes,
    get_query_bytes,
    read_body,
)
from gateway.errors import BadRequest, InConflict, NotThere, TooLarge, TooMany
from gateway.operations import Operation
from gateway.rates import RateLimit
from gateway.settings import GatewaySettings
from gateway.transactions import PROOF_TYPE
from gateway.visibility import Visibility
from ledger.chain import Chain
from ledger.errors import NotHeld
from records.bundles import BundleRefused, SourceRecord, split_bundle
from vault.errors import VaultRefused
from vault.vault import NewVersion, StoredVersion, Vault

BUNDLE_SOURCE = "bundle"
"""What the vault notes as the source of records that came in by this interface."""


class Folders:
    """Operations on one institution's part of its patients' folders."""

    def __init__(
        self,
        *,
        chain: Chain,
        vault: Vault,
        anchoring: Anchoring,
        visibility: Visibility,
        institution: bytes,
        rate: RateLimit,
        settings: GatewaySettings,
    ) -> None:
        self._chain = chain
        self._vault = vault
        self._anchoring = anchoring
        self._visibility = visibility
        self._institution = institution
        self._rate = rate
        self._settings = settings
        self._bundles_in_progress = 0
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/folders/{alias}/bundles",
                handler=self.handle_bundle,
                summary="Seal and anchor every entry of a FHIR R4 bundle, or none of them.",
                roles=("clerk", "officer"),
                request_types=("application/fhir+json", "application/json"),
                answer=models.BundleAnswer,
                status=201,
            ),
            Operation(
                method="GET",
                path="/v1/folders/{alias}",
                handler=self.handle_list,
                summary="What is held under an alias, without content.",
                roles=("clerk", "officer", "clinician", "patient", "representative"),
                answer=models.FolderAnswer,
                takes_min_height=True,
            ),
            Operation(
                method="GET",
                path="/v1/folders/{alias}/grants/proof",
                handler=self.handle_grant_proof,
                summary="Every grant of an alias to one grantee, or that there never was one, as a file.",
                roles=("officer", "auditor", "clerk", "patient", "representative"),
                answer_type=PROOF_TYPE,
                query=(
                    ("institution", "the grantee's institution"),
                    ("member", "one member of it, for grants that name one"),
                ),
                takes_min_height=True,
            ),
        )

    async def handle_bundle(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        self._rate.take(session.subject.hex())
        alias = get_path_bytes(request, "alias", 16)
        if self._visibility.require_alias(alias).holder != self._institution:
            raise NotThere
        check_media_type(request, "application/fhir+json", "application/json")
        if self._bundles_in_progress >= self._settings.bundles_at_once_max:
            raise TooMany(
                "too_many_bundles",
                f"{self._bundles_in_progress} bundles being read found",
                "send it again",
                retry_after_seconds=1,
            )
        self._bundles_in_progress += 1
        try:
            data = await read_body(
                request, size_max=self._settings.bundle_bytes_max, timeout_ms=self._settings.body_timeout_ms
            )
            # One bundle of an alias at a time: two would not see each other's records.
            async with self._locks.setdefault(alias, asyncio.Lock()):
                records, transactions = await self._store_and_anchor(alias, data)
        finally:
            self._bundles_in_progress -= 1
        return build_json(models.BundleAnswer(records=records, transactions=transactions), status=201)

    async def handle_list(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        alias = get_path_bytes(request, "alias", 16)
        row = self._visibility.require_alias(alias)
        is_holder = row.holder == self._institution
        is_staff = session.role in ("clerk", "officer", "clinician")
        if not (is_staff and is_holder) and not self._visibility.is_owner(session.account, alias):
            raise NotThere
        held = await asyncio.to_thread(self._vault.list_records, alias) if is_holder else ()
        answer = models.FolderAnswer(
            alias=alias.hex(),
            holder=row.holder.hex(),
            custodian=row.custodian.hex(),
            records=tuple(
                models.FolderRecord.model_validate(
                    {
                        "record": item.record.hex(),
                        "version": item.version,
                        "record_class": item.record_class,
                        "media_type": item.media_type,
                        "anchor": "" if item.anchor is None else item.anchor.hex(),
                    }
                )
                for item in held
            ),
        )
        return build_json(answer)

    async def handle_grant_proof(self, request: web.Request) -> web.StreamResponse:
        check_query(request, "institution", "member")
        session = get_session(request)
        alias = get_path_bytes(request, "alias", 16)
        row = self._visibility.require_alias(alias)
        is_concerned = session.role in ("officer", "clerk") and self._institution in row.audience
        is_regulator = self._visibility.is_regulator(session.account)
        if not is_concerned and not is_regulator and not self._visibility.is_owner(session.account, alias):
            raise NotThere
        grantee = get_query_bytes(request, "member", 16) or get_query_bytes(request, "institution", 16)
        if grantee is None:
            raise BadRequest("bad_parameter", "institution or member expected", "name the grantee")
        try:
            proof = self._chain.prove_state(compute_pair_state_key(alias, grantee))
        except NotHeld as error:
            raise InConflict("not_provable", str(error), "ask again after the next block") from None
        return web.Response(body=proof.encode(), content_type=PROOF_TYPE)

    async def _store_and_anchor(
        self, alias: bytes, data: bytes
    ) -> tuple[tuple[models.StoredRecord, ...], tuple[str, ...]]:
        stored, sources = await asyncio.to_thread(self._store, alias, data)
        fresh = [item for item in stored if item.anchor is None]
        transactions: tuple[str, ...] = ()
        if fresh:
            anchored = await self._anchoring.anchor(alias, fresh)
            transactions = (anchored.transaction_id.hex(),)
            found = {(item.record, item.version): item for item in anchored.versions}
            stored = [found.get((item.record, item.version), item) for item in stored]
        return tuple(map(_describe_stored, stored, sources)), transactions

    def _store(self, alias: bytes, data: bytes) -> tuple[list[StoredVersion], list[SourceRecord]]:
        """Blocking: split the bundle and seal what is not held yet; entry by entry what is held now.

        Raises BadRequest for a bundle with a bad entry, before anything is stored.
        """
        try:
            sources = list(split_bundle(data))
        except BundleRefused as error:
            kind = TooLarge if error.code == "too_large" else BadRequest
            raise kind(error.code, str(error), "mend the bundle; none of it was stored") from None
        # A source that sends twice, or again after a failure, must not make two records of one.
        held: dict[bytes, StoredVersion | None] = {
            source.content: self._vault.find_content(alias, source.content) for source in sources
        }
        new = {
            source.content: NewVersion(
                alias=alias,
                record_class=source.record_class,
                media_type=source.media_type,
                content=source.content,
                source=BUNDLE_SOURCE,
                title=source.title,
            )
            for source in sources
            if held[source.content] is None
        }
        try:
            stored = self._vault.store_many(list(new.values()))
        except VaultRefused as error:
            raise InConflict("not_stored", str(error), "none of the bundle was stored") from None
        held.update(zip(new, stored, strict=True))
        # Every entry has its version now; the same bytes twice in one bundle are one record.
        unique = {source.content: source for source in sources}
        return [item for item in held.values() if item is not None], list(unique.values())


def _describe_stored(item: StoredVersion, source: SourceRecord) -> models.StoredRecord:
    return models.StoredRecord.model_validate(
        {
            "record": item.record.hex(),
            "version": item.version,
            "record_class": item.record_class,
            "anchor": "" if item.anchor is None else item.anchor.hex(),
            "resource_type": source.resource_type,
            "title": source.title,
        }
    )
