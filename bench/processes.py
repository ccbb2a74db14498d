"""A local network as real processes: start, wait until ready, kill, start again, stop.

Every daemon is started with a pipe as its standard input and told to stop when that pipe closes, so no daemon
outlives the process that started it, however that process ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import aiohttp

from config.local_network import LocalNetwork

START_TIMEOUT_SECONDS: Final = 45.0
STOP_TIMEOUT_SECONDS: Final = 15.0
LOG_TAIL_BYTES: Final = 2_000
EXEC_LOOKS_MAX: Final = 200


class ProcessFailed(Exception):
    """A daemon did not start or ended by itself; the message ends with the last lines of its log."""


@dataclass(slots=True)
class NodeProcess:
    """One daemon: its folder, its gateway, and its process while it runs."""

    name: str
    directory: Path
    gateway_url: str
    command_prefix: tuple[str, ...] = ()
    """Put before the daemon's command, such as `ip netns exec NAME`; it must become the daemon by exec."""
    python: Path = Path(sys.executable)
    """The interpreter that runs the daemon."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def process_id(self) -> int:
        if self.process is None:
            raise ProcessFailed(f"{self.name} is not running: start it first")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log_path(self) -> Path:
        return self.directory / "log" / "node.log"

    def start(self) -> None:
        """Start the daemon; returns at once. Its output goes to `log/node.log`."""
        if self.is_running:
            return
        self.stop()  # Lets go of what is left of a process that ended by itself.
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = self._spawn(log)

    def kill(self) -> None:
        """SIGKILL: the process gets no chance to finish anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it has not ended after STOP_TIMEOUT_SECONDS."""
        self._end(signal.SIGTERM)

    def read_log_tail(self) -> str:
        """The last lines that the daemon wrote."""
        try:
            data = self.log_path.read_bytes()
        except OSError:
            return ""
        return data[-LOG_TAIL_BYTES:].decode(errors="replace")

    def check_running(self) -> None:
        """Raises ProcessFailed when the daemon has ended by itself."""
        if not self.is_running:
            code = "not started" if self.process is None else f"exit code {self.process.returncode}"
            raise ProcessFailed(f"{self.name} ended ({code}); its log says:\n{self.read_log_tail()}")

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """The daemon as a child process that ends when we do."""
        daemon = [str(self.python), "-m", "node", "--config", str(self.directory / "node.toml")]
        command = [*self.command_prefix, *daemon, "--stop-with-stdin"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


@dataclass(frozen=True, slots=True)
class DaemonFile:
    """`daemon.pid` in a node's folder: the daemon that was started there and left running."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / "daemon.pid"

    def start(self) -> None:
        """Start the daemon so that it outlives us; its output goes to `log/node.log`."""
        log_path = self.directory / "log" / "node.log"
        log_path.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "node", "--config", str(self.directory / "node.toml")]
        with log_path.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            process_id = os.posix_spawn(
                sys.executable,
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                ],
                setsid=True,
            )
        self.path.write_text(f"{process_id}\n")

    def get_process_id(self) -> int | None:
        """The running daemon's process id; None when it has ended. A number that another took is not it."""
        try:
            process_id = int(self.path.read_text())
            command = _read_command(process_id)
        except (OSError, ValueError):
            return None
        return process_id if str(self.directory).encode() in command else None


def _read_command(process_id: int) -> bytes:
    """The process's command line; nothing of one that has ended. Raises OSError when there is none.

    A process that is just being replaced by its program shows none for a moment: it is looked at again.
    """
    command = b""
    for _ in range(EXEC_LOOKS_MAX):
        command = Path(f"/proc/{process_id}/cmdline").read_bytes()
        if command or _has_ended(process_id):
            break
        time.sleep(0.001)
    return command


def _has_ended(process_id: int) -> bool:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


class LocalProcesses:
    """The daemons of one local network; leaving the context stops them all."""

    def __init__(self, nodes: Sequence[NodeProcess], ca_file: Path) -> None:
        self.nodes = tuple(nodes)
        self.ca_file = ca_file

    @classmethod
    def of_network(cls, network: LocalNetwork) -> Self:
        """The daemons of a local network's folder, none of them started."""
        nodes = [
            NodeProcess(name=node.name, directory=node.directory, gateway_url=node.gateway_url)
            for node in network.nodes
        ]
        return cls(nodes, network.ca_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process_ids(self) -> tuple[int, ...]:
        return tuple(node.process_id for node in self.nodes if node.is_running)

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        """Ask all to stop at once, then wait for each."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop()

    async def wait_ready(
        self, timeout_seconds: float = START_TIMEOUT_SECONDS, *, is_child: bool = True
    ) -> None:
        """Return when every node answers /readyz with 200. Raises ProcessFailed otherwise.

        A daemon that has ended is noticed at once: by its process with `is_child`, else by its `DaemonFile`.
        """
        deadline = time.monotonic() + timeout_seconds
        context = ssl.create_default_context(cafile=str(self.ca_file))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            for node in self.nodes:
                answer = "no answer"
                while answer != "ready":
                    if is_child:
                        node.check_running()
                    elif DaemonFile(node.directory).get_process_id() is None:
                        raise ProcessFailed(f"{node.name} has ended; its log says:\n{node.read_log_tail()}")
                    if time.monotonic() > deadline:
                        raise ProcessFailed(
                            f"{node.name} at {node.gateway_url} is not ready after {timeout_seconds:.0f} s "
                            f"({answer}); its log says:\n{node.read_log_tail()}"
                        )
                    answer = await _ask_ready(session, node.gateway_url)
                    if answer != "ready":
                        await asyncio.sleep(0.05)


async def _ask_ready(session: aiohttp.ClientSession, gateway_url: str) -> str:
    """`ready`, or why not."""
    try:
        async with session.get(f"{gateway_url}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as response:
            return "ready" if response.status == 200 else await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        return str(error) or type(error).__name__
