"""Ask each server, in its own protocol, whether it serves. A few bytes each, so that ``ops`` needs no driver.

An open port is not enough: each of the three listens some time before it can answer.
"""

from __future__ import annotations

import socket
import struct

LOOPBACK = "127.0.0.1"
ANSWER_MS = 2_000  # a server that is up answers these within a few milliseconds
ANSWER_BYTES_MAX = 1 << 20

KAFKA_METADATA = 3
KAFKA_METADATA_VERSION = 4
CASSANDRA_PROTOCOL = 4
CASSANDRA_STARTUP, CASSANDRA_READY, CASSANDRA_QUERY, CASSANDRA_RESULT = 1, 2, 7, 8
CASSANDRA_ONE = 1  # consistency
MYSQL_GREETING = b"\x0a"  # the protocol version, first byte of the server's first packet


def is_port_free(port: int) -> bool:
    """Tell whether a server of ours could listen on ``port`` of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections don't count
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Tell whether anything listens, before a driver is bothered, which tells at length that nothing does."""
    try:
        _connection(port).close()
    except OSError:
        return False
    return True


def kafka_answers(port: int) -> bool:
    """Tell whether a metadata request names at least one broker.

    Source: Kafka protocol guide, Metadata, version 4.
    """
    request = struct.pack(">hhih", KAFKA_METADATA, KAFKA_METADATA_VERSION, 1, -1) + struct.pack(">ib", 0, 0)
    try:
        with _connection(port) as server:
            server.sendall(struct.pack(">i", len(request)) + request)
            answer = _read(server, struct.unpack(">i", _read(server, 4))[0])
            _correlation, _throttle_ms, brokers = struct.unpack_from(">iii", answer)
    except (OSError, ValueError, struct.error):
        return False
    return int(brokers) > 0


def mysql_answers(port: int) -> bool:
    """Tell whether the server greets. It does so after its init file, so users are there too.

    Source: MySQL client/server protocol, Protocol::HandshakeV10.
    """
    try:
        with _connection(port) as server:
            header = _read(server, 4)
            greeting = _read(server, int.from_bytes(header[:3], "little"))
    except (OSError, ValueError):
        return False
    return greeting[:1] == MYSQL_GREETING


def cassandra_answers(port: int) -> bool:
    """Tell whether a query for the node's own release is answered.

    Source: CQL binary protocol, version 4.
    """
    options = struct.pack(">H", 1) + b"".join(
        struct.pack(">H", len(each)) + each for each in (b"CQL_VERSION", b"3.0.0")
    )
    query = b"SELECT release_version FROM system.local"
    body = struct.pack(">i", len(query)) + query + struct.pack(">HB", CASSANDRA_ONE, 0)
    try:
        with _connection(port) as server:
            ready = _cassandra_call(server, CASSANDRA_STARTUP, options) == CASSANDRA_READY
            return ready and _cassandra_call(server, CASSANDRA_QUERY, body) == CASSANDRA_RESULT
    except (OSError, ValueError):
        return False


def _cassandra_call(server: socket.socket, operation: int, body: bytes) -> int:
    server.sendall(struct.pack(">BBhBi", CASSANDRA_PROTOCOL, 0, 0, operation, len(body)) + body)
    _version, _flags, _stream, answered, length = struct.unpack(">BBhBi", _read(server, 9))
    _read(server, length)
    return int(answered)


def _connection(port: int) -> socket.socket:
    connection = socket.create_connection((LOOPBACK, port), timeout=ANSWER_MS / 1000)
    connection.settimeout(ANSWER_MS / 1000)
    return connection


def _read(server: socket.socket, length: int) -> bytes:
    if not 0 < length <= ANSWER_BYTES_MAX:
        if length == 0:
            return b""
        raise ValueError(f"an answer of {length} bytes is not this protocol's")
    received = bytearray()
    while len(received) < length:
        part = server.recv(length - len(received))
        if not part:
            raise ValueError("the server closed the connection")
        received += part
    return bytes(received)
