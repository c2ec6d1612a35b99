"""Results once more, on a real Kafka: a consumer who lost his state gets them as they were published."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from processors.lookup.times import show_time
from processors.ops import addresses
from processors.routing.buckets import partition_of
from processors.streams.topics import RESULTS_TOPIC
from processors.wire.records import Record
from processors.wire.results import decode_result
from tests.chaos.lanes import Shard, now_ms
from tests.chaos.operator_process import run_until_it_kills_itself
from tests.end_to_end.conftest import Said, balance
from tests.kafka_log import KafkaLog
from tests.servers import Place

PARTITIONS = 2
EARLIER, LATER = "acme", "bravo"
ALL = "2020-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def shard(fresh_place: Callable[..., Place]) -> Shard:
    """A shard with one partner's day, and a second later another one's, in other partitions of the results."""
    assert partition_of(EARLIER, PARTITIONS) != partition_of(LATER, PARTITIONS)
    made = Shard(fresh_place(BALANCE_TOPICS__RESULTS_PARTITIONS=str(PARTITIONS)))
    for root in (EARLIER, LATER):
        made.write_day(root, payments=200)
        with made.worker():
            made.await_decided()
        time.sleep(1)  # between their stamps
    return made


@pytest.fixture
def log(shard: Shard) -> KafkaLog:
    return KafkaLog(addresses.kafka_address(shard.settings))


def in_topic(log: KafkaLog, topic: str) -> dict[int, list[Record]]:
    return {partition: log.read(topic, partition=partition) for partition in range(PARTITIONS)}


def ends(shard: Shard, topic: str) -> int:
    return sum(shard.topics.end(topic, partition) for partition in range(PARTITIONS))


def copy(shard: Shard, topic: str, *arguments: str) -> Said:
    return balance(shard.place, "replay", "results", "--to-topic", topic, *arguments)


def contents(records: list[Record]) -> list[tuple[object, ...]]:
    return [(each.key, each.value, list(each.headers)) for each in records]


def test_all_results_come_again_byte_for_byte_in_their_partitions_and_order(shard: Shard, log: KafkaLog) -> None:
    log.make("consumer.all", PARTITIONS)

    said = copy(shard, "consumer.all", "--from", ALL, "--yes", "--json")

    published, copied = in_topic(log, RESULTS_TOPIC), in_topic(log, "consumer.all")
    assert said.status == 0, said.err
    assert said.json["sent"] == sum(map(len, published.values())) > 400
    assert {each: contents(of) for each, of in copied.items()} == {each: contents(of) for each, of in published.items()}


def test_nothing_is_written_before_yes_is_said(shard: Shard, log: KafkaLog) -> None:
    log.make("consumer.dry", PARTITIONS)

    said = copy(shard, "consumer.dry", "--from", ALL)

    assert said.status == 0, said.err
    assert "would be written to consumer.dry: --yes does it" in said.out
    assert not any(in_topic(log, "consumer.dry").values())


def test_only_one_partners_come_where_he_is_named(shard: Shard, log: KafkaLog) -> None:
    log.make("consumer.one", PARTITIONS)

    said = copy(shard, "consumer.one", "--from", ALL, "--partner", LATER, "--yes")

    copied = [decode_result(each.value or b"") for of in in_topic(log, "consumer.one").values() for each in of]
    assert said.status == 0, said.err
    assert {result.root for result in copied} == {LATER}
    assert len(copied) == len([
        each for each in log.read(RESULTS_TOPIC, partition=partition_of(LATER, PARTITIONS))
        if decode_result(each.value or b"").root == LATER
    ])  # fmt: skip


def test_only_those_of_the_time_or_the_offsets_come(shard: Shard, log: KafkaLog) -> None:
    published = in_topic(log, RESULTS_TOPIC)
    earlier, later = partition_of(EARLIER, PARTITIONS), partition_of(LATER, PARTITIONS)
    start_ms, border_ms = published[earlier][0].timestamp_ms, published[later][0].timestamp_ms
    wanted = {
        partition: [each for each in records if start_ms <= each.timestamp_ms < border_ms]
        for partition, records in published.items()
    }
    some = published[earlier][3:7]
    log.make("consumer.time", PARTITIONS)
    log.make("consumer.offsets", PARTITIONS)

    by_time = copy(shard, "consumer.time", "--from", show_time(start_ms), "--to", show_time(border_ms), "--yes")
    borders = ("--from", f"{earlier}={some[0].offset}", "--to", f"{earlier}={some[-1].offset + 1}")
    by_offset = copy(shard, "consumer.offsets", *borders, "--yes")

    assert (by_time.status, by_offset.status) == (0, 0), by_time.err + by_offset.err
    copied = in_topic(log, "consumer.time")
    assert {each: contents(of) for each, of in copied.items()} == {each: contents(of) for each, of in wanted.items()}
    assert len(copied[earlier]) > 200
    assert {each: contents(of) for each, of in in_topic(log, "consumer.offsets").items()} == {
        earlier: contents(some),
        later: [],
    }


def test_one_that_is_run_again_writes_what_is_new_and_each_result_once(shard: Shard, log: KafkaLog) -> None:
    log.make("consumer.again", PARTITIONS)
    earlier = partition_of(EARLIER, PARTITIONS)
    some = log.read(RESULTS_TOPIC, partition=earlier)[100].offset
    assert copy(shard, "consumer.again", "--from", ALL, "--to", f"{earlier}={some}", "--yes").status == 0

    dry = copy(shard, "consumer.again", "--from", ALL, "--json").json
    rest = copy(shard, "consumer.again", "--from", ALL, "--yes", "--json").json
    again = copy(shard, "consumer.again", "--from", ALL, "--yes")

    published, copied = in_topic(log, RESULTS_TOPIC), in_topic(log, "consumer.again")
    assert {each: contents(of) for each, of in copied.items()} == {each: contents(of) for each, of in published.items()}
    missing = len([each for each in published[earlier] if each.offset >= some])
    assert (dry["sent"], rest["sent"]) == (missing, missing)
    assert rest["there"] + missing == sum(map(len, published.values()))
    assert "consumer.again has all" in again.out


def test_one_that_is_killed_goes_on_where_it_was(fresh_place: Callable[..., Place]) -> None:
    long = Shard(fresh_place(BALANCE_TOPICS__RESULTS_PARTITIONS=str(PARTITIONS)))
    log = KafkaLog(addresses.kafka_address(long.settings))
    log.make("consumer.killed", PARTITIONS)
    for partition in range(PARTITIONS):
        log.write(RESULTS_TOPIC, [b"%06d" % number * 50 for number in range(40_000)], partition=partition)
    whole = ends(long, RESULTS_TOPIC)

    for _ in range(2):
        had = ends(long, "consumer.killed")
        run_until_it_kills_itself(long.place, "results", "consumer.killed")
        assert had < ends(long, "consumer.killed") < whole
    said = copy(long, "consumer.killed", "--from", ALL, "--yes")

    assert said.status == 0, said.err
    published, copied = in_topic(log, RESULTS_TOPIC), in_topic(log, "consumer.killed")
    assert {each: contents(of) for each, of in copied.items()} == {each: contents(of) for each, of in published.items()}


@pytest.mark.parametrize("what", ["other", "more"])
def test_a_topic_that_has_something_else_is_refused_and_left_as_it_is(shard: Shard, log: KafkaLog, what: str) -> None:
    topic = f"consumer.{what}"
    log.make(topic, PARTITIONS)
    partner = () if what == "more" else ("--partner", LATER)
    assert copy(shard, topic, "--from", ALL, *partner, "--yes").status == 0
    before = in_topic(log, topic)
    later = partition_of(LATER, PARTITIONS)
    first = log.read(RESULTS_TOPIC, partition=later)[1].offset

    since, until = (f"{later}={first}", ()) if what == "other" else (f"{later}=0", ("--to", f"{later}=50"))
    said = copy(shard, topic, "--from", since, *until, "--yes")

    assert said.status == 3
    assert "else make a new topic" in said.err
    assert in_topic(log, topic) == before


def test_results_that_have_left_the_topic_stop_it_with_the_time_that_it_reaches_back_to(
    fresh_place: Callable[..., Place],
) -> None:
    short = Shard(fresh_place(BALANCE_TOPICS__RESULTS_PARTITIONS="1"))
    short.write_day(EARLIER, payments=20)
    with short.worker():
        short.await_decided()
    log = KafkaLog(addresses.kafka_address(short.settings))
    log.make("consumer.gap", 1)
    begun_ms = log.read(RESULTS_TOPIC)[0].timestamp_ms
    short.write_day(LATER, payments=20)
    with short.worker():
        short.await_decided()
    left = next(each for each in log.read(RESULTS_TOPIC) if decode_result(each.value or b"").root == LATER)
    log.truncate(RESULTS_TOPIC, left.offset)

    said = copy(short, "consumer.gap", "--from", show_time(begun_ms), "--yes")
    by_offset = copy(short, "consumer.gap", "--from", "0=3", "--yes")

    told = f"to {left.offset - 1} (it begins at {show_time(left.timestamp_ms)})"
    for each, first in ((said, 0), (by_offset, 3)):
        assert each.status == 3
        assert f"partition 0, offsets {first} {told}" in each.err
        assert f"what the topic still has comes with --from 0={left.offset}" in each.err
        assert "`balance statement`" in each.err
    assert log.read("consumer.gap") == []
    again = copy(short, "consumer.gap", "--from", f"0={left.offset}", "--yes")
    assert again.status == 0, again.err
    assert contents(log.read("consumer.gap")) == contents(log.read(RESULTS_TOPIC))
    since = copy(short, "consumer.gap", "--from", show_time(left.timestamp_ms), "--yes")
    assert "has all" in since.out


@pytest.mark.parametrize(
    ("topic", "partitions", "told"),
    [
        (RESULTS_TOPIC, 0, "is the service's own"),
        ("consumer.absent", 0, f"make it, with {PARTITIONS} partitions"),
        ("consumer.narrow", 1, f"has 1 partitions, and balance.results {PARTITIONS}"),
    ],
    ids=["the service's own", "not there", "fewer partitions"],
)
def test_a_topic_that_cannot_take_them_is_refused(
    shard: Shard, log: KafkaLog, topic: str, partitions: int, told: str
) -> None:
    if partitions:
        log.make(topic, partitions)
    before = in_topic(log, RESULTS_TOPIC)

    said = copy(shard, topic, "--from", show_time(now_ms()), "--yes")

    assert said.status == 3
    assert told in " ".join(said.err.split())
    assert in_topic(log, RESULTS_TOPIC) == before
