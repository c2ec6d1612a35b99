"""A shard of a test's own on the real servers, and the one answer that its log allows.

The expected results are computed from the records themselves, by the pure decider in one piece: same log in, same
bytes out. Whatever is killed, paused, cut or restored in between, what a ``read_committed`` consumer sees must be
exactly that.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from processors.ids import make_command_id, root_of
from processors.lane.deciding import Decider, needs_of
from processors.lane.times import LaneTimes
from processors.ledger.book import Rows
from processors.ledger.commands import CaptureHold, Command, GetBalance, OpenAccount, Pay, PlaceHold, TopUp
from processors.ops import addresses, assembly
from processors.ops.setting_up import initialize
from processors.ops.sharding import first_rules
from processors.routing.buckets import bucket_of, partition_of
from processors.stores.rows import Progress
from processors.stores.shard_reader import open_reader
from processors.streams.connection import Login
from processors.streams.reader import read_range
from processors.streams.topics import DEAD_LETTERS_TOPIC, RESULTS_TOPIC, TopicAdmin, shard_topic
from processors.wire.admission import admit
from processors.wire.commands import encode_command
from processors.wire.records import Headers, OutRecord, Record
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from tests.new_lane import state_of_new_lane
from tests.servers import Place
from tests.waiting import eventually

SHARD = "s1"
DEADLINE_S = 120.0
HOUR_MS = 3_600_000


def now_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


def new_id(age_ms: int = 0) -> bytes:
    """Return a UUIDv7 of some age."""
    return make_command_id(now_ms() - age_ms, secrets.token_bytes(10))


@dataclass(slots=True)
class Expected:
    """What a lane's log leads to: result values by partition, dead letters, and the digest."""

    results: dict[int, list[bytes]] = field(default_factory=dict)
    dead_letters: list[bytes] = field(default_factory=list)
    digest: bytes = bytes(32)
    next_offset: int = 0


