"""Routers on an in-memory Kafka that are killed, stand still, and are taken over from, at every call that they make."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from processors.faults import Fault, Misconfigured, Unavailable
from processors.routing.directory import HOME_PLACEMENT_KEY
from processors.streams.directory import DirectoryContents, contents_of
from processors.streams.group import NO_METADATA
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, shard_topic
from processors.streams.unused_partitions import PartitionWatch
from processors.wire.directory import (
    COUNTS_AFTER_MS,
    DirectoryHead,
    DirectoryRecord,
    PlacementRecord,
    ShardRecord,
    SigningKeyRecord,
    TopicRecord,
    decode_directory,
    encode_directory,
)
from processors.wire.records import Content, OutRecord, Record
from processors.wire.route import ROUTE_HEADER, decode_route
from processors.wire.signature import fingerprint
from processors.workers.router import Router, RouterConfig, RouterParts
from tests.properties.routing_comparison import expected, expected_letters, expected_moves, moves_among, taken
from tests.properties.routing_history import HOME, KEYRING, LANES, LATER_KEYRING, PARTITIONS, History
from tests.simulation.fakes.broker import Broker, Entry, PartitionLog, record_of
from tests.simulation.fakes.clock import Clock
from tests.simulation.fakes.consumers import FakeGroupConsumer
from tests.simulation.fakes.crash_points import Crash

GROUP = "balance-router"
DEAD_LETTERS = "balance.dead-letters"
EPOCH = 7
INSTANCES = ("router-1", "router-2")
PAUSES_NESTED_MAX = 2
HEAL_ROUNDS_MAX = 300
LATER_SHARD = "s3"


class Producer:
    """``streams.producer.IdempotentProducer`` on the in-memory Kafka: in order within a partition, and only there."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._queues: dict[tuple[str, int], deque[tuple[OutRecord, Callable[[], None] | None]]] = {}

    @property
    def undelivered(self) -> int:
        return sum(map(len, self._queues.values()))

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        self._life.point("producer.send")
        self._queues.setdefault((record.topic, record.partition), deque()).append((record, on_delivered))
        self.poll(0)

    def send_together(
        self, topic: str, partition: int, contents: Sequence[Content], on_delivered: Callable[[], None]
    ) -> None:
        *others, last = [OutRecord(topic, partition, *content) for content in contents]
        for record in others:
            self.send(record)
        self.send(last, on_delivered)

    def write(self, record: OutRecord, deadline_s: float) -> None:
        acknowledged: list[bool] = []
        self.send(record, lambda: acknowledged.append(True))
        queue = self._queues[record.topic, record.partition]
        while not acknowledged:
            if self._life.fails("producer.write"):
                raise Unavailable(f"not acknowledged within {deadline_s} s")
            self._deliver(queue)

    def poll(self, timeout_s: float) -> None:  # noqa: ARG002 - the real one's signature
        for queue in self._queues.values():
            for _ in range(self._life.choose(len(queue) + 1)):
                self._deliver(queue)

    def hurry(self) -> None:
        self.poll(0)

    def flush(self, deadline_s: float) -> None:
        if self._life.fails("producer.flush"):
            raise Unavailable(f"not acknowledged within {deadline_s} s")
        for queue in self._queues.values():
            while queue:
                self._deliver(queue)

    def _deliver(self, queue: deque[tuple[OutRecord, Callable[[], None] | None]]) -> None:
        self._life.point("producer.deliver")
        record, on_delivered = queue.popleft()
        self._life.world.written(record)
        self._life.point("producer.delivered")
        if on_delivered is not None:
            on_delivered()


class ForgetfulConsumer(FakeGroupConsumer):
    """Commits without metadata, so that nothing is known of the directory's length then (R8)."""

    def commit(self, offsets: Mapping[int, int], metadata: Mapping[int, str] = NO_METADATA) -> None:  # noqa: ARG002
        super().commit(offsets)


