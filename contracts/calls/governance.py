"""Calls of governance: nodes of the network, and changes of the network by proposal and vote."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.calls.changes import Change, ReplicaNumber
from contracts.calls.fields import Identifier, KeyBytes, SignatureBytes

Height = Annotated[int, Meta(ge=1, le=2**63 - 1)]
LinkHost = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:\-]+$")]
"""A name or an address, IPv6 without brackets."""
LinkPort = Annotated[int, Meta(ge=1, le=65_535)]


class RegisterNode(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By an institution: a node of its own, which follows without voting. The result is its replica id."""

    public_key: KeyBytes
    """Ed25519; signs the node's votes once it has any, and stands in its link certificate."""
    link_host: LinkHost
    link_port: LinkPort
    possession: SignatureBytes
    """By the node's key, tag NODE_KEY, over encode((chain id, institution, public key))."""


class MoveNode(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the node's institution: it accepts links elsewhere from now on."""

    replica: ReplicaNumber
    link_host: LinkHost
    link_port: LinkPort


class RetireNode(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the node's institution: a node that is no member of the replica set is gone for good."""

    replica: ReplicaNumber


class Propose(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By an institution, which thereby votes for it: make one change of the network."""

    proposal: Identifier
    change: Change
    due_height: Height
    """Not adopted below this height, it lapses. What replaces a whole subject (`contracts.schedule`) is
    effective above it: the block of this height is the last under what was before."""


class Vote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By an institution: for or against a proposal; a later vote takes the place of an earlier one."""

    proposal: Identifier
    approve: bool
