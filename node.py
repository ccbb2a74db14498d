"""The daemon's front door: one process that runs one node until it is told to stop.

    python -m node --config NODE_FOLDER/node.toml

It starts in this order: settings, keys, disks (ledger, journal, vault), network, consensus, gateway. It ends
cleanly on SIGTERM and SIGINT. Whatever goes wrong with a disk, and whatever halts the replica, ends the
process at once: a node that cannot trust its disk must not go on talking (rule P7).

One process may live several lives: where blocks alone do not help, the node leaves off, fetches a snapshot
with the links only, and starts again on that; and it starts again when another key of its own takes over.
What such a life is made of stands in `daemon`; what belongs to the process stands here.

Exit codes: 0 stopped on request, 1 could not start, 2 wrong usage, 3 had to stop; the reason is on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, assert_never

import structlog

from config.log import configure_logging
from config.settings import NodeSettings, load_node_settings
from consensus.driver import ReplicaHalted
from daemon.disks import Disks
from daemon.faults import CANNOT_START
from daemon.joining import join_by_snapshot
from daemon.lifetime import Ending, Lifetime
from daemon.node import Node

EXIT_OK: Final = 0
EXIT_NOT_STARTED: Final = 1
EXIT_HALTED: Final = 3
DESCRIPTORS_WANTED: Final = 16_384
GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Rarer collections: nearly all that a block allocates is freed by counting references."""

_log = structlog.get_logger("node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit code."""
    parser = argparse.ArgumentParser(prog="node", description="Run one node of a chartchain network.")
    parser.add_argument("--config", type=Path, required=True, help="the node's node.toml")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input is closed")
    options = parser.parse_args(arguments)
    try:
        settings = load_node_settings(options.config)
        configure_logging(settings.log.level)
        structlog.contextvars.bind_contextvars(node=settings.node.name)
        return run_until_stopped(settings, stops_with_stdin=options.stop_with_stdin)
    except CANNOT_START as error:
        sys.stderr.write(f"node: cannot start: {error}\n")
        return EXIT_NOT_STARTED


def run_until_stopped(settings: NodeSettings, *, stops_with_stdin: bool) -> int:
    """One life of the node after the other; the process's exit code. Raises one of CANNOT_START."""
    while True:
        ending = asyncio.run(run_node(settings, stops_with_stdin=stops_with_stdin))
        match ending:
            case Ending.ON_REQUEST:
                return EXIT_OK
            case Ending.HALTED:
                return EXIT_HALTED
            case Ending.FOR_NEW_KEY:
                continue
            case Ending.FOR_SNAPSHOT:
                if not asyncio.run(join(settings, stops_with_stdin=stops_with_stdin)):
                    return EXIT_OK
            case _:
                assert_never(ending)


async def run_node(settings: NodeSettings, *, stops_with_stdin: bool) -> Ending:
    """Open and run one node until it ends. Raises what kept it from starting."""
    raise_descriptor_limit()
    _log.info("opening", folder=str(settings.folder.directory))
    disks = Disks.open(settings)
    try:
        node = Node(disks)
        stop_on_request(node.stop, stops_with_stdin=stops_with_stdin)
        # What was made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            return await node.run()
        except Exception as error:
            if not node.is_started:
                raise
            is_defect = not isinstance(error, (ReplicaHalted, *CANNOT_START))
            _log.critical("halted", reason=f"{type(error).__name__}: {error}", exc_info=is_defect)
            return Ending.HALTED
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()
        disks.close()


async def join(settings: NodeSettings, *, stops_with_stdin: bool) -> bool:
    """Fetch a ledger to run on; False when told to stop before it is there. Raises one of CANNOT_START."""
    lifetime = Lifetime()
    stop_on_request(lifetime.stop, stops_with_stdin=stops_with_stdin)
    return await join_by_snapshot(settings, lifetime)


def raise_descriptor_limit() -> None:
    """As many file descriptors as the system allows: doors and database are bounded far below that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, DESCRIPTORS_WANTED) if hard != resource.RLIM_INFINITY else DESCRIPTORS_WANTED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_on_request(stop: Callable[[], None], *, stops_with_stdin: bool) -> None:
    """On SIGTERM, on SIGINT, and when whoever started this node closes its standard input."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 4_096):
            stop()

    if stops_with_stdin:
        loop.add_reader(sys.stdin.fileno(), on_stdin)


if __name__ == "__main__":
    sys.exit(main())
