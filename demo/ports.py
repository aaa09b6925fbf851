"""Ports on the loopback address."""

from __future__ import annotations

import itertools
import random
import socket

HOST = "127.0.0.1"
#: Below those that a system gives to connections, from 32768 on: a connection could take such a port before the server
#: listens.
SERVER_PORTS = range(15_000, 32_768)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as listener:
        # As servers do: a port whose last connections are still in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Choose different free ports at random."""
    # Not the shared generator of random numbers: a test may have seeded it.
    candidates = random.SystemRandom().sample(SERVER_PORTS, len(SERVER_PORTS))
    return list(itertools.islice(filter(is_free, candidates), count))
