"""Free ports of this machine, for networks that live on it."""

from __future__ import annotations

import random
import socket
from typing import Final

FIRST_PORT: Final = 20_000
LAST_PORT: Final = 32_000
"""Below the range from which Linux takes the ports of outgoing connections (32,768 and up): a port that is
free when it is chosen is then not taken by a passing connection before the daemon listens."""


def choose_free_ports(host: str, count: int) -> tuple[int, ...]:
    """`count` ports on which nobody listens now. Raises OSError when there are not so many."""
    ports = list(range(FIRST_PORT, LAST_PORT))
    random.SystemRandom().shuffle(ports)
    free: list[int] = []
    for port in ports:
        if len(free) == count:
            return tuple(free)
        if _is_free(host, port):
            free.append(port)
    raise OSError(f"{len(free)} free ports found on {host}, {count} expected: stop what listens there")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
