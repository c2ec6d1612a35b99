"""Verify, repair and replay, put together from the settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from urllib.parse import unquote, urlsplit

from processors.faults import Misconfigured, Unavailable
from processors.ledger.outcomes import Contra
from processors.ops import addresses, assembly
from processors.recovery.checks import Check
from processors.recovery.moved import money_moved
from processors.recovery.repair import Repair, RepairParts, repair
from processors.recovery.transit import InFlight, money_in_transit
from processors.recovery.verify import KEEP_EVERY, Progressing, VerifyParts, verify
from processors.settings import Settings
from processors.stores.addresses import MysqlAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.stores.moves_reader import MovesReader
from processors.stores.rows import PlacementState
from processors.stores.shard_reader import open_reader, open_snapshot
from processors.stores.verify_reader import VerifyReader
from processors.streams.reader import read_range
from processors.streams.topics import RESULTS_TOPIC, TopicAdmin
from processors.wire.records import Record

MYSQL_PORT = 3306
# A transfer takes some 50 ms, a partner's move below a second: sums that differ three times, a second apart, do so for
# another reason.
TRANSIT_LOOKS = 3
TRANSIT_PAUSE_S = 1.0
_AFTER_THE_HOST = set("/@:")  # in a database's name they show that a password was not encoded


class ResultsTopic:
    """The results of every partition, from a time on."""

    def __init__(self, settings: Settings) -> None:
        """Ask the settings' brokers; nothing is connected yet."""
        self._address = addresses.kafka_address(settings)
        self._partitions = range(settings.topics.results_partitions)

    def read(self, since_ms: int | None) -> Iterator[Record]:
        """Yield the records from a broker time on; None: all that are there."""
        admin = TopicAdmin(self._address)
        for partition in self._partitions:
            first, end = admin.bounds(RESULTS_TOPIC, partition)
            if since_ms is not None:
                first = max(first, admin.offset_at(RESULTS_TOPIC, partition, since_ms))
            yield from chain.from_iterable(read_range(self._address, RESULTS_TOPIC, partition, first, end))

    def reaches_back_to_ms(self) -> int:
        """Return since which broker time the topic has all results; 0 where none has left it."""
        admin, since_ms = TopicAdmin(self._address), 0
        for partition in self._partitions:
            first, end = admin.bounds(RESULTS_TOPIC, partition)
            if not first:
                continue
            left = chain.from_iterable(read_range(self._address, RESULTS_TOPIC, partition, first, end))
            since_ms = max(since_ms, next((record.timestamp_ms for record in left), assembly.clock_ms()))
        return since_ms


def verify_shard(
    settings: Settings,
    shard: str,
    *,
    on_progress: Progressing,
    with_results: bool = True,
    with_archive: bool = True,
    everything: bool = False,
    keep_every: int = KEEP_EVERY,
) -> list[Check]:
    """Prove a shard's books, as far as they are not proven yet; see ``recovery.verify``.

    Args:
        settings: Of the whole service.
        shard: Its id.
        on_progress: Told which comparison is at how many rows.
        with_results: Read the results topic, too.
        with_archive: Read Cassandra, too.
        everything: Begin with the lanes' first records, whatever is proven.
        keep_every: How many offsets are proven between two times that it is kept how far.
    """
    settings = assembly.founded_settings(settings, shard)
    books = VerifyReader(addresses.mysql_address(settings, shard))
    session, away = _archive_session(settings) if with_archive else (None, "")
    try:
        return verify(
            VerifyParts(
                books=books,
                lanes=settings.lanes_of(shard),
                results_partitions=settings.topics.results_partitions,
                archive=None if session is None else ArchiveReader(session),
                archive_away=away,
                results=ResultsTopic(settings) if with_results else None,
                now_ms=assembly.clock_ms,
                on_progress=on_progress,
                everything=everything,
                keep_every=keep_every,
            )
        )
    finally:
        books.close()
        if session is not None:
            session.close()


def _archive_session(settings: Settings) -> tuple[CassandraSession | None, str]:
    """Return a session of the archive; where Cassandra is away, none and why."""
    try:
        return CassandraSession(addresses.cassandra_address(settings), keyspace=settings.cassandra.keyspace), ""
    except Unavailable as fault:
        return None, str(fault)


