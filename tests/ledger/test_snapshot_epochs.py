"""A snapshot of a ledger whose replica set has changed: every header by the set of its own height (E4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from crypto import tags
from crypto.encoding import encode
from ledger.block import compute_header_digest, decode_header
from ledger.chain import Chain
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.contract_set import load_built_in
from ledger.errors import SnapshotRefused
from ledger.genesis import Genesis
from ledger.pacing import Pacer
from ledger.proofs import decode_proof, verify_proof
from ledger.settings import StoreSettings
from ledger.snapshot import CertifiedHeader, Manifest, VerifiedManifest, decode_manifest, verify_manifest
from ledger.snapshot_export import export_snapshot
from ledger.snapshot_install import install_snapshot
from ledger.snapshot_shelf import OfferedSnapshot, SnapshotShelf
from tests.ledger.consortium import Consortium, make_key


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    """Two epochs: a fifth replica has been voted in, and blocks of both epochs are in the window."""
    made = Consortium(tmp_path)
    made.commit(made.register(3, "node 4"))
    made.change(add=(4,))
    made.commit(made.register(3, "other 1"))
    yield made
    for chain in made.opened:
        chain.close()


def offer(consortium: Consortium) -> OfferedSnapshot:
    chain, shelf = consortium.chain, SnapshotShelf(consortium.directory / "snapshots")
    height, pacer = chain.head.height, Pacer(rest_seconds=0)
    export_snapshot(chain.archive.rows, chain.genesis, height=height, shelf=shelf.directory, pacer=pacer)
    offered = shelf.open_newest()
    assert offered is not None
    return offered


def read_manifest(consortium: Consortium) -> Manifest:
    offered = offer(consortium)
    offered.chunks.close()
    return decode_manifest(offered.manifest)


def install(consortium: Consortium, offered: OfferedSnapshot, verified: VerifiedManifest) -> Chain:
    chain, directory = consortium.chain, consortium.directory / "joined"
    with ChunkFile(consortium.directory / "chunks") as chunks:
        names = [
            *((ChunkKind.STATE, number) for number in verified.list_subtrees()),
            *((ChunkKind.HISTORY, number) for number in range(verified.history_chunks)),
            *((ChunkKind.BLOCK, height) for height in range(verified.base, verified.height + 1)),
        ]
        for kind, number in names:
            part = offered.read(kind, number, chain.archive)
            assert part is not None
            chunks.append(kind, number, part)
        install_snapshot(
            verified,
            chunks,
            ledger_directory=directory,
            contract_set=load_built_in(),
            settings=StoreSettings(),
            pacer=Pacer(rest_seconds=0),
        )
    offered.chunks.close()
    joined = Chain.open(directory, chain.genesis)
    consortium.opened.append(joined)
    return joined


@pytest.mark.parametrize("is_closing", [False, True], ids=["within an epoch", "of the block that closes one"])
def test_e4_a_node_joins_a_ledger_of_several_epochs(consortium: Consortium, is_closing: bool) -> None:
    if is_closing:
        consortium.change(remove=(0,))
    offered = offer(consortium)
    verified = verify_manifest(decode_manifest(offered.manifest), consortium.chain.genesis)
    assert len(verified.manifest.epoch_changes) == 1 + is_closing
    joined = install(consortium, offered, verified)
    assert joined.head == consortium.chain.head
    assert joined.epoch == consortium.chain.epoch
    assert joined.replica_set.epoch == 1 + is_closing
    blocks = [joined.get_block(height) for height in range(1, joined.head.height + 1)]
    proofs = [
        joined.prove_receipt(transaction.transaction_id).encode()
        for block in blocks
        if block is not None
        for transaction in block.transactions
    ]
    assert len(proofs) >= 4
    for proof in proofs:
        assert verify_proof(decode_proof(proof), joined.chain_id)


def replace(manifest: Manifest, **changes: object) -> Manifest:
    return msgspec.structs.replace(manifest, **changes)


def test_e4_a_manifest_that_leaves_out_or_forges_a_change_is_refused(consortium: Consortium) -> None:
    genesis, manifest = consortium.chain.genesis, read_manifest(consortium)
    (change,) = manifest.epoch_changes
    forged = msgspec.structs.replace(change, replica_set=genesis.replica_set)
    for changes in ((), (change, change), (forged,)):
        with pytest.raises(SnapshotRefused):
            verify_manifest(replace(manifest, epoch_changes=changes), genesis)


def sign_as_founders(genesis: Genesis, header: bytes, *, epoch: int) -> CertifiedHeader:
    """What a quorum of the first set can still make, in the name of any epoch."""
    height, digest = decode_header(header).height, compute_header_digest(header)
    message = compute_vote_bytes(genesis.compute_chain_id(), epoch, height, 0, Phase.COMMIT, digest)
    votes = tuple(
        VoteSignature(number, make_key(f"node {number}").sign(tags.VOTE, message)) for number in range(3)
    )
    return CertifiedHeader(header, Certificate(epoch, height, 0, digest, votes))


def test_e4_the_former_set_certifies_no_snapshot_above_its_last_block(consortium: Consortium) -> None:
    """Its quorum of three would do for four replicas, and its members still have their keys."""
    genesis, manifest = consortium.chain.genesis, read_manifest(consortium)
    head = decode_header(manifest.head.header)
    as_if_still_in_force = msgspec.structs.replace(
        head,
        epoch=0,
        replica_set_digest=genesis.replica_set.compute_digest(),
        next_replica_set_digest=head.replica_set_digest,
    )
    for header in (head, as_if_still_in_force):
        for epoch in (0, 1):
            forged = sign_as_founders(genesis, encode(header), epoch=epoch)
            with pytest.raises(SnapshotRefused, match="a certified header"):
                verify_manifest(replace(manifest, head=forged), genesis)
