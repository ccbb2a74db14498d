"""Errors of the vault, by whose fault they are and what follows.

    VaultError
    ├── VaultRefused          the caller's: nothing was changed
    │   ├── RecordNotHeld     no such record or version here
    │   ├── RecordErased      it was here and is destroyed for good, or these bytes were
    │   ├── VersionRefused    the version does not follow the newest one held
    │   └── ContentRefused    too large, or too many at once
    ├── VaultMismatch         somebody altered what is stored: serve nothing, call the security officer
    ├── VaultFailed           the disk's: the node stops, the vault refuses everything from then on
    └── KeyRingError          the operator's: the node does not start

Messages name records by id and digests only, never content, titles or keys.
"""

from __future__ import annotations

from enum import StrEnum


class VaultError(Exception):
    """Anything that the vault raises."""


class VaultRefused(VaultError):
    """The caller asked for what cannot be done; nothing was changed."""


class RecordNotHeld(VaultRefused):
    """No such record or version in this vault."""


class RecordErased(VaultRefused):
    """The record, or the bytes that were to be stored again, have been erased."""


class VersionRefused(VaultRefused):
    """A version must follow the newest one held, with the same alias and class."""


class ContentRefused(VaultRefused):
    """Content beyond the vault's bounds."""


class Finding(StrEnum):
    """What is wrong with a stored record."""

    CIPHERTEXT_ALTERED = "ciphertext_altered"
    COMMITMENT_MISMATCH = "commitment_mismatch"
    MISSING = "missing"


class VaultMismatch(VaultError):
    """What is stored is not what was stored: `finding` says how it was noticed."""

    def __init__(self, finding: Finding, *, record: bytes, version: int, detail: str) -> None:
        super().__init__(
            f"record {record.hex()} version {version}: {finding.value}: {detail}; "
            "it is not served, restore it from its source or from a backup"
        )
        self.finding = finding
        self.record = record
        self.version = version


class VaultFailed(VaultError):
    """The disk or the database failed: nothing of this vault may be used any more."""


class KeyRingError(VaultError):
    """The key ring cannot be used, or is not the one of this vault."""
