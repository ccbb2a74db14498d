"""All contracts of this ledger by name, the rows it begins with, and who may send it transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from contracts import authorization, evidence, folders, governance, monitoring, registry
from contracts.calls.registry import InstitutionKind
from contracts.contract import Contract
from contracts.registry import InstitutionRow, KeyRow
from contracts.tables import ReadableState

CONTRACTS: Final[Mapping[str, Contract]] = MappingProxyType(
    {
        module.contract.name: module.contract
        for module in (authorization, evidence, folders, governance, monitoring, registry)
    }
)


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


def compute_genesis_rows(
    *,
    institutions: Sequence[Founder],
    mandate_term_ms_max: int,
    ticket_age_ms_max: int,
    alert_refusals_per_hour: int,
) -> dict[bytes, bytes]:
    """The state before the first block: full keys and row bytes, in key order."""
    parameters = governance.ParametersRow(
        mandate_term_ms_max=mandate_term_ms_max,
        ticket_age_ms_max=ticket_age_ms_max,
        alert_refusals_per_hour=alert_refusals_per_hour,
    )
    founding = governance.FoundingRow(
        institutions=tuple(sorted(founder.institution for founder in institutions)),
        contracts=tuple(sorted((contract.name, contract.version) for contract in CONTRACTS.values())),
    )
    rows = {
        governance.parameters.compute_state_key(governance.KEY): governance.parameters.encode_row(parameters),
        governance.founding.compute_state_key(governance.KEY): governance.founding.encode_row(founding),
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
        )
        key = KeyRow(owner_kind="institution", owner=founder.institution, opened_height=0, closed_height=0)
        rows[registry.institutions.compute_state_key(founder.institution)] = registry.institutions.encode_row(
            row
        )
        rows[registry.keys.compute_state_key(founder.public_key)] = registry.keys.encode_row(key)
    return dict(sorted(rows.items()))


def is_known_sender(state: ReadableState, public_key: bytes) -> bool:
    """Whether the key is the open one of an institution that is not suspended, or of a patient."""
    key = registry.keys.get(state, public_key)
    if key is None or key.closed_height:
        return False
    if key.owner_kind == "patient":
        return True
    row = registry.institutions.get(state, key.owner)
    return row is not None and not row.is_suspended
