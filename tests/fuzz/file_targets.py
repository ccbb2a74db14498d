"""What an operator or a disk gives: keys, certificates, settings, genesis, journal."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from config.errors import ConfigError, GenesisFileError, NetworkFolderError
from config.genesis_file import read_genesis_file, write_genesis_file
from config.local_network import NETWORK_FILE, load_local_network
from config.settings import _parse, load_node_settings
from consensus.journal import Entry, Journal, JournalCorrupt
from crypto.encoding import encode
from crypto.key_files import KeyFileError, read_key_file, write_key_file
from crypto.signatures import SigningKey
from ledger.genesis import decode_genesis
from network.certificates import (
    CertificateError,
    create_authority,
    issue_node_certificate,
    read_certificate_key,
    read_certificate_key_pem,
)
from tests.fuzz.mutations import JSON, MSGPACK
from tests.fuzz.target import VECTORS, Target, file_of, folder_of
from vault.errors import KeyRingError
from vault.key_ring import KeyRing

KEY: Final = SigningKey(b"k" * 32)

SETTINGS: Final = b"""
[node]
name = "east"
replica = 0
institution = "00112233445566778899aabbccddeeff"

[[peers]]
replica = 1
host = "127.0.0.1"
port = 7444

[consensus]
view_timeout_ms = 2000

[network.links]
heartbeat_ms = 10_000
"""

NETWORK: Final = b"""{"format_version": 1, "name": "test", "genesis_digest": "%s", "nodes": [{"name": "east",
"title": "East", "kind": "hospital", "directory": "east", "replica": 0, "institution": "%s",
"link_port": 7443, "gateway_port": 8443, "gateway_url": "https://127.0.0.1:8443"}]}""" % (
    b"0" * 64,
    b"1" * 32,
)


def read_file(reader: Callable[[Path], Any], name: str = "file") -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        with file_of(data, name) as path:
            return reader(path)

    return read


def write_file(writer: Callable[[Path], object]) -> Sequence[bytes]:
    with folder_of() as folder:
        writer(folder / "example")
        return [(folder / "example").read_bytes()]


def open_journal(data: bytes) -> Sequence[Entry]:
    """The entries of a journal whose only segment holds these bytes."""
    with file_of(data, "000000000001.segment") as path:
        journal = Journal.open(path.parent)
        try:
            journal.confirm()
            return journal.entries
        finally:
            journal.close()


def open_frame(data: bytes) -> Sequence[Entry]:
    """The entries of a journal with one well-checked frame of these bytes, as another version might write."""
    mark, length = b"m" * 8, len(data).to_bytes(4, "big")
    header = struct.pack(">8sHB8s", b"chartjnl", 1, 0, mark)
    checksum = zlib.crc32(mark + length + data).to_bytes(4, "big")
    return open_journal(header + zlib.crc32(header).to_bytes(4, "big") + mark + length + checksum + data)


def make_journals() -> Sequence[bytes]:
    with folder_of() as folder:
        Journal.create(folder / "journal")
        journal = Journal.open(folder / "journal")
        for height in range(3):
            journal.append([Entry(height, height % 2, b"entry %d" % height)])
        journal.close()
        return [path.read_bytes() for path in (folder / "journal").iterdir()]


def make_genesis_files() -> Sequence[bytes]:
    genesis = decode_genesis(bytes.fromhex(VECTORS["genesis"]["encoding"]))
    return write_file(lambda path: write_genesis_file(path, genesis))


def make_certificate() -> bytes:
    return issue_node_certificate(create_authority("test"), KEY, "node")


def make_der_certificate() -> bytes:
    return x509.load_pem_x509_certificate(make_certificate()).public_bytes(Encoding.DER)


def load_from_environment(data: bytes) -> object:
    """Settings with one variable of the environment."""
    text = data.decode("utf-8", "surrogateescape")
    with file_of(SETTINGS) as path:
        return load_node_settings(path, environment={"CHARTCHAIN_CONSENSUS__VIEW_TIMEOUT_MS": text})


FILE_TARGETS: Final = (
    Target(
        places=("crypto.key_files:read_key_file",),
        decode=read_file(read_key_file),
        refusals=(KeyFileError,),
        make_examples=lambda: write_file(lambda path: write_key_file(path, KEY)),
        is_file=True,
    ),
    Target(
        places=("vault.key_ring:KeyRing.open",),
        decode=read_file(KeyRing.open),
        refusals=(KeyRingError,),
        make_examples=lambda: write_file(KeyRing.create),
        form=JSON,
        is_file=True,
    ),
    Target(
        places=("config.settings:_read_toml",),
        decode=read_file(lambda path: load_node_settings(path, environment={})),
        refusals=(ConfigError,),
        make_examples=lambda: [SETTINGS],
        is_file=True,
    ),
    Target(
        places=("config.settings:_parse",),
        decode=lambda data: _parse(data.decode("utf-8", "surrogateescape")),
        refusals=(),
        make_examples=lambda: [b"1_000", b'"text"', b"[1, 2]", b"{ a = 1 }", b"plain", b"0x10", b"true"],
        is_file=True,
    ),
    Target(
        places=("config.settings:load_node_settings",),
        decode=load_from_environment,
        refusals=(ConfigError,),
        make_examples=lambda: [b"2000", b"0x7d0"],
        is_file=True,
    ),
    Target(
        places=("config.genesis_file:_Reader.read",),
        decode=read_file(read_genesis_file),
        refusals=(GenesisFileError,),
        make_examples=make_genesis_files,
        form=JSON,
        is_file=True,
    ),
    Target(
        places=("config.local_network:load_local_network",),
        decode=read_file(lambda path: load_local_network(path.parent), NETWORK_FILE),
        refusals=(NetworkFolderError,),
        make_examples=lambda: [NETWORK],
        form=JSON,
        is_file=True,
    ),
    Target(
        places=(
            "consensus.journal:Journal._load",
            "consensus.journal:Journal._read_needed",
            "consensus.journal:_decode_entries",
            "consensus.journal:_decode_frame",
            "consensus.journal:_decode_header",
        ),
        decode=open_journal,
        refusals=(JournalCorrupt,),
        make_examples=make_journals,
        is_file=True,
    ),
    Target(
        places=("consensus.journal:Journal._load a frame",),
        decode=open_frame,
        refusals=(JournalCorrupt,),
        make_examples=lambda: [encode([(7, 0, b"entry"), (0, 1, b"standing")])],
        form=MSGPACK,
        structure=tuple[Entry, ...],
        wrap=encode,
        is_file=True,
    ),
    Target(
        places=("network.certificates:read_certificate_key",),
        decode=read_certificate_key,
        refusals=(CertificateError,),
        make_examples=lambda: [make_der_certificate()],
    ),
    Target(
        places=("network.certificates:read_certificate_key_pem",),
        decode=read_certificate_key_pem,
        refusals=(CertificateError,),
        make_examples=lambda: [make_certificate()],
    ),
)
