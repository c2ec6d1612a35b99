#!/usr/bin/env bash
# mysqlclient 2.3.1: `connect(compress=False)` asks the server for compression, as `compress=True` does. Only leaving the
# argument out leaves compression off.
#
# A good guess was wrong: that False means off, as it does for a `compress = false` of a settings file that is passed on.
# The C code looks whether the argument was given, not at its value. Compression costs client and server CPU for each packet, and nothing in the session says so to the program.
#
# It needs no server: a listener on this machine sends a handshake that offers compression and reads which of its
# capabilities the client takes (CLIENT_COMPRESS, bit 5).
#
# It is built from source, so it needs a C compiler, Python's headers, pkg-config and MySQL's or MariaDB's client
# headers (Debian: build-essential python3-dev pkg-config default-libmysqlclient-dev).
#
# Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mysqlclient==2.3.1

cat > "$folder/compress.py" <<'PYTHON'
import socket
import struct
import threading

import MySQLdb

PROTOCOL_41, SECURE, PLUGIN_AUTH, COMPRESS = 0x200, 0x8000, 0x80000, 0x20
OFFERED = PROTOCOL_41 | SECURE | PLUGIN_AUTH | COMPRESS


def greeting():
    packet = b"\x0a8.0.40\0" + struct.pack("<I", 1) + b"A" * 8 + b"\0" + struct.pack("<H", OFFERED & 0xFFFF)
    packet += bytes([45]) + struct.pack("<HHB", 2, OFFERED >> 16, 21) + bytes(10) + b"B" * 12 + b"\0"
    packet += b"mysql_native_password\0"
    return len(packet).to_bytes(3, "little") + b"\0" + packet


def taken(**arguments):
    listener = socket.create_server(("127.0.0.1", 0))
    answered = []

    def answer():
        client, _ = listener.accept()
        client.sendall(greeting())
        answered.append(struct.unpack("<I", client.recv(8)[4:8])[0])
        client.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        MySQLdb.connect(host="127.0.0.1", port=listener.getsockname()[1], user="u", password="p", **arguments)
    except MySQLdb.OperationalError:
        pass  # the listener hangs up
    thread.join()
    listener.close()
    return bool(answered[0] & COMPRESS)


print("left out:", taken())
print("False:", taken(compress=False))
print("True:", taken(compress=True))
PYTHON

printf 'left out: False\nFalse: True\nTrue: True\n' > "$folder/seen"
"$folder/venv/bin/python" "$folder/compress.py" > "$folder/now"
cat "$folder/now"
diff "$folder/seen" "$folder/now"
