"""The contracts of one ledger and the questions that the ledger itself asks them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from consensus.replica_set import Member, ReplicaSet
from contracts import catalog, governance, recoveries, replica_sets, versions
from contracts.contract import Contract
from contracts.tables import ReadableState
from contracts.versions import ReadRow
from ledger.errors import ContractUnknown
from ledger.genesis import Genesis

CloseBlock = Callable[[ReadableState, int], Mapping[bytes, bytes | None]]
"""Rows to write (None: to delete) by full key, from the rows after all transactions and the height."""

ReadReplicaSet = Callable[[ReadRow], ReplicaSet | None]
"""The replica set of the next height, from a look-up of rows by full key."""


OpenRecoveredEpoch = Callable[[ReplicaSet, int, bytes], Mapping[bytes, bytes | None]]
"""Rows to write, from the recovered set and height and digest of the block below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractSet:
    """Contracts in all their versions, the rows they start with, and who may send transactions at all."""

    contracts: Collection[Contract]
    """All that this software has."""
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
    read_versions: Callable[[ReadRow], Mapping[str, int] | None] = lambda get: None
    """Names and versions active in the block above these rows; None: the newest that the software has."""
    read_coming_versions: Callable[[ReadRow], tuple[int, Mapping[str, int]] | None] = lambda get: None
    """The height above which other versions are active, and all that are then; None: none are scheduled."""

    def select(self, get: ReadRow) -> Mapping[str, Contract]:
        """By name, the contracts that execute the block above the rows that `get` looks up.

        Raises ContractUnknown for a version that this software does not have: it must not guess.
        """
        known = {(contract.name, contract.version): contract for contract in self.contracts}
        active = self.read_versions(get)
        if active is None:
            return {name: known[name, version] for name, version in sorted(known)}
        for name, version in active.items():
            if (name, version) not in known:
                raise ContractUnknown(name, version, known=self.list_versions(name))
        return {name: known[name, version] for name, version in active.items()}

    def warn_of_unknown(self, get: ReadRow) -> str:
        """What is scheduled and cannot be run here, in words; empty when all can."""
        coming = self.read_coming_versions(get)
        if coming is None:
            return ""
        height, active = coming
        for name, version in active.items():
            if version not in self.list_versions(name):
                return (
                    f"above height {height} contract {name} has version {version}, and this software does "
                    f"not: install newer software before, or the node stops there"
                )
        return ""

    def list_versions(self, name: str) -> tuple[int, ...]:
        """Of one contract, those that this software has, in ascending order."""
        return tuple(sorted(contract.version for contract in self.contracts if contract.name == name))


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
            contracts=genesis.contracts,
            mandate_term_ms_max=parameters.mandate_term_ms_max,
            ticket_age_ms_max=parameters.ticket_age_ms_max,
            alert_refusals_per_hour=parameters.alert_refusals_per_hour,
        )

    return ContractSet(
        contracts=catalog.RELEASES,
        compute_genesis_rows=compute_genesis_rows,
        find_institution=catalog.find_institution,
        close_block=governance.close_block,
        read_replica_set=_read_replica_set,
        open_recovered_epoch=_open_recovered_epoch,
        read_versions=versions.read_versions,
        read_coming_versions=versions.read_coming_versions,
    )


def _open_recovered_epoch(
    replica_set: ReplicaSet, height: int, digest: bytes
) -> Mapping[bytes, bytes | None]:
    members = [
        replica_sets.ReplicaRow(member.replica, member.public_key, member.institution)
        for member in replica_set.members
    ]
    return recoveries.compute_recovery_rows(replica_set.epoch, members, height=height, digest=digest)


def _read_replica_set(get: ReadRow) -> ReplicaSet | None:
    table = replica_sets.replica_set
    data = get(table.compute_state_key(replica_sets.KEY))
    if data is None:
        return None
    row = table.decode_row(data)
    members = tuple(Member(member.replica, member.public_key, member.institution) for member in row.members)
    return ReplicaSet(row.epoch, members)
