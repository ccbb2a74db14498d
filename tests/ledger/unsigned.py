"""Transactions that nobody signed, for tests of what waits: made quickly, and alike every time."""

from __future__ import annotations

from crypto.encoding import encode
from ledger.transaction import Call, SignedTransaction, TransactionBody, decode_transaction

CHAIN_ID = b"c" * 32
EXPIRES_MS = 2_000


def name_institution(number: int) -> bytes:
    return bytes([number]) * 16


def make_unsigned(institution: int, number: int, *, argument_bytes: int = 0) -> SignedTransaction:
    """The sender's key begins with the institution's id."""
    call = Call("notes", "write", bytes(argument_bytes))
    nonce = number.to_bytes(16, "big")
    body = TransactionBody(1, CHAIN_ID, 2 * name_institution(institution), nonce, EXPIRES_MS, (call,))
    return decode_transaction(bytes(64) + encode(body))
