"""The daemon's front door: one process that runs one node until it is told to stop.

    python -m node --config NODE_FOLDER/node.toml

It starts in this order: settings, keys, disks (ledger, journal, vault), network, consensus, gateway. It ends
cleanly on SIGTERM and SIGINT, whenever they come. Whatever goes wrong with a disk, and whatever halts the
replica, ends the process at once: a node that cannot trust its disk must not go on talking (rule P7).

One process may live several lives: where blocks alone do not help, the node leaves off, fetches a snapshot
with the links only, and starts again on that; and it starts again when another key of its own takes over.
What such a life is made of stands in `daemon`; what belongs to the process stands here.

Exit codes: 0 stopped on request, 1 could not start, 2 wrong usage, 3 had to stop; the reason is on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
from collections.abc import Sequence
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
from daemon.stop_request import StopRequest

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
        stop = StopRequest(watches_stdin=options.stop_with_stdin)
        with stop.listen():
            return run_until_stopped(settings, stop)
    except CANNOT_START as error:
        sys.stderr.write(f"node: cannot start: {error}\n")
        return EXIT_NOT_STARTED


def run_until_stopped(settings: NodeSettings, stop: StopRequest) -> int:
    """One life of the node after the other; the process's exit code. Raises one of CANNOT_START."""
    while not stop.is_made:
        ending = asyncio.run(run_node(settings, stop))
        match ending:
            case Ending.ON_REQUEST:
                return EXIT_OK
            case Ending.HALTED:
                return EXIT_HALTED
            case Ending.FOR_NEW_KEY:
                continue
            case Ending.FOR_SNAPSHOT:
                if not asyncio.run(join(settings, stop)):
                    return EXIT_OK
            case _:
                assert_never(ending)
    return EXIT_OK


async def run_node(settings: NodeSettings, stop: StopRequest) -> Ending:
    """Open and run one node until it ends. Raises what kept it from starting."""
    raise_descriptor_limit()
    _log.info("opening", folder=str(settings.folder.directory))
    disks = Disks.open(settings)
    try:
        if stop.is_made:
            return Ending.ON_REQUEST
        node = Node(disks)
        # What was made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            with stop.heard_by(node.stop):
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


async def join(settings: NodeSettings, stop: StopRequest) -> bool:
    """Fetch a ledger to run on; False when told to stop before it is there. Raises one of CANNOT_START."""
    lifetime = Lifetime()
    with stop.heard_by(lifetime.stop):
        return await join_by_snapshot(settings, lifetime)


def raise_descriptor_limit() -> None:
    """As many file descriptors as the system allows: doors and database are bounded far below that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, DESCRIPTORS_WANTED) if hard != resource.RLIM_INFINITY else DESCRIPTORS_WANTED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
