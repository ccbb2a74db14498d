"""A node speaks with the key that the ledger has for its replica, the next one once an epoch names it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.local_network import create_local_network
from config.node_check import check_node
from config.node_folder import NodeFolder
from config.node_identity import choose_identity
from config.settings import load_node_settings
from crypto.key_files import generate_signing_key, read_key_file, write_key_file


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    return create_local_network(tmp_path / "net", node_count=1).nodes[0].folder


def prepare_next(folder: NodeFolder) -> bytes:
    key = generate_signing_key()
    write_key_file(folder.next_node_key_file, key)
    return key.public_key


def test_the_key_that_the_ledger_has_is_chosen(folder: NodeFolder) -> None:
    present, following = read_key_file(folder.node_key_file).public_key, prepare_next(folder)
    chosen = choose_identity(folder, present)
    assert (chosen.key_file, chosen.certificate_file) == (folder.node_key_file, folder.node_certificate_file)
    chosen = choose_identity(folder, following)
    assert chosen.key.public_key == following
    assert chosen.certificate_file == folder.next_node_certificate_file


def test_a_node_that_the_ledger_does_not_know_yet_uses_its_present_key(folder: NodeFolder) -> None:
    assert choose_identity(folder, None).key_file == folder.node_key_file


def test_a_key_of_somebody_else_is_refused(folder: NodeFolder) -> None:
    with pytest.raises(ConfigError, match="this replica's key on the ledger"):
        choose_identity(folder, generate_signing_key().public_key)


def test_a_former_key_shows_that_the_folder_is_the_replicas(folder: NodeFolder) -> None:
    """After a rotation the ledger may be lost; the new one begins with the former key."""
    former = read_key_file(folder.node_key_file).public_key
    following = prepare_next(folder)
    shutil.move(folder.node_key_file, folder.node_key_file.with_name("node-former.pem"))
    shutil.move(folder.next_node_key_file, folder.node_key_file)
    assert choose_identity(folder, former).key.public_key == following


def test_a_next_key_without_its_certificate_is_told_at_the_check(folder: NodeFolder) -> None:
    prepare_next(folder)
    with pytest.raises(ConfigError, match=r"node-next\.pem"):
        check_node(load_node_settings(folder.settings_file, environment={}))
