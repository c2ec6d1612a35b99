"""What a MySQL server must be set to, so that no commit is lost and statements mean what they are written for (L7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from processors.faults import Misconfigured
from processors.stores.addresses import MysqlAddress

# 4 MiB of SQL (L8), and one row above it: a journal chunk of ``CHUNK_BYTES_MAX``, in hex twice that.
PACKET_BYTES_MIN = 16 * 1024 * 1024
# 8.0.19 is the first with VALUES ROW(...) as a table.
VERSION_MIN = (8, 0, 19)
SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class Asks(Protocol):
    """A connection that can be asked (``stores.mysql``)."""

    address: MysqlAddress

    def query(self, sql: str, what: str) -> list[tuple[Any, ...]]:
        """Return a SELECT's rows."""


def check_server(session: Asks, *, lane: bool) -> None:
    """Refuse a server on which a commit could be lost, or statements would mean something else.

    Raises:
        Misconfigured: Names every setting that is wrong, what it is and what it must be.

    Source: docs/design.md, A lane; rule L7.
    """
    (row,) = session.query(
        "SELECT VERSION(), @@innodb_flush_log_at_trx_commit, @@sync_binlog, @@transaction_isolation, @@sql_mode, "
        "@@max_allowed_packet",
        "reading the server's settings",
    )
    version, flush_log, sync_binlog, isolation, sql_mode, packet_bytes = row
    wrong = [] if _new_enough(version) else [f"the server is {version}, it must be MySQL 8.0.19 or later"]
    must_be: list[tuple[str, Any, Any, Callable[[Any, Any], bool]]] = [
        ("transaction_isolation", isolation, "READ-COMMITTED", _equal),
        ("sql_mode", set(sql_mode.split(",")), set(SQL_MODE.split(",")), set.issuperset),
    ]
    if lane:
        must_be += [
            ("innodb_flush_log_at_trx_commit", flush_log, 1, _equal),
            ("sync_binlog", sync_binlog, 1, _equal),
            ("max_allowed_packet", packet_bytes, PACKET_BYTES_MIN, int.__ge__),
        ]
    wrong += [
        f"{name} is {found}, it must be {wanted}" for name, found, wanted, fits in must_be if not fits(found, wanted)
    ]
    if wrong:
        raise Misconfigured(f"{session.address}: " + "; ".join(wrong))


def _equal(found: Any, wanted: Any) -> bool:
    return bool(found == wanted)


def _new_enough(version: str) -> bool:
    if "MariaDB" in version:
        return False
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].split(".")[:3]) >= VERSION_MIN
