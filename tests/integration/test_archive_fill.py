"""What left the results topic before the sink had it is archived from MySQL, on real servers, and its slices leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest

from processors.ids import SLICE_MS, slice_of
from processors.ops import addresses
from processors.ops.assembly import proving, sink
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import Collector
from processors.stores.archive_schema import open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.streams.group_look import committed_positions, look_at_group
from processors.streams.topics import RESULTS_TOPIC, shard_group, shard_topic
from processors.wire.coverage import Coverage, decode_archived
from processors.workers.remover import Remover, RemoverOptions
from tests.archived import alter_change
from tests.chaos.lanes import SHARD, Shard, now_ms
from tests.chaos.operator_process import run_until_it_kills_itself
from tests.end_to_end.conftest import balance
from tests.integration.test_verify import OLD_MS, an_old_morning, change, payments_of_today
from tests.kafka_log import KafkaLog
from tests.servers import Place
from tests.sink_parts import CrashPoint, ProducedRecords
from tests.waiting import eventually

LANES = 2
ALONE, OTHER = "acme", "bravo"  # each has a lane and a results partition for himself
LATER_US = 10**16


def two_old_mornings(fresh_place: Callable[..., Place], payments: int) -> Shard:
    """Return a shard with two partners' old morning on it, decided and published, which nobody has archived."""
    assert partition_of(ALONE, LANES) != partition_of(OTHER, LANES)
    counts = {f"BALANCE_TOPICS__{each}": str(LANES) for each in ("LANES", "RESULTS_PARTITIONS")}
    shard = Shard(fresh_place(**counts))
    for root in (ALONE, OTHER):
        shard.write(an_old_morning(root, payments))
    with shard.worker():
        shard.await_decided()
    return shard


@pytest.fixture
def make(fresh_place: Callable[..., Place]) -> Callable[[int], Shard]:
    return partial(two_old_mornings, fresh_place)


def truncate(shard: Shard) -> None:
    """Have all results of one partner leave the topic, and half of the other's."""
    log = KafkaLog(shard.address)
    for root, share in ((ALONE, 1), (OTHER, 2)):
        partition = partition_of(root, LANES)
        log.truncate(RESULTS_TOPIC, shard.topics.end(RESULTS_TOPIC, partition) // share, partition=partition)


@contextmanager
def archive(shard: Shard) -> Iterator[CassandraSession]:
    with closing(open_archive(addresses.cassandra_address(shard.settings), requests_max=4)) as session:
        yield session


def covered(shard: Shard) -> dict[tuple[int, int], int]:
    """Return (lane, results partition) -> the last offset that the archive covers."""
    with archive(shard) as session:
        found = ArchiveReader(session).coverage(shard.topics.topic_id(shard_topic(SHARD)))
    return {key: each.lane_offset for key, each in found.items()}


def last_rows(shard: Shard) -> dict[tuple[int, int], int]:
    with closing(open_reader(addresses.mysql_address(shard.settings, SHARD))) as reader:
        found: dict[tuple[int, int], int] = {}
        for number in reader.slices():
            for key, (offset, _) in reader.slice_last_rows(number, LANES).items():
                found[key] = max(found.get(key, -1), offset)
        return found


def positions(shard: Shard) -> dict[int, int | None]:
    topic_id = shard.topics.topic_id(RESULTS_TOPIC)
    with archive(shard) as session:
        return {each: ArchiveReader(session).position(topic_id, each) for each in range(LANES)}


def run_sink_until_all_is_covered(shard: Shard) -> None:
    run_sink_until(shard, lambda: covered(shard) == last_rows(shard), "the sink archives the rest")


def run_sink_until(shard: Shard, is_done: Callable[[], bool], what: str) -> None:
    stopping = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            sink.run(shard.settings, "", stopping)
        except Exception as fault:  # noqa: BLE001 - told below
            failed.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: failed or is_done(), what)
    finally:
        stopping.set()
        thread.join()
    assert not failed


def remove(shard: Shard) -> list[int]:
    """Have the remover look once, as if the window of all was over; return the slices that left."""
    later_ms = now_ms() + 12 * SLICE_MS
    change(shard, f"UPDATE progress SET published_offset = next_offset, published_time_ms = {later_ms}")
    database = addresses.mysql_address(shard.settings, SHARD)
    options = RemoverOptions(shard=SHARD, lanes=LANES, results_partitions=LANES, archived_topic="unused")
    with archive(shard) as session, closing(open_reader(database)) as reader, closing(ShardUpkeep(database)) as upkeep:
        told = ProducedRecords(CrashPoint())
        remover = Remover(options, reader, upkeep, ArchiveReader(session), told, stopping=threading.Event())
        return remover.step(now_ms())


def is_proven(shard: Shard) -> bool:
    """Say whether journal and archive fit; the results topic has lost what it had."""
    checks = proving.verify_shard(
        shard.settings, SHARD, on_progress=lambda _what, _rows: None, with_results=False, everything=True
    )
    assert not [check for check in checks if check.wrong], checks
    return True


def old_slices() -> set[int]:
    old = slice_of(now_ms() - OLD_MS)
    return {old - 1, old, old + 1}  # the hour may have turned


