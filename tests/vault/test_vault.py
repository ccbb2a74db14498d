"""The vault: what goes in comes out unchanged, and whatever was altered on the disk is not served."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.calls.evidence import Inclusion
from crypto.encoding import encode
from crypto.merkle import compute_inclusion_path, compute_root, verify_inclusion
from vault.envelope import compute_secrets_binding
from vault.errors import (
    ContentRefused,
    Finding,
    KeyRingError,
    RecordNotHeld,
    VaultFailed,
    VaultMismatch,
    VersionRefused,
)
from vault.key_ring import KeyRing
from vault.settings import VaultSettings
from vault.vault import NewVersion, StoredVersion, Vault
from vault.versions import compute_row_id

Original = Callable[..., NewVersion]


def store(vault: Vault, new: NewVersion) -> StoredVersion:
    return vault.store_many((new,))[0]


def test_a_record_is_read_as_it_was_stored(vault: Vault, reopen: Callable[[Vault], Vault]) -> None:
    stored = vault.store(
        alias=b"a" * 16,
        record_class="laboratory_reports",
        media_type="application/fhir+json",
        content=b'{"value": 1.00}',
        source="laboratory",
        title="blood count",
    )
    assert (stored.version, stored.anchor, len(stored.record)) == (1, None, 16)
    for opened in (vault.read(stored.record), reopen(vault).read(stored.record, 1)):
        assert opened.content == b'{"value": 1.00}'
        assert opened.stored == stored
        assert opened.media_type == "application/fhir+json"
        assert opened.record_class == "laboratory_reports"
        assert opened.leaf == stored.leaf


@pytest.mark.parametrize("content", [b"", b"\x00" * 70_000, bytes(range(256))])
def test_content_of_any_kind_is_kept(vault: Vault, original: Original, content: bytes) -> None:
    assert vault.read(store(vault, original(content)).record).content == content


def test_the_files_tell_nothing_of_content_alias_class_title_or_source(
    vault: Vault, original: Original, search_files: Callable[[bytes], list[Path]]
) -> None:
    alias = secrets.token_bytes(16)
    store(vault, original(b"haemoglobin 128 g/L", alias, title="blood count", source="laboratory seven"))
    for needle in (b"haemoglobin 128", alias, b"laboratory_reports", b"blood count", b"laboratory seven"):
        assert search_files(needle) == []


def test_what_is_not_held_is_said_to_be_so(vault: Vault, original: Original) -> None:
    record = store(vault, original()).record
    for wrong, version in ((b"x" * 16, None), (record, 2), (record, 0), (record, 2**40), (b"short", None)):
        with pytest.raises(RecordNotHeld):
            vault.read(wrong, version)


def test_versions_follow_each_other(vault: Vault, original: Original) -> None:
    first = store(vault, original(b"one"))
    second = store(vault, original(b"two", record=first.record, version=2))
    assert vault.read(first.record).content == b"two"
    assert vault.read(first.record, 1).content == b"one"
    assert first.leaf.locator != second.leaf.locator
    for fields in (
        {"version": 2},
        {"version": 4},
        {"version": 1},
        {"version": 3, "alias": b"b" * 16},
        {"version": 3, "record_class": "allergies"},
    ):
        with pytest.raises(VersionRefused):
            store(vault, original(b"three", record=first.record, **fields))


def test_a_new_record_begins_with_version_one(vault: Vault, original: Original) -> None:
    with pytest.raises(VersionRefused, match="1 expected"):
        store(vault, original(version=2))


def test_a_batch_is_stored_whole_or_not_at_all(vault: Vault, original: Original) -> None:
    with pytest.raises(VersionRefused):
        vault.store_many((original(b"one"), original(b"two", version=7)))
    assert vault.list_records(b"a" * 16) == ()
    stored = vault.store_many([original(b"%d" % number) for number in range(20)])
    assert [vault.read(item.record).content for item in stored] == [b"%d" % number for number in range(20)]
    assert vault.store_many(()) == ()


def test_one_version_twice_in_a_batch_is_refused(vault: Vault, original: Original) -> None:
    with pytest.raises(VersionRefused, match="twice"):
        vault.store_many((original(b"one", record=b"r" * 16), original(b"two", record=b"r" * 16)))


@pytest.mark.parametrize(
    "fields",
    [
        {"alias": b"short"},
        {"record": b""},
        {"record": b"r" * 17},
        {"title": "t" * 1_001},
        {"title": "\ud800"},
        {"content": bytes(2_000)},
    ],
)
def test_what_is_beyond_the_bounds_is_refused(
    tmp_path: Path, key_ring: KeyRing, holder: bytes, original: Original, fields: dict[str, object]
) -> None:
    settings = VaultSettings(content_bytes_max=1_000)
    vault = Vault.open(tmp_path / "small", holder=holder, key_ring=key_ring, settings=settings)
    with pytest.raises(ContentRefused):
        store(vault, original(**fields))
    assert vault.list_unanchored() == ()
    vault.close()


def test_batches_beyond_the_bounds_are_refused(
    tmp_path: Path, key_ring: KeyRing, holder: bytes, original: Original
) -> None:
    settings = VaultSettings(batch_records_max=2, batch_bytes_max=10)
    vault = Vault.open(tmp_path / "small", holder=holder, key_ring=key_ring, settings=settings)
    with pytest.raises(ContentRefused, match="3 records"):
        vault.store_many([original(b"")] * 3)
    with pytest.raises(ContentRefused, match="12 bytes"):
        vault.store_many([original(b"123456")] * 2)
    vault.close()


def test_records_are_listed_by_alias_and_anchor(vault: Vault, original: Original) -> None:
    mine = vault.store_many([original(b"%d" % number) for number in range(3)])
    theirs = store(vault, original(b"theirs", b"b" * 16))
    vault.set_anchor(mine[:2], b"n" * 16, [Inclusion(0, ()), Inclusion(1, ())])
    listed = vault.list_records(b"a" * 16)
    assert {item.record for item in listed} == {item.record for item in mine}
    assert {item.record for item in vault.list_records(b"a" * 16, b"n" * 16)} == {
        item.record for item in mine[:2]
    }
    assert vault.list_records(b"b" * 16) == (theirs,)
    assert vault.list_records(b"c" * 16) == ()


def test_anchors_and_inclusions_are_kept_with_what_is_not_anchored_yet(
    vault: Vault, original: Original, reopen: Callable[[Vault], Vault]
) -> None:
    stored = vault.store_many([original(b"%d" % number) for number in range(5)])
    assert {item.record for item in vault.list_unanchored()} == {item.record for item in stored}
    hashes = [item.leaf.compute_hash() for item in stored]
    inclusions = [Inclusion(index, compute_inclusion_path(hashes, index)) for index in range(5)]
    vault.set_anchor(stored[:4], b"n" * 16, inclusions[:4])
    vault = reopen(vault)
    assert [item.record for item in vault.list_unanchored()] == [stored[4].record]
    assert len(vault.list_unanchored(count_max=0)) == 0
    for index, item in enumerate(stored[:4]):
        opened = vault.read(item.record)
        assert opened.anchor == b"n" * 16
        assert opened.inclusion is not None
        verify_inclusion(
            leaf_hash=opened.leaf.compute_hash(),
            index=index,
            size=5,
            path=opened.inclusion.path,
            root=compute_root(hashes),
        )


def test_anchoring_what_is_not_held_is_refused(vault: Vault, original: Original) -> None:
    stored = store(vault, original())
    vault.erase(stored.record)
    with pytest.raises(Exception, match="erased"):
        vault.set_anchor((stored,), b"n" * 16, (Inclusion(0, ()),))


def test_content_that_is_held_is_recognised_under_its_alias_only(vault: Vault, original: Original) -> None:
    stored = store(vault, original(b"content"))
    assert vault.find_content(b"a" * 16, b"content") == stored
    assert vault.find_content(b"b" * 16, b"content") is None
    assert vault.find_content(b"a" * 16, b"another") is None


def test_every_altered_byte_of_a_blob_is_noticed(vault: Vault, original: Original) -> None:
    stored = store(vault, original(b"content"))
    path = vault.get_blob_path(stored.record)
    sealed = path.read_bytes()
    for place in range(len(sealed)):
        path.write_bytes(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        with pytest.raises(VaultMismatch) as caught:
            vault.read(stored.record)
        assert caught.value.finding is Finding.CIPHERTEXT_ALTERED
    path.write_bytes(sealed)
    assert vault.read(stored.record).content == b"content"


@pytest.mark.parametrize("altered", [b"", b"longer than it was, and nothing that was ever sealed by anybody"])
def test_a_blob_of_another_length_is_noticed(vault: Vault, original: Original, altered: bytes) -> None:
    stored = store(vault, original(b"content"))
    vault.get_blob_path(stored.record).write_bytes(altered)
    with pytest.raises(VaultMismatch) as caught:
        vault.read(stored.record)
    assert caught.value.finding is Finding.CIPHERTEXT_ALTERED


def test_a_missing_blob_is_noticed(vault: Vault, original: Original) -> None:
    stored = store(vault, original())
    vault.get_blob_path(stored.record).unlink()
    with pytest.raises(VaultMismatch) as caught:
        vault.read(stored.record)
    assert caught.value.finding is Finding.MISSING


def test_swapped_blobs_of_two_records_are_noticed(vault: Vault, original: Original) -> None:
    first, second = vault.store_many((original(b"first!"), original(b"second")))
    one, two = vault.get_blob_path(first.record), vault.get_blob_path(second.record)
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    for stored in (first, second):
        with pytest.raises(VaultMismatch) as caught:
            vault.read(stored.record)
        assert caught.value.finding is Finding.CIPHERTEXT_ALTERED


def test_a_version_rolled_back_by_its_blob_is_noticed(vault: Vault, original: Original) -> None:
    first = store(vault, original(b"version 1"))
    store(vault, original(b"version 2", record=first.record, version=2))
    vault.get_blob_path(first.record, 2).write_bytes(vault.get_blob_path(first.record, 1).read_bytes())
    with pytest.raises(VaultMismatch) as caught:
        vault.read(first.record)
    assert caught.value.finding is Finding.CIPHERTEXT_ALTERED


def test_a_version_rolled_back_with_its_keys_is_noticed(vault: Vault, original: Original) -> None:
    first = store(vault, original(b"version 1"))
    store(vault, original(b"version 2", record=first.record, version=2))
    vault.get_blob_path(first.record, 2).write_bytes(vault.get_blob_path(first.record, 1).read_bytes())
    old = vault._keys.get(compute_row_id(first.record, 1))
    assert old is not None
    vault._keys.write(puts=[(compute_row_id(first.record, 2), old)])
    with pytest.raises(VaultMismatch) as caught:
        vault.read(first.record)
    assert caught.value.finding is Finding.CIPHERTEXT_ALTERED


def test_a_row_of_the_index_under_another_version_is_noticed(vault: Vault, original: Original) -> None:
    first = store(vault, original(b"version 1"))
    store(vault, original(b"version 2", record=first.record, version=2))
    old = vault._index_database.get(b"r" + compute_row_id(first.record, 1))
    assert old is not None
    vault._index_database.write(puts=[(b"r" + compute_row_id(first.record, 2), old)])
    with pytest.raises(VaultMismatch):
        vault.read(first.record)


def test_missing_keys_are_noticed(vault: Vault, original: Original) -> None:
    stored = store(vault, original())
    vault._keys.write(deletes=[compute_row_id(stored.record, 1)])
    with pytest.raises(VaultMismatch) as caught:
        vault.read(stored.record)
    assert caught.value.finding is Finding.MISSING


def test_another_salt_in_the_keys_is_a_commitment_mismatch(
    vault: Vault, original: Original, key_ring: KeyRing, holder: bytes
) -> None:
    stored = store(vault, original())
    binding = compute_secrets_binding(stored.leaf, holder)
    row = compute_row_id(stored.record, 1)
    wrapped = vault._keys.get(row)
    assert wrapped is not None
    secrets_ = key_ring.unwrap(wrapped, binding)
    vault._keys.write(puts=[(row, key_ring.wrap(b"s" * 32 + secrets_[32:], binding))])
    with pytest.raises(VaultMismatch) as caught:
        vault.read(stored.record)
    assert caught.value.finding is Finding.COMMITMENT_MISMATCH


def test_messages_of_a_mismatch_tell_ids_only(vault: Vault, original: Original) -> None:
    stored = store(vault, original(b"haemoglobin 128 g/L"))
    vault.get_blob_path(stored.record).write_bytes(b"altered")
    with pytest.raises(VaultMismatch) as caught:
        vault.read(stored.record)
    assert stored.record.hex() in str(caught.value)
    for secret in ("haemoglobin", "blood count", "laboratory"):
        assert secret not in str(caught.value)


def test_a_leaf_says_what_was_committed(vault: Vault, original: Original) -> None:
    leaf = store(vault, original()).leaf
    assert encode(leaf) == encode((leaf.record, leaf.version, leaf.commitment, leaf.locator))


def test_another_key_ring_is_refused_on_opening(
    vault: Vault, tmp_path: Path, holder: bytes, original: Original
) -> None:
    vault.close()
    with pytest.raises(KeyRingError, match="another key ring"):
        Vault.open(tmp_path / "vault", holder=holder, key_ring=KeyRing.create(tmp_path / "other.json"))


def test_another_holder_is_refused_on_opening(vault: Vault, tmp_path: Path, key_ring: KeyRing) -> None:
    vault.close()
    with pytest.raises(KeyRingError, match="holder"):
        Vault.open(tmp_path / "vault", holder=b"x" * 16, key_ring=key_ring)


def test_a_vault_is_held_by_one_process_at_a_time(
    vault: Vault, tmp_path: Path, holder: bytes, key_ring: KeyRing
) -> None:
    with pytest.raises(VaultFailed, match="cannot be opened"):
        Vault.open(tmp_path / "vault", holder=holder, key_ring=key_ring)


def test_a_damaged_database_fails_the_vault_for_good(
    vault: Vault, original: Original, tmp_path: Path, holder: bytes, key_ring: KeyRing
) -> None:
    stored = store(vault, original())
    vault._keys._db.compact_range()
    vault.close()
    (table,) = (tmp_path / "vault" / "keys").glob("*.ldb")
    damaged = bytearray(table.read_bytes())
    damaged[10] ^= 0xFF
    table.write_bytes(damaged)
    vault = Vault.open(tmp_path / "vault", holder=holder, key_ring=key_ring)
    with pytest.raises(VaultFailed):
        vault.read(stored.record)
    with pytest.raises(VaultFailed, match="failed before"):
        vault.read(stored.record)
    vault.close()
