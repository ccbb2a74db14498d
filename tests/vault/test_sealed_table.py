"""Sealed tables: rows come back, and the files tell neither keys nor values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from vault.errors import ContentRefused, VaultFailed
from vault.key_ring import KeyRing
from vault.sealed_table import KEY_BYTES_MAX, VALUE_BYTES_MAX
from vault.store import Database
from vault.vault import Vault


def test_rows_are_put_replaced_and_deleted(vault: Vault) -> None:
    table = vault.table("accounts")
    assert table.get(b"key") is None
    table.put(b"key", b"first")
    table.put(b"key", b"second")
    assert table.get(b"key") == b"second"
    table.delete(b"key")
    table.delete(b"key")
    assert table.get(b"key") is None


def test_rows_are_there_after_opening_again(vault: Vault, reopen: Callable[[Vault], Vault]) -> None:
    vault.table("accounts").put(b"key", b"value")
    assert reopen(vault).table("accounts").get(b"key") == b"value"


def test_tables_do_not_see_each_others_rows(vault: Vault) -> None:
    vault.table("accounts").put(b"key", b"value")
    assert vault.table("aliases").get(b"key") is None
    assert list(vault.table("aliases").scan()) == []


def test_scanning_goes_by_prefix_in_the_order_of_the_keys(vault: Vault) -> None:
    table = vault.table("accounts")
    table.put_many({b"b2": b"4", b"a": b"1", b"b1": b"3", b"b": b"2"})
    assert list(table.scan(b"b")) == [(b"b", b"2"), (b"b1", b"3"), (b"b2", b"4")]
    assert [key for key, _ in table.scan()] == [b"a", b"b", b"b1", b"b2"]


def test_of_many_who_put_a_row_that_is_absent_exactly_one_wins(vault: Vault) -> None:
    table = vault.table("attempts")
    won = []
    barrier = Barrier(8)

    def attempt(number: int) -> None:
        barrier.wait()
        if table.put_if_absent(b"key", bytes([number])):
            won.append(number)

    threads = [Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert table.get(b"key") == bytes(won)


def test_the_files_tell_neither_keys_nor_values(
    vault: Vault, search_files: Callable[[bytes], list[Path]]
) -> None:
    vault.table("accounts").put(b"a very telling key", b"a very telling value")
    for needle in (b"a very telling key", b"a very telling value", b"accounts"):
        assert search_files(needle) == []


def test_a_destroyed_row_leaves_the_files(
    vault: Vault, search_files: Callable[[bytes], list[Path]], key_ring: KeyRing
) -> None:
    table = vault.table("details")
    table.put(b"key", b"value")
    (sealed,) = (value for key, value in vault._index_database.scan(b"k"))
    assert search_files(sealed)
    table.destroy(b"key")
    assert search_files(sealed) == []
    assert table.get(b"key") is None


def test_rows_beyond_the_bounds_are_refused(vault: Vault) -> None:
    table = vault.table("accounts")
    with pytest.raises(ContentRefused, match="key of"):
        table.put(b"k" * (KEY_BYTES_MAX + 1), b"")
    with pytest.raises(ContentRefused, match="value of"):
        table.put(b"k", bytes(VALUE_BYTES_MAX + 1))
    table.put(b"k" * KEY_BYTES_MAX, bytes(VALUE_BYTES_MAX))
    assert table.get(b"k" * KEY_BYTES_MAX) == bytes(VALUE_BYTES_MAX)


def test_a_row_moved_to_another_key_does_not_open(vault: Vault) -> None:
    table = vault.table("accounts")
    table.put(b"one", b"1")
    table.put(b"two", b"2")
    database: Database = vault._index_database
    (first, _), (second, wrapped) = database.scan(b"k")
    database.write(puts=[(first, wrapped)])
    key = b"one" if table._compute_row_key(b"one") == first else b"two"
    with pytest.raises(VaultFailed, match="altered"):
        table.get(key)
    assert second != first
