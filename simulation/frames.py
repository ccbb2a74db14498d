"""What travels over a simulated link: messages of the protocol, transactions, blocks that are asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias, assert_never

from msgspec import (
    Struct,
)  # Several times quicker to make than frozen dataclasses; a frame is made at every send.

from consensus.certificates import Certificate
from consensus.messages import decode_message

FRAME_BYTES: Final = 60
"""What a frame takes on the wire beside its contents."""

decode_shared = lru_cache(maxsize=256)(decode_message)
"""A broadcast is decoded once for all who receive it; messages are immutable."""


class ConsensusFrame(Struct, frozen=True):
    """One encoded message of the protocol."""

    data: bytes


class TransactionsFrame(Struct, frozen=True):
    """Transactions on their way from the node that took them in, or forwarded to a primary."""

    bodies: tuple[bytes, ...]


class BodiesRequest(Struct, frozen=True):
    """Which transactions of a proposal the sender misses."""

    hashes: tuple[bytes, ...]


class BodiesResponse(Struct, frozen=True):
    bodies: tuple[bytes, ...]


class BlocksRequest(Struct, frozen=True):
    """Blocks from this height on, please."""

    height_from: int


class SyncedBlock(Struct, frozen=True, kw_only=True):
    """A final block as it travels to a node that is behind."""

    header: bytes
    hashes: tuple[bytes, ...]
    bodies: tuple[bytes, ...]
    certificate: Certificate


class BlocksResponse(Struct, frozen=True):
    height_from: int
    """Of the first block."""
    blocks: tuple[SyncedBlock, ...]


Frame: TypeAlias = (
    ConsensusFrame | TransactionsFrame | BodiesRequest | BodiesResponse | BlocksRequest | BlocksResponse
)


def compute_frame_bytes(frame: Frame) -> int:
    """What `frame` takes on the wire, in bytes."""
    match frame:
        case ConsensusFrame():
            return FRAME_BYTES + len(frame.data)
        case TransactionsFrame() | BodiesResponse():
            return FRAME_BYTES + sum(map(len, frame.bodies))
        case BodiesRequest():
            return FRAME_BYTES + 32 * len(frame.hashes)
        case BlocksRequest():
            return FRAME_BYTES
        case BlocksResponse():
            return FRAME_BYTES + sum(map(_compute_block_bytes, frame.blocks))
        case _:
            assert_never(frame)


def _compute_block_bytes(block: SyncedBlock) -> int:
    signatures = len(block.certificate.signatures)
    return len(block.header) + 32 * len(block.hashes) + sum(map(len, block.bodies)) + 70 * signatures
