"""Public samples that may lie beside the project: further vectors and real bundles.

Every behaviour is tested without them; where they are there, tests try them as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

EXTRA_DATA = Path(__file__).parents[2] / "shared" / "data"


def list_extra_files(folder: str) -> list[Path]:
    """The JSON files below a folder of the extra data; none where there are none."""
    return sorted((EXTRA_DATA / folder).rglob("*.json"))


def list_extra_cases(folder: str) -> list[object]:
    """The same as cases of a parametrised test: one that is skipped with the reason where there are none."""
    missing = pytest.mark.skip(reason=f"no extra data in {EXTRA_DATA.name}/{folder} beside the project")
    return [pytest.param(path, id="/".join(path.parts[-2:])[-60:]) for path in list_extra_files(folder)] or [
        pytest.param(None, marks=missing)
    ]
