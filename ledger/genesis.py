"""The genesis: everything that all nodes must agree on before the first block.

Its digest is the chain id. The file is JSON for people to read; the digest is over the canonical encoding,
so spacing and key order of the file do not matter.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final

from msgspec import Meta, Struct

from consensus.replica_set import ReplicaSet
from contracts.calls.changes import ContractVersion
from contracts.calls.fields import Identifier, KeyBytes, TimeMs
from contracts.calls.registry import GatewayUrl, InstitutionKind, InstitutionName
from contracts.electorate import INSTITUTIONS_MAX
from crypto import tags
from crypto.encoding import decode_as, encode
from crypto.hashing import Digest, compute_digest
from ledger.transaction import TRANSACTION_BYTES_MAX

GENESIS_BYTES_MAX = 262_144
CONTRACTS_MAX: Final = 64

_Positive = Annotated[int, Meta(ge=1, le=2**53)]


class Parameters(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What every replica must decide alike. Times in milliseconds, sizes in bytes."""

    state_buckets_log2: Annotated[int, Meta(ge=4, le=24)] = 20
    """State tree: 2 to this many hash buckets; a multiple of 4, the tree being 16-ary."""
    block_transactions_max: _Positive = 2_000
    block_bytes_max: Annotated[int, Meta(ge=TRANSACTION_BYTES_MAX, le=6_291_456)] = 4_194_304
    """At least one transaction of the largest size fits, and a block fits into one message."""
    expiry_window_ms_max: _Positive = 600_000
    """How far after block time a transaction may expire."""
    idle_block_interval_ms: _Positive = 10_000
    """An empty block is refused before this long after its parent."""
    blocks_per_primary: _Positive = 100
    clock_tolerance_ms: _Positive = 2_000
    """How far a fresh proposal's time may be from a backup's clock."""
    ticket_age_ms_max: _Positive = 30_000
    """How long after its block an allowed authorisation may be served."""
    mandate_term_ms_max: _Positive = 31_622_400_000
    """Twelve months, a leap day included."""
    alert_refusals_per_hour: _Positive = 20
    """Refusals of one member within an hour that raise an alert."""


class Institution(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A founding institution; its key signs its transactions."""

    institution: Identifier
    kind: InstitutionKind
    name: InstitutionName
    public_key: KeyBytes
    gateway_url: GatewayUrl


class Genesis(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """The founding document of one ledger."""

    format_version: Annotated[int, Meta(ge=1, le=1)] = 1
    network: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z0-9\-]+$")]
    time_ms: TimeMs
    parameters: Parameters
    institutions: Annotated[tuple[Institution, ...], Meta(min_length=1, max_length=INSTITUTIONS_MAX)]
    replica_set: ReplicaSet
    contracts: Annotated[tuple[ContractVersion, ...], Meta(max_length=CONTRACTS_MAX)]
    """Active from the first block on, in ascending order of their names; all replicas must have them."""

    def __post_init__(self) -> None:
        known = {institution.institution for institution in self.institutions}
        if len(known) != len(self.institutions):
            raise ValueError("two institutions have one id")
        if len({institution.public_key for institution in self.institutions}) != len(known):
            raise ValueError("two institutions share one public key")
        for member in self.replica_set.members:
            if member.institution not in known:
                raise ValueError(f"replica {member.replica}: its institution is not in the genesis")
        if self.replica_set.epoch != 0:
            raise ValueError(f"epoch {self.replica_set.epoch} found, the first epoch is 0")
        if any(first.contract >= second.contract for first, second in pairwise(self.contracts)):
            raise ValueError("contracts are not in ascending order of their names, each once")
        if self.parameters.state_buckets_log2 % 4:
            raise ValueError("state_buckets_log2 is not a multiple of 4")

    def encode(self) -> bytes:
        return encode(self)

    def compute_chain_id(self) -> Digest:
        return compute_digest(tags.GENESIS, encode(self))


def decode_genesis(data: bytes) -> Genesis:
    """Raises EncodingError when `data` is not the canonical encoding of a consistent genesis."""
    return decode_as(Genesis, data, size_max=GENESIS_BYTES_MAX)
