"""A TCP proxy before MySQL that does something when a statement passes: before it is sent on, or once it is
answered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_HEADER = 4  # length (3 bytes, little endian) and sequence number
_COM_QUERY = 3


class Tripwire:
    """Forwards everything; on the first statement that holds ``text`` it calls ``spring`` and forwards no more of it.

    ``behind``: only where an earlier statement of the same connection held this. ``when`` is ``before`` (the server
    never sees the statement) or ``after`` (the client never sees the answer).
    """

    def __init__(
        self, host: str, port: int, *, text: bytes, behind: bytes, when: str, spring: Callable[[], None]
    ) -> None:
        self._server = (host, port)
        self._text = text
        self._behind = behind
        self._when = when
        self._spring = spring
        self._sprung = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # or the server never hears of it: a thread reads from it
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            armed = threading.Event()  # its statement is on its way: the next answer springs
            threading.Thread(target=self._requests, args=(client, server, armed), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client, armed), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, armed: threading.Event) -> None:
        wanted = not self._behind
        try:
            while True:
                header = _exactly(client, _HEADER)
                body = _exactly(client, int.from_bytes(header[:3], "little"))
                found = wanted and body[:1] == bytes([_COM_QUERY]) and self._text in body
                wanted = wanted or self._behind in body
                if found and not self._sprung.is_set():
                    if self._when == "before":
                        self._go_off()
                        return
                    armed.set()
                server.sendall(header + body)
        except OSError:
            _close(client, server)

    def _answers(self, server: socket.socket, client: socket.socket, armed: threading.Event) -> None:
        try:
            while data := server.recv(65_536):
                if armed.is_set():
                    self._go_off()
                    return
                client.sendall(data)
            _close(client, server)
        except OSError:
            _close(client, server)

    def _go_off(self) -> None:
        self._sprung.set()
        self._spring()


def _exactly(side: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = side.recv(size - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def _close(*sides: socket.socket) -> None:
    for side in sides:
        side.close()
