"""A local network with fixed keys, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.local_network import LocalNetwork, create_local_network

SEED = b"seed of the tests"
TIME_MS = 1_800_000_000_000

Edit = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> LocalNetwork:
    directory = tmp_path_factory.mktemp("local") / "network"
    return create_local_network(directory, seed=SEED, time_ms=TIME_MS)


@pytest.fixture
def edit_settings(network: LocalNetwork, tmp_path: Path) -> Edit:
    """A copy of the first node's settings file with one piece of text exchanged."""

    def edit(old: str, new: str) -> Path:
        text = network.nodes[0].folder.settings_file.read_text()
        assert old in text
        path = tmp_path / "node.toml"
        path.write_text(text.replace(old, new, 1))
        return path

    return edit
