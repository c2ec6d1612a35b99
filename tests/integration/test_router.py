"""The router on real Kafka: what it forwards, what it refuses, what a restart forwards again."""

from __future__ import annotations

import hashlib
import os

import pytest
from confluent_kafka import OFFSET_INVALID, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of the driver's stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from processors.faults import Fault, Misconfigured
from processors.routing.buckets import bucket_of, partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_directory
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, shard_topic
from processors.wire.causes import Cause
from processors.wire.commands import PAYLOAD_BYTES_MAX
from processors.wire.directory import PlacementRecord, encode_directory
from processors.wire.records import ReadHeaders, Record
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, Stub, decode_stub
from tests.integration.ingress import (
    DEAD_LETTERS,
    GROUP,
    INGRESS_PARTITIONS,
    LANES,
    SHARD,
    Running,
    forwarded,
    letters,
    make_service,
    make_topics,
    root_in,
    route_of,
)
from tests.kafka_log import DEADLINE_S, KafkaLog
from tests.waiting import eventually

Forwarded = tuple[bytes | None, bytes | None, ReadHeaders]


def by_source(records: list[Record]) -> dict[tuple[int, int], Forwarded]:
    """Return what was forwarded of each ingress record: its bytes, without its place in the lane."""
    found: dict[tuple[int, int], Forwarded] = {}
    for record in records:
        route = route_of(record)
        found[route.ingress_partition, route.ingress_offset] = record.key, record.value, record.headers
    assert len(found) == len(records)
    return found


def write_many(address: KafkaAddress, count: int) -> None:
    """Write commands of many roots, each to its key's partition."""
    producer = Producer(address.options() | {"enable.idempotence": True})
    for number in range(count):
        root = f"u-{number % 97}"
        producer.produce(
            address.topic_prefix + COMMANDS_TOPIC,
            b"command %d" % number,
            root.encode(),
            partition_of(root, INGRESS_PARTITIONS),
        )
    assert producer.flush(DEADLINE_S) == 0


