"""HPKE base mode (RFC 9180): X25519, HKDF-SHA256, AES-256-GCM, one message per encapsulation.

`info` binds the ciphertext to its purpose; both sides must pass the same bytes. Base mode does not
authenticate the sender: whoever needs that signs the sealed bytes.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from crypto.hazmat.aead import DecryptionError

PUBLIC_KEY_BYTES: Final = 32
OVERHEAD_BYTES: Final = 32 + 16

_suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class RecipientKey:
    """An X25519 key pair that opens what was sealed to `public_key`; meant to live for one exchange."""

    __slots__ = ("_private", "public_key")

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public_key: bytes = self._private.public_key().public_bytes_raw()

    def open_sealed(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext. Raises DecryptionError unless sealed to this key with the same `info`."""
        try:
            return _suite.decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("ciphertext was not sealed to this key with this info") from error


def seal(public_key: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encapsulated key and ciphertext: `len(plaintext) + OVERHEAD_BYTES` bytes.

    Raises ValueError when `public_key` is not 32 bytes of a usable X25519 key.
    """
    return _suite.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info)
