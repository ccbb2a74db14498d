"""Daemons that stand still for a while; what their peers send them waits in their sockets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from bench.processes import NodeProcess


@contextmanager
def standing_still(*nodes: NodeProcess) -> Iterator[None]:
    for node in nodes:
        os.kill(node.process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            os.kill(node.process_id, signal.SIGCONT)
