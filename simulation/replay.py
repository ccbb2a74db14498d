"""The command that runs a seed again, all alike."""

from __future__ import annotations

from simulation.settings import LedgerKind, Signatures, SimulationSettings

NOTHING = "nothing"
"""How `--only` says that nothing goes wrong."""


def format_replay(seed: int, settings: SimulationSettings) -> str:
    """`chartchain simulate` with the options that differ from what it does without any."""
    usual = SimulationSettings(ledger=LedgerKind.MIXED, changes=None)
    options = [f"--seed {seed}"]
    numbers = {
        "--replicas": (settings.replica_count, usual.replica_count),
        "--blocks": (settings.blocks_min, usual.blocks_min),
        "--transactions": (settings.transactions, usual.transactions),
        "--late-transactions": (settings.late_transactions, usual.late_transactions),
        "--faulty-ms": (settings.faulty_ms, usual.faulty_ms),
        "--changes": (settings.changes, usual.changes),
    }
    options += [f"{name} {value}" for name, (value, expected) in numbers.items() if value != expected]
    if settings.ledger is not LedgerKind.MIXED:
        options.append(f"--ledger {settings.ledger.value}")
    if settings.signatures is Signatures.ED25519:
        options.append("--real-signatures")
    if settings.only is not None:
        options.append(f"--only {','.join(settings.only) or NOTHING}")
    return f"chartchain simulate {' '.join(options)}"


def parse_only(text: str | None) -> tuple[str, ...] | None:
    """What `--only` says: elements with commas between; None when it was not given."""
    if text is None:
        return None
    return () if text == NOTHING else tuple(text.split(","))
