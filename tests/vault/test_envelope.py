"""Envelopes: what is sealed opens as it was, and as nothing else."""

from __future__ import annotations

import hashlib
import hmac

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.envelope import (
    BLOB_OVERHEAD_BYTES,
    EnvelopeMismatch,
    Secrets,
    compute_commitment,
    open_version,
    seal_version,
)
from vault.errors import Finding

RECORD, HOLDER = b"r" * 16, b"h" * 16


@given(content=st.binary(max_size=2_000))
def test_a_sealed_version_opens_as_it_was(content: bytes) -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=content)
    opened = open_version(sealed=envelope.sealed, leaf=envelope.leaf, holder=HOLDER, secrets=envelope.secrets)
    assert opened == content
    assert len(envelope.sealed) == len(content) + BLOB_OVERHEAD_BYTES


@given(content=st.binary(max_size=200), place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_sealed_bytes_is_noticed(content: bytes, place: int, bit: int) -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=content)
    altered = bytearray(envelope.sealed)
    altered[place % len(altered)] ^= 1 << bit
    with pytest.raises(EnvelopeMismatch) as caught:
        open_version(sealed=bytes(altered), leaf=envelope.leaf, holder=HOLDER, secrets=envelope.secrets)
    assert caught.value.finding is Finding.CIPHERTEXT_ALTERED


@given(content=st.binary(max_size=200), data=st.data())
def test_any_truncation_of_the_sealed_bytes_is_noticed(content: bytes, data: st.DataObject) -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=content)
    length = data.draw(st.integers(0, len(envelope.sealed) - 1))
    with pytest.raises(EnvelopeMismatch):
        open_version(
            sealed=envelope.sealed[:length], leaf=envelope.leaf, holder=HOLDER, secrets=envelope.secrets
        )


@pytest.mark.parametrize(
    "change",
    [{"record": b"s" * 16}, {"version": 2}, {"commitment": b"c" * 32}],
    ids=["record", "version", "commitment"],
)
def test_sealed_bytes_open_under_their_own_leaf_only(change: dict[str, object]) -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=b"content")
    with pytest.raises(EnvelopeMismatch) as caught:
        open_version(
            sealed=envelope.sealed,
            leaf=msgspec.structs.replace(envelope.leaf, **change),
            holder=HOLDER,
            secrets=envelope.secrets,
        )
    assert caught.value.finding is Finding.CIPHERTEXT_ALTERED


def test_sealed_bytes_do_not_open_in_another_holders_vault() -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=b"content")
    with pytest.raises(EnvelopeMismatch):
        open_version(sealed=envelope.sealed, leaf=envelope.leaf, holder=b"i" * 16, secrets=envelope.secrets)


def test_another_salt_shows_as_a_commitment_mismatch() -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=b"content")
    secrets = Secrets(salt=b"s" * 32, data_key=envelope.secrets.data_key)
    with pytest.raises(EnvelopeMismatch) as caught:
        open_version(sealed=envelope.sealed, leaf=envelope.leaf, holder=HOLDER, secrets=secrets)
    assert caught.value.finding is Finding.COMMITMENT_MISMATCH


@given(content=st.binary(max_size=200), salt=st.binary(min_size=32, max_size=32))
def test_a_commitment_is_the_hmac_of_the_original_under_the_salt(content: bytes, salt: bytes) -> None:
    assert compute_commitment(salt, content) == hmac.new(salt, content, hashlib.sha256).digest()


def test_equal_originals_get_different_commitments_locators_and_ciphertexts() -> None:
    first, second = (
        seal_version(record=RECORD, version=1, holder=HOLDER, content=b"content") for _ in range(2)
    )
    assert first.leaf.commitment != second.leaf.commitment
    assert first.leaf.locator != second.leaf.locator
    assert first.sealed != second.sealed


def test_secrets_do_not_show_in_their_representation() -> None:
    envelope = seal_version(record=RECORD, version=1, holder=HOLDER, content=b"content")
    shown = repr(envelope)
    assert repr(envelope.secrets.salt) not in shown
    assert repr(envelope.secrets.data_key) not in shown


def test_secrets_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="64 expected"):
        Secrets.from_bytes(b"short")
