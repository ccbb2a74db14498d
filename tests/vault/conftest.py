"""A vault in a temporary folder, and what to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vault.key_ring import KeyRing
from vault.vault import NewVersion, Vault

HOLDER = b"H" * 16


@pytest.fixture
def holder() -> bytes:
    return HOLDER


@pytest.fixture
def key_ring(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "vault.json")


@pytest.fixture
def vault(tmp_path: Path, key_ring: KeyRing) -> Iterator[Vault]:
    vault = Vault.open(tmp_path / "vault", holder=HOLDER, key_ring=key_ring)
    yield vault
    vault.close()


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[[Vault], Vault]]:
    """Close a vault and open it again with the ring as it is on disk."""
    opened = []

    def reopen(vault: Vault) -> Vault:
        vault.close()
        again = Vault.open(tmp_path / "vault", holder=HOLDER, key_ring=KeyRing.open(tmp_path / "vault.json"))
        opened.append(again)
        return again

    yield reopen
    for again in opened:
        again.close()


@pytest.fixture
def original() -> Callable[..., NewVersion]:
    """An original of patient `alias`, ready to be stored."""

    def build(
        content: bytes = b"haemoglobin 128 g/L", alias: bytes = b"a" * 16, **fields: object
    ) -> NewVersion:
        values: dict[str, object] = {
            "alias": alias,
            "record_class": "laboratory_reports",
            "media_type": "application/fhir+json",
            "source": "laboratory",
            "content": content,
            "title": "blood count",
        }
        return NewVersion(**(values | fields))  # type: ignore[arg-type]

    return build


@pytest.fixture
def search_files(tmp_path: Path) -> Callable[[bytes], list[Path]]:
    """Every file of the vault that contains these bytes."""

    def search(needle: bytes) -> list[Path]:
        files = (path for path in sorted((tmp_path / "vault").rglob("*")) if path.is_file())
        return [path for path in files if needle in path.read_bytes()]

    return search
