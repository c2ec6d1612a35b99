"""A TCP connection that a test can cut and mend: the server behind it goes on, its client sees it gone."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

_PIECE_BYTES = 65_536
_LOOK_S = 0.05


class Cable:
    """Listens on a port of its own and passes everything on, while it is not cut."""

    def __init__(self, host: str, port: int) -> None:
        self._far = (host, port)
        self._whole = threading.Event()
        self._whole.set()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_S)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """End every connection, and every new one at once."""
        self._whole.clear()

    def mend(self) -> None:
        """Let new connections through."""
        self._whole.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            if not self._whole.is_set():
                near.close()
                continue
            thread = threading.Thread(target=self._carry, args=(near,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, near: socket.socket) -> None:
        with (
            near,
            socket.create_connection(self._far) as far,
            selectors.DefaultSelector() as ends,  # select() itself refuses descriptors from 1,024 on
            contextlib.suppress(OSError),
        ):
            ends.register(near, selectors.EVENT_READ, far)
            ends.register(far, selectors.EVENT_READ, near)
            self._pass_on(ends)

    def _pass_on(self, ends: selectors.BaseSelector) -> None:
        while self._whole.is_set() and not self._closed.is_set():
            for ready, _ in ends.select(_LOOK_S):
                assert isinstance(ready.fileobj, socket.socket)
                piece = ready.fileobj.recv(_PIECE_BYTES)
                if not piece:
                    return
                ready.data.sendall(piece)