@pytest.mark.rule("W2")
def test_a_record_is_forwarded_with_its_signature_and_the_routers_header_and_no_other(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    root = root_in(3)
    headers = [
        ("signature", b"k1:\x00\xff"),
        ("balance-route", b"forged"),
        ("Balance-Route", b"forged"),
        ("balance-anything", b""),
        ("trace", b"t"),
    ]
    log.write(COMMANDS_TOPIC, [b"first", b"second\x00\xff"], partition=3, key=root.encode(), headers=headers)
    came = log.read(COMMANDS_TOPIC, partition=3)

    with Running(address) as router:
        router.forward(2)

    lane = bucket_of(root) & (LANES - 1)
    went = log.read(shard_topic(SHARD), partition=lane)
    assert [record.value for record in went] == [b"first", b"second\x00\xff"]
    for offset, record in enumerate(went):
        assert record.key == root.encode()
        assert record.headers[:-1] == [("signature", b"k1:\x00\xff")]
        assert route_of(record) == Route(
            RouteKind.COMMAND,
            read_directory(address).head.ingress_epoch,
            3,
            offset,
            came[offset].leader_epoch,
            came[offset].timestamp_ms,
            f"bucket:{bucket_of(root)}",
            0,
        )
    assert forwarded(log) == went
    assert letters(log) == []


@pytest.mark.rule("W3")
def test_a_record_in_another_partition_than_its_keys_is_a_dead_letter(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    root = root_in(2)
    log.write(COMMANDS_TOPIC, [b"astray"], partition=1, key=root.encode(), headers=[("trace", b"t")])

    with Running(address) as router:
        router.forward(1)

    (letter,) = letters(log)
    assert (letter.cause, letter.topic, letter.partition, letter.offset) == (
        Cause.WRONG_PARTITION,
        log.full(COMMANDS_TOPIC),
        1,
        0,
    )
    assert (letter.key, letter.payload) == (root.encode(), b"astray")
    assert forwarded(log) == []


@pytest.mark.rule("W3")
@pytest.mark.parametrize(
    "key",
    [None, b"", b"Acme", b"acme:vn", b"\xff\xfe", b"x" * 65, b"x" * 300_000],
    ids=["none", "empty", "upper case", "an address", "no text", "long", "huge"],
)
def test_a_key_that_is_no_root_is_a_dead_letter(address: KafkaAddress, log: KafkaLog, key: bytes | None) -> None:
    make_service(address)
    producer = Producer(address.options() | {"message.max.bytes": 1_000_000})
    producer.produce(log.full(COMMANDS_TOPIC), b"payload", key, 0)
    assert producer.flush(DEADLINE_S) == 0

    with Running(address) as router:
        router.forward(1)

    (letter,) = letters(log)
    assert letter.cause == Cause.BAD_KEY
    assert letter.key == (key or b"")[:256]
    assert letter.key_size == (-1 if key is None else len(key))
    assert forwarded(log) == []


@pytest.mark.parametrize("value", [None, b""])
def test_a_record_without_payload_is_a_dead_letter(address: KafkaAddress, log: KafkaLog, value: bytes | None) -> None:
    make_service(address)
    producer = Producer(address.options())
    producer.produce(log.full(COMMANDS_TOPIC), value, root_in(0).encode(), 0)
    assert producer.flush(DEADLINE_S) == 0

    with Running(address) as router:
        router.forward(1)

    assert [letter.cause for letter in letters(log)] == [Cause.EMPTY]
    assert forwarded(log) == []


@pytest.mark.rule("W4")
def test_a_record_above_64_kib_is_forwarded_as_its_size_and_hash(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    largest, larger = b"x" * PAYLOAD_BYTES_MAX, b"y" * (PAYLOAD_BYTES_MAX + 1)
    log.write(COMMANDS_TOPIC, [largest, larger], key=root_in(0).encode(), headers=[("signature", b"s")])

    with Running(address) as router:
        router.forward(2)

    whole, stub = forwarded(log)
    assert (whole.value, route_of(whole).kind) == (largest, RouteKind.COMMAND)
    assert route_of(stub).kind is RouteKind.STUB
    assert decode_stub(stub.value or b"") == Stub(size=65_537, sha256=hashlib.sha256(larger).digest())
    assert stub.headers[0] == ("signature", b"s")


@pytest.mark.rule("W4")
def test_five_megabytes_that_compress_well_pass_the_router_and_stop_nobody(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    zeros = Producer(address.options() | {"message.max.bytes": 6_000_000, "compression.type": "gzip"})
    zeros.produce(log.full(COMMANDS_TOPIC), bytes(5_000_000), root_in(0).encode(), 0)
    zeros.produce(log.full(COMMANDS_TOPIC), b"payload", b"k" * 5_000_000, 0)
    assert zeros.flush(DEADLINE_S) == 0
    log.write(COMMANDS_TOPIC, [b"next"], key=root_in(0).encode())

    with Running(address) as router:
        router.forward(3)

    assert [route_of(record).kind for record in forwarded(log)] == [RouteKind.STUB, RouteKind.COMMAND]
    assert [letter.key_size for letter in letters(log)] == [5_000_000]


@pytest.mark.rule("R7")
def test_commands_of_a_gateways_transaction_count_once_it_is_committed_and_none_of_an_aborted_one(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    own = partition_of("acme", INGRESS_PARTITIONS)
    log.write_in_transaction(COMMANDS_TOPIC, [b"a", b"b"], commit=True, partition=own)
    log.write_in_transaction(COMMANDS_TOPIC, [b"never"], commit=False, partition=own)
    log.write(COMMANDS_TOPIC, [b"c"], partition=own)

    with Running(address) as router:
        router.forward(3)

    assert [(record.value, route_of(record).ingress_offset) for record in forwarded(log)] == [
        (b"a", 0),
        (b"b", 1),
        (b"c", 5),
    ]


@pytest.mark.rule("R7")
def test_a_lane_gets_each_ingress_partition_in_order_and_whole(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    write_many(address, 20_000)

    with Running(address) as router:
        router.forward(20_000)

    met: dict[int, list[int]] = {partition: [] for partition in range(INGRESS_PARTITIONS)}
    for lane in range(LANES):
        last = dict.fromkeys(range(INGRESS_PARTITIONS), -1)
        for record in log.read(shard_topic(SHARD), partition=lane):
            route = route_of(record)
            assert bucket_of((record.key or b"").decode()) & (LANES - 1) == lane
            assert route.ingress_offset > last[route.ingress_partition]
            last[route.ingress_partition] = route.ingress_offset
            met[route.ingress_partition].append(route.ingress_offset)
    for partition, offsets in met.items():
        assert sorted(offsets) == list(range(log.read(COMMANDS_TOPIC, partition=partition)[-1].offset + 1))


@pytest.mark.rule("R6")
@pytest.mark.rule("R7")
def test_a_command_that_is_lost_among_others_ends_the_router_and_nothing_is_committed_past_it(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    narrow = ConfigEntry("max.message.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    lanes = ConfigResource(ResourceType.TOPIC, log.full(shard_topic(SHARD)), incremental_configs=[narrow])
    admin = AdminClient(address.options())
    admin.incremental_alter_configs([lanes])[lanes].result(DEADLINE_S)
    root = root_in(0)
    values = [bytes(PAYLOAD_BYTES_MAX)] * 60  # some requests of a megabyte, which shrink to a few kilobytes
    values[5] = os.urandom(PAYLOAD_BYTES_MAX)
    log.write(COMMANDS_TOPIC, values, partition=0, key=root.encode())

    with Running(address) as router, pytest.raises(Fault, match="Message size too large"):
        router.forward(len(values))

    assert log.committed(GROUP, COMMANDS_TOPIC).offset <= 5
    went = forwarded(log)
    assert [record.value for record in went] == values[: len(went)]
    assert len(went) <= 5


@pytest.mark.rule("R6")
def test_a_router_that_comes_back_forwards_what_it_had_not_committed_again_byte_for_byte(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    write_many(address, 2_000)
    log.write(COMMANDS_TOPIC, [b"y" * 70_000], key=root_in(0).encode())
    log.write(COMMANDS_TOPIC, [b"astray"], key=root_in(1).encode())

    # Its clock stands still, so that no commit is due however long it takes to meet them.
    with Running(address, batch_records_max=100, clock_s=lambda: 0.0) as stopped:
        eventually(lambda: bool(stopped.step() or stopped.met) and stopped.met >= 500, "500 records were met")
        stopped.producer.flush(DEADLINE_S)  # delivered, and nothing of it committed
        committed = [log.committed(GROUP, COMMANDS_TOPIC, partition=n).offset for n in range(INGRESS_PARTITIONS)]
        assert committed == [OFFSET_INVALID] * INGRESS_PARTITIONS
        before = {lane: log.read(shard_topic(SHARD), partition=lane) for lane in range(LANES)}
        with Running(address) as router:  # the same member, started again
            router.forward(2_002)

    assert any(before.values())  # of whichever partitions the broker gave first
    for lane, records in before.items():
        again = log.read(shard_topic(SHARD), partition=lane)[len(records) :]
        assert by_source(records).items() <= by_source(again).items()
    assert len(letters(log)) in (1, 2)  # at least once


def begin_at_the_start(address: KafkaAddress, group: str) -> None:
    topic = address.topic_prefix + COMMANDS_TOPIC
    places = [TopicPartition(topic, partition, 0) for partition in range(INGRESS_PARTITIONS)]
    wanted = [ConsumerGroupTopicPartitions(address.topic_prefix + group, places)]
    admin = AdminClient(address.options())  # kept: its futures end with it
    for done in admin.alter_consumer_group_offsets(wanted).values():
        done.result(30)


@pytest.mark.rule("R6")
def test_the_whole_ingress_read_again_from_the_start_gives_the_same_bytes(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    write_many(address, 500)
    log.write(COMMANDS_TOPIC, [b"y" * 70_000, b""], key=root_in(0).encode())
    log.write(COMMANDS_TOPIC, [b"astray"], key=root_in(1).encode())
    with Running(address) as router:
        router.forward(503)
    first = {lane: log.read(shard_topic(SHARD), partition=lane) for lane in range(LANES)}

    group = "balance-router-again"
    begin_at_the_start(address, group)
    with Running(address, group=group) as router:
        router.forward(503)

    for lane, records in first.items():
        again = log.read(shard_topic(SHARD), partition=lane)[len(records) :]
        assert records
        assert by_source(again) == by_source(records)
    values = [record.value or b"" for record in log.read(DEAD_LETTERS)]
    assert len(values) == 4
    assert sorted(values[:2]) == sorted(values[2:])


@pytest.mark.rule("R6")
def test_a_restarted_router_goes_on_after_what_it_committed(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    own = partition_of("acme", INGRESS_PARTITIONS)
    log.write(COMMANDS_TOPIC, [b"a", b"b"], partition=own)
    with Running(address) as router:
        router.forward(2)
    log.write(COMMANDS_TOPIC, [b"c"], partition=own)

    with Running(address) as router:
        router.forward(1)

    assert [record.value for record in forwarded(log)] == [b"a", b"b", b"c"]


@pytest.mark.rule("R1")
def test_a_placement_that_was_written_before_the_assignment_decides_the_first_record(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    own = partition_of("acme", INGRESS_PARTITIONS)
    log.write(COMMANDS_TOPIC, [b"before", b"after"], partition=own)
    placed = PlacementRecord(unit="acme", generation=1, shard=SHARD, ingress_partition=own, since=1)

    with Running(address) as router:  # joins, and is assigned nothing before its first step
        log.write(DIRECTORY_TOPIC, [encode_directory(placed)], key=placed.key)
        router.forward(2)

    routes = [route_of(record) for record in forwarded(log)]
    assert [(route.placement_key, route.generation) for route in routes] == [
        (f"bucket:{bucket_of('acme')}", 0),
        ("acme", 1),
    ]


@pytest.mark.rule("R8")
def test_a_router_refuses_to_start_without_the_directorys_head(address: KafkaAddress) -> None:
    make_topics(address)

    with Running(address) as router, pytest.raises(Misconfigured, match="balance init"):
        router.forward(1)


@pytest.mark.rule("R8")
def test_a_router_refuses_a_directory_that_ends_before_the_one_it_committed_with(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    known = read_directory(address)
    own = partition_of("acme", INGRESS_PARTITIONS)
    metadata = f"r1 directory={known.head.directory_id.hex()} end={known.end_offset + 1}"
    log.commit(GROUP, COMMANDS_TOPIC, 0, partition=own, metadata=metadata)

    with Running(address) as router, pytest.raises(Misconfigured, match="placements are lost"):
        router.forward(1)


@pytest.mark.rule("R8")
def test_a_router_refuses_another_directory_under_the_same_name(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    own = partition_of("acme", INGRESS_PARTITIONS)
    log.write(COMMANDS_TOPIC, [b"a"], partition=own)
    with Running(address) as router:
        router.forward(1)
    log.drop(DIRECTORY_TOPIC)
    make_service(address)

    with Running(address) as router, pytest.raises(Misconfigured, match="placements are lost"):
        router.forward(1)


@pytest.mark.rule("R8")
def test_a_router_refuses_an_ingress_that_was_made_again(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    log.drop(COMMANDS_TOPIC)
    make_topics(address)

    with Running(address) as router, pytest.raises(Misconfigured, match="made again"):
        router.forward(1)


@pytest.mark.rule("R8")
def test_nothing_is_committed_of_an_ingress_that_is_made_again_while_the_router_runs(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    own = partition_of("acme", INGRESS_PARTITIONS)
    log.write(COMMANDS_TOPIC, [b"a"], partition=own)

    with Running(address) as router:
        router.forward(1)
        log.drop(COMMANDS_TOPIC)
        make_topics(address)
        log.write(COMMANDS_TOPIC, [b"b", b"c", b"d"], partition=own)
        with pytest.raises(Misconfigured):
            eventually(lambda: router.step() < 0, "the router stops")

    assert log.committed(GROUP, COMMANDS_TOPIC, partition=own).offset <= 1


@pytest.mark.rule("P4")
def test_a_second_router_takes_half_of_the_ingress_and_nothing_is_left_out(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    write_many(address, 1_000)
    with Running(address) as first:
        first.forward(1_000)
        with Running(address, instance="b") as second:
            eventually(
                lambda: bool(first.step() + second.step()) or len(first.router.owned) == len(second.router.owned) == 2,
                "each has two partitions",
            )
            write_many(address, 1_000)
            eventually(
                lambda: first.step() + second.step() == 0 and first.met + second.met >= 2_000, "all records were met"
            )
            assert second.met >= 400
            first.router.finish()
            second.router.finish()

    assert len({(route_of(r).ingress_partition, route_of(r).ingress_offset) for r in forwarded(log)}) == 2_000


def test_every_forward_has_exactly_one_route(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    write_many(address, 100)

    with Running(address) as router:
        router.forward(100)

    records = forwarded(log)
    assert len(records) == 100
    for record in records:
        assert [name for name, _ in record.headers] == [ROUTE_HEADER]
