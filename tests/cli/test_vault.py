"""Keys are rotated and records erased on the folder of a node that does not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from config.local_network import LocalNode, create_local_network
from vault.errors import RecordErased
from vault.key_ring import KeyRing
from vault.vault import Vault

CONTENT = b'{"resourceType": "Observation"}'


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["node", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def node(tmp_path: Path) -> LocalNode:
    return create_local_network(tmp_path / "net", node_count=1).nodes[0]


@pytest.fixture
def open_vault(node: LocalNode) -> Callable[[], Vault]:
    return lambda: Vault.open(
        node.folder.vault_directory,
        holder=node.institution,
        key_ring=KeyRing.open(node.folder.key_ring_file),
    )


@pytest.fixture
def record(open_vault: Callable[[], Vault]) -> str:
    with closing(open_vault()) as vault:
        stored = vault.store(
            alias=b"a" * 16,
            record_class="laboratory_reports",
            media_type="application/fhir+json",
            content=CONTENT,
            source="test",
        )
        return stored.leaf.record.hex()


def test_rotated_keys_open_the_same_records(
    node: LocalNode, record: str, open_vault: Callable[[], Vault]
) -> None:
    before = KeyRing.open(node.folder.key_ring_file).key_ids
    result = run("rotate-keys", node.directory, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rewrapped_rows"] > 0
    assert not set(before) & set(KeyRing.open(node.folder.key_ring_file).key_ids)
    with closing(open_vault()) as vault:
        assert vault.read(bytes.fromhex(record)).content == CONTENT


def test_a_record_is_erased_only_when_told_that_it_is_meant(
    node: LocalNode, record: str, open_vault: Callable[[], Vault]
) -> None:
    looked = run("erase-record", node.directory, record, "--json")
    assert looked.exit_code == 1
    assert json.loads(looked.stdout)["erased"] is False
    assert "--yes" in looked.stderr
    with closing(open_vault()) as vault:
        assert vault.read(bytes.fromhex(record)).content == CONTENT
    erased = run("erase-record", node.directory, record, "--yes", "--json")
    assert erased.exit_code == 0, erased.output
    assert json.loads(erased.stdout)["erased"] is True
    with closing(open_vault()) as vault, pytest.raises(RecordErased):
        vault.read(bytes.fromhex(record))
    again = run("erase-record", node.directory, record, "--yes")
    assert again.exit_code == 1
    assert record in again.stderr


def test_the_vault_of_a_running_node_is_left_alone(
    node: LocalNode, record: str, open_vault: Callable[[], Vault]
) -> None:
    with closing(open_vault()):
        for words in (("rotate-keys", node.directory), ("erase-record", node.directory, record, "--yes")):
            result = run(*words)
            assert result.exit_code == 1
            assert "stop it first" in result.stderr


def test_an_id_out_of_form_is_wrong_usage(node: LocalNode) -> None:
    assert run("erase-record", node.directory, "12").exit_code == 2