class Life:
    """One life of a router's process, and its crash points (``fakes.crash_points.CrashPoints``)."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.busy = False  # within a call, in which it stands still while others go on
        counts = {COMMANDS_TOPIC: PARTITIONS}
        parts = RouterParts(
            join=lambda assigned, revoked: (ForgetfulConsumer if world.blind else FakeGroupConsumer)(
                world.broker, COMMANDS_TOPIC, GROUP, name, self, on_assigned=assigned, on_revoked=revoked
            ),
            producer=Producer(self),
            read_directory=self._read_directory,
            read_ingress_id=lambda: world.broker.topic(COMMANDS_TOPIC).topic_id,
            read_keyring=lambda: LATER_KEYRING,
            clock_s=lambda: world.clock.now_ms / 1000,
            watch=PartitionWatch(counts, lambda: counts, lambda: world.clock.now_ms / 1000, process="router"),
        )
        config = RouterConfig(
            ingress_partitions=PARTITIONS,
            lanes=1,
            topic_prefix="",
            dead_letters_topic=DEAD_LETTERS,
            batch_records_max=5,
            stop_deadline_s=10.0,
        )
        self._router = world.router(config, parts)

    def _read_directory(self, known: DirectoryContents | None) -> DirectoryContents:
        self.point("directory.read")
        return self.world.directory(known)

    def step(self) -> None:
        """Take a step of the router; whatever ends it ends this life."""
        self.busy = True
        try:
            self._router.step(0)
        except Crash:
            self.alive = False
        except Misconfigured as fault:
            raise AssertionError(f"{self.name} stops: {fault}") from fault
        except Fault:
            self.alive = False
        finally:
            self.busy = False

    def point(self, where: str) -> None:  # noqa: ARG002 - the protocol's
        if self.alive:
            self.world.pass_point(self)
        if not self.alive:
            raise Crash

    def fails(self, where: str) -> bool:  # noqa: ARG002
        return not self.world.healed and self.world.rng.random() < self.world.chaos / 4

    def choose(self, ways: int) -> int:
        return self.world.rng.randrange(ways)


@dataclass(slots=True)
class World:
    """The brokers, the ingress as it grows, and the routers' lives.

    ``chaos`` is the chance of trouble at each call. ``blind``: nobody looks at R4's order, nor at R8.
    """

    rng: Random
    router: Callable[[RouterConfig, RouterParts], Router] = Router
    blind: bool = False
    chaos: float = 0.02
    healed: bool = False
    clock: Clock = field(default_factory=Clock)
    broker: Broker = field(init=False)
    history: History = field(init=False)
    lives: dict[str, Life] = field(default_factory=dict)
    _pauses: int = 0
    _to_come: list[DirectoryRecord] = field(default_factory=list)  # what an operator writes into the directory
    _vouched_from: dict[bytes, int] = field(default_factory=dict)  # by its record's key: the first stamp it counts for

    def __post_init__(self) -> None:
        self.history = History(self.rng, keyrings=(KEYRING, LATER_KEYRING), counts=self._counts)
        self.broker = Broker(self.clock)
        ingress = self.broker.make_topic(COMMANDS_TOPIC, PARTITIONS)
        self.broker.make_topic(DIRECTORY_TOPIC, 1)
        self.broker.make_topic(DEAD_LETTERS, 1)
        head = DirectoryHead(directory_id=bytes(16), ingress_topic_id=ingress.topic_id, ingress_epoch=EPOCH)
        entries: list[DirectoryRecord] = [head]
        for shard, lanes in LANES.items():
            topic = self.broker.make_topic(shard_topic(shard), lanes)
            known = ShardRecord(shard=shard, topic=topic.name, topic_id=topic.topic_id)
            if shard == LATER_SHARD:
                self._to_come.append(known)
            else:
                entries.append(known)
                self._vouched_from[known.key] = 0
            entries.append(TopicRecord(topic=topic.name, partitions=lanes))
        entries.append(signing_key("k1"))
        self._vouched_from[entries[-1].key] = 0
        self._to_come += [signing_key("k2"), signing_key("k1", ended=True)]
        entries.append(PlacementRecord(unit=HOME_PLACEMENT_KEY, generation=0, shard=HOME, ingress_partition=0, since=0))
        for entry in entries:
            self.broker.write(OutRecord(DIRECTORY_TOPIC, 0, entry.key, encode_directory(entry), []))
        self.lives = {name: Life(self, name) for name in INSTANCES}

    # ---------------------------------------------------------------------- what happens

    def play(self, steps: int) -> None:
        """Take so many random steps; then let everything come to its end, and compare."""
        for _ in range(steps):
            self._anything()
        self.healed = True
        before = self.history.lengths()
        while any(self.history.lengths()[part] == before[part] for part in before):
            self._grow()  # where the group's offset was forgotten, the next commit brings it back
        for _ in range(HEAL_ROUNDS_MAX):
            if self._is_done():
                break
            self._have_a_router_step()
        assert self._is_done(), "the routers do not come to the end of the ingress"
        self.compare()

    def _anything(self) -> None:
        happens = self.rng.choices(
            [
                self._grow,
                self._have_a_router_step,
                self._rebalance,
                self._elect,
                self._compact,
                self._forget_offsets,
                self._vouch,
            ],
            weights=[10, 30, 1, 1, 1, 0.2, 1],
        )[0]
        happens()

    def _grow(self) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            self.broker.write(self.history.next())

    def _have_a_router_step(self) -> None:
        self.clock.advance(self.rng.randrange(400))
        name = self.rng.choice(INSTANCES)
        life = self.lives[name]
        if not life.alive:
            life = self.lives[name] = Life(self, name)
        if not life.busy:
            life.step()

    def pass_point(self, life: Life) -> None:
        """Let one call of a router be the last, or the one in which it stands still and is taken over from."""
        if self.healed or self.rng.random() >= self.chaos:
            return
        if self.rng.random() < 0.4:
            life.alive = False
        elif self._pauses < PAUSES_NESTED_MAX:
            self._pauses += 1
            self._take_over_from(life)
            for _ in range(self.rng.randrange(2, 30)):
                self._anything()
            self._pauses -= 1

    def _take_over_from(self, life: Life) -> None:
        group = self.broker.group(GROUP)
        way = self.rng.randrange(3)
        if way == 0 and group.members.keys() == set(INSTANCES):
            group.expel(life.name)
        elif way == 1 and self.lives[life.name] is life:
            self.lives[life.name] = Life(self, life.name)  # the same instance once more, and the old one goes on

    def _rebalance(self) -> None:
        self.broker.group(GROUP).rebalance(shift=1)

    def _elect(self) -> None:
        self.broker.log(COMMANDS_TOPIC, self.rng.randrange(PARTITIONS)).elect()

    def _compact(self) -> None:
        log = self.broker.log(DIRECTORY_TOPIC, 0)
        last = {entry.key: entry.offset for entry in log.entries}
        for offset in [entry.offset for entry in log.entries if last[entry.key] != entry.offset]:
            log.lose(offset)

    def _vouch(self) -> None:
        """Have an operator add a shard, announce a key, or end one; it counts some seconds later."""
        if self._to_come:
            record = self._to_come.pop(0)
            written = self.broker.write(OutRecord(DIRECTORY_TOPIC, 0, record.key, encode_directory(record), []))
            self._vouched_from[record.key] = written.timestamp_ms + COUNTS_AFTER_MS

    def _counts(self, target: str, key_id: str) -> bool:
        def is_vouched(key: str) -> bool:
            from_ms = self._vouched_from.get(key.encode())
            return from_ms is not None and self.clock.now_ms >= from_ms

        has_ended = is_vouched(f"key-ended/{key_id}")
        return is_vouched(f"shard/{target}") and is_vouched(f"key/{key_id}") and not has_ended

    def _forget_offsets(self) -> None:
        self.broker.group(GROUP).offsets.pop((COMMANDS_TOPIC, self.rng.randrange(PARTITIONS)), None)

    def _is_done(self) -> bool:
        committed = self.broker.group(GROUP).offsets
        logs = [self.broker.log(COMMANDS_TOPIC, part) for part in range(PARTITIONS)]
        return all(committed.get((log.topic, log.number), (0, ""))[0] == log.next_offset for log in logs)

    # ---------------------------------------------------------------------- what must be so

    def directory(self, known: DirectoryContents | None) -> DirectoryContents:
        """Return the directory as it is now, as ``streams.directory`` reads it: from where it was ``known`` on."""
        log = self.broker.log(DIRECTORY_TOPIC, 0)
        start = 0 if known is None else known.end_offset
        records = (record_of(log, entry) for entry in log.entries if entry.offset >= start)
        contents = contents_of(records, log.next_offset, known)
        assert contents is not None
        return contents

    def written(self, record: OutRecord) -> None:
        """Take what a router wrote; a lane's record has its placement in the directory by then (R4)."""
        route = next((decode_route(value) for name, value in record.headers if name == ROUTE_HEADER), None)
        if route is not None and route.generation > 0 and not self.blind:
            owner = f"{route.placement_key} of generation {route.generation} goes to {record.topic}"
            placed = {
                (each.unit, each.generation): shard_topic(each.shard)
                for each in map(_entry, self.broker.log(DIRECTORY_TOPIC, 0).entries)
                if isinstance(each, PlacementRecord)
            }
            assert placed.get((route.placement_key, route.generation)) == record.topic, f"{owner}, not in the directory"
        self.broker.write(record)

    def compare(self) -> None:
        """Hold what lanes, directory and dead letters have against the history."""
        read = self._records
        came = {part: read(self.broker.log(COMMANDS_TOPIC, part)) for part in range(PARTITIONS)}
        lanes = {
            (shard, lane): read(self.broker.log(shard_topic(shard), lane))
            for shard, count in LANES.items()
            for lane in range(count)
        }
        assert taken(lanes) == expected(self.history, came, EPOCH)
        met = [_entry(entry) for entry in self.broker.log(DIRECTORY_TOPIC, 0).entries]
        assert moves_among(met) == expected_moves(self.history)
        letters = {entry.value for entry in self.broker.log(DEAD_LETTERS, 0).entries}
        assert len(letters) == expected_letters(self.history)

    def _records(self, log: PartitionLog) -> list[Record]:
        return [record_of(log, entry) for entry in log.entries]


def signing_key(key_id: str, *, ended: bool = False) -> SigningKeyRecord:
    return SigningKeyRecord(key_id=key_id, fingerprint=fingerprint(LATER_KEYRING.keys[key_id]), ended=ended)


def _entry(entry: Entry) -> DirectoryRecord:
    assert entry.value is not None
    return decode_directory(entry.value)
