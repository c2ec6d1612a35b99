"""What the router works with, in memory: a group and a broker that acknowledge when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from processors.faults import Fault, Unavailable
from processors.routing.buckets import partition_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.streams.directory import DirectoryContents
from processors.streams.topics import COMMANDS_TOPIC, shard_topic
from processors.streams.unused_partitions import PartitionWatch
from processors.wire.directory import (
    DirectoryHead,
    DirectoryKey,
    DirectoryRecord,
    ShardRecord,
    Vouched,
    decode_directory,
)
from processors.wire.records import Content, OutRecord, Record
from processors.wire.route import ROUTE_HEADER, Route, decode_route
from processors.wire.signature import KeyRing, fingerprint
from processors.workers.router import COMMIT_INTERVAL_S, Assigned, Revoked, Router, RouterConfig, RouterParts

INGRESS_ID = b"i" * 16
HEAD = DirectoryHead(directory_id=b"d" * 16, ingress_topic_id=INGRESS_ID, ingress_epoch=3)
METADATA = f"r1 directory={HEAD.directory_id.hex()} end="
KEYRING = KeyRing(signing="k1", keys={"k1": bytes(32)})
KNOWN = DirectoryKey(fingerprint=fingerprint(bytes(32)), counts_from_ms=0)
PARTITIONS = 2
ROOTS = ["acme" if partition_of("acme", PARTITIONS) == number else "globex" for number in range(PARTITIONS)]


@dataclass(slots=True)
class Ingress:
    """A consumer group with one member; assigns and revokes when told to, within the member's poll."""

    waiting: deque[Record] = field(default_factory=deque)
    commits: list[tuple[dict[int, int], str]] = field(default_factory=list)
    kept: dict[int, tuple[int, str]] = field(default_factory=dict)
    assigning: list[int] = field(default_factory=lambda: list(range(PARTITIONS)))
    revoking: list[int] = field(default_factory=list)
    fault: Fault | None = None
    assigned: Assigned = field(init=False)
    revoked: Revoked = field(init=False)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:  # noqa: ARG002 - the real one's signature
        revoking, self.revoking = self.revoking, []
        assigning, self.assigning = self.assigning, []
        if revoking:
            self.revoked(revoking)
        if assigning:
            self.assigned(assigning)
        return [self.waiting.popleft() for _ in range(min(max_records, len(self.waiting)))]

    def commit(self, offsets: Mapping[int, int], metadata: Mapping[int, str]) -> None:
        if self.fault is not None:
            raise self.fault
        self.commits.append((dict(offsets), next(iter(metadata.values()))))
        self.kept |= {partition: (offset, metadata[partition]) for partition, offset in offsets.items()}

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]:
        return {partition: self.kept[partition] for partition in partitions if partition in self.kept}


@dataclass(slots=True)
class Lanes:
    """A producer whose broker acknowledges in whatever order the test asks for."""

    sent: list[OutRecord] = field(default_factory=list)
    told: dict[int, Callable[[], None] | None] = field(default_factory=dict)  # not acknowledged yet, by index
    hurried: list[int] = field(default_factory=list)  # after how many records
    silent: bool = True
    fault: Fault | None = None

    @property
    def undelivered(self) -> int:
        return len(self.told)

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        self.poll(0)
        self.told[len(self.sent)] = on_delivered
        self.sent.append(record)

    def send_together(
        self, topic: str, partition: int, contents: Sequence[Content], on_delivered: Callable[[], None]
    ) -> None:
        missing = [len(contents)]

        def one_delivered() -> None:
            missing[0] -= 1
            if not missing[0]:
                on_delivered()

        for key, value, headers in contents:
            self.send(OutRecord(topic, partition, key, value, headers), one_delivered)

    def write(self, record: OutRecord, deadline_s: float) -> None:
        self.send(record)
        if self.silent:
            raise Unavailable(f"not acknowledged within {deadline_s} s")
        self.acknowledge(len(self.sent) - 1)

    def acknowledge(self, *indexes: int) -> None:
        for index in indexes:
            told = self.told.pop(index)
            if told is not None:
                told()

    def poll(self, timeout_s: float) -> None:  # noqa: ARG002
        if self.fault is not None:
            raise self.fault

    def hurry(self) -> None:
        self.hurried.append(len(self.sent))

    def flush(self, deadline_s: float) -> None:
        self.poll(0)
        if self.silent and self.told:
            raise Unavailable(f"not acknowledged within {deadline_s} s")
        self.acknowledge(*list(self.told))


