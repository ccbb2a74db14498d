"""A transaction: one signed body of bytes that travels, is hashed and is stored unchanged.

The body is the canonical encoding of `TransactionBody`; the signature is the sender's over the body under
the tag TRANSACTION. Two hashes name it, for two purposes:

- `transaction_id`, over the body: replay is keyed by it, so a second signature cannot make a second effect;
- `signed_hash`, over body and signature: what blocks commit to and refusals are cached by, so nobody can
  pair a good body with a bad signature and have the good transaction refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import Digest
from crypto.signatures import SIGNATURE_BYTES, SigningKey, verify_signature

FORMAT_VERSION: Final = 1
BODY_BYTES_MAX: Final = 32_768
TRANSACTION_BYTES_MAX: Final = BODY_BYTES_MAX + SIGNATURE_BYTES
CALLS_MAX: Final = 64
NONCE_BYTES: Final = 16


class Call(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One call of a contract's method; `arguments` is the canonical encoding of the method's type."""

    contract: Annotated[str, Meta(min_length=1, max_length=40)]
    method: Annotated[str, Meta(min_length=1, max_length=40)]
    arguments: Annotated[bytes, Meta(max_length=16_384)]


class TransactionBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What the sender signs."""

    format_version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    chain_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Digest of the genesis, so that no signature serves on two ledgers."""
    sender: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Ed25519 public key."""
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    """Random; tells apart transactions that say the same."""
    expires_ms: Annotated[int, Meta(ge=0, le=2**53)]
    """From this block time on it can no longer be included."""
    calls: Annotated[tuple[Call, ...], Meta(min_length=1, max_length=CALLS_MAX)]
    """Carried out in order, all or none."""


class SignedTransaction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A decoded transaction together with the very bytes that were signed.

    Existence does not mean that the signature was verified: whoever adds it to the mempool does that, once.
    """

    # A struct for speed, never encoded: as a dataclass it took a quarter of the time of decoding.

    body_bytes: bytes
    signature: bytes
    body: TransactionBody
    transaction_id: Digest
    signed_hash: Digest

    @property
    def size_bytes(self) -> int:
        return len(self.body_bytes) + SIGNATURE_BYTES


class TransactionRefused(ValueError):
    """A transaction that cannot be accepted: the client's fault.

    `code` is for programs; the text says what was found, what was expected and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decode_transaction(signed_bytes: bytes) -> SignedTransaction:
    """Decode signature (64 bytes) followed by body. Raises TransactionRefused: `malformed`, `too_large`."""
    body_bytes, signature = signed_bytes[SIGNATURE_BYTES:], signed_bytes[:SIGNATURE_BYTES]
    if len(body_bytes) > BODY_BYTES_MAX:
        raise TransactionRefused(
            "too_large", f"body of {len(body_bytes)} bytes found, at most {BODY_BYTES_MAX} allowed: split it"
        )
    try:
        body = decode_as(TransactionBody, body_bytes, size_max=BODY_BYTES_MAX)
    except EncodingError as error:
        raise TransactionRefused("malformed", f"transaction body: {error}") from error
    hashed = sha256(body_bytes)
    transaction_id = Digest(hashed.digest())
    hashed.update(signature)
    return SignedTransaction(
        body_bytes=body_bytes,
        signature=signature,
        body=body,
        transaction_id=transaction_id,
        signed_hash=Digest(hashed.digest()),
    )


def compute_transaction_id(signed_bytes: bytes) -> Digest:
    """The id of a transaction whose signed bytes were checked before."""
    return Digest(sha256(signed_bytes[SIGNATURE_BYTES:]).digest())


def compute_signed_hash(signed_bytes: bytes) -> Digest:
    """What a proposal names a transaction by, without decoding it."""
    hashed = sha256(signed_bytes[SIGNATURE_BYTES:])
    hashed.update(signed_bytes[:SIGNATURE_BYTES])
    return Digest(hashed.digest())


def encode_transaction(transaction: SignedTransaction) -> bytes:
    """Signature followed by body: the bytes that nodes relay, journal and store."""
    return transaction.signature + transaction.body_bytes


def sign_transaction(
    key: SigningKey, *, chain_id: bytes, calls: Sequence[Call], expires_ms: int, nonce: bytes | None = None
) -> SignedTransaction:
    """Build and sign a transaction; a fresh nonce unless one is given."""
    body = TransactionBody(
        format_version=FORMAT_VERSION,
        chain_id=chain_id,
        sender=key.public_key,
        nonce=secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce,
        expires_ms=expires_ms,
        calls=tuple(calls),
    )
    body_bytes = encode(body)
    return decode_transaction(key.sign(tags.TRANSACTION, body_bytes) + body_bytes)


def verify_transaction_signature(transaction: SignedTransaction) -> None:
    """Raises InvalidSignature unless the sender signed the body. About 55 microseconds."""
    verify_signature(transaction.body.sender, tags.TRANSACTION, transaction.body_bytes, transaction.signature)
