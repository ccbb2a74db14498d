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

    def put_evidence(self, handle: bytes, salt: bytes, evidence: bytes) -> None:
        """Keep what a digest on the ledger commits to."""
        self._evidence.put(handle, encode((salt, evidence)))
