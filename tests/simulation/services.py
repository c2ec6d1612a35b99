"""The processes around the shard worker: the real router and expirer; stand-ins for recaller and remover."""

from __future__ import annotations

from collections.abc import Mapping

from processors.faults import Retryable
from processors.ids import SLICE_MS, derived_id, uuid7_time_ms
from processors.lane.placements import Placements
from processors.ledger.commands import CommandType, Recalled, RecallOriginal
from processors.ledger.outcomes import Status
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import LanePosition, OverdueHold
from processors.streams.topics import COMMANDS_TOPIC
from processors.streams.unused_partitions import PartitionWatch
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from processors.wire.results import Result, decode_result
from processors.wire.signature import SIGNATURE_HEADER, sign
from processors.workers.expirer import Expirer, ExpirerParts
from processors.workers.router import RouterConfig, RouterParts
from tests.simulation.fakes.consumers import FakeGroupConsumer
from tests.simulation.fakes.crash_points import CrashPoints
from tests.simulation.fakes.database import Database
from tests.simulation.fakes.producers import FakeProducer
from tests.simulation.worker_process import LoopProcess
from tests.simulation.workload import KEYRING

TICK_MS = 5_000


class RouterProcess(LoopProcess):
    """``workers.router``, whole."""

    def boot(self) -> None:
        super().boot()
        environment = self.environment
        counts = {COMMANDS_TOPIC: environment.options.ingress_partitions}
        config = RouterConfig(
            ingress_partitions=environment.options.ingress_partitions,
            lanes=environment.options.lanes,
            topic_prefix="",
            dead_letters_topic=environment.dead_letters_topic,
            batch_records_max=15,
            stop_deadline_s=10.0,
        )
        parts = RouterParts(
            join=lambda assigned, revoked: FakeGroupConsumer(
                environment.broker, environment.commands_topic, environment.router_group, self.name, self,
                on_assigned=assigned, on_revoked=revoked,
            ),
            producer=environment.components.producer(environment.broker, self),
            read_directory=lambda _known: environment.directory,
            read_ingress_id=lambda: environment.broker.topic(environment.commands_topic).topic_id,
            read_keyring=lambda: KEYRING,
            clock_s=lambda: environment.clock.now_ms / 1000,
            watch=PartitionWatch(counts, lambda: counts, lambda: environment.clock.now_ms / 1000, process="router"),
        )  # fmt: skip
        self._router = environment.components.router(config, parts)

    def turn(self) -> None:
        self._router.step(0)


class FakeHoldReader:
    """What the expirer asks of ``stores.shard_reader``."""

    def __init__(self, database: Database, crash_points: CrashPoints) -> None:
        self._database = database
        self._crash_points = crash_points

    def lane_positions(self) -> Mapping[int, LanePosition]:
        self._crash_points.point("reader.lane_positions")
        if self._crash_points.fails("reader.lane_positions"):
            raise Retryable("MySQL does not answer")
        tables = self._database.tables
        found = {}
        for lane, progress in tables.progress.items():
            code, detail = tables.stops.get(lane, (None, ""))
            found[lane] = LanePosition(progress=progress, stop_code=code, stop_detail=detail, stopped_at_ms=0)
        return found

    def overdue_holds(self, lane: int, *, now_ms: int, holds_max: int) -> list[OverdueHold]:
        self._crash_points.point("reader.overdue_holds")
        tables = self._database.tables
        found = [
            (hold.expires_at_ms, OverdueHold(
                root=root, transaction_id=transaction_id, address=hold.address, currency=hold.currency
            ))
            for (root, transaction_id), hold in tables.holds.items()
            if hold.remaining_minor and hold.expires_at_ms <= now_ms and tables.hold_lanes[root, transaction_id] == lane
            and self._placements(lane).owns(root)
        ]  # fmt: skip
        return [hold for _, hold in sorted(found, key=lambda each: (each[0], each[1].transaction_id))][:holds_max]

    def unparking_lanes(self) -> list[int]:
        self._crash_points.point("reader.unparking_lanes")
        tables = self._database.tables
        return [lane for lane in tables.progress if lane not in tables.stops and self._placements(lane).waiting()]

    def _placements(self, lane: int) -> Placements:
        return Placements(self._database.tables.placements_of(lane), home=self._database.home)


class ExpirerProcess(LoopProcess):
    """``workers.expirer``, whole."""

    def boot(self) -> None:
        super().boot()
        environment = self.environment
        self._next_ms = 0
        self._expirer = Expirer(
            ExpirerParts(
                shard="s1",
                topic=environment.shard_topic,
                lanes=environment.options.lanes,
                reader=FakeHoldReader(environment.database, self),
                writer=FakeProducer(environment.broker, self),
                end_offset=lambda lane: environment.broker.log(environment.shard_topic, lane).next_offset,
                holds_max=10,
            )
        )

    def due(self) -> bool:
        return self.environment.clock.now_ms >= self._next_ms and not self.environment.ticks_are_over

    def turn(self) -> None:
        self._next_ms = self.environment.clock.now_ms + TICK_MS
        self._expirer.unpark()
        self._expirer.step()


