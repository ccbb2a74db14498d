"""Key files are their owner's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto.key_files import KeyFileError, generate_signing_key, read_key_file, write_key_file


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    key = generate_signing_key()
    write_key_file(tmp_path / "node.pem", key)
    assert (tmp_path / "node.pem").stat().st_mode & 0o777 == 0o600
    assert read_key_file(tmp_path / "node.pem").seed == key.seed


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    key = generate_signing_key()
    write_key_file(tmp_path / "node.pem", key)
    with pytest.raises(KeyFileError, match="exists already"):
        write_key_file(tmp_path / "node.pem", generate_signing_key())
    assert read_key_file(tmp_path / "node.pem").seed == key.seed


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.pem"
    write_key_file(path, generate_signing_key())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_key_file(path)


@pytest.mark.parametrize("content", [b"", b"no key", b"x" * 5000])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.pem"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"node\.pem"):
        read_key_file(path)


def test_a_key_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    write_key_file(path, generate_signing_key())
    # One bit of the algorithm's name is another, so it names none.
    path.write_bytes(path.read_bytes().replace(b"BQYDK2Vw", b"BQYDK3Vw"))
    with pytest.raises(KeyFileError, match="no readable PEM key"):
        read_key_file(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="absent"):
        read_key_file(tmp_path / "absent.pem")
