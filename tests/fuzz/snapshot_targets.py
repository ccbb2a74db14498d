"""The parts of a snapshot, as a peer gives them and as they lie in files; files that institutions pass on."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import pytest

from consensus.replica_set import ReplicaId
from crypto.encoding import EncodingError, decode_as, encode
from crypto.signatures import SigningKey
from ledger import layout
from ledger.admission_file import (
    ADMISSION_MAGIC,
    AdmissionRequest,
    decode_request,
    encode_request,
    sign_request,
)
from ledger.block import decode_header
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.epochs import EpochChange, follow_epochs
from ledger.errors import ProofRefused, SnapshotRefused
from ledger.genesis import decode_genesis
from ledger.recovery import decode_electorate
from ledger.recovery_file import RECOVERY_MAGIC, decode_recovery, encode_recovery
from ledger.snapshot import (
    CertifiedHeader,
    Epochs,
    Manifest,
    VerifiedManifest,
    WindowBlock,
    decode_manifest,
    verify_manifest,
)
from ledger.snapshot_shelf import SnapshotShelf
from ledger.state_chunk import SubtreePlan, decode_state_chunk, encode_state_chunk
from ledger.state_tree import compute_key_hash
from network.requests import BadRequest
from network.snapshot_serving import SnapshotAnswer, SnapshotRequest, SnapshotServer
from network.snapshot_sync import SnapshotSync
from tests.fuzz.file_targets import write_file
from tests.fuzz.mutations import MSGPACK
from tests.fuzz.target import VECTORS, Target, file_of, finish
from tests.fuzz.wire_targets import CERTIFICATE, HEADER, RECOVERY, TRANSACTIONS, NoLinks

GENESIS: Final = decode_genesis(bytes.fromhex(VECTORS["genesis"]["encoding"]))
PLAN: Final = SubtreePlan(GENESIS.parameters.state_buckets_log2)
RECEIPTS: Final = tuple(bytes.fromhex(item["encoding"]) for item in VECTORS["blocks"][0]["receipts"])
NO_ARCHIVE: Any = None
HEAD: Final = CertifiedHeader(HEADER, CERTIFICATE)
MANIFEST: Final = Manifest(
    head=HEAD, epoch_changes=(), base=(), state_nodes=bytes(32 * PLAN.count), history_nodes=bytes(32)
)
VERIFIED: Final = VerifiedManifest(
    genesis=GENESIS, manifest=MANIFEST, epochs=Epochs(GENESIS, ()), header=decode_header(HEADER), base=1
)


def read_manifest(data: bytes) -> Manifest:
    """What decodes is verified too: the vectors hold no whole snapshot, so it must be refused."""
    manifest = decode_manifest(data)
    with pytest.raises(SnapshotRefused):
        verify_manifest(manifest, GENESIS)
    return manifest


def make_state_chunk() -> bytes:
    """Some rows that fall into subtree 0."""
    keys = (b"key %d" % number for number in range(200))
    return encode_state_chunk(
        [(key, b"row") for key in keys if not PLAN.compute_subtree(compute_key_hash(key))]
    )


def take_window_block(data: bytes) -> object:
    """A block of the window, its receipts compared with history too."""
    block = VERIFIED.verify_window_block(1, data)
    block.verify_receipts([bytes.fromhex(item["leaf_hash"]) for item in VECTORS["blocks"][0]["receipts"]])
    return block


def read_chunk_file(data: bytes) -> int:
    """How many parts a file of these bytes holds, each read."""
    with file_of(data) as path, ChunkFile(path) as chunks:
        for kind in ChunkKind:
            chunks.read(kind, 0)
        chunks.append(ChunkKind.BLOCK, 7, b"another part")
        assert chunks.read(ChunkKind.BLOCK, 7) == b"another part"
        return len(chunks)


def make_chunk_file() -> bytes:
    def write(path: Path) -> None:
        with ChunkFile(path) as chunks:
            for kind in ChunkKind:
                chunks.append(kind, 0, bytes(kind) * 20)

    return write_file(write)[0]


def read_recovery(data: bytes) -> EpochChange:
    """What decodes is verified too, and must be refused."""
    change = decode_recovery(data)
    with pytest.raises(ProofRefused):
        follow_epochs(GENESIS, [change])
    if change.recovery is not None:
        with contextlib.suppress(ProofRefused):
            decode_electorate(change.recovery)
    return change


def answer_request(payload: bytes) -> bytes | None:
    """What a node without snapshots answers: nothing, to whatever makes sense."""
    shelf = SnapshotShelf(Path("no such folder"))
    server = SnapshotServer(
        shelf,
        lambda: NO_ARCHIVE,
        find_institution=lambda replica: b"",
        on_failure=lambda error: None,
    )
    return server.on_request(ReplicaId(1), payload)


def take_answer(data: bytes) -> SnapshotAnswer:
    request = SnapshotRequest(height=1, kind=ChunkKind.STATE, numbers=(0, 1), offset=0)
    return finish(SnapshotSync(NoLinks(data), GENESIS).ask(ReplicaId(1), request))


ADMISSION: Final = sign_request(
    SigningKey(b"n" * 32),
    chain_id=GENESIS.compute_chain_id(),
    institution=b"n" * 16,
    kind="hospital",
    name="newcomer",
    gateway_url="https://newcomer.example",
)

SNAPSHOT_TARGETS: Final = (
    Target(
        places=("ledger.admission_file:decode_request",),
        decode=decode_request,
        refusals=(ProofRefused,),
        make_examples=lambda: [encode_request(ADMISSION)],
        encode=encode_request,
        form=MSGPACK,
        start=len(ADMISSION_MAGIC),
        structure=AdmissionRequest,
        wrap=lambda request: ADMISSION_MAGIC + encode(request),
    ),
    Target(
        places=("ledger.recovery_file:decode_recovery", "ledger.recovery:decode_electorate"),
        decode=read_recovery,
        refusals=(ProofRefused,),
        make_examples=lambda: [encode_recovery(RECOVERY)],
        encode=encode_recovery,
        form=MSGPACK,
        start=len(RECOVERY_MAGIC),
        structure=EpochChange,
        wrap=lambda change: RECOVERY_MAGIC + encode(change),
    ),
    Target(
        places=("network.snapshot_serving:SnapshotServer.on_request",),
        decode=answer_request,
        refusals=(BadRequest,),
        make_examples=lambda: [encode(SnapshotRequest(1, ChunkKind.STATE, (0, 1), 0))],
        form=MSGPACK,
        structure=SnapshotRequest,
        wrap=encode,
    ),
    Target(
        places=("network.snapshot_sync:SnapshotSync.ask",),
        decode=take_answer,
        refusals=(SnapshotRefused,),
        make_examples=lambda: [encode(SnapshotAnswer(1, (b"part", b"another"), 0))],
        encode=encode,
        form=MSGPACK,
        structure=SnapshotAnswer,
        wrap=encode,
    ),
    Target(
        places=("ledger.snapshot:decode_manifest",),
        decode=read_manifest,
        refusals=(SnapshotRefused,),
        make_examples=lambda: [encode(MANIFEST)],
        encode=encode,
        form=MSGPACK,
        structure=Manifest,
        wrap=encode,
    ),
    Target(
        places=("ledger.snapshot:VerifiedManifest.verify_window_block",),
        decode=take_window_block,
        refusals=(SnapshotRefused,),
        make_examples=lambda: [encode(WindowBlock(HEADER, CERTIFICATE, TRANSACTIONS[:3], RECEIPTS))],
        form=MSGPACK,
        structure=WindowBlock,
        wrap=encode,
    ),
    Target(
        places=("ledger.state_chunk:decode_state_chunk",),
        decode=lambda data: decode_state_chunk(data, 0, PLAN),
        refusals=(SnapshotRefused,),
        make_examples=lambda: [make_state_chunk(), encode_state_chunk([])],
        form=MSGPACK,
    ),
    Target(
        places=("ledger.archive:Archive.get_epoch_change",),
        decode=lambda data: decode_as(EpochChange, data, size_max=layout.ROW_BYTES_MAX),
        refusals=(EncodingError,),
        make_examples=lambda: [encode(EpochChange(HEADER, CERTIFICATE, GENESIS.replica_set))],
        encode=encode,
        form=MSGPACK,
        structure=EpochChange,
        wrap=encode,
    ),
    Target(
        places=("ledger.chunk_file:ChunkFile._read_heads",),
        decode=read_chunk_file,
        refusals=(),
        make_examples=lambda: [make_chunk_file()],
        is_file=True,
    ),
)
