"""Every decoder of the product that is fuzzed."""

from __future__ import annotations

from typing import Final

from tests.fuzz.document_targets import DOCUMENT_TARGETS
from tests.fuzz.file_targets import FILE_TARGETS
from tests.fuzz.snapshot_targets import SNAPSHOT_TARGETS
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import WIRE_TARGETS

TARGETS: Final[tuple[Target, ...]] = (*WIRE_TARGETS, *FILE_TARGETS, *SNAPSHOT_TARGETS, *DOCUMENT_TARGETS)
