"""A node starts again with its next key once an epoch names that key, never with a key that it has not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.node_folder import NodeFolder
from crypto.key_files import generate_signing_key, write_key_file
from daemon.key_handover import KeyHandover


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    (tmp_path / "keys").mkdir()
    folder = NodeFolder(tmp_path)
    write_key_file(folder.node_key_file, generate_signing_key())
    return folder


def compose_block(*, is_new_epoch: bool) -> Any:
    following = b"n" * 32 if is_new_epoch else b"p" * 32
    return SimpleNamespace(
        header=SimpleNamespace(height=9, replica_set_digest=b"p" * 32, next_replica_set_digest=following)
    )


def is_handed_over(folder: NodeFolder, named: bytes | None, *, is_new_epoch: bool = True) -> bool:
    """Whether a block after which the replica set names the key `named` makes the node start again."""
    calls: list[bool] = []
    handover = KeyHandover(
        folder,
        own_key=b"o" * 32,
        get_named_key=lambda: named,
        on_handover=lambda: calls.append(True),
    )
    handover.on_block(compose_block(is_new_epoch=is_new_epoch))
    return bool(calls)


def prepare_next(folder: NodeFolder) -> bytes:
    key = generate_signing_key()
    write_key_file(folder.next_node_key_file, key)
    return key.public_key


def test_the_prepared_key_takes_over_when_a_new_epoch_names_it(folder: NodeFolder) -> None:
    prepared = prepare_next(folder)
    assert is_handed_over(folder, prepared)
    assert not is_handed_over(folder, prepared, is_new_epoch=False)


def test_a_node_goes_on_while_its_own_key_or_none_is_named(folder: NodeFolder) -> None:
    prepare_next(folder)
    assert not is_handed_over(folder, b"o" * 32)
    assert not is_handed_over(folder, None)


def test_a_key_that_is_not_here_takes_nothing_over(folder: NodeFolder) -> None:
    prepare_next(folder)
    assert not is_handed_over(folder, generate_signing_key().public_key)


def test_a_key_file_that_cannot_be_used_does_not_end_the_node(folder: NodeFolder) -> None:
    prepared = prepare_next(folder)
    folder.next_node_key_file.chmod(0o644)
    assert not is_handed_over(folder, prepared)
