"""Ed25519: RFC 8032 vectors, domain tags, and rule E6 (keys of small order)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import tags
from crypto.signatures import InvalidSignature, SigningKey, verify_signature

# The eight points of small order on edwards25519 and their non-canonical spellings. Source: RFC 7748,
# section 6 and the list that libsodium refuses.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


def test_rfc_8032_section_7_1_test_2() -> None:
    key = SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"", b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_e6_public_keys_of_small_order_are_refused(point: str) -> None:
    # R = identity and S = 0 satisfies the bare equation for a key of small order and some messages.
    signature = bytes.fromhex(SMALL_ORDER[0]) + bytes(32)
    for number in range(16):
        with pytest.raises(InvalidSignature):
            verify_signature(bytes.fromhex(point), tags.VOTE, bytes([number]), signature)


def test_e5_a_signature_under_one_tag_is_none_under_another() -> None:
    key = SigningKey(bytes(32))
    signature = key.sign(tags.VOTE, b"message")
    verify_signature(key.public_key, tags.VOTE, b"message", signature)
    for tag in tags.ALL:
        if tag != tags.VOTE:
            with pytest.raises(InvalidSignature):
                verify_signature(key.public_key, tag, b"message", signature)


def test_no_tag_is_the_beginning_of_another() -> None:
    assert len(tags.ALL) > 10
    assert not [(a, b) for a in tags.ALL for b in tags.ALL if a is not b and b.startswith(a)]


@given(st.integers(0, 64 * 8 - 1))
def test_any_flipped_bit_of_a_signature_is_refused(bit: int) -> None:
    key = SigningKey(bytes(32))
    signature = bytearray(key.sign(tags.VOTE, b"message"))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidSignature):
        verify_signature(key.public_key, tags.VOTE, b"message", bytes(signature))


@pytest.mark.parametrize(("key_bytes", "signature_bytes"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_wrong_lengths_are_refused(key_bytes: int, signature_bytes: int) -> None:
    with pytest.raises(InvalidSignature, match="expected"):
        verify_signature(bytes(key_bytes), tags.VOTE, b"", bytes(signature_bytes))


def test_a_key_never_shows_its_secret() -> None:
    seed = bytes(range(32))
    key = SigningKey(seed)
    assert seed.hex() not in repr(key)
    assert key.seed == seed
