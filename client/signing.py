"""Building and signing transactions from the contracts' typed calls."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from contracts.calls import authorization, evidence, folders, governance, monitoring, registry
from contracts.calls.folders import compute_patient_key_bytes
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.transaction import Call, SignedTransaction, sign_transaction

EXPIRES_AFTER_MS: Final = 300_000

_CONTRACT_BY_MODULE: Final = {
    module.__name__: module.__name__.rpartition(".")[2]
    for module in (authorization, evidence, folders, governance, monitoring, registry)
}
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


def build_call(arguments: Struct) -> Call:
    """The call that these arguments belong to: `evidence.AnchorMany` calls `evidence`, `anchor_many`."""
    kind = type(arguments)
    contract = _CONTRACT_BY_MODULE[kind.__module__]
    return Call(contract, _WORD_START.sub("_", kind.__name__).lower(), encode(arguments))


def draw_identifier() -> bytes:
    """16 random bytes: a new alias, record, grant or handle."""
    return secrets.token_bytes(16)


def sign_patient_key(key: SigningKey, *, chain_id: bytes, holder: bytes) -> bytes:
    """64 bytes: the patient agrees that this institution puts the patient's key on this ledger."""
    message = compute_patient_key_bytes(chain_id, holder, key.public_key)
    return key.sign(tags.PATIENT_KEY, message)


class TransactionSigner:
    """Signs calls with one key for one ledger."""

    def __init__(self, key: SigningKey, *, chain_id: bytes, expires_after_ms: int = EXPIRES_AFTER_MS) -> None:
        self._key = key
        self._chain_id = chain_id
        self._expires_after_ms = expires_after_ms

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    def sign(self, *arguments: Struct, expires_ms: int | None = None) -> SignedTransaction:
        """One transaction with these calls, all carried out or none; expires in five minutes unless told."""
        return self.sign_calls([build_call(item) for item in arguments], expires_ms=expires_ms)

    def sign_calls(self, calls: Sequence[Call], *, expires_ms: int | None = None) -> SignedTransaction:
        if expires_ms is None:
            expires_ms = time.time_ns() // 1_000_000 + self._expires_after_ms
        return sign_transaction(self._key, chain_id=self._chain_id, calls=calls, expires_ms=expires_ms)
