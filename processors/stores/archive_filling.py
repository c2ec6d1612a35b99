"""Fills the archive's packed tables from its journal, which has every result literally (A3, A4). Safe to run twice."""

from __future__ import annotations

from collections.abc import Iterator

from processors.stores.archive_rows import Collector
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.wire.journal_chunk import decode_chunk

# As many as a sink takes at once by default: rows of the index are then as full, and it is 20 MB.
ROWS_AT_ONCE = 20_000
PARTITIONS_PAGE_ROWS = 1_000
CHUNKS_PAGE_ROWS = 16

_PARTITIONS = "SELECT DISTINCT shard, lane, bucket FROM $journal"
_CHUNKS = "SELECT chunk FROM $journal WHERE shard = ? AND lane = ? AND bucket = ?"


def fill_packed(session: CassandraSession) -> int:
    """Write what the index and the statements say of all that the journal has, and return how many rows it has.

    Raises:
        Undecodable: The journal has a chunk that is none of this release's.
        Unavailable: Cassandra does not answer; run it again.
    """
    writer = ArchiveWriter(session)
    collector, waiting, done = Collector(), 0, 0
    for number, chunk in enumerate(_chunks(session)):
        rows = decode_chunk(chunk)
        for _, _, result in rows:
            collector.add(number, result)  # as of a results partition of its own, so that no two chunks become one
        waiting += len(rows)
        if waiting >= ROWS_AT_ONCE:
            done += _write(writer, collector)
            waiting = 0
    return done + _write(writer, collector)


def _write(writer: ArchiveWriter, collector: Collector) -> int:
    rows = collector.take()
    rows.journal.clear()  # it is there
    writer.write(rows)
    return rows.count


def _chunks(session: CassandraSession) -> Iterator[bytes]:
    partitions = session.prepare(_PARTITIONS, page_rows=PARTITIONS_PAGE_ROWS)
    chunks = session.prepare(_CHUNKS, page_rows=CHUNKS_PAGE_ROWS)
    for partition in session.rows(partitions, ()):
        for (chunk,) in session.rows(chunks, partition):
            yield chunk
