"""Key files: one Ed25519 key as unencrypted PKCS #8 PEM, readable by its owner only.

The same file serves the signer here and the TLS stack, which reads PEM. A file that others may read is
refused rather than used: a key that leaked is not a key.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from crypto.signatures import SEED_BYTES, SigningKey

KEY_FILE_BYTES_MAX = 4096


class KeyFileError(Exception):
    """A key file cannot be used: the operator's fault; the message says how to mend it."""


def generate_signing_key() -> SigningKey:
    """A new key from the operating system's randomness."""
    return SigningKey(secrets.token_bytes(SEED_BYTES))


def write_key_file(path: Path, key: SigningKey) -> None:
    """Write `key` to a new file with mode 0600, durably. Raises KeyFileError when the file exists."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    write_secret_file(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def read_key_file(path: Path) -> SigningKey:
    """The key in `path`. Raises KeyFileError when it is absent, open to others or no Ed25519 key."""
    data = read_secret_file(path, size_max=KEY_FILE_BYTES_MAX)
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path}: no readable PEM key found, an unencrypted PKCS #8 PEM expected"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: {type(private).__name__} found, an Ed25519 key expected")
    return SigningKey(private.private_bytes_raw())


def write_secret_file(path: Path, data: bytes) -> None:
    """Write `data` to a new file with mode 0600 and sync it. Raises KeyFileError when the file exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(
            f"{path}: exists already; remove it yourself if the key in it may be lost"
        ) from error
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def read_secret_file(path: Path, *, size_max: int) -> bytes:
    """The bytes of a file that only its owner may read. Raises KeyFileError otherwise."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(size_max + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(f"{path}: mode {mode:04o} found, 0600 expected; run: chmod 600 {path}")
    if len(data) > size_max:
        raise KeyFileError(f"{path}: more than {size_max} bytes found; this is not a key file")
    return data
