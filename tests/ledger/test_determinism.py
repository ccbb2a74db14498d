"""Replicas under other hash seeds, time zones and locales find the same results (rule E2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SURROUNDINGS = (
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Shanghai", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "424242", "TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8", "PYTHONOPTIMIZE": "1"},
)


def replay(surroundings: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("replay.py"))],
        cwd=ROOT,
        env=os.environ | surroundings | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.slow
def test_E2_replicas_in_other_surroundings_find_the_same_blocks() -> None:
    first, *others = (replay(surroundings) for surroundings in SURROUNDINGS)
    assert all(other == first for other in others)
    codes = set(" ".join(line.split(" ", 1)[1] for line in first.splitlines()[:-1]).split())
    assert "ok" in codes
    assert codes - {"ok"}, "the workload has calls that fail; none did"
    assert "contract_fault" not in codes
