"""Writes snapshots and prunes while the node runs, in a thread of its own.

Snapshots are due at every multiple of the interval, alike on all nodes, and whenever a file `request` lies in
their folder. One is written at a time; what falls due meanwhile is left out. After each one the oldest go
unless a node is fetching them, and so do the blocks that nobody needs from this node any more, if the
operator wants that.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from ledger.archive import Archive
from ledger.chain import Chain
from ledger.errors import NotHeld
from ledger.pacing import Pacer, WorkStopped
from ledger.settings import SnapshotSettings
from ledger.snapshot import find_window_base
from ledger.snapshot_export import MAKING, export_snapshot
from ledger.snapshot_shelf import SnapshotShelf, list_heights, remove_oldest
from ledger.speculation import CommittedBlock

REQUEST_FILE: Final = "request"

_log = structlog.get_logger("ledger.snapshots")


@dataclass(slots=True)
class SnapshotCounters:
    """Since the node's start; for metrics."""

    written: int = 0
    failed: int = 0
    pruned_blocks: int = 0


class SnapshotKeeper:
    """All methods in the thread that uses the chain; the work itself is done in another."""

    def __init__(
        self,
        chain: Chain,
        shelf: SnapshotShelf,
        settings: SnapshotSettings,
        *,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`on_failure` is told, from the other thread, what must stop the node: the disk failed."""
        self._chain = chain
        self._shelf = shelf
        self._settings = settings
        self._on_failure = on_failure
        self._pacer = Pacer()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._work: Future[None] | None = None
        self._is_compaction_due = False
        self._unsubscribe = chain.subscribe(self._on_committed)
        self.counters = SnapshotCounters()

    @property
    def is_idle(self) -> bool:
        """Nothing is being written, deleted or compacted."""
        return self._work is None or self._work.done()

    def close(self) -> None:
        """Give up what is being written; returns once nothing reads the ledger any more."""
        self._unsubscribe()
        self._pacer.stop()
        self._worker.shutdown()

    def _on_committed(self, block: CommittedBlock) -> None:
        if not self.is_idle:
            return
        if self._is_compaction_due:
            # The chain shows the rows of this block now: nobody sees the deleted ones any more.
            self._is_compaction_due = False
            self._work = self._worker.submit(self._run, self._chain.compact)
            return
        height, interval = block.header.height, self._settings.interval_blocks
        is_due = interval and height % interval == 0
        if is_due or (self._shelf.directory / REQUEST_FILE).exists():
            archive = self._chain.archive
            self._work = self._worker.submit(self._run, lambda: self._write(height, archive))

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except WorkStopped:
            pass
        except (NotHeld, OSError) as error:
            # The node does without; a full disk shows itself where the ledger is written, if it is the same.
            shutil.rmtree(self._shelf.directory / MAKING, ignore_errors=True)
            with contextlib.suppress(OSError):
                (self._shelf.directory / REQUEST_FILE).unlink(missing_ok=True)
            self.counters.failed += 1
            _log.error("no snapshot written", reason=str(error))
        except BaseException as error:
            self._on_failure(error)

    def _write(self, height: int, archive: Archive) -> None:
        directory, genesis = self._shelf.directory, self._chain.genesis
        export_snapshot(archive.rows, genesis, height=height, shelf=directory, pacer=self._pacer)
        (directory / REQUEST_FILE).unlink(missing_ok=True)
        self.counters.written += 1
        _log.info("snapshot written", height=height)
        remove_oldest(directory, self._settings.kept_max, self._list_held(height))
        if self._settings.keep_blocks:
            self._prune(height, archive)

    def _list_held(self, height: int) -> list[int]:
        """The oldest of those that nodes are fetching, besides the newest ones, which stay anyway."""
        settings = self._settings
        newest = list_heights(self._shelf.directory)[-settings.kept_max :]
        older = range(height - settings.held_blocks_max, min(newest, default=height))
        return self._shelf.holds.list_held(settings.held_seconds, older)[: settings.held_max]

    def _prune(self, height: int, archive: Archive) -> None:
        """Delete the blocks that neither a snapshot's window nor the operator's wish keeps."""
        oldest = min(kept for kept in list_heights(self._shelf.directory) if archive.get_header(kept))
        base = min(
            find_window_base(archive, self._chain.genesis, oldest), height - self._settings.keep_blocks
        )
        pruned = self._chain.prune(base, self._pacer)
        if pruned:
            self.counters.pruned_blocks += pruned
            self._is_compaction_due = True
            _log.info("blocks pruned", below=base, blocks=pruned)
