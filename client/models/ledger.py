"""Transactions, blocks, events and where a node stands."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from client.models.base import (
    TRANSACTIONS_PER_REQUEST_MAX,
    Base64,
    Count,
    End,
    Hash,
    Identifier,
    Model,
    Problem,
    PublicKeyHex,
    TimeMs,
)
from contracts.calls.registry import InstitutionKind


class SubmitRequest(Model):
    """Signed transactions: signature (64 bytes) followed by body. Also as a MessagePack array of bytes."""

    transactions: Annotated[tuple[Base64, ...], Field(min_length=1, max_length=TRANSACTIONS_PER_REQUEST_MAX)]


class SubmissionResult(Model):
    id: str
    """The transaction's id, 64 hexadecimal digits; empty when the bytes could not be decoded."""
    code: str
    """`accepted`, or why not."""
    message: str = ""


class SubmitAnswer(Model):
    """202 when all were accepted; otherwise a Problem of the worst with these results in it."""

    results: tuple[SubmissionResult, ...]


class SubmitProblem(Problem):
    results: tuple[SubmissionResult, ...]


class EventAnswer(Model):
    """Something that happened on the ledger. Byte strings among the fields are hexadecimal."""

    height: Count
    transaction: Hash
    number: Count
    """Position among the events of its transaction."""
    contract: str
    name: str
    fields: tuple[int | str, ...]


class TransactionAnswer(Model):
    """How a transaction ended. Results and events are shown to those concerned and logged in only."""

    id: Hash
    end: End
    code: str = ""
    """The receipt's code: `ok`, or why its calls were not carried out."""
    height: Count = 0
    index: Count = 0
    results: tuple[str, ...] = ()
    """Each call's encoded result in hexadecimal."""
    events: tuple[EventAnswer, ...] = ()


class BlockAnswer(Model):
    height: Count
    digest: Hash
    parent_hash: Hash
    time_ms: TimeMs
    proposer: int
    epoch: Count
    view: Count
    """The view in which the certificate was made; 0 for the genesis block."""
    signers: tuple[int, ...]
    """The replicas whose votes make this node's copy of the certificate."""
    state_root: Hash
    history_root: Hash
    history_size: Count
    transactions: tuple[Hash, ...]


class StatusAnswer(Model):
    """Where this node stands; open to everybody."""

    network: str
    chain_id: Hash
    institution: Identifier
    height: Count
    digest: Hash
    state_root: Hash
    history_root: Hash
    history_size: Count
    time_ms: TimeMs
    epoch: Count
    view: Count
    primary: int
    """The replica that leads this view."""
    replica: int
    """This node's own replica id; -1 when it has none."""
    pending: Count
    """Transactions that wait for a block here."""
    ready: bool
    reason: str
    """Why it is not ready; empty when it is."""
    warning: str
    """What its operator has to do before a height comes; empty when there is nothing."""


class InstitutionAnswer(Model):
    institution: Identifier
    kind: InstitutionKind
    name: str
    public_key: PublicKeyHex
    gateway_url: str
    suspended: bool
    removed_height: Count
    """0 unless it is gone for good."""


class InstitutionsAnswer(Model):
    institutions: tuple[InstitutionAnswer, ...]
