"""AES-256-GCM and HPKE open only what was sealed, for whom, as what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.hazmat import aead, hpke
from crypto.hazmat.aead import DecryptionError


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_aead_opens_what_it_sealed(plaintext: bytes, associated_data: bytes) -> None:
    key = aead.generate_key()
    sealed = aead.seal(key, plaintext, associated_data)
    assert len(sealed) == len(plaintext) + aead.OVERHEAD_BYTES
    assert aead.open_sealed(key, sealed, associated_data) == plaintext


@given(st.integers(0, (5 + aead.OVERHEAD_BYTES) * 8 - 1))
def test_aead_refuses_any_flipped_bit(bit: int) -> None:
    key = aead.generate_key()
    sealed = bytearray(aead.seal(key, b"chart", b""))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        aead.open_sealed(key, bytes(sealed), b"")


def test_aead_refuses_other_key_data_and_lengths() -> None:
    key = aead.generate_key()
    sealed = aead.seal(key, b"chart", b"record 1")
    for other_key, data, associated_data in [
        (aead.generate_key(), sealed, b"record 1"),
        (key, sealed, b"record 2"),
        (key, sealed[:-1], b"record 1"),
        (key, b"", b"record 1"),
    ]:
        with pytest.raises(DecryptionError):
            aead.open_sealed(other_key, data, associated_data)


def test_hpke_opens_for_its_recipient_and_purpose_only() -> None:
    recipient = hpke.RecipientKey()
    sealed = hpke.seal(recipient.public_key, b"chart", b"ticket 1")
    assert recipient.open_sealed(sealed, b"ticket 1") == b"chart"
    with pytest.raises(DecryptionError):
        recipient.open_sealed(sealed, b"ticket 2")
    with pytest.raises(DecryptionError):
        hpke.RecipientKey().open_sealed(sealed, b"ticket 1")
    with pytest.raises(DecryptionError):
        recipient.open_sealed(sealed[:-1], b"ticket 1")
    with pytest.raises(DecryptionError):
        recipient.open_sealed(b"", b"ticket 1")


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(32)])
def test_hpke_refuses_unusable_keys(public_key: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own messages differ
        hpke.seal(public_key, b"chart", b"")
