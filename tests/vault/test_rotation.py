"""Rotation of keys: at every moment each row opens under exactly one key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from crypto.hazmat.aead import DecryptionError
from vault.errors import RecordErased, VaultError
from vault.key_ring import KeyRing
from vault.settings import VaultSettings
from vault.store import Database
from vault.vault import NewVersion, Vault
from vault.versions import CANARY, ENTRY, TABLE, compute_index_binding

Original = Callable[..., NewVersion]


class Crash(BaseException):
    """The process ends here, as far as the vault can tell."""


def list_wrapped(vault: Vault) -> list[bytes]:
    rows = [row for prefix in (ENTRY, TABLE, CANARY) for row in vault._index_database.scan(prefix)]
    return [value for _, value in (*rows, *vault._keys.scan())]


def count_rows_by_key(vault: Vault, ring: KeyRing) -> dict[bytes, int]:
    wrapped = list_wrapped(vault)
    return {key_id: sum(value.startswith(key_id) for value in wrapped) for key_id in ring.key_ids}


def test_everything_opens_after_a_rotation_and_nothing_under_the_old_key(
    vault: Vault, original: Original, key_ring: KeyRing, reopen: Callable[[Vault], Vault]
) -> None:
    old = key_ring.current_id
    stored = vault.store_many([original(b"%d" % number) for number in range(10)])
    vault.table("accounts").put(b"key", b"value")
    blobs = [vault.get_blob_path(item.record).read_bytes() for item in stored]
    assert vault.rotate_keys() == 10 + 10 + 1 + 1
    vault = reopen(vault)
    assert [vault.read(item.record).content for item in stored] == [b"%d" % number for number in range(10)]
    assert vault.table("accounts").get(b"key") == b"value"
    assert not any(value.startswith(old) for value in list_wrapped(vault))
    # Originals stay sealed under their data keys: rotating costs no reading of blobs.
    assert [vault.get_blob_path(item.record).read_bytes() for item in stored] == blobs


def test_a_copy_of_the_old_rows_does_not_open_with_the_new_ring(
    vault: Vault, original: Original, key_ring: KeyRing
) -> None:
    vault.store_many((original(),))
    rows = list(vault._index_database.scan(ENTRY))
    vault.rotate_keys()
    for key, wrapped in rows:
        with pytest.raises(DecryptionError):
            key_ring.unwrap(wrapped, compute_index_binding(key))


@pytest.mark.parametrize("writes", range(9))
def test_a_rotation_killed_half_way_leaves_every_row_readable_under_exactly_one_key(
    tmp_path: Path,
    key_ring: KeyRing,
    holder: bytes,
    original: Original,
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
) -> None:
    settings = VaultSettings(rewrap_rows_per_batch=2)
    vault = Vault.open(tmp_path / "vault", holder=holder, key_ring=key_ring, settings=settings)
    stored = vault.store_many([original(b"%d" % number) for number in range(6)])
    vault.table("accounts").put_many({b"%d" % number: b"value" for number in range(3)})
    left = iter(range(writes))
    true_write = Database.write

    def write(self: Database, **rows: object) -> None:
        if next(left, None) is None:
            raise Crash
        true_write(self, **rows)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", write)
        # 6 + 6 rows of records, 3 of the table and the canary, two at a time: nine writes.
        with pytest.raises(Crash):
            vault.rotate_keys()
    vault.close()
    ring = KeyRing.open(key_ring.path)
    again = Vault.open(tmp_path / "vault", holder=holder, key_ring=ring, settings=settings)
    counts = count_rows_by_key(again, ring)
    assert len(counts) == 2
    assert sum(counts.values()) == len(list_wrapped(again)) == 6 + 6 + 3 + 1
    assert [again.read(item.record).content for item in stored] == [b"%d" % number for number in range(6)]
    assert len(list(again.table("accounts").scan())) == 3
    again.rotate_keys()
    assert count_rows_by_key(again, ring) == {ring.current_id: 16}
    assert [again.read(item.record).content for item in stored] == [b"%d" % number for number in range(6)]
    again.close()


def test_what_is_stored_between_two_halves_of_a_rotation_is_under_the_new_key(
    vault: Vault, original: Original, key_ring: KeyRing
) -> None:
    vault.store_many((original(b"before"),))
    key_ring.begin_rotation()
    (stored,) = vault.store_many((original(b"between"),))
    assert vault.rotate_keys() == 2 + 1
    assert vault.read(stored.record).content == b"between"


def test_a_row_that_does_not_open_stops_the_rotation_and_both_keys_stay(
    vault: Vault, original: Original, key_ring: KeyRing
) -> None:
    damaged, kept = vault.store_many((original(b"damaged"), original(b"kept")))
    row = next(key for key, _ in vault._keys.scan(damaged.record))
    wrapped = vault._keys.get(row)
    assert wrapped is not None
    vault._keys.write(puts=[(row, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))])
    with pytest.raises(VaultError):
        vault.rotate_keys()
    assert key_ring.is_rotating
    assert vault.read(kept.record).content == b"kept"
    vault.erase(damaged.record)
    vault.rotate_keys()
    assert key_ring.key_ids == (key_ring.current_id,)
    assert vault.read(kept.record).content == b"kept"
    with pytest.raises(RecordErased):
        vault.read(damaged.record)


def test_readers_see_no_mismatch_while_keys_rotate(vault: Vault, original: Original) -> None:
    stored = vault.store_many([original(b"%d" % number) for number in range(20)])
    finished = Event()
    faults: list[BaseException] = []
    rounds = []

    def read() -> None:
        try:
            while not finished.is_set():
                for number, item in enumerate(stored):
                    assert vault.read(item.record).content == b"%d" % number
                assert len(vault.list_records(b"a" * 16)) == 20
                rounds.append(1)
        except BaseException as fault:
            faults.append(fault)

    threads = [Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        vault.rotate_keys()
    finished.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert rounds
