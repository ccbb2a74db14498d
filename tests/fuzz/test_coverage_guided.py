"""A while of coverage-guided fuzzing for each parser that is written in Python.

`make soak` installs what it needs.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60


@pytest.mark.soak
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install '.[fuzz]'"
)
@pytest.mark.parametrize(
    "name",
    [
        "config.genesis_file:_Reader.read",
        "consensus.journal:Journal._load",
        "crypto.encoding:decode",
        "gateway.strict_json:check_json",
        "ledger.proofs:verify_receipt_proof",
        "ledger.proofs:verify_state_proof",
        "ledger.state_chunk:decode_state_chunk",
        "records.bundles:split_bundle",
        "records.strict_json:decode_text",
    ],
)
def test_coverage_leads_to_no_crash(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, str(SECONDS), str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=10 * SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
