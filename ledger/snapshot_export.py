"""Writing a snapshot from the rows of one moment, beside a node that goes on committing.

The rows come in the order of their keys and leave in that of their hashes. So they are dealt out into up to
256 spill files first, and each of these is then sorted by itself: memory stays at the spill buffer and a
256th of the state, however large the state is. What was written is checked against the
certified state root before the snapshot gets its name; until then the folder is called `making`, and one
that a crash left is removed.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crypto.encoding import encode
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.errors import SnapshotRefused, StoreFailed
from ledger.genesis import Genesis
from ledger.layout import STATE
from ledger.pacing import Pacer
from ledger.snapshot import Manifest, make_manifest, verify_manifest
from ledger.state_chunk import SubtreePlan, decode_state_chunk, encode_state_chunk
from ledger.state_tree import compute_key_hash
from ledger.store import Rows

MANIFEST_FILE: Final = "manifest"
CHUNKS_FILE: Final = "chunks"
MAKING: Final = "making"
SPILL_BUFFER_BYTES: Final = 8_388_608
"""Rows that gather in memory before they are dealt out to the spill files."""
_SPILL_FILES_MAX: Final = 256
_LENGTHS: Final = struct.Struct(">II")


def export_snapshot(rows: Rows, genesis: Genesis, *, height: int, shelf: Path, pacer: Pacer) -> Path:
    """Write the snapshot of the head `height` that `rows` shows into `shelf`; its folder.

    Raises NotHeld when this node lacks blocks of the window, WorkStopped, StoreFailed when the rows do not
    make the certified state root, OSError.
    """
    making = shelf / MAKING
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    plan = SubtreePlan(genesis.parameters.state_buckets_log2)
    spills = _Spills(making, plan)
    for key, row in rows.scan(STATE):
        spills.add(key[len(STATE) :], row)
        pacer.pause()
    with ChunkFile(making / CHUNKS_FILE) as chunks:
        nodes = bytearray(plan.compute_empty_hash() * plan.count)
        for subtree, members in spills.take():
            chunk = encode_state_chunk(members)
            pacer.pause()
            node = decode_state_chunk(chunk, subtree, plan).node
            nodes[subtree * len(node) : (subtree + 1) * len(node)] = node
            chunks.append(ChunkKind.STATE, subtree, chunk)
            pacer.pause()
        chunks.sync()
    manifest = make_manifest(rows, genesis, height=height, state_nodes=bytes(nodes), pacer=pacer)
    try:
        verify_manifest(manifest, genesis)
    except SnapshotRefused as error:
        raise StoreFailed(
            f"ledger database: snapshot of height {height}: {error}; sync the node anew"
        ) from error
    write_manifest(making, manifest)
    return publish(making, shelf / str(height))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Durable once it returns. Raises OSError."""
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.write(encode(manifest))
        file.flush()
        os.fsync(file.fileno())


def publish(folder: Path, name: Path) -> Path:
    """Give a whole snapshot its name; one of the same height gives way."""
    shutil.rmtree(name, ignore_errors=True)
    folder.rename(name)
    directory = os.open(name.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return name


class _Spills:
    """Rows dealt out by subtree: a few neighbouring subtrees to each file."""

    def __init__(self, folder: Path, plan: SubtreePlan) -> None:
        self._folder = folder
        self._plan = plan
        self._subtrees_per_file = max(1, plan.count // _SPILL_FILES_MAX)
        self._buffers: dict[int, bytearray] = {}
        self._buffered_bytes = 0
        self._files: set[int] = set()

    def add(self, key: bytes, row: bytes) -> None:
        number = self._plan.compute_subtree(compute_key_hash(key)) // self._subtrees_per_file
        record = b"".join((_LENGTHS.pack(len(key), len(row)), key, row))
        self._buffers.setdefault(number, bytearray()).extend(record)
        self._buffered_bytes += len(record)
        if self._buffered_bytes > SPILL_BUFFER_BYTES:
            self._flush()

    def take(self) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
        """Each subtree that has rows, in ascending order; the files go as they are read."""
        self._flush()
        for number in sorted(self._files):
            path = self._get_path(number)
            members: dict[int, list[tuple[bytes, bytes]]] = {}
            for key, row in _read_records(path.read_bytes()):
                members.setdefault(self._plan.compute_subtree(compute_key_hash(key)), []).append((key, row))
            path.unlink()
            yield from sorted(members.items())

    def _flush(self) -> None:
        for number, buffer in self._buffers.items():
            with self._get_path(number).open("ab") as file:
                file.write(buffer)
            self._files.add(number)
        self._buffers.clear()
        self._buffered_bytes = 0

    def _get_path(self, number: int) -> Path:
        return self._folder / f"spill-{number:03}"


def _read_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        key_length, row_length = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        yield data[at : at + key_length], data[at + key_length : at + key_length + row_length]
        at += key_length + row_length
