"""All contracts of this ledger by name, the rows it begins with, and who may send it transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from contracts import authorization, electorate, evidence, folders, governance, monitoring, registry, versions
from contracts import nodes as node_rows
from contracts import replica_sets as set_rows
from contracts.aliases import get_alias
from contracts.calls.changes import ContractVersion
from contracts.calls.registry import InstitutionKind
from contracts.contract import Contract
from contracts.parameters import ParametersRow, parameters
from contracts.registry import InstitutionRow, KeyRow
from contracts.replica_sets import ReplicaRow, ReplicaSetRow
from contracts.tables import ReadableState

RELEASES: Final[tuple[Contract, ...]] = tuple(
    module.contract for module in (authorization, evidence, folders, governance, monitoring, registry)
)
"""Every version of every contract that this software can run. A next version joins those before it: a block
is executed by the version that was active at its height, for ever."""

CONTRACTS: Final[Mapping[str, Contract]] = MappingProxyType(
    {contract.name: contract for contract in sorted(RELEASES, key=lambda item: item.version)}
)
"""The newest version of each."""

NEWEST: Final = tuple(ContractVersion(name, CONTRACTS[name].version) for name in sorted(CONTRACTS))
"""What a network that is founded with this software begins with."""


class Founder(Protocol):
    """A founding institution, as the genesis names it."""

    @property
    def institution(self) -> bytes: ...
    @property
    def kind(self) -> InstitutionKind: ...
    @property
    def name(self) -> str: ...
    @property
    def public_key(self) -> bytes: ...
    @property
    def gateway_url(self) -> str: ...


class FoundingReplica(Protocol):
    """A replica of the first epoch, as the genesis names it."""

    @property
    def replica(self) -> int: ...
    @property
    def public_key(self) -> bytes: ...
    @property
    def institution(self) -> bytes: ...


def compute_genesis_rows(
    *,
    institutions: Sequence[Founder],
    replicas: Sequence[FoundingReplica],
    contracts: Sequence[ContractVersion],
    mandate_term_ms_max: int,
    ticket_age_ms_max: int,
    alert_refusals_per_hour: int,
) -> dict[bytes, bytes]:
    """The state before the first block: full keys and row bytes, in key order."""
    values = ParametersRow(
        mandate_term_ms_max=mandate_term_ms_max,
        ticket_age_ms_max=ticket_age_ms_max,
        alert_refusals_per_hour=alert_refusals_per_hour,
    )
    founding = governance.FoundingRow(
        institutions=tuple(sorted(founder.institution for founder in institutions)),
        contracts=tuple(contracts),
    )
    rows = {
        parameters.compute_state_key(governance.KEY): parameters.encode_row(values),
        versions.versions.compute_state_key(versions.KEY): versions.versions.encode_row(
            versions.VersionsRow(active=tuple(contracts))
        ),
        governance.founding.compute_state_key(governance.KEY): governance.founding.encode_row(founding),
        **_compute_membership_rows(institutions, replicas),
    }
    for founder in institutions:
        row = InstitutionRow(
            institution=founder.institution,
            kind=founder.kind,
            name=founder.name,
            public_key=founder.public_key,
            gateway_url=founder.gateway_url,
            registered_height=0,
            changed_height=0,
            suspended_reason="",
            removed_height=0,
        )
        key = KeyRow(owner_kind="institution", owner=founder.institution, opened_height=0, closed_height=0)
        rows[registry.institutions.compute_state_key(founder.institution)] = registry.institutions.encode_row(
            row
        )
        rows[registry.keys.compute_state_key(founder.public_key)] = registry.keys.encode_row(key)
    return dict(sorted(rows.items()))


def _compute_membership_rows(
    institutions: Sequence[Founder], replicas: Sequence[FoundingReplica]
) -> dict[bytes, bytes]:
    """Who decides on the network, its nodes, and the first replica set."""
    voices = electorate.ElectorateRow(
        active=tuple(sorted((founder.institution, founder.public_key) for founder in institutions)),
        registered_count=len(institutions),
    )
    members = tuple(ReplicaRow(member.replica, member.public_key, member.institution) for member in replicas)
    number = node_rows.NumberRow(1 + max((member.replica for member in members), default=-1))
    rows = {
        electorate.electorate.compute_state_key(electorate.KEY): electorate.electorate.encode_row(voices),
        set_rows.replica_set.compute_state_key(set_rows.KEY): set_rows.replica_set.encode_row(
            ReplicaSetRow(epoch=0, members=members)
        ),
        node_rows.numbers.compute_state_key(node_rows.NUMBER_KEY): node_rows.numbers.encode_row(number),
    }
    for institution in sorted({member.institution for member in members}):
        own = node_rows.OwnNodesRow(
            open=tuple(sorted(member.replica for member in members if member.institution == institution)),
            registered_count=0,
        )
        rows[node_rows.own_nodes.compute_state_key(institution)] = node_rows.own_nodes.encode_row(own)
    for member in members:
        node = node_rows.NodeRow(
            replica=member.replica,
            public_key=member.public_key,
            institution=member.institution,
            link_host="",
            link_port=0,
            registered_height=0,
            retired_height=0,
        )
        use = node_rows.NodeKeyRow(replica=member.replica, use="current", changed_height=0)
        node_key = node_rows.compute_node_key(member.replica)
        rows[node_rows.nodes.compute_state_key(node_key)] = node_rows.nodes.encode_row(node)
        rows[node_rows.node_keys.compute_state_key(member.public_key)] = node_rows.node_keys.encode_row(use)
    return rows


def find_institution(state: ReadableState, public_key: bytes) -> bytes | None:
    """The institution that answers for what this key sends, None unless it may send.

    It is the institution whose open key this is, unless it is suspended or gone; for a patient's key the
    holder, since nobody else could have registered it, unless it is gone. While the holder is suspended its
    patients can take back what they granted.
    """
    key = registry.keys.get(state, public_key)
    if key is None or key.closed_height:
        return None
    if key.owner_kind == "patient":
        alias = get_alias(state, key.owner)
        assert alias is not None, "a patient's key without its alias"
        holder = registry.institutions.get(state, alias.holder)
        return alias.holder if holder is not None and not holder.removed_height else None
    row = registry.institutions.get(state, key.owner)
    return key.owner if row is not None and row.is_active else None
