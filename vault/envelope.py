"""The envelope of one record version: salt, commitment, data key, sealed bytes.

Each version has its own random salt and its own data key. The commitment is HMAC-SHA256 of the original
bytes under the salt; the sealed bytes are bound by their associated data to record, version, commitment and
holder, so a ciphertext moved to another record, version or vault does not open. Stored bytes begin with a
format mark. Nothing here touches the disk.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from contracts.calls.evidence import RecordLeaf
from crypto.encoding import encode
from crypto.hashing import DIGEST_BYTES
from crypto.hazmat.aead import KEY_BYTES, OVERHEAD_BYTES, DecryptionError, generate_key, open_sealed, seal
from vault.errors import Finding

IDENTIFIER_BYTES: Final = 16
SALT_BYTES: Final = 32
FORMAT_MARK: Final = b"\x01"
"""First byte of every sealed blob: AES-256-GCM with a random 96-bit nonce in front."""
BLOB_OVERHEAD_BYTES: Final = len(FORMAT_MARK) + OVERHEAD_BYTES
SECRETS_BYTES: Final = SALT_BYTES + KEY_BYTES

_CONTENT_TAG: Final = b"chartchain:vault-content:1\x00"
_SECRETS_TAG: Final = b"chartchain:vault-secrets:1\x00"


class EnvelopeMismatch(Exception):
    """The sealed bytes are not those of this leaf: `finding` says how it was noticed."""

    def __init__(self, finding: Finding, detail: str) -> None:
        super().__init__(detail)
        self.finding = finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What opens one version and proves its commitment; destroying it is erasing the version."""

    salt: bytes = field(repr=False)
    """32 random bytes."""
    data_key: bytes = field(repr=False)
    """32 random bytes, used for one ciphertext only."""

    def to_bytes(self) -> bytes:
        return self.salt + self.data_key

    @classmethod
    def from_bytes(cls, data: bytes) -> Secrets:
        """The secrets in 64 bytes. Raises ValueError for any other length."""
        if len(data) != SECRETS_BYTES:
            raise ValueError(f"secrets of {len(data)} bytes found, {SECRETS_BYTES} expected")
        return cls(salt=data[:SALT_BYTES], data_key=data[SALT_BYTES:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One version sealed: what goes on the ledger, on the disk and into the erasable store."""

    leaf: RecordLeaf
    sealed: bytes = field(repr=False)
    secrets: Secrets


def compute_commitment(salt: bytes, content: bytes) -> bytes:
    """HMAC-SHA256 of the original bytes, 32 bytes: without the salt no guess can be tried."""
    return hmac.digest(salt, content, "sha256")


def compute_content_binding(leaf: RecordLeaf, holder: bytes) -> bytes:
    """Associated data of the sealed bytes."""
    return _CONTENT_TAG + encode((leaf.record, leaf.version, leaf.commitment, holder))


def compute_secrets_binding(leaf: RecordLeaf, holder: bytes) -> bytes:
    """Associated data of the wrapped secrets; the locator too, they belong to one blob."""
    return _SECRETS_TAG + encode((leaf.record, leaf.version, leaf.commitment, leaf.locator, holder))


def seal_version(*, record: bytes, version: int, holder: bytes, content: bytes) -> Envelope:
    """Seal `content` under a fresh salt, data key and locator. Source of the mode: NIST SP 800-38D."""
    salt = secrets.token_bytes(SALT_BYTES)
    leaf = RecordLeaf(
        record=record,
        version=version,
        commitment=compute_commitment(salt, content),
        locator=secrets.token_bytes(IDENTIFIER_BYTES),
    )
    data_key = generate_key()
    sealed = FORMAT_MARK + seal(data_key, content, compute_content_binding(leaf, holder))
    return Envelope(leaf=leaf, sealed=sealed, secrets=Secrets(salt=salt, data_key=data_key))


def open_version(*, sealed: bytes, leaf: RecordLeaf, holder: bytes, secrets: Secrets) -> bytes:
    """The original bytes. Raises EnvelopeMismatch unless they are those that `leaf` commits to."""
    if not sealed.startswith(FORMAT_MARK):
        raise EnvelopeMismatch(
            Finding.CIPHERTEXT_ALTERED,
            f"format mark {sealed[:1].hex() or 'none'} found, {FORMAT_MARK.hex()} expected",
        )
    try:
        content = open_sealed(
            secrets.data_key, sealed[len(FORMAT_MARK) :], compute_content_binding(leaf, holder)
        )
    except DecryptionError as error:
        raise EnvelopeMismatch(Finding.CIPHERTEXT_ALTERED, str(error)) from error
    found = compute_commitment(secrets.salt, content)
    # The tag proves that the holder of the data key wrote these bytes; only this proves that they are
    # the ones that the ledger has seen.
    if len(leaf.commitment) != DIGEST_BYTES or not hmac.compare_digest(found, leaf.commitment):
        raise EnvelopeMismatch(
            Finding.COMMITMENT_MISMATCH,
            f"commitment {found.hex()} found, {leaf.commitment.hex()} expected",
        )
    return content
