"""Daemons that stand still for a while; what their peers send them waits in their sockets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.processes import NodeProcess


@contextmanager
def standing_still(*nodes: NodeProcess) -> Iterator[None]:
    with ExitStack() as stopped:
        for node in nodes:
            os.kill(node.process_id, signal.SIGSTOP)
            stopped.callback(os.kill, node.process_id, signal.SIGCONT)
        yield
