#!/usr/bin/env bash
# mysqlclient 2.3.1 on MariaDB Connector/C (what Debian's default-libmysqlclient-dev is): a connection that is lost in the
# midst of a statement is error 2013 in clear text, and error 2026, "TLS/SSL error", with TLS.
#
# A good guess was wrong: that 2006 and 2013 are what a lost connection looks like, and 2026 a wrong certificate. With TLS
# a server that is killed, a reset by a proxy and the client's own read timeout all come as 2026. Programs that try again
# after 2006 and 2013 only, as most lists of retryable errors have it, stop trying on the day TLS is switched on.
# Only a server that ends TLS in order (close_notify) gives 2013.
#
# It needs no server: a listener on this machine speaks enough of MySQL's protocol to let the client in, and then goes
# away in the midst of SELECT 1 (end of stream, reset, silence beyond read_timeout, TLS ended in order).
#
# It is built from source, so it needs a C compiler, Python's headers, pkg-config, the client's headers
# (Debian: build-essential python3-dev pkg-config default-libmysqlclient-dev) and openssl.
#
# Seen with Connector/C 3.3.20. Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mysqlclient==2.3.1
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$folder/key.pem" -out "$folder/certificate.pem" 2>/dev/null

cat > "$folder/lost.py" <<'PYTHON'
import os
import socket
import ssl
import struct
import sys
import threading
import time

import MySQLdb

FOLDER = sys.argv[1]
PROTOCOL_41, SECURE, PLUGIN_AUTH, TLS = 0x200, 0x8000, 0x80000, 0x800
DONE = b"\x00\x00\x00\x02\x00\x00\x00"
QUERY = b"\x03SELECT 1"


def packet(number, body):
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def exactly(peer, size):
    found = b""
    while len(found) < size:
        more = peer.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def read(peer):
    head = exactly(peer, 4)
    return head[3], exactly(peer, int.from_bytes(head[:3], "little"))


def greeting(tls):
    offered = PROTOCOL_41 | SECURE | PLUGIN_AUTH | (TLS if tls else 0)
    body = b"\x0a8.0.40\0" + struct.pack("<I", 1) + b"A" * 8 + b"\0" + struct.pack("<H", offered & 0xFFFF)
    body += bytes([45]) + struct.pack("<HHB", 2, offered >> 16, 21) + bytes(10) + b"B" * 12 + b"\0"
    return packet(0, body + b"mysql_native_password\0")


def serve(listener, tls, leave):
    peer, _ = listener.accept()
    peer.sendall(greeting(tls))
    number, _ = read(peer)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{FOLDER}/certificate.pem", f"{FOLDER}/key.pem")
        peer = context.wrap_socket(peer, server_side=True)
        number, _ = read(peer)
    peer.sendall(packet(number + 1, DONE))
    while read(peer)[1] != QUERY:
        peer.sendall(packet(1, DONE))
    leave(peer)


def end_of_stream(peer):
    os.close(peer.detach())


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(peer.detach())


def silence(peer):
    time.sleep(2.5)  # beyond read_timeout
    os.close(peer.detach())


def in_order(peer):
    if isinstance(peer, ssl.SSLSocket):
        peer.settimeout(0.2)
        try:
            peer.unwrap()
        except OSError:
            pass  # the client answers nothing
    peer.close()


def error_after(leave, tls):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, tls, leave), daemon=True).start()
    way = {"ssl_mode": "REQUIRED", "ssl": {"ca": f"{FOLDER}/certificate.pem"}} if tls else {"ssl_mode": "DISABLED"}
    connection = MySQLdb.connect(
        host="127.0.0.1", port=listener.getsockname()[1], user="u", password="p", autocommit=None, read_timeout=1, **way
    )
    try:
        connection.query(b"SELECT 1")
    except MySQLdb.OperationalError as error:
        return error.args[0]


for leave in (end_of_stream, reset, silence, in_order):
    print(leave.__name__, "clear:", error_after(leave, False), "TLS:", error_after(leave, True))
print("client library", MySQLdb.get_client_info(), file=sys.stderr)
PYTHON

cat > "$folder/seen" <<'SEEN'
end_of_stream clear: 2013 TLS: 2026
reset clear: 2013 TLS: 2026
silence clear: 2013 TLS: 2026
in_order clear: 2013 TLS: 2013
SEEN

"$folder/venv/bin/python" "$folder/lost.py" "$folder" > "$folder/now"
cat "$folder/now"
diff "$folder/seen" "$folder/now"
