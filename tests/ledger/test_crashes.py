"""Whatever was acknowledged is there after a crash or a full disk, and the ledger opens again and goes on."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("replay.py")


def start(directory: Path, file_bytes_max: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(directory), str(file_bytes_max)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("replay", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_reopened(program: ModuleType, directory: Path, acknowledged: int) -> None:
    """The last acknowledged block is there, at most one more, whole, and the next can be committed."""
    chain = program.Chain.open(directory, program.build_genesis())
    try:
        height = chain.head.height
        assert acknowledged <= height <= acknowledged + 1
        assert chain.head.header.history_size == 50 * height
        for number in range(1, height + 1):
            assert len(chain.archive.get_receipts(number)) == 50
        program.commit(chain, [program.build_member(chain)])
        assert chain.head.height == height + 1
    finally:
        chain.close()


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 4, 13])
def test_P4_SIGKILL_loses_nothing_that_was_acknowledged(
    program: ModuleType, tmp_path: Path, killed_after: int
) -> None:
    process = start(tmp_path, 0)
    assert process.stdout is not None
    for _ in range(killed_after):
        process.stdout.readline()
    process.kill()
    rest, _ = process.communicate(timeout=30)
    check_reopened(program, tmp_path, killed_after + len(rest.split()))


@pytest.mark.slow
@pytest.mark.parametrize("file_bytes_max", [60_000, 100_001, 333_333])
def test_P7_a_write_that_fails_ends_the_store_and_loses_nothing_acknowledged(
    program: ModuleType, tmp_path: Path, file_bytes_max: int
) -> None:
    process = start(tmp_path, file_bytes_max)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    heights = [int(line) for line in output.split() if line != "refused"]
    assert heights
    assert output.split()[-3:] == ["refused"] * 3
    check_reopened(program, tmp_path, heights[-1])
