"""A recaller on a real archive, with results and commands in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from processors.faults import Unavailable, Undecodable
from processors.ids import derived_id
from processors.ledger.commands import CommandType, Recalled, RecallOriginal
from processors.ledger.outcomes import Status
from processors.stores.archive_reader import ArchiveReader, StepKey
from processors.stores.archive_rows import Collector, Covered
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.commands import decode_command
from processors.wire.result_format import write_result
from processors.wire.results import Result
from processors.wire.signature import add_key
from processors.workers.recaller import Recaller, RecallerOptions
from tests.archived import NOW_MS, a_result, id_at
from tests.sink_parts import CrashPoint, LogConsumer, ProducedRecords, ResultsLog

KEYRING = add_key(None, "k1", b"s" * 32)
PARTITION = 2
LONG_AGO_MS = NOW_MS - 40 * 86_400_000


@dataclass(slots=True)
class Archive:
    """The real archive, which can fall silent; and where something may happen between two questions to it."""

    reader: ArchiveReader
    silent: bool = False
    after_next_answer: Callable[[], None] | None = None

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        self._fail_if_silent()
        answer = self.reader.coverage(incarnation)
        self._happen()
        return answer

    def steps_at(self, keys: Collection[StepKey]) -> dict[StepKey, bytes | Undecodable]:
        self._fail_if_silent()
        answer = self.reader.steps_at(keys)
        self._happen()
        return answer

    def _fail_if_silent(self) -> None:
        if self.silent:
            raise Unavailable("Cassandra is away")

    def _happen(self) -> None:
        happening, self.after_next_answer = self.after_next_answer, None
        if happening is not None:
            happening()


@dataclass(slots=True)
class Place:
    """A recaller with its surroundings; time moves when a test moves it."""

    session: CassandraSession
    log: ResultsLog
    archive: Archive
    consumer: LogConsumer
    sent: ProducedRecords
    recaller: Recaller
    now_s: float = 0.0

    def step(self, seconds: float = 1.0) -> int:
        self.now_s += seconds
        return self.recaller.step(self.consumer)

    def archive_rows(self, *results: Result, covered: bool = True) -> None:
        collector, writer = Collector(), ArchiveWriter(self.session)
        for result in results:
            collector.add(PARTITION, write_result(result))
        rows = collector.take()
        writer.write(rows)
        if covered:
            writer.cover(rows)

    def commands(self) -> list[RecallOriginal]:
        found = [decode_command(record.value) for record in self.sent.records]
        return [command for command in found if isinstance(command, RecallOriginal)]

    def answered(self) -> list[tuple[bytes, Recalled]]:
        return [(command.refund_id, command.recalled) for command in self.commands()]


def make_place(
    session: CassandraSession, log: ResultsLog | None = None, *, pending_max: int = 100, committed: int = 0
) -> Place:
    """Return a recaller that begins where it had committed."""
    log = log or ResultsLog({PARTITION: []})
    crash_point = CrashPoint()
    archive, sent = Archive(ArchiveReader(session)), ProducedRecords(crash_point)
    consumer = LogConsumer(log, {PARTITION: committed}, crash_point)
    options = RecallerOptions(
        commands_topic=COMMANDS_TOPIC,
        commands_partitions=8,
        keyring=KEYRING,
        batch_records_max=100,
        retry_ms=1_000,
        pending_max=pending_max,
    )
    place: Place
    recaller = Recaller(options, archive, sent, clock=lambda: place.now_s)
    place = Place(session, log, archive, consumer, sent, recaller)
    return place


def an_original(**changed: object) -> Result:
    return a_result(3, **{"command_id": id_at(LONG_AGO_MS), "amount_minor": 500, "levels": 3, **changed})


def an_open_refund(original_id: bytes, offset: int = 50, **changed: object) -> Result:
    values = {"type": CommandType.REFUND, "status": Status.OPEN, "related_id": original_id, "postings": ()}
    return a_result(offset, **{**values, **changed})


def the_end_of(refund: Result, offset: int = 90) -> Result:
    """Return what the lane answers to the recall of a refund's original."""
    return a_result(
        offset,
        type=CommandType.RECALL_ORIGINAL,
        status=Status.COMPLETED,
        command_id=derived_id("RECALL_ORIGINAL", refund.command_id),
        transaction_id=refund.command_id,
    )


def publish(place: Place, *results: Result) -> None:
    place.log.append(PARTITION, [write_result(result) for result in results])
