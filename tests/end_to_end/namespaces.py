"""Network namespaces: every node behind an interface of its own, and faults on the wire between them.

A bridge lives in a namespace of its own, so nothing here touches the machine's own network, and several tests
at once do not meet. Addresses are 10.77.0.1 for the first node and so on; clients are at 10.77.0.250.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bench.processes import LocalProcesses

CLIENTS_HOST: Final = "10.77.0.250"
_CLONE_NEWNET: Final = 0x40000000
_TOOLS: Final = ("ip", "tc", "iptables-legacy")
_numbers = itertools.count()


class NodeNamespaces:
    """Namespaces for `count` nodes and for clients; leaving the context removes them with all faults."""

    def __init__(self, count: int) -> None:
        prefix = f"chart-{os.getpid()}-{next(_numbers)}"
        self._bridge = f"{prefix}-bridge"
        self._clients = f"{prefix}-clients"
        self._nodes = tuple(f"{prefix}-{number}" for number in range(count))
        self.hosts = tuple(f"10.77.0.{number + 1}" for number in range(count))

    def __enter__(self) -> NodeNamespaces:
        skip_without_tools()
        try:
            for name in (self._bridge, self._clients, *self._nodes):
                run("ip", "netns", "add", name)
            self._in(self._bridge, "ip", "link", "add", "bridge", "type", "bridge")
            self._in(self._bridge, "ip", "link", "set", "bridge", "up")
            for name, host in zip((self._clients, *self._nodes), (CLIENTS_HOST, *self.hosts), strict=True):
                self._join(name, host)
        except subprocess.CalledProcessError as error:
            self.remove()
            pytest.skip(f"network namespaces do not work here: {error.stderr.decode().strip()}")
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def place(self, processes: LocalProcesses) -> None:
        """Each daemon will be started in its own namespace."""
        for node, name in zip(processes.nodes, self._nodes, strict=True):
            node.command_prefix = ("ip", "netns", "exec", name)

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """Sockets that this thread opens are in the clients' namespace."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path(f"/run/netns/{self._clients}").open("rb") as clients,
        ):
            _set_namespace(clients.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def partition(self, *groups: Sequence[int]) -> None:
        """Nodes of different groups do not hear each other; clients reach all of them."""
        for group in groups:
            for other in groups:
                if other is not group:
                    for receiver, sender in itertools.product(group, other):
                        self.drop(receiver, sender)

    def drop(self, receiver: int, sender: int) -> None:
        """One way: `receiver` hears nothing of `sender`, who still hears it."""
        self._filter(receiver, "-s", self.hosts[sender])

    def lose(self, share: float) -> None:
        """Every node loses this share of the packets from other nodes, at random."""
        for receiver in range(len(self._nodes)):
            for host in self.hosts:
                self._filter(
                    receiver, "-s", host, "-m", "statistic", "--mode", "random", "--probability", str(share)
                )

    def limit_rate(self, kbit_per_second: int) -> None:
        """Each node sends at most so much, to nodes and clients together."""
        for name in self._nodes:
            rate = ("rate", f"{kbit_per_second}kbit", "burst", "16kb", "latency", "400ms")
            self._in(name, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *rate)

    def heal(self) -> None:
        """No fault any more."""
        for name in self._nodes:
            self._in(name, "iptables-legacy", "-F", "INPUT")
            subprocess.run(
                ("ip", "netns", "exec", name, "tc", "qdisc", "del", "dev", "eth0", "root"),
                check=False,
                capture_output=True,
            )

    def remove(self) -> None:
        for name in (self._bridge, self._clients, *self._nodes):
            subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)

    def _join(self, name: str, host: str) -> None:
        port = f"port{host.rpartition('.')[2]}"
        ends = ("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._in(self._bridge, "ip", *ends)
        self._in(self._bridge, "ip", "link", "set", port, "master", "bridge", "up")
        self._in(name, "ip", "address", "add", f"{host}/24", "dev", "eth0")
        self._in(name, "ip", "link", "set", "eth0", "up")
        self._in(name, "ip", "link", "set", "lo", "up")

    def _filter(self, receiver: int, *match: str) -> None:
        self._in(self._nodes[receiver], "iptables-legacy", "-A", "INPUT", *match, "-j", "DROP")

    def _in(self, name: str, *command: str) -> None:
        run("ip", "netns", "exec", name, *command)


def skip_without_tools() -> None:
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def run(*command: str) -> None:
    """Raises CalledProcessError."""
    subprocess.run(command, check=True, capture_output=True)


def _set_namespace(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
