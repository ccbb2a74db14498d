"""The key ring: its file, its keys, its names."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from crypto.hazmat.aead import DecryptionError
from vault.errors import KeyRingError
from vault.key_ring import WRAP_OVERHEAD_BYTES, KeyRing


def test_a_new_ring_is_readable_by_its_owner_only(key_ring: KeyRing) -> None:
    assert stat.S_IMODE(key_ring.path.stat().st_mode) == 0o600


def test_a_ring_that_others_may_read_is_refused(key_ring: KeyRing) -> None:
    key_ring.path.chmod(0o640)
    with pytest.raises(KeyRingError, match="0600 expected"):
        KeyRing.open(key_ring.path)


def test_creating_a_ring_never_overwrites_one(key_ring: KeyRing) -> None:
    before = key_ring.path.read_bytes()
    with pytest.raises(KeyRingError, match="exists already"):
        KeyRing.create(key_ring.path)
    assert key_ring.path.read_bytes() == before


def test_what_is_wrapped_opens_after_the_ring_was_read_again(key_ring: KeyRing) -> None:
    wrapped = key_ring.wrap(b"value", b"binding")
    assert len(wrapped) == len(b"value") + WRAP_OVERHEAD_BYTES
    assert KeyRing.open(key_ring.path).unwrap(wrapped, b"binding") == b"value"


def test_a_wrapped_value_opens_under_its_own_binding_only(key_ring: KeyRing) -> None:
    wrapped = key_ring.wrap(b"value", b"binding")
    with pytest.raises(DecryptionError):
        key_ring.unwrap(wrapped, b"another")


def test_a_wrapped_value_cannot_be_said_to_be_under_another_key(key_ring: KeyRing) -> None:
    old = key_ring.current_id
    wrapped = key_ring.wrap(b"value", b"binding")
    key_ring.begin_rotation()
    assert key_ring.unwrap(wrapped, b"binding") == b"value"
    with pytest.raises(DecryptionError):
        key_ring.unwrap(key_ring.current_id + wrapped[len(old) :], b"binding")


def test_a_finished_rotation_leaves_one_key_and_forgets_the_old_one(key_ring: KeyRing) -> None:
    wrapped = key_ring.wrap(b"value", b"binding")
    key_ring.begin_rotation()
    assert key_ring.is_rotating
    key_ring.finish_rotation()
    for ring in (key_ring, KeyRing.open(key_ring.path)):
        assert len(ring.key_ids) == 1
        assert not ring.is_rotating
        with pytest.raises(DecryptionError, match="not on the ring"):
            ring.unwrap(wrapped, b"binding")


def test_a_second_rotation_waits_for_the_first(key_ring: KeyRing) -> None:
    key_ring.begin_rotation()
    with pytest.raises(KeyRingError, match="under way"):
        key_ring.begin_rotation()


def test_a_leftover_of_an_interrupted_replacement_is_no_hindrance(key_ring: KeyRing) -> None:
    key_ring.path.with_name("vault.json.new").write_bytes(b"half")
    key_ring.begin_rotation()
    assert KeyRing.open(key_ring.path).current_id == key_ring.current_id


def test_names_are_kept_through_a_rotation_and_differ_by_purpose_parts_and_ring(
    key_ring: KeyRing, tmp_path: Path
) -> None:
    name = key_ring.compute_name(b"alias", b"ab", b"c")
    assert name != key_ring.compute_name(b"alias", b"a", b"bc")
    assert name != key_ring.compute_name(b"table", b"ab", b"c")
    assert name != KeyRing.create(tmp_path / "other.json").compute_name(b"alias", b"ab", b"c")
    key_ring.begin_rotation()
    key_ring.finish_rotation()
    assert KeyRing.open(key_ring.path).compute_name(b"alias", b"ab", b"c") == name


@pytest.mark.parametrize(
    "change",
    [
        {"format": "chartchain-key-ring-9"},
        {"keys": {}},
        {"keys": {"00": "11" * 32}},
        {"keys": ["00" * 8]},
        {"current": "ff" * 8},
        {"naming_key": "11"},
        {"naming_key": None},
    ],
)
def test_a_malformed_ring_is_refused_without_showing_keys(
    key_ring: KeyRing, change: dict[str, object]
) -> None:
    document = json.loads(key_ring.path.read_bytes())
    key = next(iter(document["keys"].values()))
    key_ring.path.write_text(json.dumps(document | change))
    with pytest.raises(KeyRingError) as caught:
        KeyRing.open(key_ring.path)
    assert key not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_do_not_show_in_the_representation(key_ring: KeyRing) -> None:
    document = json.loads(key_ring.path.read_bytes())
    assert next(iter(document["keys"].values())) not in repr(key_ring)
