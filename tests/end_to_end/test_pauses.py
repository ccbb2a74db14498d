"""The tests' own pauses leave no process stopped behind them."""

from __future__ import annotations

import subprocess
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.end_to_end.pauses import standing_still


def test_a_second_process_that_is_gone_leaves_the_first_one_running() -> None:
    with subprocess.Popen(["sleep", "60"]) as first, subprocess.Popen(["true"]) as second:
        try:
            second.wait()
            nodes: list[Any] = [SimpleNamespace(process_id=process.pid) for process in (first, second)]
            with pytest.raises(ProcessLookupError), standing_still(*nodes):
                pass
            time.sleep(0.2)  # Until it stands still, if it does.
            first.terminate()  # Does nothing to one that stands still.
            first.wait(timeout=5)
        finally:
            first.kill()
