"""What can be proposed: each change of the network that the institutions decide on by vote."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.calls.fields import Identifier, KeyBytes, SignatureBytes, Version
from contracts.calls.registry import GatewayUrl, InstitutionKind, InstitutionName

REPLICAS_PER_CHANGE_MAX: Final = 100

ReplicaNumber = Annotated[int, Meta(ge=0, le=65_535)]
ReplicaNumbers = Annotated[tuple[ReplicaNumber, ...], Meta(max_length=REPLICAS_PER_CHANGE_MAX)]
"""Ascending, each once; the contract checks the order."""


class KeyChange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member votes with another key from the next epoch on; proposed by its own institution."""

    replica: ReplicaNumber
    public_key: KeyBytes
    possession: SignatureBytes
    """As in RegisterNode, by the new key, for the institution of the replica."""


class ReplicaSetChange(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, tag="replica_set"
):
    """Who votes above the height that the proposal names."""

    add: ReplicaNumbers = ()
    """Registered nodes that are to vote."""
    remove: ReplicaNumbers = ()
    """Members that are to follow without voting."""
    rotate: Annotated[tuple[KeyChange, ...], Meta(max_length=REPLICAS_PER_CHANGE_MAX)] = ()
    """In ascending order of the replicas."""


class Admission(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, tag="admission"
):
    """A new institution, as it asked for itself: it has a voice as soon as it is admitted."""

    institution: Identifier
    """Drawn by the institution."""
    kind: InstitutionKind
    name: InstitutionName
    public_key: KeyBytes
    """Ed25519; will sign the institution's transactions."""
    gateway_url: GatewayUrl
    possession: SignatureBytes
    """By that key, tag ADMISSION, over encode((chain id, institution, kind, name, key, gateway URL)): so
    nobody asks in its name for something else."""


class Removal(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, tag="removal"):
    """An institution is gone for good, and its nodes with it; what it did stays attributed to it."""

    institution: Identifier


ParameterName = Literal["alert_refusals_per_hour", "mandate_term_ms_max", "ticket_age_ms_max"]


class ParameterValue(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One parameter of the contracts; the contract knows its range."""

    name: ParameterName
    value: Annotated[int, Meta(ge=1, le=2**53)]


class ParametersChange(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, tag="parameters"
):
    """Other values for some of the parameters above the height that the proposal names."""

    values: Annotated[tuple[ParameterValue, ...], Meta(min_length=1, max_length=3)]
    """In ascending order of their names, each once."""


ContractName = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_]*$")]


class ContractVersion(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One version of one contract."""

    contract: ContractName
    version: Version


class ContractActivation(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, tag="contract"
):
    """The next version of a contract takes over above the height that the proposal names."""

    contract: ContractName
    version: Version


class Cancellation(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, tag="cancellation"
):
    """A change that is scheduled is not made after all."""

    proposal: Identifier
    """The adopted one."""


Change: TypeAlias = (
    ReplicaSetChange | Admission | Removal | ParametersChange | ContractActivation | Cancellation
)