class RecallerProcess(LoopProcess):
    """Keeps every result in an archive that is never lost, and answers open refunds from it, in order (H4)."""

    def boot(self) -> None:
        super().boot()
        environment = self.environment
        self._consumer = FakeGroupConsumer(
            environment.broker, environment.results_topic, "balance-recaller", self.name, self
        )
        self._producer = FakeProducer(environment.broker, self)

    def turn(self) -> None:
        records = self._consumer.poll(20, 0)
        for record in records:
            assert record.value is not None
            result = decode_result(record.value)
            if not result.journalled:
                continue
            self.environment.archive[result.root, result.command_id] = result
            if result.type is CommandType.REFUND and result.status is Status.OPEN:
                self._producer.send(self._recall(result))
        if records:
            self._producer.flush(0)
            self._consumer.commit({record.partition: record.offset + 1 for record in records})

    def _recall(self, refund: Result) -> OutRecord:
        original = self.environment.archive.get((refund.root, refund.related_id))
        command_id = derived_id("RECALL_ORIGINAL", refund.transaction_id)
        if original is None:
            recall = RecallOriginal(
                command_id=command_id,
                address=refund.address,
                currency=refund.currency,
                refund_id=refund.transaction_id,
                original_id=refund.related_id,
                recalled=Recalled.NOT_FOUND,
            )
        else:
            recall = RecallOriginal(
                command_id=command_id,
                address=refund.address,
                currency=refund.currency,
                refund_id=refund.transaction_id,
                original_id=refund.related_id,
                recalled=Recalled.FOUND,
                original_type=original.type.value,
                original_accepted=original.status is Status.ACCEPTED,
                original_address=original.address,
                original_currency=original.currency,
                original_amount_minor=original.amount_minor,
                original_levels=original.levels,
            )
        key, payload = refund.root.encode(), encode_command(recall)
        partition = partition_of(refund.root, self.environment.options.ingress_partitions)
        headers = [(SIGNATURE_HEADER, sign(KEYRING, key, payload))]
        return OutRecord(self.environment.commands_topic, partition, key, payload, headers)


class RemoverProcess(LoopProcess):
    """Takes from MySQL what no decision may need any more, as early as it may.

    That is: slices (A6), holds that expired (H2), old ``refunded`` (H3).
    """

    def turn(self) -> None:
        self.point("remover")
        database = self.environment.database
        lanes = range(self.environment.options.lanes)
        if database.tables.stops or not all(self._is_known(lane) for lane in lanes):
            return
        number = min(database.tables.journal)
        if self.is_over(number) and all(self._archived(row) for row in database.tables.journal[number].values()):
            try:
                database.drop_slice(number)
            except Retryable:
                return
            self.environment.note(f"remover: slice {number} is gone")
        if not database.holders():  # their rows are locked
            self._forget_holds()
            self._forget_refunded()

    def _is_known(self, lane: int) -> bool:
        tables = self.environment.database.tables
        return lane in tables.progress and bool(tables.rules_of(lane))

    def is_over(self, number: int) -> bool:
        """Say whether every lane's published time has passed the slice's end by the window (A6)."""
        return all(window_start_ms >= (number + 1) * SLICE_MS for window_start_ms in self.windows())

    def windows(self) -> list[int]:
        """Return where each lane's window began when its results were published last."""
        tables = self.environment.database.tables
        return [
            self.rules_at(lane, progress.published_offset).window_start_ms(progress.published_time_ms)
            for lane, progress in tables.progress.items()
        ]

    def rules_at(self, lane: int, offset: int) -> Rules:
        """Return the rules in force at an offset, by which unpublished answers are given again."""
        known = self.environment.database.tables.rules_of(lane)
        in_force = [rules for since, rules in known.items() if since <= offset]
        return (in_force or list(known.values()))[-1]

    def _archived(self, row: JournalRow) -> bool:
        found = self.environment.archive.get((row.root, row.command_id))
        return found is not None and found.lane_offset == row.lane_offset

    def _forget_holds(self) -> None:
        tables, since = self.environment.database.tables, min(self.windows())
        for key, hold in list(tables.holds.items()):
            if hold.remaining_minor == 0 and hold.expires_at_ms < since:
                del tables.holds[key]

    def _forget_refunded(self) -> None:
        environment = self.environment
        tables = environment.database.tables
        since = min(
            self.rules_at(lane, progress.published_offset).recall_start_ms(progress.published_time_ms)
            for lane, progress in tables.progress.items()
        )
        for key in [key for key in tables.refunded if (uuid7_time_ms(key[1]) or 0) < since]:
            del tables.refunded[key]
