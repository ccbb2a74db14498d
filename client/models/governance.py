"""The network itself: its nodes, who of them votes, and what is proposed."""

from __future__ import annotations

from client.models.base import Count, Identifier, Model, PublicKeyHex


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


class ProposalEntry(Model):
    """A proposed change of the replica set."""

    proposal: Identifier
    proposer: Identifier
    epoch: Count
    add: tuple[int, ...]
    remove: tuple[int, ...]
    rotate: tuple[KeyChangeEntry, ...]
    effective_height: Count
    """The last block that the present set certifies."""
    adopted_height: Count
    """0 until adopted."""
    lapsed: bool
    approved_by: tuple[Identifier, ...]
    """Institutions, suspended ones not counted."""
    rejected_by: tuple[Identifier, ...]


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
    proposals: tuple[ProposalEntry, ...]
    recoveries: tuple[RecoveryEntry, ...]