def prove_transit(settings: Settings, *, with_archive: bool = True) -> tuple[Check, list[InFlight]]:
    """Prove that what is in transit is what open transfers say, over all shards; see ``recovery.transit``.

    The shards are read one after the other. Where transfers that went on meanwhile make the sums differ, they are read
    again, up to TRANSIT_LOOKS times. ``with_archive``: ask Cassandra, too, where no journal has a credit.
    """
    looks = 0
    while True:
        looks += 1
        check, in_flight = _look_at_transit(settings, with_archive=with_archive)
        if check.passed or looks == TRANSIT_LOOKS:
            return check, in_flight
        time.sleep(TRANSIT_PAUSE_S)


def _look_at_transit(settings: Settings, *, with_archive: bool) -> tuple[Check, list[InFlight]]:
    with ExitStack() as closing:

        def archive() -> ArchiveReader:
            session = CassandraSession(addresses.cassandra_address(settings), keyspace=settings.cassandra.keyspace)
            closing.callback(session.close)
            return ArchiveReader(session)

        books = [open_snapshot(addresses.mysql_address(settings, shard)) for shard in settings.shards]
        for each in books:
            closing.callback(each.close)
        return money_in_transit(books, archive if with_archive else None)


def prove_moved(settings: Settings) -> Check:
    """Prove that what partners took along from one shard has come to another; see ``recovery.moved``.

    The shards are read one after the other, and again, up to TRANSIT_LOOKS times, where a move went on meanwhile.
    """
    looks = 0
    while True:
        looks += 1
        check = _look_at_moved(settings)
        if check.passed or looks == TRANSIT_LOOKS:
            return check
        time.sleep(TRANSIT_PAUSE_S)


def _look_at_moved(settings: Settings) -> Check:
    moved: dict[str, dict[str, int]] = {}
    moving: set[str] = set()
    for shard in settings.shards:
        reader = MovesReader(addresses.mysql_address(settings, shard))
        try:
            sums = reader.between_shards()
            moving.update(row.placement_key for row in reader.under_way() if row.state is not PlacementState.OWNED)
        finally:
            reader.close()
        moved[shard] = {currency: total for (name, currency), total in sums.items() if name is Contra.MOVED}
    return money_moved(moved, moving)


def repair_archive(settings: Settings, shard: str, *, write: bool, on_progress: Progressing) -> Repair:
    """Compare what a shard's journal has in MySQL with the archive, and bring back what is lost there.

    Args:
        settings: Of the whole service.
        shard: Its id.
        write: Else nothing is written.
        on_progress: Told how many rows were compared.
    """
    reader = open_reader(addresses.mysql_address(settings, shard))
    session = None
    try:
        row = reader.check(shard)
        session = open_archive(addresses.cassandra_address(settings), requests_max=settings.sink.requests_max)
        return repair(
            reader,
            RepairParts(
                archive=ArchiveReader(session),
                writer=ArchiveWriter(session) if write else None,
                results_partitions=row.results_partitions,
                now_ms=assembly.clock_ms,
            ),
            on_progress,
        )
    finally:
        reader.close()
        if session is not None:
            session.close()


def target_address(settings: Settings, shard: str, dsn: str, *, option: str = "--into") -> MysqlAddress:
    """Read ``mysql://user:password@host:port/database``; user and password default to the shard's own.

    ``option`` is the one that was typed, for the error.

    Raises:
        Misconfigured: It is no such text; what is told of it never holds what may be the password.
    """
    live = addresses.mysql_address(settings, shard)
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise _no_target(option, "a bracket in it belongs to no host") from None
    try:
        port = parts.port
    except ValueError:
        raise _no_target(option, "the port is no number of 0 to 65535") from None
    database = parts.path.lstrip("/")
    if parts.scheme != "mysql" or not parts.hostname or not database:
        raise _no_target(option, "it has no mysql://, no host or no database")
    if _AFTER_THE_HOST.intersection(database) or parts.query or parts.fragment:
        raise _no_target(option, "the database has characters that no name has")
    return MysqlAddress(
        host=parts.hostname,
        port=port or MYSQL_PORT,
        user=unquote(parts.username or live.user),
        password=unquote(parts.password or live.password),
        password_file=None if parts.password else live.password_file,
        database=database,
        ssl_mode=live.ssl_mode,
        ssl_ca_file=live.ssl_ca_file,
    )


def _no_target(option: str, why: str) -> Misconfigured:
    return Misconfigured(
        f"{option} is no target, since {why}: write mysql://user:password@host:port/database, and percent-encode the "
        "characters / # ? @ : % [ ] of user and password, such as %2F for /"
    )
