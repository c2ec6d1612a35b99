"""A TCP proxy that understands enough of MySQL's protocol to break a connection exactly at COMMIT, or to say no.

For clear-text connections (``ssl_mode`` DISABLED). Commands of a client are packets with sequence number 0 whose
payload begins with the command's number. Source: MySQL client/server protocol, sections "Packets" and COM_QUERY.
"""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from types import TracebackType
from typing import Self

_COM_QUERY = 3
_CONNECT_TIMEOUT_S = 5.0
_STALL_MAX_S = 120.0
_POLL_S = 0.2


class AtCommit(Enum):
    """What happens to the next COMMIT that comes by; once."""

    LOSE_REPLY = auto()  # the server commits, its reply is dropped, both sides are cut
    CUT_BEFORE = auto()  # the server never sees it, both sides are cut
    STALL = auto()  # nothing moves until ``release``; then it goes on to the server, whoever still listens


class Saying(Enum):
    """Which statements are answered with an error, by what they look like; the server never sees them.

    Of several statements in one packet, one that fits is enough: none of them comes to the server then.
    """

    CONNECT = None
    BEGIN = re.compile(rb"START TRANSACTION")
    FENCE = re.compile(rb"SELECT .* FROM progress .* FOR UPDATE", re.DOTALL)
    LOAD = re.compile(rb"SELECT .*(FROM|JOIN) (account|journal|hold)\b", re.DOTALL)
    WRITE = re.compile(rb"(INSERT|UPDATE|DELETE) ")
    COMMIT = re.compile(rb"COMMIT")
    SEVERAL = re.compile(rb".*;", re.DOTALL)  # more than one in a packet
    ANYTHING = re.compile(rb"")

    def fits(self, statement: bytes) -> bool:
        """Say whether a statement, or one of several, is one of them; no value has a semicolon in it."""
        return self.value is not None and any(self.value.match(each) for each in (statement, *statement.split(b";")))


class MysqlProxy:
    """Listens on a free port of 127.0.0.1 and forwards to a server. A context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._armed: AtCommit | None = None
        self._behind = b""
        self._saying: Saying | None = None
        self._errors: Iterator[int] = iter(())
        self._words = ""
        self.said = 0
        self._links: list[_Link] = []
        self._closing = False
        self.met = threading.Event()
        self.released = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="mysql-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._acceptor.join()
        self._listener.close()
        self.cut()
        self.released.set()

    def arm(self, what: AtCommit, *, behind: bytes = b"") -> None:
        """Have the next COMMIT meet an action; ``met`` is set when it does.

        ``behind``: the next one of a transaction that has a statement which holds this.
        """
        self.met.clear()
        self.released.clear()
        with self._lock:
            self._armed, self._behind = what, behind

    def answer(self, at: Saying, errors: Sequence[int], words: str) -> None:
        """Answer these statements with errors, one number after the other, until ``relent``; ``said`` counts them."""
        with self._lock:
            self._saying, self._errors, self._words, self.said = at, itertools.cycle(errors), words, 0
        if at is Saying.CONNECT:
            self.cut()

    def relent(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._saying = None

    def error_for(self, statement: bytes | None, sequence: int) -> bytes | None:
        """Return the error packet that answers a statement, or a new connection; None where it passes."""
        with self._lock:
            saying = self._saying
            if saying is None or not (saying is Saying.CONNECT if statement is None else saying.fits(statement)):
                return None
            self.said += 1
            number = next(self._errors)
        state = b"" if statement is None else b"#HY000"
        payload = b"\xff" + number.to_bytes(2, "little") + state + self._words.encode()
        return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload

    def release(self) -> None:
        """Let a stalled COMMIT go on to the server."""
        self.released.set()

    def cut(self) -> None:
        """Cut every connection."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.cut()

    def take_action(self, statements: list[bytes]) -> AtCommit | None:
        """Return what is to happen to a COMMIT that came by after some statements, once."""
        with self._lock:
            if self._behind and not any(self._behind in statement for statement in statements):
                return None
            armed, self._armed = self._armed, None
        return armed

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if error := self.error_for(None, 0):
                client.sendall(error)
                client.close()
                continue
            try:
                server = socket.create_connection(self._server, timeout=_CONNECT_TIMEOUT_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            client.settimeout(None)
            link = _Link(self, client, server)
            with self._lock:
                self._links.append(link)
            link.start()


class _Link:
    """One client's connection, and the one to the server."""

    def __init__(self, proxy: MysqlProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._reply_wanted = threading.Event()
        self._replied = threading.Event()

    def start(self) -> None:
        for target in (self._requests, self._replies):
            threading.Thread(target=target, name="mysql-link", daemon=True).start()

    def cut(self) -> None:
        for side in (self._client, self._server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was cut already
        self._client.close()
        self._server.close()

    def _requests(self) -> None:
        statements: list[bytes] = []  # of the transaction, as they came
        try:
            while packet := _read_packet(self._client):
                if error := self._proxy.error_for(packet[5:], 1) if _is_query(packet) else None:
                    self._client.sendall(error)
                    continue
                if not _is_commit(packet):
                    statements.append(packet)
                    self._server.sendall(packet)
                    continue
                if not self._meet(self._proxy.take_action(statements), packet):
                    self._server.sendall(packet)
                statements.clear()
        except OSError:
            pass  # one side is gone, and so is the link
        self.cut()

    def _meet(self, action: AtCommit | None, packet: bytes) -> bool:
        """Do to a COMMIT what was ordered; False where nothing was."""
        if action is None:
            return False
        if action is AtCommit.CUT_BEFORE:
            self.cut()
        elif action is AtCommit.LOSE_REPLY:
            self._reply_wanted.set()
            self._server.sendall(packet)
            self._replied.wait(_STALL_MAX_S)
            self.cut()
        self._proxy.met.set()
        if action is AtCommit.STALL:
            self._proxy.released.wait(_STALL_MAX_S)
            self._server.sendall(packet)
        return True

    def _replies(self) -> None:
        try:
            while data := self._server.recv(65_536):
                if self._reply_wanted.is_set():
                    self._replied.set()  # the server has answered: the commit is done
                    return
                self._client.sendall(data)
        except OSError:
            pass  # one side is gone, and so is the link
        self.cut()


def _is_query(packet: bytes) -> bool:
    return packet[3:5] == bytes((0, _COM_QUERY))


def _is_commit(packet: bytes) -> bool:
    return _is_query(packet) and packet[5:].strip().upper() == b"COMMIT"


def _read_packet(side: socket.socket) -> bytes:
    header = _read_exactly(side, 4)
    return header and header + _read_exactly(side, int.from_bytes(header[:3], "little"))


def _read_exactly(side: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = side.recv(min(size - len(received), 1 << 20))
        if not data:
            return b""
        received += data
    return bytes(received)