@dataclass(slots=True)
class RouterFakes:
    ingress: Ingress = field(default_factory=Ingress)
    lanes: Lanes = field(default_factory=Lanes)
    now_s: float = 0.0
    ingress_id: bytes = INGRESS_ID
    end_offset: int = 3
    directory: Directory = field(default_factory=Directory)
    reads: int = 0
    records_max: int = 2
    partitions: int = PARTITIONS  # of the ingress, as the brokers say
    lanes_of: dict[str, int] = field(default_factory=dict)  # by shard, as the directory says; s1's is the settings'
    positions: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))  # notes
    keys: dict[str, DirectoryKey] = field(default_factory=lambda: {"k1": KNOWN})  # as the directory has them

    def __post_init__(self) -> None:
        self.directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)

    def contents(self, _known: DirectoryContents | None = None) -> DirectoryContents:
        self.reads += 1
        shards = {
            shard: ShardRecord(shard=shard, topic=shard_topic(shard), topic_id=shard.encode() * 8)
            for shard in ("s1", *self.lanes_of)
        }
        return DirectoryContents(
            head=HEAD,
            directory=self.directory,
            shards=shards,
            partitions={shard_topic(shard): lanes for shard, lanes in self.lanes_of.items()},
            end_offset=self.end_offset,
            positions=self.positions,
            vouched=Vouched(keys=self.keys, targets=dict.fromkeys(shards, 0)),
        )

    def join(self, assigned: Assigned, revoked: Revoked) -> Ingress:
        self.ingress.assigned, self.ingress.revoked = assigned, revoked
        return self.ingress

    def router(self) -> Router:
        config = RouterConfig(
            ingress_partitions=PARTITIONS,
            lanes=2,
            topic_prefix="p.",
            dead_letters_topic="balance.dead-letters",
            batch_records_max=self.records_max,
            stop_deadline_s=1.0,
        )
        parts = RouterParts(
            join=self.join,
            producer=self.lanes,
            read_directory=self.contents,
            read_ingress_id=lambda: self.ingress_id,
            read_keyring=lambda: KEYRING,
            clock_s=lambda: self.now_s,
            watch=PartitionWatch(
                {COMMANDS_TOPIC: PARTITIONS},
                lambda: {COMMANDS_TOPIC: self.partitions},
                lambda: self.now_s,
                process="router",
            ),
        )
        return Router(config, parts)

    def arrive(self, partition: int, *offsets: int) -> None:
        for offset in offsets:
            self.ingress.waiting.append(
                Record("p.in", partition, offset, 5, 1_000 + offset, True, ROOTS[partition].encode(), b"x", [])
            )

    def arrive_as(self, sent: OutRecord, offset: int) -> None:
        """Have a record come as somebody sent it."""
        self.ingress.waiting.append(
            Record("p.in", sent.partition, offset, 5, 1_000 + offset, True, sent.key, sent.value, sent.headers)
        )

    def later(self) -> None:
        self.now_s += COMMIT_INTERVAL_S


def route_of(record: OutRecord) -> Route:
    *_, (name, value) = record.headers
    assert name == ROUTE_HEADER
    return decode_route(value)


def noted(fakes: RouterFakes) -> list[DirectoryRecord]:
    return [decode_directory(record.value) for record in fakes.lanes.sent if record.topic == "p.balance.directory"]
