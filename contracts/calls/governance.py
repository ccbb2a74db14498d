"""Calls of governance: nodes of the network, and changes of the replica set by proposal and vote."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from contracts.calls.fields import Identifier, KeyBytes, SignatureBytes

REPLICAS_PER_CHANGE_MAX: Final = 100

ReplicaNumber = Annotated[int, Meta(ge=0, le=65_535)]
ReplicaNumbers = Annotated[tuple[ReplicaNumber, ...], Meta(max_length=REPLICAS_PER_CHANGE_MAX)]
"""Ascending, each once; the contract checks the order."""

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


class KeyChange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member votes with another key from the next epoch on; proposed by its own institution."""

    replica: ReplicaNumber
    public_key: KeyBytes
    possession: SignatureBytes
    """As in RegisterNode, by the new key, for the institution of the replica."""


class Propose(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By an institution, which thereby votes for it: change the replica set above `effective_height`."""

    proposal: Identifier
    add: ReplicaNumbers
    """Registered nodes that are to vote."""
    remove: ReplicaNumbers
    """Members that are to follow without voting."""
    rotate: Annotated[tuple[KeyChange, ...], Meta(max_length=REPLICAS_PER_CHANGE_MAX)]
    """In ascending order of the replicas."""
    effective_height: Height
    """The last block that the present set certifies."""


class Vote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By an institution: for or against a proposal; a later vote takes the place of an earlier one."""

    proposal: Identifier
    approve: bool
