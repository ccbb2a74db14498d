"""AES-256-GCM with a random 96-bit nonce in front of the ciphertext (NIST SP 800-38D).

One key must seal fewer than 2^32 messages; the vault uses each data key once a version and each wrapping
key far less often than that.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES


class DecryptionError(Exception):
    """Wrong key, altered ciphertext, or other associated data: which of them cannot be told."""


def generate_key() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Nonce, ciphertext and tag: `len(plaintext) + OVERHEAD_BYTES` bytes."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated_data)


def open_sealed(key: bytes, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext. Raises DecryptionError unless key, bytes and associated data are those of `seal`."""
    if len(sealed) < OVERHEAD_BYTES:
        raise DecryptionError(f"{len(sealed)} bytes found, at least {OVERHEAD_BYTES} expected")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
    except InvalidTag as error:
        raise DecryptionError(
            "ciphertext does not authenticate under this key and associated data"
        ) from error
