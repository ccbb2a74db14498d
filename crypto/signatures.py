"""Ed25519 signatures by libsodium, the one verifier of everything that consensus depends on.

libsodium refuses public keys of small order, for which one constant signature would pass for any message;
other libraries accept them, and two verifiers with different opinions could fork the ledger (protocol rule
E6). So nothing that a replica votes on is ever verified by another library.

Every signature is over a domain tag followed by the message (`crypto.tags`).
"""

from __future__ import annotations

from typing import Final, NewType

import nacl.bindings
import nacl.exceptions

PUBLIC_KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

PublicKey = NewType("PublicKey", bytes)
"""32 bytes, an Ed25519 public key (RFC 8032)."""

Signature = NewType("Signature", bytes)
"""64 bytes, an Ed25519 signature (RFC 8032)."""

_sign_open = nacl.bindings.crypto_sign_open
_sign = nacl.bindings.crypto_sign


class InvalidSignature(ValueError):
    """The signature is not one of this key over these bytes, or the key is not a usable one."""


class SigningKey:
    """An Ed25519 key pair; its secret never shows in `repr`, logs or errors."""

    __slots__ = ("_secret", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"signing key seed: {len(seed)} bytes found, {SEED_BYTES} expected")
        public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.public_key = PublicKey(public)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for writing a key file."""
        return self._secret[:SEED_BYTES]

    def sign(self, tag: bytes, message: bytes) -> Signature:
        """Sign `message` as what `tag` says it is."""
        return Signature(_sign(tag + message, self._secret)[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key.hex()})"


def verify_signature(public_key: bytes, tag: bytes, message: bytes, signature: bytes) -> None:
    """Return when `signature` is `public_key`'s over `message` under `tag`; about 55 microseconds.

    Raises InvalidSignature otherwise, for keys of small order and for wrong lengths too.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(
            f"public key of {len(public_key)} and signature of {len(signature)} bytes found, "
            f"{PUBLIC_KEY_BYTES} and {SIGNATURE_BYTES} expected"
        )
    try:
        _sign_open(signature + tag + message, public_key)
    except nacl.exceptions.CryptoError as error:
        raise InvalidSignature(f"signature does not verify under key {public_key.hex()[:16]}…") from error
