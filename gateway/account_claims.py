"""Accounts that registrations begin, and go on with when they are asked again.

Whoever asks twice with the same key, number or evidence means the same account or mandate, as long as the
ledger does not say otherwise: an answer that got lost costs nobody their account. Blocking work is done in
threads.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from hashlib import sha256

import msgspec

from client import models
from client.signing import draw_identifier
from contracts.aliases import get_alias
from contracts.calls.fields import RecordClass
from contracts.mandates import get_mandate
from gateway.accounts import Account, Accounts
from gateway.errors import InConflict, NotThere
from ledger.chain import Chain

ALIASES_PER_PATIENT_MAX = 64
MANDATES_PER_REPRESENTATIVE_MAX = 64


class AccountClaims:
    """Claims accounts, aliases, mandates and evidence for those whom an officer registers."""

    def __init__(self, chain: Chain, accounts: Accounts) -> None:
        self._chain = chain
        self._accounts = accounts
        self._lock = asyncio.Lock()
        """Held while an account is read, changed and written."""

    async def claim_account(self, role: models.Role, public_key: bytes) -> Account:
        """The account that logs in with this key: new, or begun by an earlier request. Raises InConflict."""
        subject = await asyncio.to_thread(self._accounts.claim_key, public_key, draw_identifier())
        account = await asyncio.to_thread(self._accounts.get, subject)
        if account is None:
            account = Account(subject=subject, role=role, public_key=public_key)
            await asyncio.to_thread(self._accounts.put, account)
        elif account.role != role or account.is_closed:
            raise InConflict("key_in_use", "this key has another account here", "make a new key")
        return account

    async def claim_patient(self, patient: str, public_key: bytes) -> Account:
        """The account of this local number: new, or begun by an earlier request. Raises InConflict.

        One whose alias never reached the ledger takes the key that is sent now; empty for no login.
        """
        account = Account(
            subject=draw_identifier(),
            role="patient",
            public_key=public_key,
            aliases=(draw_identifier(),),
        )
        await asyncio.to_thread(self._accounts.put, account)
        holder = await asyncio.to_thread(self._accounts.claim_patient, patient, account.subject)
        if holder is None:
            return account
        earlier = await asyncio.to_thread(self._accounts.get, holder)
        if earlier is not None and get_alias(self._chain.state, earlier.aliases[0]) is None:
            earlier = msgspec.structs.replace(earlier, public_key=public_key)
            await asyncio.to_thread(self._accounts.put, earlier)
            return earlier
        if earlier is not None and public_key and public_key == earlier.public_key:
            return earlier
        found = earlier.aliases[0].hex() if earlier is not None else "unknown"
        raise InConflict(
            "patient_exists", f"this patient has the alias {found} already", "use the existing alias"
        )

    async def add_alias(self, subject: bytes, alias: bytes) -> None:
        """Another alias of this patient. Raises NotThere, InConflict."""
        async with self._lock:
            account = await asyncio.to_thread(self._accounts.get, subject)
            if account is None or account.role != "patient":
                raise NotThere
            aliases = tuple(dict.fromkeys((*account.aliases, alias)))
            _check_count(aliases, ALIASES_PER_PATIENT_MAX, "aliases of one patient")
            await asyncio.to_thread(self._accounts.put, msgspec.structs.replace(account, aliases=aliases))

    async def claim_mandate(self, body: models.MandateRequest) -> tuple[bytes, bytes]:
        """The representative's account and the mandate noted with it: begun earlier, or new.

        Raises NotThere, InConflict.
        """
        async with self._lock:
            if body.representative is None:
                assert body.public_key is not None, "the model requires one of the two"
                account = await self.claim_account("representative", bytes.fromhex(body.public_key))
                begun = await asyncio.to_thread(self._find_begun_mandate, account, body)
                if begun is not None:
                    return account.subject, begun
            else:
                found = await asyncio.to_thread(self._accounts.get, bytes.fromhex(body.representative))
                if found is None or found.role != "representative":
                    raise NotThere
                account = found
            mandate = draw_identifier()
            mandates = (*account.mandates, mandate)
            _check_count(mandates, MANDATES_PER_REPRESENTATIVE_MAX, "mandates of one representative")
            await asyncio.to_thread(self._accounts.put, msgspec.structs.replace(account, mandates=mandates))
        return account.subject, mandate

    def is_attested(self, mandate: bytes, alias: bytes, scope: tuple[RecordClass, ...]) -> bool:
        """Whether the ledger has this mandate, and it holds."""
        row = get_mandate(self._chain.state, mandate)
        return row is not None and (row.alias, row.scope, row.state) == (alias, scope, "active")

    async def keep_evidence(self, handle: bytes, evidence: str) -> bytes:
        """The digest that commits to it; what an earlier request for this handle brought stays."""
        kept = await asyncio.to_thread(
            self._accounts.keep_evidence, handle, secrets.token_bytes(32), evidence.encode()
        )
        return compute_salted_digest(*kept)

    def _find_begun_mandate(self, account: Account, body: models.MandateRequest) -> bytes | None:
        """A mandate of this account that an earlier request like this one began, or None."""
        alias, scope = bytes.fromhex(body.alias), tuple(sorted(body.scope))
        for mandate in account.mandates:
            kept = self._accounts.get_evidence(mandate)
            if kept is None or kept[1] != body.evidence.encode():
                continue
            if get_mandate(self._chain.state, mandate) is None or self.is_attested(mandate, alias, scope):
                return mandate
        return None


def compute_salted_digest(salt: bytes, text: bytes) -> bytes:
    """What the ledger gets of evidence that stays here: HMAC-SHA256 under a random salt."""
    return hmac.digest(salt, text, sha256)


def _check_count(found: tuple[bytes, ...], count_max: int, what: str) -> None:
    if len(found) > count_max:
        raise InConflict("too_many", f"{len(found)} {what} found, at most {count_max} allowed", "remove some")
