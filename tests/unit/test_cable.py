"""A test's own cable carries whatever descriptors the process has open."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from tests.cable import Cable

BEYOND_SELECT = 1_024  # FD_SETSIZE: select() takes no descriptor from here on


def test_a_cable_carries_beyond_the_descriptors_that_select_knows() -> None:
    with ExitStack() as opened, socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(BEYOND_SELECT):
            opened.callback(os.close, os.dup(server.fileno()))
        with Cable(*server.getsockname()) as cable, socket.create_connection(("127.0.0.1", cable.port)) as near:
            far, _ = server.accept()
            with far:
                near.sendall(b"asked")
                assert far.recv(16) == b"asked"
                far.sendall(b"answered")
                assert near.recv(16) == b"answered"
