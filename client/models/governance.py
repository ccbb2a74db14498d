"""The network itself: its nodes, who of them votes, and what is proposed."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from client.models.base import Count, Identifier, Model, PublicKeyHex
from contracts.calls.changes import ParameterName
from contracts.calls.registry import InstitutionKind


class NodeAnswer(Model):
    """One node that was ever registered."""

    replica: Count
    institution: Identifier
    public_key: PublicKeyHex
    link_host: str
    """Empty for a founder that has not told."""
    link_port: Count
    votes: bool
    """Whether it is in the replica set."""
    registered_height: Count
    retired_height: Count
    """0 unless retired."""


class KeyChangeEntry(Model):
    replica: Count
    public_key: PublicKeyHex


class ReplicaSetEntry(Model):
    """Who would vote above the due height."""

    kind: Literal["replica_set"]
    add: tuple[int, ...]
    remove: tuple[int, ...]
    rotate: tuple[KeyChangeEntry, ...]


class AdmissionEntry(Model):
    """An institution that asks to be let in."""

    kind: Literal["admission"]
    institution: Identifier
    institution_kind: InstitutionKind
    name: str
    public_key: PublicKeyHex
    gateway_url: str


class RemovalEntry(Model):
    """An institution that would be gone for good."""

    kind: Literal["removal"]
    institution: Identifier


class ParameterValueEntry(Model):
    name: ParameterName
    value: Count


class ParametersEntry(Model):
    """Other values for some parameters above the due height."""

    kind: Literal["parameters"]
    values: tuple[ParameterValueEntry, ...]


class ContractEntry(Model):
    """The next version of a contract above the due height."""

    kind: Literal["contract"]
    contract: str
    version: Count


class CancellationEntry(Model):
    """A scheduled change that would not be made."""

    kind: Literal["cancellation"]
    proposal: Identifier


ChangeEntry: TypeAlias = Annotated[
    ReplicaSetEntry | AdmissionEntry | RemovalEntry | ParametersEntry | ContractEntry | CancellationEntry,
    Field(discriminator="kind"),
]


class ProposalEntry(Model):
    """A proposed change of the network."""

    proposal: Identifier
    proposer: Identifier
    change: ChangeEntry
    due_height: Count
    """Not adopted below it, it lapses; replica set, parameters and contracts change above it."""
    adopted_height: Count
    """0 until adopted."""
    cancelled_height: Count
    """0 unless it was cancelled before it was effective."""
    lapsed: bool
    approved_by: tuple[Identifier, ...]
    """Institutions, suspended ones not counted."""
    rejected_by: tuple[Identifier, ...]


class ParameterAnswer(Model):
    """A parameter of the contracts, and between what a vote can move it."""

    name: ParameterName
    value: Count
    value_min: Count
    value_max: Count


class ContractAnswer(Model):
    """A contract of the ledger, or of this node's software."""

    contract: str
    active_version: Count
    """In the next block; 0 while the ledger does not have it."""
    known_versions: tuple[int, ...]
    """What this node's software can run."""


class RecoveryEntry(Model):
    """An epoch that the institutions opened because the replicas could not."""

    epoch: Count
    above_height: Count


class GovernanceAnswer(Model):
    """As of the head."""

    height: Count
    epoch: Count
    quorum: Count
    electorate: tuple[Identifier, ...]
    """Institutions that have a voice."""
    nodes: tuple[NodeAnswer, ...]
    parameters: tuple[ParameterAnswer, ...]
    """What contracts use in the next block."""
    contracts: tuple[ContractAnswer, ...]
    proposals: tuple[ProposalEntry, ...]
    recoveries: tuple[RecoveryEntry, ...]
