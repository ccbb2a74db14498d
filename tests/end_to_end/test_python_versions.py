"""Nodes on Python 3.11 and 3.12 in one network: the same transactions, the same roots at every height."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import LocalProcesses
from config.local_network import create_local_network
from ledger.genesis import Parameters
from tests.end_to_end.clients import open_clients
from tests.end_to_end.ledger_audit import stop_and_audit
from tests.end_to_end.traffic import run_traffic

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
OTHER = "3.12" if sys.version_info[:2] == (3, 11) else "3.11"
VARIABLE = "OTHER_PYTHON"
"""Where the other interpreter is, unless `python3.12` (`python3.11`) is on the path or installed by pyenv."""


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """An environment of the other version with this project in it."""
    interpreter = next(filter(runs, list_interpreters()), None)
    if interpreter is None:
        pytest.skip(f"no Python {OTHER}: put python{OTHER} on the path, or name it by {VARIABLE}")
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    for command in (
        [interpreter, "-m", "venv", str(environment)],
        [str(python), "-m", "pip", "install", "-q", "-e", str(ROOT)],
    ):
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"not to be had for Python {OTHER}: {done.stderr.decode()[-300:]}")
    return python


def list_interpreters() -> list[str]:
    """Where it may be: a name on the path may lead nowhere, as pyenv's does unless that version is chosen."""
    named = (os.environ.get(VARIABLE), shutil.which(f"python{OTHER}"))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [*filter(None, named), *map(str, sorted(pyenv.glob(f"versions/{OTHER}.*/bin/python3")))]


def runs(interpreter: str) -> bool:
    """Whether it is the version wanted."""
    shown = subprocess.run([interpreter, "--version"], check=False, capture_output=True)
    return shown.returncode == 0 and f"Python {OTHER}".encode() in shown.stdout


async def test_rule_E2_python_3_11_and_3_12_in_one_network_have_the_same_roots(
    tmp_path: Path, other_python: Path
) -> None:
    parameters = Parameters(state_buckets_log2=8, blocks_per_primary=5)
    network = create_local_network(tmp_path / "network", parameters=parameters)
    with LocalProcesses.of_network(network) as processes:
        for node in processes.nodes[2:]:
            node.python = other_python
        processes.start()
        await processes.wait_ready()
        versions = {read_version(node.process_id) for node in processes.nodes}
        assert len(versions) == 2
        async with open_clients(network) as clients, run_traffic(clients) as traffic:
            await traffic.wait_progress(60)
        audit = await stop_and_audit(network, processes, traffic)
    assert audit.height > 4 * 5, "every node has been primary"


def read_version(process_id: int) -> str:
    """The library that a process has loaded says which Python it runs."""
    maps = Path(f"/proc/{process_id}/maps").read_text()
    return next(version for version in ("3.11", "3.12") if f"python{version}/" in maps)
