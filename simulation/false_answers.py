"""What a lying peer answers to who asks it for blocks or bodies."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from simulation.disk import StoredBlock
from simulation.frames import BlocksResponse, BodiesResponse, SyncedBlock

LIES = ("body", "hash", "header", "other_certificate", "few_signatures", "height", "gap", "nothing")


def falsify_blocks(
    random: Random, response: BlocksResponse, known: Sequence[StoredBlock]
) -> tuple[str, BlocksResponse]:
    """One of LIES, and the response with it; `known` are blocks to take certificates from."""
    blocks = list(response.blocks)
    if not blocks:
        return "nothing", response
    lie, index = random.choice(LIES), random.randrange(len(blocks))
    block = blocks[index]
    if lie in ("body", "hash") and not block.bodies:
        lie = "header"
    match lie:
        case "body":
            blocks[index] = replace(block, bodies=tuple(body[:-1] + b"!" for body in block.bodies))
        case "hash":
            blocks[index] = replace(block, hashes=block.hashes[1:], bodies=block.bodies[1:])
        case "header":
            blocks[index] = replace(block, header=_flip_bit(random, block.header))
        case "other_certificate":
            other = random.choice(known).certificate or block.certificate
            blocks[index] = replace(block, certificate=other)
        case "few_signatures":
            blocks[index] = _keep_one_signature(block)
        case "height":
            return lie, BlocksResponse(response.height_from + random.choice((-1, 1, 1_000)), response.blocks)
        case "gap":
            del blocks[index]
        case _:
            blocks = []
    return lie, BlocksResponse(response.height_from, tuple(blocks))


def falsify_bodies(random: Random, response: BodiesResponse) -> BodiesResponse:
    """Bodies that nobody asked for in the place of some."""
    return BodiesResponse(
        tuple(_flip_bit(random, body) if random.random() < 0.5 else body for body in response.bodies)
    )


def _keep_one_signature(block: SyncedBlock) -> SyncedBlock:
    """The same signature as often as a quorum has members."""
    certificate = block.certificate
    return replace(
        block,
        certificate=type(certificate)(
            certificate.epoch,
            certificate.height,
            certificate.view,
            certificate.digest,
            (certificate.signatures[0],) * len(certificate.signatures),
        ),
    )


def _flip_bit(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)
