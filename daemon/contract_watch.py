"""Tells the operator's log as soon as a contract is scheduled that this node's software cannot run."""

from __future__ import annotations

import structlog

from ledger.chain import Chain
from ledger.speculation import CommittedBlock

_log = structlog.get_logger("node")


class ContractWatch:
    """Follows the chain's blocks; says each thing once."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._told = ""
        self._look()

    def on_block(self, block: CommittedBlock) -> None:
        if any(event.contract == "governance" for _, event in block.events):
            self._look()

    def _look(self) -> None:
        warning = self._chain.find_contract_warning()
        if warning and warning != self._told:
            _log.warning("contract unknown", reason=warning)
        self._told = warning
