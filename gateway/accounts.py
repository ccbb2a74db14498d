"""Accounts: who can log in here, and for whom they may speak. Kept sealed in the vault, never on the ledger.

Invariant: a patient's local number and the alias on the ledger meet in this table only.
"""

from __future__ import annotations

from msgspec import Struct

from client.models import Role
from contracts.calls.fields import Identifier, OptionalKeyBytes
from crypto.encoding import decode_as, encode
from vault.sealed_table import SealedTable
from vault.vault import Vault

ACCOUNT_BYTES_MAX = 262_144
EVIDENCE_BYTES_MAX = 4_096


class Account(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One subject; the row's key is its handle, 16 bytes."""

    format_version: int = 1
    subject: Identifier
    role: Role
    public_key: OptionalKeyBytes
    """What the subject logs in with; empty for an account without a login."""
    aliases: tuple[bytes, ...] = ()
    """A patient's own aliases, as far as this institution knows them."""
    mandates: tuple[bytes, ...] = ()
    """A representative's mandates; whether they hold, the ledger says."""
    is_closed: bool = False


class Accounts:
    """The accounts of one institution. Blocking: writes sync the disk."""

    def __init__(self, vault: Vault) -> None:
        self._accounts: SealedTable = vault.table("accounts")
        self._patients: SealedTable = vault.table("patients")
        self._keys: SealedTable = vault.table("account-keys")
        self._evidence: SealedTable = vault.table("evidence")

    def get(self, subject: bytes) -> Account | None:
        row = self._accounts.get(subject)
        return None if row is None else decode_as(Account, row, size_max=ACCOUNT_BYTES_MAX)

    def put(self, account: Account) -> None:
        self._accounts.put(account.subject, encode(account))

    def claim_patient(self, patient: str, subject: bytes) -> bytes | None:
        """Reserve a patient's local number for `subject`; the subject that has it already, or None."""
        if self._patients.put_if_absent(patient.encode(), subject):
            return None
        return self._patients.get(patient.encode())

    def release_patient(self, patient: str) -> None:
        """The registration did not come about."""
        self._patients.delete(patient.encode())

    def claim_key(self, public_key: bytes, subject: bytes) -> bytes:
        """Reserve a key for `subject`, so that asking again finds the account; the subject that has it."""
        if self._keys.put_if_absent(public_key, subject):
            return subject
        return self._keys.get(public_key) or subject

    def keep_evidence(self, handle: bytes, salt: bytes, evidence: bytes) -> tuple[bytes, bytes]:
        """Keep what a digest on the ledger is to commit to; the first that was kept, with its salt."""
        if self._evidence.put_if_absent(handle, encode((salt, evidence))):
            return salt, evidence
        return self.get_evidence(handle) or (salt, evidence)

    def get_evidence(self, handle: bytes) -> tuple[bytes, bytes] | None:
        """Salt and evidence, or None."""
        row = self._evidence.get(handle)
        return None if row is None else decode_as(tuple[bytes, bytes], row, size_max=EVIDENCE_BYTES_MAX)
