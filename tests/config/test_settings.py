"""Settings: what is unknown, of a wrong type or contradictory is refused by file, key, found, expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError
from config.local_network import LocalNetwork
from config.settings import NodeSettings, compute_replica_settings, load_node_settings
from consensus.settings import ReplicaSettings
from ledger.genesis import Parameters
from ledger.settings import LedgerSettings

ROOT = Path(__file__).parents[2]


def load(path: Path, **environment: str) -> NodeSettings:
    return load_node_settings(path, environment=environment)


def test_a_generated_file_is_read_and_the_rest_keeps_its_defaults(network: LocalNetwork) -> None:
    node = network.nodes[0]
    settings = load(node.folder.settings_file)
    assert settings.node.replica == 0
    assert settings.node.institution == node.institution
    assert settings.gateway.port == node.gateway_port
    assert settings.ledger == LedgerSettings()
    assert settings.folder == node.folder
    assert [(peer.replica, peer.port) for peer in settings.peers] == [
        (peer.replica, peer.link_port) for peer in network.nodes[1:]
    ]


Case = tuple[str, str, str, str]
"""Text of the file, text put in its place, the key of the fault, what the message says."""

GATEWAY = '[gateway]\nhost = "127.0.0.1"\n'


def add(section: str, line: str, key: str, expected: str) -> Case:
    """A section more in the file."""
    return (GATEWAY, f"[{section}]\n{line}\n{GATEWAY}", f"{section}.{key}".strip("."), expected)


REFUSED: dict[str, Case] = {
    "unknown key": ("replica = 0", "replica = 0\nreplcia = 1", "node.replcia", "replica expected"),
    "unknown section": (GATEWAY, f"[gatewy]\nx = 1\n{GATEWAY}", "gatewy", "gateway expected"),
    "text for a number": ("replica = 0", 'replica = "0"', "node.replica", "an integer expected"),
    "truth for a number": ("replica = 0", "replica = true", "node.replica", "an integer expected"),
    "fraction for a number": ("replica = 0", "replica = 0.0", "node.replica", "an integer expected"),
    "number for text": ('name = "childrens-hospital"', "name = 1", "node.name", "text expected"),
    "nothing": ('name = "childrens-hospital"', "", "node.name", "a value expected"),
    "value for a section": ("# A node", "driver = 1\n# A node", "driver", "a table expected"),
    "no port": (GATEWAY + "port = ", GATEWAY + "port = 7", "gateway.port", "at most 65535"),
    "negative": add("driver", "peer_messages_max = -1", "peer_messages_max", "at least 1"),
    "beyond its own range": (
        GATEWAY,
        f"{GATEWAY}token_seconds = 10000\n",
        "gateway",
        "gateway: token_seconds: 10000 found, 1 to 900 expected; ",
    ),
    "own peer": ("replica = 1", "replica = 0", "-", "peers: replica 0 is this node itself; "),
    "bound of nothing": add("driver", "peer_messages_max = 0", "peer_messages_max", "at least 1"),
    "answers too small for a snapshot": add(
        "network.fetch",
        "answer_bytes_max = 131071",
        "answer_bytes_max",
        "131071 found, at least 131072 expected",
    ),
    "beyond 2^53": add("driver", f"peer_bytes_max = {2**60}", "peer_bytes_max", "at most"),
    "nested unknown": add("ledger.mempool", "bytes_mx = 1", "bytes_mx", "bytes_max expected"),
    "what the genesis fixes": add("consensus", "blocks_per_primary = 1", "blocks_per_primary", "unknown key"),
    "timeouts that grow too long": add(
        "consensus",
        "view_timeout_ms_max = 10001",
        "view_timeout_ms_max",
        "10001 found, at most 10000 expected",
    ),
    "contradiction": add("consensus", "view_timeout_ms = 20000", "", "view_timeout_ms_max is below"),
    "frames too small": (
        GATEWAY,
        f"[network.links]\nframe_bytes_max = 100000\n{GATEWAY}",
        "network",
        "for the largest message",
    ),
    "too many in a frame": (
        GATEWAY,
        f"[network.relay]\nbatch_transactions_max = 9999\n{GATEWAY}",
        "network",
        "one frame",
    ),
    "no such level": add("log", 'level = "loud"', "level", "'debug'"),
    "short id": ('institution = "', 'institution = "00', "node", "16 expected"),
    "no id": ('institution = "', 'institution = "zz', "node.institution", "hexadecimal"),
    "peer is myself": ("replica = 1\n", "replica = 0\n", "-", "this node itself"),
    "peer twice": ("replica = 1\n", "replica = 2\n", "-", "each once"),
    "peer with an unknown key": ("replica = 1\n", "replica = 1\nprt = 1\n", "peers.0.prt", "port expected"),
    "peer without an id": ("replica = 1\n", "", "peers.0.replica", "a value expected"),
    "beyond what can be shown": add(
        "driver", f"peer_bytes_max = 0x{'f' * 5_000}", "peer_bytes_max", "at most"
    ),
    "not TOML": ("[gateway]", "[gateway", "-", "TOML"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_wrong_is_refused_with_file_key_found_and_expected(edit_settings: Any, name: str) -> None:
    old, new, key, expected = REFUSED[name]
    path = edit_settings(old, new)
    with pytest.raises(ConfigError) as refused:
        load(path)
    message = str(refused.value)
    assert str(path) in message
    assert key in [fault.key for fault in refused.value.faults]
    assert expected in message
    assert "docs/settings.md" in message


def test_every_fault_is_told_at_once(edit_settings: Any) -> None:
    path = edit_settings(GATEWAY, "[log]\nlevel = 1\n[driver]\nx = 1\n[gateway]\nhost = 1\n")
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert {fault.key for fault in refused.value.faults} >= {"log.level", "driver.x", "gateway.host"}


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml: No such file"):
        load(tmp_path / "node.toml")


def test_the_environment_overrides_the_file(network: LocalNetwork) -> None:
    settings = load(
        network.nodes[0].folder.settings_file,
        CHARTCHAIN_LEDGER__MEMPOOL__TRANSACTIONS_MAX="7",
        CHARTCHAIN_GATEWAY__HOST="0.0.0.0",
        CHARTCHAIN_LOG__LEVEL='"debug"',
        CHARTCHAIN_HOME="not a setting",
        HOME="/",
    )
    assert settings.ledger.mempool.transactions_max == 7
    assert settings.gateway.host == "0.0.0.0"
    assert settings.log.level == "debug"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHARTCHAIN_LEDGER__MEMPOOL__TRANSACTION_MAX", "7"),
        ("CHARTCHAIN_LEDGER__MEMPOOL__TRANSACTIONS_MAX", "seven"),
        ("CHARTCHAIN_LEDGER__MEMPOOL__TRANSACTIONS_MAX", "7\nx = 1"),
        ("CHARTCHAIN_LEDGER__MEMPOOL__TRANSACTIONS_MAX", "[" * 100_000),
        ("CHARTCHAIN_NODE__NAME__FIRST", "x"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(network: LocalNetwork, variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load(network.nodes[0].folder.settings_file, **{variable: value})


def test_what_the_genesis_fixes_reaches_the_replica() -> None:
    parameters = Parameters(blocks_per_primary=7, idle_block_interval_ms=8, clock_tolerance_ms=9)
    settings = compute_replica_settings(ReplicaSettings(view_timeout_ms=123), parameters)
    assert settings.blocks_per_primary == 7
    assert settings.idle_block_interval_ms == 8
    assert settings.clock_tolerance_ms == 9
    assert settings.view_timeout_ms == 123


def test_the_sample_shows_the_defaults_and_nothing_else(tmp_path: Path) -> None:
    sample = load(ROOT / "config" / "samples" / "node.toml")
    bare = tmp_path / "node.toml"
    text = (ROOT / "config" / "samples" / "node.toml").read_text()
    bare.write_text(text.split("# Where clients reach", 1)[0])
    expected = load(bare)
    for name in ("node", "peers", "network", "consensus", "driver", "ledger", "vault", "gateway", "log"):
        assert getattr(sample, name) == getattr(expected, name), name
