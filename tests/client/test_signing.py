"""Calls are named after their argument types, for every contract alike."""

from __future__ import annotations

import time

import msgspec
import pytest

from client import TransactionSigner, build_call, draw_identifier
from client.errors import NotCommitted
from contracts.calls import authorization, evidence, folders, governance, monitoring, registry
from contracts.calls.registry import RegisterMember
from contracts.catalog import CONTRACTS
from crypto.encoding import decode_as
from crypto.key_files import generate_signing_key
from ledger.transaction import decode_transaction, encode_transaction, verify_transaction_signature


def test_every_method_of_every_contract_is_reached_by_its_argument_type() -> None:
    kinds = {
        (module.__name__.rpartition(".")[2], kind.__name__)
        for module in (authorization, evidence, folders, governance, monitoring, registry)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    }
    for name, contract in CONTRACTS.items():
        for method, (arguments, _) in contract.methods.items():
            assert (name, arguments.__name__) in kinds
            assert "".join(word.capitalize() for word in method.split("_")) == arguments.__name__


def test_call_carries_the_canonical_arguments() -> None:
    arguments = RegisterMember(member=draw_identifier(), role="clinician", evidence=bytes(32))
    call = build_call(arguments)
    assert (call.contract, call.method) == ("registry", "register_member")
    assert decode_as(RegisterMember, call.arguments, size_max=1_000) == arguments


def test_struct_of_no_contract_is_no_call() -> None:
    class Stranger(msgspec.Struct, array_like=True):
        pass

    with pytest.raises(KeyError):
        build_call(Stranger())


def test_signed_transaction_verifies_and_expires_in_five_minutes() -> None:
    signer = TransactionSigner(generate_signing_key(), chain_id=bytes(32))
    call = RegisterMember(member=draw_identifier(), role="clerk", evidence=bytes(32))
    transaction = signer.sign(call, call)
    verify_transaction_signature(decode_transaction(encode_transaction(transaction)))
    assert len(transaction.body.calls) == 2
    left_ms = transaction.body.expires_ms - time.time_ns() // 1_000_000
    assert 290_000 < left_ms <= 300_000


def test_two_signatures_of_the_same_calls_are_two_transactions() -> None:
    signer = TransactionSigner(generate_signing_key(), chain_id=bytes(32))
    call = RegisterMember(member=draw_identifier(), role="clerk", evidence=bytes(32))
    assert signer.sign(call).transaction_id != signer.sign(call).transaction_id


def test_end_of_a_transaction_says_what_to_do() -> None:
    assert "later expires_ms" in str(NotCommitted("ab", "expired", ""))
    assert "identical bytes" in str(NotCommitted("ab", "pending", ""))
    assert "not_permitted" in str(NotCommitted("ab", "failed", "not_permitted"))
