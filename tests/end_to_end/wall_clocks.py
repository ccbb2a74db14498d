"""Wall clocks that jump while a daemon runs, by libfaketime; the monotonic clock goes on as it should."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

_LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")


class WallClock:
    """The clock of one daemon, off by `shift`; the file is read anew each second."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = _find_library()
        self.shift(0)

    @property
    def command_prefix(self) -> tuple[str, ...]:
        return (
            "env",
            f"LD_PRELOAD={self._library}",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "FAKETIME_CACHE_DURATION=1",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
        )

    def shift(self, seconds: int) -> None:
        """From now on the daemon's clock is off by so much."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self._file)


def _find_library() -> Path:
    for pattern in _LIBRARIES:
        for found in Path("/").glob(pattern.removeprefix("/")):
            return found
    pytest.skip("libfaketime is not installed")
