"""What may be wrong before a node runs; each message says where, what was found and what to do."""

from __future__ import annotations

from typing import Final

from config.errors import ConfigError
from consensus.journal import JournalCorrupt, JournalFailed
from crypto.encoding import EncodingError
from crypto.key_files import KeyFileError
from ledger.errors import LedgerError
from network.tls import TlsSetupFailed
from vault.errors import VaultError

CANNOT_START: Final = (
    ConfigError,
    KeyFileError,
    LedgerError,
    JournalCorrupt,
    JournalFailed,
    VaultError,
    TlsSetupFailed,
    EncodingError,
    OSError,
)
"""The operator's fault or the disk's; anything else is a defect."""