class Shard:
    """One shard's topic, database and workers."""

    def __init__(self, place: Place) -> None:
        """Make topics and schemas."""
        self.place = place
        self.settings = place.settings
        initialize(self.settings, lambda _said: None)
        self.rules = first_rules(self.settings)  # whatever becomes of the keys file
        self.address = addresses.kafka_address(self.settings)
        self.topics = TopicAdmin(self.address)
        self.lanes = self.settings.topics.lanes
        self._ingress_offset = 0
        self._undelivered: list[str] = []
        self._login = Login(self.address)
        self._producer = Producer(self.address.options() | {"enable.idempotence": True, "acks": "all", "linger.ms": 2})

    # ------------------------------------------------------------------ the log

    def write(self, commands: Sequence[Command]) -> None:
        """Append commands to their lanes, as the router would."""
        for command in commands:
            self.write_payload(root_of(command.address), encode_command(command))
        self.flush()

    def write_payload(
        self, root: str, payload: bytes, *, ingress_offset: int | None = None, headers: Headers | None = None
    ) -> None:
        """Append one routed record; an ingress offset given again is the router's redelivery (L10)."""
        if ingress_offset is None:
            ingress_offset = self._ingress_offset
            self._ingress_offset += 1
        # One ingress partition a lane, as W3 has it where there are as many of both.
        lane = partition_of(root, self.lanes)
        route = Route(RouteKind.COMMAND, 1, lane, ingress_offset, 0, now_ms(), f"bucket:{bucket_of(root)}", 0)
        self.append(root.encode(), payload, [(ROUTE_HEADER, encode_route(route)), *(headers or [])], lane)

    def append(self, key: bytes | None, payload: bytes, headers: Headers, lane: int = 0) -> None:
        """Append one record as it is, whoever may have written it; waits while the producer's queue is full."""
        topic = self.address.topic_prefix + shard_topic(SHARD)
        while True:
            try:
                self._producer.produce(topic, payload, key, lane, headers=list(headers), on_delivery=self._on_delivery)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        self._login.renew(self._producer)
        assert self._producer.flush(DEADLINE_S) == 0
        assert self._undelivered == []

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._undelivered.append(f"{message.topic()}[{message.partition()}]: {error.name()}: {error}")

    def write_day(self, root: str, payments: int) -> None:
        """Append a bit of everything that answers differently when it is answered again (L4)."""
        commands: list[Command] = [
            OpenAccount(command_id=new_id(), address=root, currency="USD"),
            TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=100_000),
        ]
        hold = PlaceHold(command_id=new_id(), address=root, currency="USD", amount_minor=500, expires_in_ms=HOUR_MS)
        pay = Pay(command_id=new_id(), address=root, currency="USD", amount_minor=7)
        commands += [hold, pay, pay]  # the same id again: a duplicate
        commands += [
            Pay(command_id=pay.command_id, address=root, currency="USD", amount_minor=8),  # reused
            Pay(command_id=new_id(age_ms=7 * HOUR_MS), address=root, currency="USD", amount_minor=9),  # too old
            Pay(command_id=bytes(16), address=root, currency="USD", amount_minor=9),  # implausible
            CaptureHold(
                command_id=new_id(),
                address=root,
                currency="USD",
                hold_id=hold.command_id,
                amount_minor=200,
                final=False,
            ),
            Pay(command_id=new_id(), address=root, currency="USD", amount_minor=10**9),  # refused for funds
        ]
        commands += [
            Pay(command_id=new_id(), address=root, currency="USD", amount_minor=n + 1) for n in range(payments)
        ]
        commands.append(GetBalance(command_id=new_id(), address=root, currency="USD"))
        self.write(commands)
        self.write_payload(root, b"\xc3\x01 no schema of ours")
        self.write_payload(root, encode_command(pay), ingress_offset=self._ingress_offset - 3)  # the router again
        self.flush()

    def records(self, lane: int) -> list[Record]:
        """Return all of a lane's records."""
        first, end = self.topics.bounds(shard_topic(SHARD), lane)
        found = read_range(self.address, shard_topic(SHARD), lane, first, end)
        return [record for records in found for record in records]

    # ------------------------------------------------------------------ what must come of it

    def expected(self, lane: int, records: list[Record] | None = None) -> Expected:
        """Decide a lane's log in one piece, in memory."""
        decider = self.decider(lane)
        out = self.decide(decider, lane, self.records(lane) if records is None else records)
        expected = Expected(digest=decider.standing.digest, next_offset=decider.standing.next_offset)
        for record in out:
            if record.topic == self.address.topic_prefix + RESULTS_TOPIC:
                expected.results.setdefault(record.partition, []).append(record.value)
            else:
                expected.dead_letters.append(record.value)
        return expected

    def decider(self, lane: int) -> Decider:
        """Return the decider of a new lane."""
        topic_id = self.topics.topic_id(shard_topic(SHARD))
        state = state_of_new_lane(lane, topic_id, self.rules)
        context = assembly.lane_context(self.settings, SHARD, lane, topic_id)
        return Decider(context, state, LaneTimes({}, {}, next_offset=0, let_pass_below=1 << 62))

    def decide(self, decider: Decider, lane: int, records: list[Record]) -> list[OutRecord]:
        """Decide the next records of a lane in memory; a database has nothing that the book does not know."""
        gate = assembly.gate(self.settings, SHARD, lane)
        out: list[OutRecord] = []
        while records:
            admissions = [admit(record, decider.book.rules, gate) for record in records]
            needs = needs_of(admissions)
            decider.book.add(decider.book.missing(needs), Rows())
            decided = decider.decide(admissions, needs, published=(0, 0))
            out += decided.out
            records = records[decided.taken :]
        return out

    def results(self) -> dict[int, list[bytes]]:
        """Return every result that a ``read_committed`` consumer sees, by partition, in order."""
        return {
            partition: self._values(RESULTS_TOPIC, partition)
            for partition in range(self.settings.topics.results_partitions)
        }

    def dead_letters(self) -> list[bytes]:
        """Return every dead letter that is visible, in order."""
        return self._values(DEAD_LETTERS_TOPIC, 0)

    def _values(self, topic: str, partition: int) -> list[bytes]:
        first, end = self.topics.bounds(topic, partition)
        found = read_range(self.address, topic, partition, first, end)
        return [record.value for records in found for record in records if record.value is not None]

    def positions(self) -> dict[int, Progress]:
        """Return each lane's progress."""
        reader = open_reader(addresses.mysql_address(self.settings, SHARD))
        try:
            return reader.positions()
        finally:
            reader.close()

    def stop_codes(self) -> dict[int, str]:
        """Return why lanes are stopped."""
        reader = open_reader(addresses.mysql_address(self.settings, SHARD))
        try:
            found = reader.lane_positions()
        finally:
            reader.close()
        return {lane: position.stop_code.value for lane, position in found.items() if position.stop_code is not None}

    def await_decided(self) -> None:
        """Wait until every record of every lane is decided and its answer published."""
        ends = {lane: self.topics.end(shard_topic(SHARD), lane) for lane in range(self.lanes)}

        def done() -> bool:
            positions = self.positions()
            return all(lane in positions and positions[lane].at.next_offset >= end for lane, end in ends.items() if end)

        eventually(done, "every record is decided")
        expected = [self.expected(lane) for lane in range(self.lanes)]
        count = sum(len(values) for each in expected for values in each.results.values())
        eventually(lambda: sum(map(len, self.results().values())) >= count, f"{count} results are visible")

    def assert_exactly_once(self) -> None:
        """Prove that what is visible, and what is stored, is exactly what the log leads to."""
        expected = [self.expected(lane) for lane in range(self.lanes)]
        seen = self.results()
        for lane, each in enumerate(expected):
            for partition, values in each.results.items():
                wanted = set(values)
                of_lane = [value for value in seen[partition] if value in wanted]
                assert of_lane == values, f"lane {lane}, results partition {partition}"
        assert sum(map(len, seen.values())) == sum(len(v) for each in expected for v in each.results.values())
        positions = self.positions()
        for lane, each in enumerate(expected):
            if each.next_offset:
                assert (positions[lane].at.next_offset, positions[lane].at.digest) == (each.next_offset, each.digest)
        letters = self.dead_letters()
        assert sorted(letters) == sorted(value for each in expected for value in each.dead_letters)

    # ------------------------------------------------------------------ workers

    @contextmanager
    def worker(self, instance: str = "w0", *, plug: str = "", **variables: str) -> Iterator[Worker]:
        """Run a worker as a process of its own, killed at the end if it still runs."""
        worker = Worker(self, instance, plug, variables)
        try:
            yield worker
        finally:
            worker.kill()


class Worker:
    """One shard worker's process. ``plug`` names where it ends itself (``tests.chaos.worker``)."""

    def __init__(self, shard: Shard, instance: str, plug: str, variables: dict[str, str]) -> None:
        environment = {**os.environ, **shard.place.environment, "BALANCE_INSTANCE": instance, **variables}
        folder = Path(shard.settings.keys_file).parent
        self.log_file = folder / f"{instance}-{secrets.token_hex(3)}.log"
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", *([plug] if plug else [])],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.pid = self._process.pid

    def kill(self) -> None:
        """SIGKILL, also of a stopped process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for its end and return the exit status; the log is in the error where it does not end."""
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker still runs:\n{self.log_file.read_text()}") from None

    @property
    def log(self) -> str:
        """Return what it wrote."""
        return self.log_file.read_text()
