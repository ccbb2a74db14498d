"""Local networks: whole, closed to others, readable again, and consistent in every file."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError, NetworkFolderError
from config.genesis_file import read_genesis_file
from config.local_founders import LocalInstitution
from config.local_network import LocalNetwork, create_local_network, load_local_network
from config.local_ports import choose_free_ports
from config.node_check import check_node
from config.settings import load_node_settings
from consensus.journal import Journal
from ledger.genesis import Parameters
from network.certificates import read_certificate_key_pem


def test_a_network_is_read_back_as_it_was_made(network: LocalNetwork) -> None:
    assert load_local_network(network.directory) == network


def test_the_default_network_has_two_hospitals_a_primary_care_institution_and_a_regulator(
    network: LocalNetwork,
) -> None:
    assert [node.kind for node in network.nodes] == ["hospital", "hospital", "primary_care", "regulator"]
    genesis = read_genesis_file(network.genesis_file)
    assert [item.name for item in genesis.institutions] == [node.title for node in network.nodes]
    assert [item.gateway_url for item in genesis.institutions] == list(network.gateway_urls)
    assert genesis.compute_chain_id() == network.chain_id == bytes.fromhex(network.genesis_digest)


def test_every_node_folder_agrees_with_itself(network: LocalNetwork) -> None:
    for node in network.nodes:
        settings = load_node_settings(node.folder.settings_file, environment={})
        genesis = check_node(settings)
        assert genesis.compute_chain_id() == network.chain_id
        key = read_certificate_key_pem(node.folder.node_certificate_file.read_bytes())
        assert key == genesis.replica_set.get_public_key(node.replica)


def test_secrets_are_readable_by_their_owner_only(network: LocalNetwork) -> None:
    secrets = [network.directory / "ca" / "ca-key.pem"]
    for node in network.nodes:
        folder = node.folder
        secrets += [folder.node_key_file, folder.institution_key_file, folder.key_ring_file]
        secrets += [folder.gateway_key_file]
        assert stat.S_IMODE((folder.directory / "keys").stat().st_mode) == 0o700
        assert stat.S_IMODE((folder.directory / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_the_authoritys_key_is_in_no_node_folder(network: LocalNetwork) -> None:
    key = (network.directory / "ca" / "ca-key.pem").read_bytes()
    for node in network.nodes:
        assert key not in [path.read_bytes() for path in node.directory.rglob("*") if path.is_file()]


def test_p6_a_new_node_has_a_journal_and_need_not_keep_silent(network: LocalNetwork) -> None:
    for node in network.nodes:
        journal = Journal.open(node.folder.journal_directory)
        assert not journal.is_missing
        journal.close()


def test_one_seed_gives_one_ledger_and_no_seed_another_each_time(
    network: LocalNetwork, tmp_path: Path
) -> None:
    # Gateway ports are part of the genesis; here they are fixed.
    fixed: dict[str, Any] = {"base_port": 21_000, "time_ms": 1}
    made = [
        create_local_network(tmp_path / name, seed=seed, **fixed).chain_id
        for name, seed in (("a", b"s"), ("b", b"s"), ("c", b"t"), ("d", None), ("e", None))
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 4


@pytest.mark.parametrize("node_count", [1, 3, 7])
def test_a_network_can_have_another_number_of_nodes(tmp_path: Path, node_count: int) -> None:
    network = create_local_network(tmp_path / "network", node_count=node_count)
    assert [node.replica for node in network.nodes] == list(range(node_count))
    assert len({node.name for node in network.nodes}) == node_count
    ports = [port for node in network.nodes for port in (node.link_port, node.gateway_port)]
    assert len(set(ports)) == 2 * node_count
    for node in network.nodes:
        check_node(load_node_settings(node.folder.settings_file, environment={}))


def test_ports_parameters_and_institutions_can_be_chosen(tmp_path: Path) -> None:
    network = create_local_network(
        tmp_path / "network",
        base_port=23_000,
        parameters=Parameters(state_buckets_log2=8, blocks_per_primary=5),
        institutions=[LocalInstitution(name="only", title="The Only One", kind="hospital")],
    )
    (node,) = network.nodes
    assert (node.link_port, node.gateway_port) == (23_000, 23_001)
    assert read_genesis_file(network.genesis_file).parameters.blocks_per_primary == 5
    assert network.get_node("only") == node
    with pytest.raises(NetworkFolderError, match="no node other found, one of only expected"):
        network.get_node("other")


def test_nodes_can_have_addresses_of_their_own(tmp_path: Path) -> None:
    hosts = ["10.0.0.1", "10.0.0.2"]
    made = create_local_network(tmp_path / "network", node_count=2, base_port=23_000, hosts=hosts)
    assert [node.host for node in load_local_network(made.directory).nodes] == hosts
    settings = load_node_settings(made.nodes[0].folder.settings_file, environment={})
    assert (settings.node.link_host, settings.gateway.host) == ("10.0.0.1", "10.0.0.1")
    assert [(peer.host, peer.port) for peer in settings.peers] == [("10.0.0.2", 23_001)]
    assert made.nodes[1].gateway_url == "https://10.0.0.2:23003"
    check_node(settings)


@pytest.mark.parametrize(
    "arguments",
    [
        {"node_count": 0},
        {"node_count": 101},
        {"base_port": 0},
        {"base_port": 65_535},
        {"hosts": ["10.0.0.1"]},
        {"institutions": [LocalInstitution(name='a"b', title="A", kind="hospital")]},
        {"institutions": [LocalInstitution(name="../a", title="A", kind="hospital")]},
        {"institutions": [LocalInstitution(name="a", title="A", kind="hospital")] * 2},
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(tmp_path: Path, arguments: Any) -> None:
    with pytest.raises(NetworkFolderError):
        create_local_network(tmp_path / "network", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "something").write_text("precious")
    with pytest.raises(NetworkFolderError, match="an absent or empty folder expected"):
        create_local_network(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"format_version": 2}, "format_version"),
        ({"genesis_digest": "00"}, "genesis_digest"),
        ({"x": 1}, "-"),
        ({"nodes": 1}, "-"),
    ],
)
def test_a_damaged_network_file_is_refused(
    network: LocalNetwork, tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    document = json.loads((network.directory / "network.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(NetworkFolderError) as refused:
        load_local_network(tmp_path)
    assert refused.value.faults[0].key == key


def test_a_folder_without_a_network_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NetworkFolderError, match="chartchain network init"):
        load_local_network(tmp_path)


def test_free_ports_are_free_distinct_and_below_the_range_of_passing_connections() -> None:
    ports = choose_free_ports("127.0.0.1", 20)
    assert len(set(ports)) == 20
    assert max(ports) < 32_768
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("config.local_ports.FIRST_PORT", port)
        monkeypatch.setattr("config.local_ports.LAST_PORT", port + 1)
        with pytest.raises(OSError, match="0 free ports found"):
            choose_free_ports("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("swap", "text"),
    [
        ("keys/node.pem", "key in the genesis"),
        ("tls/node.pem", "the node's own key"),
        ("tls/gateway.pem as tls/node.pem", "Ed25519"),
        ("node.toml", "which runs replica"),
    ],
)
def test_a_folder_with_another_nodes_file_does_not_start(tmp_path: Path, swap: str, text: str) -> None:
    network = create_local_network(tmp_path / "network")
    first, second = (node.directory for node in network.nodes[:2])
    source, _, target = swap.partition(" as ")
    data = (second / source).read_bytes()
    if swap == "node.toml":
        data = data.replace(
            network.nodes[1].institution.hex().encode(), network.nodes[2].institution.hex().encode()
        )
        first = second
    (first / (target or source)).write_bytes(data)
    with pytest.raises(ConfigError, match=text):
        check_node(load_node_settings(first / "node.toml", environment={}))


@pytest.mark.parametrize(
    "name", ["keys/vault.json", "tls/ca.pem", "tls/gateway.pem", "tls/gateway-key.pem", "keys/node.pem"]
)
@pytest.mark.parametrize("content", [None, b"garbage"])
def test_a_file_that_is_absent_or_garbage_is_named_before_anything_is_opened(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    directory = create_local_network(tmp_path / "network", node_count=1).nodes[0].directory
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        check_node(load_node_settings(directory / "node.toml", environment={}))


def test_a_gateway_key_of_another_certificate_keeps_the_node_from_starting(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network", node_count=2)
    first, second = (node.folder for node in network.nodes)
    first.gateway_key_file.write_bytes(second.gateway_key_file.read_bytes())
    with pytest.raises(ConfigError, match="the key that it is for"):
        check_node(load_node_settings(first.settings_file, environment={}))


def test_a_key_file_that_others_may_read_keeps_the_node_from_starting(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network", node_count=1)
    folder = network.nodes[0].folder
    folder.institution_key_file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        check_node(load_node_settings(folder.settings_file, environment={}))


def test_a_peer_without_an_address_keeps_the_node_from_starting(tmp_path: Path) -> None:
    network = create_local_network(tmp_path / "network")
    path = network.nodes[0].folder.settings_file
    path.write_text(path.read_text().rsplit("[[peers]]", 1)[0])
    with pytest.raises(ConfigError, match=r"no address of replicas \[3\]"):
        check_node(load_node_settings(path, environment={}))