@pytest.mark.rule("A5")
@pytest.mark.rule("A6")
def test_a_slice_whose_results_left_the_topic_is_archived_from_mysql_and_then_leaves(
    make: Callable[[int], Shard],
) -> None:
    shard = make(20)
    truncate(shard)
    before = last_rows(shard)
    assert len(before) == LANES
    remove(shard)
    assert last_rows(shard) == before  # nothing proves them

    dry = balance(shard.place, "archive", "fill")
    assert dry.status == 1
    assert "nothing was written: --write does it" in dry.out
    assert covered(shard) == {}

    said = balance(shard.place, "archive", "fill", "--write")
    assert said.status == 0, said.out + said.err
    assert "the sink goes on behind the gap in partitions 0, 1" in said.out
    alone = partition_of(ALONE, LANES)
    assert covered(shard)[alone, alone] == before[alone, alone]
    firsts = {each: shard.topics.bounds(RESULTS_TOPIC, each)[0] for each in range(LANES)}
    assert positions(shard) == firsts
    told = [decode_archived(each.value or b"") for each in KafkaLog(shard.address).read("balance.archived")]
    assert {each.lane: each.lane_offset for each in told if isinstance(each, Coverage)} == {
        lane: offset for (lane, _), offset in covered(shard).items()
    }

    run_sink_until_all_is_covered(shard)
    assert is_proven(shard)
    again = balance(shard.place, "archive", "fill")
    assert (again.status, again.out.startswith("0 rows")) == (0, True)
    assert old_slices() & set(remove(shard))
    assert last_rows(shard) == {}


@pytest.mark.rule("A5")
def test_what_is_still_in_the_topic_is_left_to_the_sink(make: Callable[[int], Shard]) -> None:
    shard = make(20)

    said = balance(shard.place, "archive", "fill", "--write")

    assert (said.status, said.out.startswith("0 rows")) == (0, True)
    assert (covered(shard), positions(shard)) == ({}, dict.fromkeys(range(LANES)))


@pytest.mark.rule("A5")
def test_rows_of_a_gap_that_was_passed_by_hand_are_found_too(make: Callable[[int], Shard]) -> None:
    """Nothing comes behind the gap, so that no later coverage would ever include them."""
    shard = make(20)
    truncate(shard)
    firsts = {each: shard.topics.bounds(RESULTS_TOPIC, each)[0] for each in range(LANES)}
    with archive(shard) as session:
        ArchiveWriter(session).note_positions(shard.topics.topic_id(RESULTS_TOPIC), firsts)

    assert balance(shard.place, "archive", "fill", "--write").status == 0

    run_sink_until_all_is_covered(shard)
    assert is_proven(shard)


@pytest.mark.rule("A5")
def test_a_fill_that_is_killed_covers_nothing_that_is_not_there_and_is_finished_by_the_next(
    make: Callable[[int], Shard],
) -> None:
    shard = make(6_000)
    truncate(shard)

    run_until_it_kills_itself(shard.place, "fill")
    with archive(shard) as session:
        assert list(session.rows(session.prepare("SELECT first_offset FROM $journal LIMIT 1"), ()))
    assert (covered(shard), positions(shard)) == ({}, dict.fromkeys(range(LANES)))

    said = balance(shard.place, "archive", "fill", "--write")

    assert said.status == 0, said.out + said.err
    run_sink_until_all_is_covered(shard)
    assert is_proven(shard)


@pytest.mark.rule("A5")
def test_a_row_that_the_archive_has_otherwise_keeps_the_sink_before_its_gap(make: Callable[[int], Shard]) -> None:
    shard = make(20)
    collector = Collector()
    for partition, payloads in shard.results().items():
        for payload in payloads:
            collector.add(partition, payload)
    with archive(shard) as session:
        ArchiveWriter(session).write(collector.take())
        alter_change(session, ALONE, 6, LATER_US, lambda entry: entry[:-1] + b"\x02 ")
    truncate(shard)
    alone, other = partition_of(ALONE, LANES), partition_of(OTHER, LANES)

    said = balance(shard.place, "archive", "fill", "--write")

    assert said.status == 1
    assert "ARCHIVE_CHANGE_DIFFERS" in said.out
    assert f"it stays before the gap in partitions {alone}" in said.out
    assert (alone, alone) not in covered(shard)
    assert (positions(shard)[alone], positions(shard)[other] or 0) == (
        None,
        shard.topics.bounds(RESULTS_TOPIC, other)[0],
    )


@pytest.mark.rule("A5")
def test_a_lane_whose_database_went_back_is_refused_until_it_has_caught_up(make: Callable[[int], Shard]) -> None:
    shard = make(5)
    truncate(shard)
    shard.write(payments_of_today(ALONE, 3))  # published once, and lost with the database
    lane = partition_of(ALONE, LANES)
    end = shard.topics.end(shard_topic(SHARD), lane)
    group = (shard.address, shard_group(SHARD), shard_topic(SHARD), [lane])
    eventually(lambda: not look_at_group(*group).members, "the worker has left")
    ((before, metadata),) = committed_positions(*group).values()
    metadata = metadata.replace(f"offset={before} ", f"offset={end} ")
    KafkaLog(shard.address).commit(shard_group(SHARD), shard_topic(SHARD), end, partition=lane, metadata=metadata)

    said = balance(shard.place, "archive", "fill", "--write")

    assert said.status == 3
    assert "its database was restored" in said.err
    assert (covered(shard), positions(shard)) == ({}, dict.fromkeys(range(LANES)))
