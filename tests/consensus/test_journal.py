"""The journal keeps what was promised, through crashes at every sync point and through bad disks."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consensus import journal as journal_module
from consensus.journal import Entry, Journal, JournalCorrupt, JournalFailed, JournalFull, JournalSettings

SMALL = JournalSettings(segment_bytes_max=2_000, journal_bytes_max=100_000)


class PowerCut(BaseException):
    """Nothing of the process runs after this."""


def entry(height: int, data: bytes = b"vote", standing: int = 0) -> Entry:
    return Entry(height=height, standing=standing, data=data)


def get_segment(directory: Path) -> Path:
    (path,) = directory.glob("*.segment")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    Journal.create(path)
    return path


def reopen(directory: Path, settings: JournalSettings | None = None) -> tuple[Entry, ...]:
    journal = Journal.open(directory, settings)
    journal.close()
    return journal.entries


def test_entries_come_back_in_the_order_of_writing(directory: Path) -> None:
    journal = Journal.open(directory)
    journal.append([entry(1, b"proposal"), entry(1, b"prepare")])
    journal.append([entry(1, b"commit")])
    journal.close()
    assert [found.data for found in reopen(directory)] == [b"proposal", b"prepare", b"commit"]


def test_a_created_journal_is_not_missing_and_empty(directory: Path) -> None:
    journal = Journal.open(directory)
    assert not journal.is_missing
    assert journal.entries == ()
    journal.close()


def test_create_refuses_a_journal_in_use(directory: Path) -> None:
    with pytest.raises(JournalFailed, match="not empty"):
        Journal.create(directory)


def test_rule_P6_a_missing_journal_says_so_at_every_opening_until_it_is_confirmed(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    for _ in range(3):
        journal = Journal.open(directory, SMALL)
        assert journal.is_missing
        journal.append([entry(height, bytes(900)) for height in range(5)])
        journal.truncate(3)  # Rewrites the segment, which must not forget that the journal was missing.
        journal.close()
    journal = Journal.open(directory)
    journal.append([entry(9, b"vote")])
    journal.confirm()
    assert not journal.is_missing
    journal.close()
    journal = Journal.open(directory)
    assert not journal.is_missing
    assert journal.entries[-1].data == b"vote"
    journal.close()


def test_entries_above_the_height_survive_truncation_and_those_below_go(directory: Path) -> None:
    journal = Journal.open(directory, SMALL)
    for height in range(1, 8):
        journal.append([entry(height, bytes([height]) * 500)])
        journal.truncate(height - 1)
    assert journal.size_bytes < 2_600
    journal.close()
    heights = [found.height for found in reopen(directory)]
    assert heights[-1] == 7
    assert 1 not in heights


def test_rewriting_keeps_what_is_above_the_height_only(directory: Path) -> None:
    journal = Journal.open(directory, SMALL)
    journal.append([entry(height, bytes([height]) * 500) for height in range(1, 8)])
    journal.truncate(5)
    journal.append([entry(8)])
    journal.close()
    assert [found.height for found in reopen(directory)] == [6, 7, 8]


def test_the_last_standing_entry_of_each_number_outlives_every_height(directory: Path) -> None:
    journal = Journal.open(directory, SMALL)
    journal.append([entry(1, b"view change 1", standing=1), entry(1, b"new view", standing=2)])
    journal.append([entry(2, b"view change 2", standing=1)])
    for height in range(3, 9):
        journal.append([entry(height, bytes(700))])
        journal.truncate(height)
    journal.close()
    assert [found.data for found in reopen(directory) if found.standing] == [b"new view", b"view change 2"]


def test_the_segment_is_not_rewritten_at_every_height(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(directory, SMALL)
    before = get_segment(directory)
    for height in range(1, 5):
        journal.append([entry(height, bytes(300))])
        journal.truncate(height)
    assert get_segment(directory) == before
    journal.close()


@pytest.mark.parametrize("lost", range(1, 60, 3))
def test_a_torn_last_frame_is_dropped_and_writing_goes_on(directory: Path, lost: int) -> None:
    journal = Journal.open(directory)
    journal.append([entry(1, b"first")])
    journal.append([entry(2, b"second" * 6)])
    journal.close()
    path = get_segment(directory)
    os.truncate(path, path.stat().st_size - lost)
    journal = Journal.open(directory)
    assert [found.data for found in journal.entries] == [b"first"]
    journal.append([entry(3, b"third")])
    journal.close()
    assert [found.data for found in reopen(directory)] == [b"first", b"third"]


def test_a_last_frame_whose_pages_never_reached_the_disk_is_dropped(directory: Path) -> None:
    journal = Journal.open(directory)
    journal.append([entry(1, b"first")])
    kept = journal.size_bytes
    journal.append([entry(2, bytes(5_000))])
    journal.close()
    path = get_segment(directory)
    data = path.read_bytes()
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    assert [found.data for found in reopen(directory)] == [b"first"]


@hypothesis_settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_before_the_last_frame_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("flip") / "journal"
    Journal.create(directory)
    journal = Journal.open(directory)
    for height in (1, 2):
        journal.append([entry(height, b"promise")])
    last = journal.size_bytes
    journal.append([entry(3, b"last")])
    journal.close()
    path = get_segment(directory)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, last - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt):
        Journal.open(directory)


def test_a_flipped_bit_in_the_last_frame_never_changes_what_is_read(directory: Path) -> None:
    journal = Journal.open(directory)
    journal.append([entry(1, b"first")])
    start = journal.size_bytes
    journal.append([entry(2, b"last")])
    journal.close()
    path = get_segment(directory)
    whole = path.read_bytes()
    for position in range(start, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert [found.data for found in reopen(directory)] == [b"first"]


def test_a_frame_written_by_a_client_does_not_make_a_torn_tail_look_like_damage(directory: Path) -> None:
    foreign = directory.parent / "foreign"
    Journal.create(foreign)
    journal = Journal.open(foreign)
    journal.append([entry(7, b"vote")])
    journal.close()
    frame = get_segment(foreign).read_bytes()
    journal = Journal.open(directory)
    journal.append([entry(1, frame * 3 + bytes(500))])
    journal.close()
    path = get_segment(directory)
    os.truncate(path, path.stat().st_size - 100)
    assert reopen(directory) == ()


def test_a_damaged_header_or_another_format_is_refused_with_advice(directory: Path) -> None:
    path = get_segment(directory)
    whole = path.read_bytes()
    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(JournalCorrupt, match="header damaged"):
        Journal.open(directory)
    path.write_bytes(whole[:5])
    with pytest.raises(JournalCorrupt, match="5 bytes found"):
        Journal.open(directory)
    path.write_bytes(journal_module._encode_header(b"12345678", is_missing=False))
    reopen(directory)
    header = whole[:8] + (2).to_bytes(2, "big") + whole[10:-4]
    path.write_bytes(header + zlib.crc32(header).to_bytes(4, "big"))
    with pytest.raises(JournalCorrupt, match="format 2 found"):
        Journal.open(directory)


def test_a_journal_that_is_refused_leaves_no_file_open(directory: Path) -> None:
    path = get_segment(directory)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    before = psutil.Process().num_fds()
    with pytest.raises(JournalCorrupt):
        Journal.open(directory)
    # Fewer where a socket of another test was collected meanwhile.
    assert psutil.Process().num_fds() <= before


def test_a_journal_that_the_disk_refuses_leaves_no_file_open(directory: Path) -> None:
    (directory / "leftover.segment.new").mkdir()  # No file that could be unlinked.
    before = psutil.Process().num_fds()
    with pytest.raises(JournalFailed, match="cannot be opened"):
        Journal.open(directory)
    assert psutil.Process().num_fds() <= before


@pytest.mark.parametrize("payload", [b"\x90", b"\xc0", b"\x91\x01", b"\x91\x93\x01\x00\xc4"])
def test_a_good_frame_that_holds_no_entries_is_refused(directory: Path, payload: bytes) -> None:
    segment = get_segment(directory)
    data = segment.read_bytes()
    mark, length = data[11:19], len(payload).to_bytes(4, "big")
    checksum = zlib.crc32(mark + length + payload).to_bytes(4, "big")
    segment.write_bytes(data + mark + length + checksum + payload)
    with pytest.raises(JournalCorrupt, match="entries"):
        Journal.open(directory)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_rule_P7_after_a_disk_error_the_journal_is_dead_and_a_new_start_is_clean(
    directory: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    journal = Journal.open(directory)
    journal.append([entry(1, b"kept")])

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(JournalFailed, match=os.strerror(code)):
            journal.append([entry(2, b"lost")])
    for _ in range(3):  # The disk works again, the handle does not.
        with pytest.raises(JournalFailed, match="not usable any more"):
            journal.append([entry(2, b"lost")])
        with pytest.raises(JournalFailed, match="not usable any more"):
            journal.truncate(1)
    journal.close()
    assert reopen(directory)[0].data == b"kept"


def test_rule_P7_a_half_written_frame_before_a_disk_error_is_dropped_at_the_next_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(directory)
    journal.append([entry(1, b"kept")])
    write = os.write
    answers: Iterator[int] = iter([40])

    def fill_up(descriptor: int, data: bytes) -> int:
        for size in answers:
            return write(descriptor, data[:size])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        with pytest.raises(JournalFailed):
            journal.append([entry(2, bytes(200))])
    journal.close()
    assert [found.data for found in reopen(directory)] == [b"kept"]


def test_a_journal_of_heights_that_never_finish_is_bounded(directory: Path) -> None:
    journal = Journal.open(directory, SMALL)

    def write_on() -> None:
        for _ in range(200):
            journal.append([entry(1, bytes(1_000))])
            journal.truncate(0)

    with pytest.raises(JournalFull, match="at most 100000 allowed"):
        write_on()
    assert journal.size_bytes <= SMALL.journal_bytes_max
    journal.close()


class Medium:
    """What a power cut leaves: names as of the folder's last sync, contents as of each file's last sync."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names = self._list()
        self._contents = {path.stat().st_ino: path.read_bytes() for path in directory.iterdir()}

    def note_sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._names = self._list()
        else:
            self._contents[status.st_ino] = os.pread(descriptor, status.st_size, 0)

    def lose_power(self) -> None:
        for path in self._directory.iterdir():
            path.unlink()
        for name, inode in self._names.items():
            (self._directory / name).write_bytes(self._contents.get(inode, b""))

    def _list(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self._directory.iterdir()}


