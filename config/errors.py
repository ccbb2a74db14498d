"""What an operator got wrong. All of these are the operator's: the node does not start.

    ConfigError          a settings file, an environment variable or a node's folder
    ├── GenesisFileError   the genesis file
    └── NetworkFolderError a local network's folder

Every message names the file, the key, what was found, what was expected and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in a file."""

    key: str
    """Dotted path from the top of the file, `-` for the file as a whole."""
    found: str
    expected: str
    """Empty when `found` says it already."""

    def __str__(self) -> str:
        place = "" if self.key == "-" else f"{self.key}: "
        return f"{place}{self.found} found, {self.expected} expected" if self.expected else place + self.found


class ConfigError(Exception):
    """A file that an operator wrote cannot be used as it is."""

    def __init__(self, file: object, faults: tuple[Fault, ...], what_to_do: str) -> None:
        self.file = str(file)
        self.faults = faults
        self.what_to_do = what_to_do
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"{file}:{lines}\n  {what_to_do}" if len(faults) > 1 else self._one_line())

    def _one_line(self) -> str:
        return f"{self.file}: {self.faults[0]}; {self.what_to_do}"


class GenesisFileError(ConfigError):
    """The genesis file is malformed or contradicts itself."""


class NetworkFolderError(ConfigError):
    """The folder of a local network cannot be made or read."""
