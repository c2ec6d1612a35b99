"""Cassandra for the processes that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from processors.archive.waiting import until_answered
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_schema import open_archive
from processors.stores.cassandra import CassandraSession


@contextmanager
def archive_session(
    process: str, address: CassandraAddress, *, requests_max: int, stopping: threading.Event
) -> Iterator[CassandraSession | None]:
    """Have a session while the block runs, from when Cassandra answers on; None if ``stopping`` came first.

    Raises:
        Fault: One that waiting does not mend.
    """
    opened = until_answered(process, lambda: open_archive(address, requests_max=requests_max), stopping)
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()
