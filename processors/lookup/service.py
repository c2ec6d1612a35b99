"""The whole service as it is looked into: every shard's database, and the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from processors.faults import Misconfigured
from processors.ledger.rows import OpenRow
from processors.lookup.history import Lookup, Transaction, in_order
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.stores.cassandra import CassandraSession
from processors.stores.migrations import ShardRow
from processors.stores.shard_reader import ShardReader, open_reader
from processors.wire.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupPlaces:
    """Where to look: a database by shard, and the archive. ``home_shard`` is where a partner is who never moved."""

    shards: Mapping[str, MysqlAddress]
    home_shard: str
    archive: CassandraAddress


class ServiceReader:
    """Connects to each database and to the archive when it is first asked. For one thread; close it after use."""

    def __init__(self, places: LookupPlaces) -> None:
        """Hold where to look."""
        self.places = places
        self._readers: dict[str, ShardReader] = {}
        self._rows: dict[str, ShardRow] = {}
        self._session: CassandraSession | None = None

    def shard(self, name: str) -> ShardReader:
        """Return the reader of a shard's database, proven to be that shard's.

        Raises:
            Misconfigured: There is no such shard here, or the database is another one's or of another release.
            Unavailable: It does not answer.
        """
        if name not in self.places.shards:
            raise Misconfigured(f"there is no shard {name} in the settings; known: {', '.join(self.places.shards)}")
        if name not in self._readers:
            self._readers[name] = open_reader(self.places.shards[name])
        if name not in self._rows:
            self._rows[name] = self._readers[name].check(name)
        return self._readers[name]

    def row(self, name: str) -> ShardRow:
        """Return what a shard's database says of itself; raises as ``shard`` does."""
        self.shard(name)
        return self._rows[name]

    def archive(self) -> ArchiveReader:
        """Return the archive's reader.

        Raises:
            Unavailable: Cassandra does not answer.
        """
        if self._session is None:
            self._session = open_archive(self.places.archive, requests_max=1)
        return ArchiveReader(self._session)

    def lookup(self, shard: str) -> Lookup:
        """Return a way to look things up in a shard and the archive; raises as ``shard`` does."""
        row = self.row(shard)
        return Lookup(self.shard(shard), self.archive, lanes=row.lanes, results_partitions=row.results_partitions)

    def transaction(self, transaction_id: bytes, *, steps_max: int | None = None) -> Transaction:
        """Return what all shards and the archive know of an id; ``steps_max`` is as ``Lookup.transaction`` has it.

        Raises:
            Unavailable: A store that was needed does not answer.
        """
        steps: list[Result] = []
        open_rows: list[tuple[str, OpenRow]] = []
        known, whole = Transaction(steps=steps, open=open_rows), True
        for shard in self.places.shards:
            found = self.lookup(shard).transaction(transaction_id, steps_max=steps_max)
            steps += [step for step in found.steps if step not in steps]  # the archive has all shards' steps
            open_rows += found.open
            known.refunded.update(found.refunded)
            whole = whole and found.whole
        return replace(known, steps=in_order(steps), whole=whole)

    def close(self) -> None:
        """Give all connections back."""
        for reader in self._readers.values():
            reader.close()
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
