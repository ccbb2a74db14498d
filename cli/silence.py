"""`chartchain node end-silence`: the act of an operator who answers for it that no vote was forgotten."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import fail, show
from cli.session import JsonOption
from config.errors import ConfigError
from config.node_check import check_node
from config.settings import load_node_settings
from consensus.journal import Journal, JournalCorrupt, JournalFailed
from consensus.journal_entries import encode_entry
from consensus.journal_records import REASON_LENGTH_MAX, OverrideRecord
from ledger.chain import Chain
from ledger.errors import LedgerError


def end_silence(
    directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The node's folder.")],
    reason: Annotated[str, typer.Option(help="Why no vote can have been forgotten; kept in the journal.")],
    as_json: JsonOption = False,
) -> None:
    """Let a stopped node vote again although its journal is missing or old. Done wrongly, it equivocates.

    The journal keeps height, time and reason for good, and the node logs them at each start.
    """
    if not 1 <= len(reason) <= REASON_LENGTH_MAX:
        raise typer.BadParameter(f"1 to {REASON_LENGTH_MAX} characters expected", param_hint="--reason")
    try:
        settings = load_node_settings(directory / "node.toml")
        genesis = check_node(settings)
        # Whoever holds the ledger is the running node: its journal is not ours to write then.
        chain = Chain.open(settings.folder.ledger_directory, genesis, settings.ledger)
    except (ConfigError, LedgerError) as error:
        fail(str(error))
    record = OverrideRecord(chain.head.height, time.time_ns() // 1_000_000, reason)
    try:
        journal = Journal.open(settings.folder.journal_directory, settings.journal)
        journal.append((encode_entry(record),))
        journal.confirm()
        journal.close()
    except (JournalFailed, JournalCorrupt) as error:
        fail(str(error))
    finally:
        chain.close()
    show({"height": record.height, "time_ms": record.time_ms, "reason": record.reason}, as_json=as_json)
