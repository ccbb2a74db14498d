"""The file by which institutions agree on a recovery: prepared at one node, signed, applied at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from consensus.replica_set import Member, ReplicaSet
from contracts.nodes import get_node
from crypto.encoding import EncodingError, decode_as, encode
from crypto.signatures import SigningKey
from ledger.block import Header, decode_header
from ledger.chain import Chain
from ledger.epochs import EpochChange
from ledger.errors import NotHeld, ProofRefused
from ledger.recovery import ELECTORATE_STATE_KEY, Recovery, sign_recovery

RECOVERY_MAGIC: Final = b"chartchain:recovery:1\n"
FILE_BYTES_MAX: Final = 1_048_576


def prepare_recovery(chain: Chain, replicas: Collection[int]) -> EpochChange:
    """The change to these replicas above the head, with nobody's signature yet.

    Raises NotHeld before the first certified block, ProofRefused for a replica that is no registered node.
    """
    head = chain.head
    proof = chain.prove_state(ELECTORATE_STATE_KEY)
    if proof.row is None or head.certificate is None:
        raise NotHeld("this ledger has no electorate: its contracts know no institutions")
    members = tuple(_find_member(chain, replica) for replica in sorted(set(replicas)))
    recovery = Recovery(
        signatures=(), electorate=proof.row, count=proof.count, entries=proof.entries, siblings=proof.siblings
    )
    following = ReplicaSet(chain.replica_set.epoch + 1, members)
    return EpochChange(head.header_bytes, head.certificate, following, recovery)


def sign_change(change: EpochChange, key: SigningKey) -> EpochChange:
    """The change with one more signature. Raises ProofRefused for a key that has no voice."""
    recovery, header = get_recovery(change)
    signed = sign_recovery(recovery, change.header, header, change.replica_set, key)
    return replace(change, recovery=signed)


def get_recovery(change: EpochChange) -> tuple[Recovery, Header]:
    """What makes the change a recovery, and the header that it begins above. Raises ProofRefused."""
    if change.recovery is None:
        raise ProofRefused("recovery", "the replicas made this change themselves")
    try:
        return change.recovery, decode_header(change.header)
    except EncodingError as error:
        raise ProofRefused("recovery", str(error)) from error


def encode_recovery(change: EpochChange) -> bytes:
    """The bytes of a recovery file."""
    return RECOVERY_MAGIC + encode(change)


def decode_recovery(data: bytes) -> EpochChange:
    """The change in a file's bytes; nothing of it is verified. Raises ProofRefused."""
    if not data.startswith(RECOVERY_MAGIC):
        raise ProofRefused("file", f"begins with {data[:32]!r}; a recovery file of this version was expected")
    try:
        change = decode_as(EpochChange, data[len(RECOVERY_MAGIC) :], size_max=FILE_BYTES_MAX)
    except EncodingError as error:
        raise ProofRefused("file", str(error)) from error
    get_recovery(change)
    return change


def _find_member(chain: Chain, replica: int) -> Member:
    node = get_node(chain.state, replica)
    if node is None or node.retired_height:
        raise ProofRefused("recovery", f"replica {replica} is no registered node of this ledger")
    return Member(node.replica, node.public_key, node.institution)
