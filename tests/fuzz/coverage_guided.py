"""Fuzzes one target by atheris, which keeps the inputs that reach new code.

    python -m tests.fuzz.coverage_guided TARGET SECONDS CORPUS_FOLDER

Worth its while where the product itself parses, in Python. Needs `pip install '.[fuzz]'` (Linux on
x86-64); exits with 0 when nothing was found, and otherwise prints the input and where it led, and leaves it
in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def main(name: str, seconds: int, corpus: Path) -> None:
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    rooms = [
        "client",
        "config",
        "consensus",
        "contracts",
        "crypto",
        "gateway",
        "ledger",
        "network",
        "records",
    ]
    with atheris.instrument_imports(include=[*rooms, "vault"]):
        from tests.fuzz.targets import TARGETS

    target: Any = next(target for target in TARGETS if target.name == name)
    for number, data in enumerate(target.make_examples()):
        (corpus / f"example-{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={corpus}/",
        "-rss_limit_mb=1024",
        "-max_len=20000",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
