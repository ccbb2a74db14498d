"""The contracts of one ledger and the two questions that the ledger itself asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contracts import catalog
from contracts.contract import Contract
from contracts.tables import ReadableState
from ledger.genesis import Genesis


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractSet:
    """Contracts by name, the rows they start with, and who may send transactions at all."""

    contracts: Mapping[str, Contract]
    compute_genesis_rows: Callable[[Genesis], Mapping[bytes, bytes]]
    """Full state keys to rows, as they stand at height 0."""
    is_known_sender: Callable[[ReadableState, bytes], bool]
    """Whether a public key is an active institution's or a patient's own."""


class KnownSenders:
    """Who may send transactions at the head, asked of the contracts once for each sender and head."""

    def __init__(self, state: ReadableState, contract_set: ContractSet, *, senders_max: int) -> None:
        self._state = state
        self._is_known_sender = contract_set.is_known_sender
        self._senders_max = senders_max
        self._answers: dict[bytes, bool] = {}

    def is_known(self, public_key: bytes) -> bool:
        answer = self._answers.get(public_key)
        if answer is None:
            if len(self._answers) >= self._senders_max:
                self._answers.clear()
            answer = self._answers[public_key] = self._is_known_sender(self._state, public_key)
        return answer

    def advance(self) -> None:
        """The head has moved: keys may have been rotated, institutions suspended."""
        self._answers.clear()


def load_built_in() -> ContractSet:
    """The contracts of `contracts.catalog`."""

    def compute_genesis_rows(genesis: Genesis) -> Mapping[bytes, bytes]:
        parameters = genesis.parameters
        return catalog.compute_genesis_rows(
            institutions=genesis.institutions,
            mandate_term_ms_max=parameters.mandate_term_ms_max,
            ticket_age_ms_max=parameters.ticket_age_ms_max,
            alert_refusals_per_hour=parameters.alert_refusals_per_hour,
        )

    return ContractSet(
        contracts=catalog.CONTRACTS,
        compute_genesis_rows=compute_genesis_rows,
        is_known_sender=catalog.is_known_sender,
    )