@pytest.mark.parametrize("sync_point", range(1, 40))
def test_rule_P1_a_power_cut_at_any_sync_point_loses_nothing_that_was_acknowledged(
    directory: Path, monkeypatch: pytest.MonkeyPatch, sync_point: int
) -> None:
    acknowledged: list[int] = []
    count = 0
    journal = Journal.open(directory, SMALL)
    medium = Medium(directory)

    def sync(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == sync_point:
            raise PowerCut
        medium.note_sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", sync)
        patch.setattr(os, "fsync", sync)
        try:
            for height in range(1, 30):
                journal.append([entry(height, bytes([height]) * 600)])
                acknowledged.append(height)
                journal.truncate(height - 2)
        except PowerCut:
            pass
    journal.close()
    medium.lose_power()
    found = [item.height for item in reopen(directory, SMALL)]
    needed = [height for height in acknowledged if height > acknowledged[-1] - 2] if acknowledged else []
    assert [height for height in found if height in needed] == needed


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_rule_P7_a_full_disk_stops_the_journal_and_it_starts_clean(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        directory = mount / "journal"
        Journal.create(directory)
        journal = Journal.open(directory)
        written = 0

        def fill() -> None:
            nonlocal written
            while True:
                journal.append([entry(1, written.to_bytes(4, "big") * 700)])
                written += 1

        with pytest.raises(JournalFailed, match="No space left"):
            fill()
        with pytest.raises(JournalFailed, match="not usable any more"):
            journal.append([entry(1)])
        journal.close()
        entries = reopen(directory)
        assert [int.from_bytes(found.data[:4], "big") for found in entries] == list(range(written))
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.slow
def test_rule_P1_sigkill_of_a_writing_process_keeps_all_that_it_acknowledged(directory: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from consensus.journal import Entry, Journal, JournalSettings
        journal = Journal.open(Path(sys.argv[1]), JournalSettings(segment_bytes_max=20_000))
        for height in range(1, 1_000_000):
            journal.append([Entry(height=height, standing=0, data=bytes(1_000))])
            print(height, flush=True)
            journal.truncate(height - 3)
        """
    )
    for stop_after in (1, 17, 18, 19, 40):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(directory)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout is not None
            acknowledged = 0
            for _ in range(stop_after):
                acknowledged = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read().split()
            acknowledged = int(rest[-1]) if rest else acknowledged
        heights = [found.height for found in reopen(directory)]
        for height in range(max(1, acknowledged - 2), acknowledged + 1):
            assert height in heights
        for path in directory.glob("*"):
            path.unlink()
        directory.rmdir()
        Journal.create(directory)
