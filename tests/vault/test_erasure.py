"""Erasing one record: no file opens it, and it does not come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vault.errors import RecordErased, RecordNotHeld, VaultMismatch
from vault.vault import NewVersion, StoredVersion, Vault
from vault.versions import compute_row_id

Original = Callable[..., NewVersion]
Search = Callable[[bytes], list[Path]]


def get_keys(vault: Vault, stored: StoredVersion) -> bytes:
    wrapped = vault._keys.get(compute_row_id(stored.record, stored.version))
    assert wrapped is not None
    return wrapped


@pytest.mark.parametrize("state", ["just stored", "after opening again", "compacted", "among many"])
def test_no_file_holds_the_wrapped_keys_of_an_erased_record(
    vault: Vault,
    original: Original,
    reopen: Callable[[Vault], Vault],
    search_files: Search,
    state: str,
) -> None:
    (first,) = vault.store_many((original(b"one"),))
    (second,) = vault.store_many((original(b"two", record=first.record, version=2),))
    (other,) = vault.store_many((original(b"other"),))
    match state:
        case "after opening again":
            vault = reopen(vault)
        case "compacted":
            vault._keys._db.compact_range()
        case "among many":
            vault.store_many([original(b"%d" % number) for number in range(40)])
    keys = [get_keys(vault, first), get_keys(vault, second)]
    kept = get_keys(vault, other)
    rows = [vault._index_database.get(b"r" + compute_row_id(first.record, version)) for version in (1, 2)]
    assert all(search_files(value) for value in (*keys, kept, *rows) if value)
    vault.erase(first.record)
    assert [search_files(value) for value in (*keys, *rows) if value] == [[], [], [], []]
    assert search_files(kept)
    assert vault.read(other.record).content == b"other"


def test_the_sealed_bytes_of_an_erased_record_are_removed(
    vault: Vault, original: Original, search_files: Search
) -> None:
    (stored,) = vault.store_many((original(),))
    path = vault.get_blob_path(stored.record)
    sealed = path.read_bytes()
    vault.erase(stored.record)
    assert not path.exists()
    assert search_files(sealed) == []


def test_an_erased_record_is_said_to_be_erased(
    vault: Vault, original: Original, reopen: Callable[[Vault], Vault]
) -> None:
    (stored,) = vault.store_many((original(),))
    vault.erase(stored.record)
    vault = reopen(vault)
    for ask in (vault.read, vault.erase, vault.get_blob_path, vault.get_stored):
        with pytest.raises(RecordErased):
            ask(stored.record)
    assert vault.list_records(stored.alias) == ()
    assert vault.list_unanchored() == ()


def test_erasing_what_is_not_held_is_refused(vault: Vault) -> None:
    with pytest.raises(RecordNotHeld):
        vault.erase(b"x" * 16)


def test_erased_bytes_are_not_taken_in_again_under_their_alias(
    vault: Vault, original: Original, reopen: Callable[[Vault], Vault]
) -> None:
    (first,) = vault.store_many((original(b"one"),))
    vault.store_many((original(b"two", record=first.record, version=2),))
    vault.erase(first.record)
    vault = reopen(vault)
    for content in (b"one", b"two"):
        assert vault.is_erased(b"a" * 16, content)
        with pytest.raises(RecordErased):
            vault.store_many((original(b"new"), original(content)))
    assert vault.list_records(b"a" * 16) == ()
    assert not vault.is_erased(b"a" * 16, b"three")
    # Another patient's equal bytes are another record.
    assert vault.store_many((original(b"one", b"b" * 16),))


def test_tombstones_outlive_a_rotation_of_keys(vault: Vault, original: Original) -> None:
    (stored,) = vault.store_many((original(b"one"),))
    vault.erase(stored.record)
    vault.rotate_keys()
    assert vault.is_erased(b"a" * 16, b"one")


def test_an_erased_id_is_never_used_again(vault: Vault, original: Original) -> None:
    (stored,) = vault.store_many((original(b"one"),))
    vault.erase(stored.record)
    for version in (1, 2):
        with pytest.raises(RecordErased):
            vault.store_many((original(b"another", record=stored.record, version=version),))


def test_a_record_whose_row_was_altered_can_still_be_erased(
    vault: Vault, original: Original, search_files: Search
) -> None:
    (stored,) = vault.store_many((original(b"one"),))
    keys = get_keys(vault, stored)
    vault._index_database.write(puts=[(b"r" + compute_row_id(stored.record, 1), b"altered")])
    with pytest.raises(VaultMismatch):
        vault.read(stored.record)
    vault.erase(stored.record)
    assert search_files(keys) == []
    with pytest.raises(RecordErased):
        vault.read(stored.record)
