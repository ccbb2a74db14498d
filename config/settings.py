"""The settings of a node, gathered from the rooms that own them.

`node.toml` says who the node is and where its peers are; everything else has a default that serves. An
environment variable `CHARTCHAIN_SECTION__KEY` overrides the file, with a TOML value or plain text. What is
unknown, of a wrong type or contradictory keeps the node from starting, with file, key, found and expected.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from config.errors import ConfigError, Fault
from config.node_folder import NodeFolder
from config.settings_model import SettingsRefused, build_settings
from consensus.driver import DriverSettings
from consensus.journal import JournalSettings
from consensus.settings import ReplicaSettings
from gateway.settings import GatewaySettings
from ledger.genesis import Parameters
from ledger.settings import LedgerSettings, SnapshotSettings
from network.ledger_application import LedgerApplicationSettings
from network.settings import NetworkSettings
from vault.settings import VaultSettings

FILE_BYTES_MAX: Final = 1_048_576
ENVIRONMENT_PREFIX: Final = "CHARTCHAIN_"
ENVIRONMENT_SEPARATOR: Final = "__"
_ADVICE: Final = "mend it; docs/settings.md lists every setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Who the node is, and where it accepts links."""

    name: str
    """For logs and people; letters, digits, dots and hyphens."""
    replica: int
    """The node's id in the replica set."""
    institution: bytes
    """The institution's id on the ledger: 16 bytes in hexadecimal."""
    link_host: str = "127.0.0.1"
    """Address on which links of other nodes are accepted."""
    link_port: int = 7443
    """Port on which links of other nodes are accepted."""

    def __post_init__(self) -> None:
        if len(self.institution) != 16:
            raise ValueError(f"institution: {len(self.institution)} bytes, 16 expected")
        if not 0 <= self.replica <= 65_535:
            raise ValueError(f"replica: {self.replica}, 0 to 65535 expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """Another node of the consortium."""

    replica: int
    """Its id in the replica set."""
    host: str
    """Address or name at which it accepts links."""
    port: int
    """Port at which it accepts links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the node writes about its work; ids and digests only."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least urgent kind of line that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """Everything that may stand in `node.toml`."""

    node: IdentitySettings
    """Who the node is."""
    peers: tuple[PeerSettings, ...] = ()
    """The other nodes."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """Links, relay and fetching."""
    consensus: ReplicaSettings = field(default_factory=ReplicaSettings)
    """The replica's patience."""
    driver: DriverSettings = field(default_factory=DriverSettings)
    """What waits for the replica."""
    journal: JournalSettings = field(default_factory=JournalSettings)
    """The journal's files."""
    application: LedgerApplicationSettings = field(default_factory=LedgerApplicationSettings)
    """Proposals kept at hand."""
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    """The ledger's memory and database."""
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    """Snapshots for nodes that join, and pruning."""
    vault: VaultSettings = field(default_factory=VaultSettings)
    """The vault's bounds."""
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    """The HTTP gateway."""
    log: LogSettings = field(default_factory=LogSettings)
    """The log."""

    def __post_init__(self) -> None:
        replicas = [peer.replica for peer in self.peers]
        if len(set(replicas)) != len(replicas):
            raise ValueError(f"peers: replicas {sorted(replicas)}, each once expected")
        if self.node.replica in replicas:
            raise ValueError(f"peers: replica {self.node.replica} is this node itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings(FileSettings):
    """A node's settings together with its folder."""

    folder: NodeFolder
    """Where `node.toml` lies, and with it everything else."""


def load_node_settings(path: Path, *, environment: Mapping[str, str] | None = None) -> NodeSettings:
    """Read `node.toml` and the environment. Raises ConfigError: file, key, found, expected."""
    values = _read_toml(path)
    overridden = _override(path, values, os.environ if environment is None else environment)
    try:
        settings: FileSettings = build_settings(FileSettings, values)
    except SettingsRefused as error:
        faults = tuple(_name_source(fault, overridden) for fault in error.faults)
        raise ConfigError(path, faults, _ADVICE) from error
    fields = {part.name: getattr(settings, part.name) for part in dataclasses.fields(settings)}
    return NodeSettings(folder=NodeFolder(path.resolve().parent), **fields)


def compute_replica_settings(settings: ReplicaSettings, parameters: Parameters) -> ReplicaSettings:
    """The replica's settings with what the genesis fixes for all nodes."""
    return dataclasses.replace(
        settings,
        blocks_per_primary=parameters.blocks_per_primary,
        idle_block_interval_ms=parameters.idle_block_interval_ms,
        clock_tolerance_ms=parameters.clock_tolerance_ms,
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _refuse(path, str(error.strerror), "a readable file") from error
    if len(data) > FILE_BYTES_MAX:
        raise _refuse(path, f"more than {FILE_BYTES_MAX} bytes", "a settings file")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _refuse(path, str(error), "TOML in UTF-8") from error


def _override(path: Path, values: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Put the environment's settings into `values`; the variable's name by dotted key."""
    names: dict[str, str] = {}
    for variable in sorted(environment):
        steps = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split(ENVIRONMENT_SEPARATOR)
        if not variable.startswith(ENVIRONMENT_PREFIX) or len(steps) < 2:
            continue
        table = values
        for step in steps[:-1]:
            table = table.setdefault(step, {})
            if not isinstance(table, dict):
                fault = Fault(key=variable, found="a plain value or list in the file", expected="a table")
                raise ConfigError(path, (fault,), _ADVICE)
        table[steps[-1]] = _parse(environment[variable])
        names[".".join(steps)] = variable
    return names


def _parse(text: str) -> Any:
    """A TOML value where the text is one, otherwise the text itself."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text


def _name_source(fault: Fault, overridden: Mapping[str, str]) -> Fault:
    variable = overridden.get(fault.key)
    if variable is None:
        return fault
    return dataclasses.replace(fault, key=f"{fault.key} (from the environment's {variable})")


def _refuse(path: Path, found: str, expected: str) -> ConfigError:
    return ConfigError(path, (Fault(key="-", found=found, expected=expected),), _ADVICE)
