"""From one key of a node to the next: a node whose next key is named by a new epoch starts again with it.

Which key a node starts with, `config.node_identity` chooses.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from config.node_folder import NodeFolder
from config.node_identity import list_identities
from crypto.key_files import KeyFileError
from ledger.speculation import CommittedBlock

_log = structlog.get_logger("node")


class KeyHandover:
    """Watches the blocks for a new epoch that names another key for this node's replica."""

    def __init__(
        self,
        folder: NodeFolder,
        *,
        own_key: bytes,
        get_named_key: Callable[[], bytes | None],
        on_handover: Callable[[], None],
    ) -> None:
        """`get_named_key` gives the replica's key in the present set, None when it has no place there;
        `on_handover` is called where that key lies in the folder, ready to be used."""
        self._folder = folder
        self._own_key = own_key
        self._get_named_key = get_named_key
        self._on_handover = on_handover

    def on_block(self, block: CommittedBlock) -> None:
        if block.header.next_replica_set_digest == block.header.replica_set_digest:
            return
        named = self._get_named_key()
        if named in (None, self._own_key):
            return
        try:
            is_here = any(identity.key.public_key == named for identity in list_identities(self._folder))
        except KeyFileError as error:
            _log.warning("the next key cannot be used", reason=str(error))
            return
        _log.info("this replica has another key", height=block.header.height, is_here=is_here)
        if is_here:
            self._on_handover()
