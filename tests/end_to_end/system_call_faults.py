"""Faults at system calls, injected by strace: an error instead of the call, or SIGKILL upon entering it.

A call is counted by each thread for itself; the writer thread of a daemon makes nearly all of its syncs.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from bench.processes import NodeProcess

KILL: Final = "signal=KILL"
SKIP: Final = "retval=0"
"""The call is not made, and is told to have been."""
INPUT_OUTPUT_ERROR: Final = "error=EIO"


def compute_prefix(call: str, fault: str, *, when: int | None = None) -> tuple[str, ...]:
    """The command prefix of a program that meets `fault` at the `when`-th `call` of a thread, or at each."""
    skip_without_strace()
    # The tracer is the program's grandchild (-D), so that signals for the program reach the program.
    return ("strace", "-D", *_compute_options(call, fault, when))


@contextmanager
def attach(node: NodeProcess, call: str, fault: str, *, path: Path) -> Iterator[None]:
    """The running daemon meets `fault` at its next `call` upon `path`."""
    skip_without_strace()
    options = _compute_options(call, fault, 1)
    command = ["strace", "-p", str(node.process_id), "-P", str(path), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        try:
            yield
        finally:
            tracer.terminate()


def list_open_files(node: NodeProcess, directory: Path, suffix: str) -> Sequence[Path]:
    """Files below `directory` that the daemon has open."""
    links = Path(f"/proc/{node.process_id}/fd").iterdir()
    paths = (link.resolve() for link in links)
    return sorted({path for path in paths if path.is_relative_to(directory) and path.suffix == suffix})


def _compute_options(call: str, fault: str, when: int | None) -> tuple[str, ...]:
    injection = f"inject={call}:{fault}" + ("" if when is None else f":when={when}")
    return ("-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", injection)


@cache
def _find_obstacle() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ("strace", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"),
        check=False,
        capture_output=True,
    )
    return "" if tried.returncode == 0 else f"strace does not work here: {tried.stderr.decode().strip()}"


def skip_without_strace() -> None:
    if obstacle := _find_obstacle():
        pytest.skip(obstacle)
