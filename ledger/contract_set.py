"""The contracts of one ledger and the questions that the ledger itself asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus.replica_set import Member, ReplicaSet
from contracts import catalog, governance, recoveries, replica_sets
from contracts.contract import Contract
from contracts.tables import ReadableState
from ledger.genesis import Genesis

CloseBlock = Callable[[ReadableState, int], Mapping[bytes, bytes | None]]
"""Rows to write (None: to delete) by full key, from the rows after all transactions and the height."""

ReadReplicaSet = Callable[[Callable[[bytes], bytes | None]], ReplicaSet | None]
"""The replica set of the next height, from a look-up of rows by full key."""


OpenRecoveredEpoch = Callable[[ReplicaSet, int, bytes], Mapping[bytes, bytes | None]]
"""Rows to write, from the recovered set and height and digest of the block below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractSet:
    """Contracts by name, the rows they start with, and who may send transactions at all."""

    contracts: Mapping[str, Contract]
    compute_genesis_rows: Callable[[Genesis], Mapping[bytes, bytes]]
    """Full state keys to rows, as they stand at height 0."""
    find_institution: Callable[[ReadableState, bytes], bytes | None]
    """The institution that answers for what a public key sends; None for a key that may not send."""
    close_block: CloseBlock = lambda state, height: {}
    """What the end of every block writes, after its transactions."""
    read_replica_set: ReadReplicaSet = lambda get: None
    """The set in these rows, None when they hold none: contracts without governance keep the founders."""
    open_recovered_epoch: OpenRecoveredEpoch = lambda replica_set, height, digest: {}
    """What the first block above a recovery writes before its transactions."""


class KnownSenders:
    """Who may send transactions at the head, asked of the contracts once for each sender and head."""

    def __init__(self, state: ReadableState, contract_set: ContractSet, *, senders_max: int) -> None:
        self._state = state
        self._find_institution = contract_set.find_institution
        self._senders_max = senders_max
        self._answers: dict[bytes, bytes | None] = {}

    def find_institution(self, public_key: bytes) -> bytes | None:
        """Who answers for what this key sends; None where it may not send."""
        if public_key not in self._answers:
            if len(self._answers) >= self._senders_max:
                self._answers.clear()
            self._answers[public_key] = self._find_institution(self._state, public_key)
        return self._answers[public_key]

    def advance(self) -> None:
        """The head has moved: keys may have been rotated, institutions suspended."""
        self._answers.clear()


def load_built_in() -> ContractSet:
    """The contracts of `contracts.catalog`."""

    def compute_genesis_rows(genesis: Genesis) -> Mapping[bytes, bytes]:
        parameters = genesis.parameters
        return catalog.compute_genesis_rows(
            institutions=genesis.institutions,
            replicas=genesis.replica_set.members,
            mandate_term_ms_max=parameters.mandate_term_ms_max,
            ticket_age_ms_max=parameters.ticket_age_ms_max,
            alert_refusals_per_hour=parameters.alert_refusals_per_hour,
        )

    return ContractSet(
        contracts=catalog.CONTRACTS,
        compute_genesis_rows=compute_genesis_rows,
        find_institution=catalog.find_institution,
        close_block=governance.close_block,
        read_replica_set=_read_replica_set,
        open_recovered_epoch=_open_recovered_epoch,
    )


def _open_recovered_epoch(
    replica_set: ReplicaSet, height: int, digest: bytes
) -> Mapping[bytes, bytes | None]:
    members = [
        replica_sets.ReplicaRow(member.replica, member.public_key, member.institution)
        for member in replica_set.members
    ]
    return recoveries.compute_recovery_rows(replica_set.epoch, members, height=height, digest=digest)


def _read_replica_set(get: Callable[[bytes], bytes | None]) -> ReplicaSet | None:
    table = replica_sets.replica_set
    data = get(table.compute_state_key(replica_sets.KEY))
    if data is None:
        return None
    row = table.decode_row(data)
    members = tuple(Member(member.replica, member.public_key, member.institution) for member in row.members)
    return ReplicaSet(row.epoch, members)
