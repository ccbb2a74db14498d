"""Crashes: a store that was cut short is undone, an erasure that was cut short is completed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vault.errors import RecordErased
from vault.key_ring import KeyRing
from vault.vault import NewVersion, StoredVersion, Vault

Original = Callable[..., NewVersion]

STORING = ["_blobs.put_many", "_keys.write", "_index.write_entries"]
ERASING = ["_keys.destroy", "_blobs.delete_many", "_index.finish_erasure"]


class Crash(BaseException):
    """The process ends here, as far as the vault can tell."""


@pytest.fixture
def crash_at(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], None]:
    """Let the next call of a part's method end in a crash, before or after it did its work."""

    def arrange(target: str, after: bool) -> None:
        part, method = target.split(".")
        true_method = getattr(getattr(vault, part), method)

        def crash(*args: object, **kwargs: object) -> None:
            if after:
                true_method(*args, **kwargs)
            raise Crash

        monkeypatch.setattr(getattr(vault, part), method, crash)

    return arrange


@pytest.fixture
def restart(tmp_path: Path, holder: bytes) -> Iterator[Callable[[Vault], Vault]]:
    """Open a copy of the files as they are now: what a crashed process leaves behind."""
    opened: list[Vault] = []

    def restart(vault: Vault) -> Vault:
        copy = tmp_path / f"copy{len(opened)}"
        shutil.copytree(tmp_path / "vault", copy, ignore=shutil.ignore_patterns("LOCK"))
        again = Vault.open(copy, holder=holder, key_ring=KeyRing.open(tmp_path / "vault.json"))
        opened.append(again)
        return again

    yield restart
    for again in opened:
        again.close()


def list_blobs(vault: Vault) -> list[Path]:
    return [path for path in vault._blobs.directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STORING)
def test_a_store_that_was_cut_short_leaves_everything_or_nothing(
    vault: Vault,
    original: Original,
    crash_at: Callable[[str, bool], None],
    restart: Callable[[Vault], Vault],
    step: str,
    after: bool,
) -> None:
    (kept,) = vault.store_many((original(b"kept"),))
    crash_at(step, after)
    with pytest.raises(Crash):
        vault.store_many((original(b"one"), original(b"two")))
    again = restart(vault)
    expected = 3 if (step, after) == (STORING[-1], True) else 1
    listed = again.list_records(b"a" * 16)
    assert len(listed) == expected
    assert len(list_blobs(again)) == expected
    assert len(list(again._keys.scan())) == expected
    assert again.read(kept.record).content == b"kept"
    assert {again.read(item.record).content for item in listed} >= {b"kept"}
    again.store_many((original(b"one"), original(b"two")))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ERASING)
def test_an_erasure_that_was_cut_short_is_completed(
    vault: Vault,
    original: Original,
    crash_at: Callable[[str, bool], None],
    restart: Callable[[Vault], Vault],
    step: str,
    after: bool,
) -> None:
    (kept,) = vault.store_many((original(b"kept"),))
    (erased,) = vault.store_many((original(b"erased"),))
    crash_at(step, after)
    with pytest.raises(Crash):
        vault.erase(erased.record)
    again = restart(vault)
    with pytest.raises(RecordErased):
        again.read(erased.record)
    assert [item.record for item in again.list_records(b"a" * 16)] == [kept.record]
    assert len(list_blobs(again)) == 1
    assert len(list(again._keys.scan())) == 1
    assert again.is_erased(b"a" * 16, b"erased")
    assert again.read(kept.record).content == b"kept"


def test_a_record_under_erasure_is_not_served_any_more(
    vault: Vault, original: Original, crash_at: Callable[[str, bool], None]
) -> None:
    stored: StoredVersion = vault.store_many((original(),))[0]
    crash_at(ERASING[0], False)
    with pytest.raises(Crash):
        vault.erase(stored.record)
    with pytest.raises(RecordErased):
        vault.read(stored.record)
