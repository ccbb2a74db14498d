"""The key ring: an institution's key-encryption keys, in one file that only its owner may read.

One key is current and wraps everything new; older ones stay only while a rotation is under way. Every
wrapped value names the one key that opens it, so at any moment each opens under exactly one key. The naming
key turns aliases and content digests into names that say nothing without it; it never rotates, or erased
content could no longer be recognised. Whoever backs up the ring together with the vault can undo an erasure:
keep its backups apart.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
from pathlib import Path
from typing import Final

from crypto.hazmat.aead import KEY_BYTES, OVERHEAD_BYTES, DecryptionError, generate_key, open_sealed, seal
from crypto.key_files import KeyFileError, read_secret_file, write_secret_file
from vault.errors import KeyRingError

KEY_ID_BYTES: Final = 8
WRAP_OVERHEAD_BYTES: Final = KEY_ID_BYTES + OVERHEAD_BYTES
RING_FILE_BYTES_MAX: Final = 16_384
KEYS_MAX: Final = 16
"""More than two keys only ever meet when an operator edits the file; then this bounds it."""

_FORMAT: Final = "chartchain-key-ring-1"


class KeyRing:
    """Key-encryption keys by id; safe to use from several threads."""

    __slots__ = ("_current_id", "_keys", "_lock", "_naming_key", "path")

    def __init__(self, *, path: Path, keys: dict[bytes, bytes], current_id: bytes, naming_key: bytes) -> None:
        if current_id not in keys:
            raise KeyRingError(f"{path}: current key {current_id.hex()} is not among the keys")
        self.path = path
        self._keys = keys
        self._current_id = current_id
        self._naming_key = naming_key
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> KeyRing:
        """A new ring with one key, in a new file. Raises KeyRingError when the file exists."""
        key_id = secrets.token_bytes(KEY_ID_BYTES)
        ring = cls(path=path, keys={key_id: generate_key()}, current_id=key_id, naming_key=generate_key())
        try:
            write_secret_file(path, ring._to_bytes())
            _sync_directory(path.parent)
        except KeyFileError as error:
            raise KeyRingError(str(error)) from error
        except OSError as error:
            raise KeyRingError(f"{path}: cannot be made durable: {error.strerror}") from error
        return ring

    @classmethod
    def open(cls, path: Path) -> KeyRing:
        """The ring in `path`. Raises KeyRingError when it is absent, open to others or malformed."""
        try:
            data = read_secret_file(path, size_max=RING_FILE_BYTES_MAX)
        except KeyFileError as error:
            raise KeyRingError(str(error)) from error
        try:
            document = json.loads(data)
            found = document["format"]
            if found != _FORMAT:
                raise KeyRingError(f"{path}: format {found!r} found, {_FORMAT!r} expected")
            keys = {bytes.fromhex(key_id): bytes.fromhex(key) for key_id, key in document["keys"].items()}
            current_id = bytes.fromhex(document["current"])
            naming_key = bytes.fromhex(document["naming_key"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Without a cause: the parser's message would show pieces of keys.
            raise KeyRingError(
                f"{path}: not a readable key ring, a JSON document of format {_FORMAT!r} expected; "
                "restore it from its own backup"
            ) from None
        if not 1 <= len(keys) <= KEYS_MAX or any(len(key_id) != KEY_ID_BYTES for key_id in keys):
            raise KeyRingError(
                f"{path}: between 1 and {KEYS_MAX} keys with ids of {KEY_ID_BYTES} bytes expected"
            )
        if any(len(key) != KEY_BYTES for key in (*keys.values(), naming_key)):
            raise KeyRingError(f"{path}: a key of other than {KEY_BYTES} bytes found")
        return cls(path=path, keys=keys, current_id=current_id, naming_key=naming_key)

    @property
    def current_id(self) -> bytes:
        return self._current_id

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        return tuple(sorted(self._keys))

    @property
    def is_rotating(self) -> bool:
        """A rotation was begun and not finished: values under an older key may remain."""
        return len(self._keys) > 1

    def wrap(self, value: bytes, binding: bytes) -> bytes:
        """`value` sealed under the current key, its id in front: `WRAP_OVERHEAD_BYTES` longer."""
        with self._lock:
            key_id, key = self._current_id, self._keys[self._current_id]
        return key_id + seal(key, value, key_id + binding)

    def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        """The value. Raises DecryptionError when altered, bound otherwise, or its key is gone."""
        key_id = wrapped[:KEY_ID_BYTES]
        with self._lock:
            key = self._keys.get(key_id)
        if key is None:
            raise DecryptionError(f"key {key_id.hex()} is not on the ring")
        return open_sealed(key, wrapped[KEY_ID_BYTES:], key_id + binding)

    def is_current(self, wrapped: bytes) -> bool:
        return wrapped[:KEY_ID_BYTES] == self._current_id

    def compute_name(self, purpose: bytes, *parts: bytes) -> bytes:
        """A keyed name, 32 bytes: equal for equal parts, and nothing more without the ring."""
        state = hmac.new(self._naming_key, digestmod="sha256")
        for part in (purpose, *parts):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
        return state.digest()

    def begin_rotation(self) -> None:
        """Add a key and make it the current one, durably. Raises KeyRingError while one is under way."""
        with self._lock:
            if len(self._keys) > 1:
                raise KeyRingError(f"{self.path}: a rotation is under way: finish it first")
            key_id = secrets.token_bytes(KEY_ID_BYTES)
            self._replace({**self._keys, key_id: generate_key()}, key_id)

    def finish_rotation(self) -> None:
        """Drop every key but the current one, durably: what they wrapped and nobody re-wrapped is lost."""
        with self._lock:
            self._replace({self._current_id: self._keys[self._current_id]}, self._current_id)

    def _replace(self, keys: dict[bytes, bytes], current_id: bytes) -> None:
        """Write the file anew, atomically, and only then use it."""
        fresh = KeyRing(path=self.path, keys=keys, current_id=current_id, naming_key=self._naming_key)
        temporary = self.path.with_name(f"{self.path.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            write_secret_file(temporary, fresh._to_bytes())
            temporary.replace(self.path)
            _sync_directory(self.path.parent)
        except (OSError, KeyFileError) as error:
            raise KeyRingError(f"{self.path}: cannot be replaced: {error}") from error
        self._keys, self._current_id = keys, current_id

    def _to_bytes(self) -> bytes:
        document = {
            "format": _FORMAT,
            "current": self._current_id.hex(),
            "keys": {key_id.hex(): key.hex() for key_id, key in sorted(self._keys.items())},
            "naming_key": self._naming_key.hex(),
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    def __repr__(self) -> str:
        return f"KeyRing(path={str(self.path)!r}, current_id={self._current_id.hex()!r})"


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
