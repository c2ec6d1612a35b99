"""The sink as a process on real Kafka and Cassandra: killed, moved, left without Cassandra, with its log cut short."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from processors.faults import Misconfigured
from processors.ops.assembly.sink import run_sink
from processors.stores.archive_rows import PLACE, position_by_hand
from processors.stores.archive_writer import ArchiveWriter
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.topics import RESULTS_TOPIC, SINK_GROUP, TopicAdmin
from processors.wire.coverage import Coverage, decode_archived
from tests.archived import Ledger, all_rows, all_said, make_archive, roots_of, session_of
from tests.cable import Cable
from tests.kafka_log import KafkaLog
from tests.servers import Servers
from tests.waiting import eventually

PARTITIONS = 2
RESULTS = 1_200  # of each partition
START_DEADLINE_S = 60.0

Rows = dict[str, list[tuple[Any, ...]]]


@dataclass(slots=True)
class SinkPlace:
    """Topics and a keyspace of one test."""

    servers: Servers
    log: KafkaLog
    keyspace: str

    @contextmanager
    def process(self, instance: str = "one", *, port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        wanted = {
            "kafka": self.servers.kafka_bootstrap_servers,
            "topic_prefix": self.log.address.topic_prefix,
            "keyspace": self.keyspace,
            "host": self.servers.cassandra_host if port is None else "127.0.0.1",
            "port": self.servers.cassandra_port if port is None else port,
            "instance": instance,
            "batch_rows_max": 100,
        }
        running = subprocess.Popen([sys.executable, "-m", "tests.sink_process", json.dumps(wanted)])
        try:
            yield running
        finally:
            running.kill()
            running.wait()

    def run(self, stopping: threading.Event) -> int:
        return run_sink(
            self.log.address,
            make_archive(self.servers, lambda: self.keyspace),
            group=GroupOptions(group=SINK_GROUP, instance="here"),
            archived_partitions=1,
            batch_rows_max=1_000,
            batch_wait_ms=20,
            requests_max=4,
            stopping=stopping,
        )

    def rows(self) -> Rows:
        """Return all that the archive says, but no positions: topics differ."""
        with session_of(make_archive(self.servers, lambda: self.keyspace)) as session:
            found = all_said(session)
        del found["sink_position"]
        return found

    def positions(self) -> dict[int, int]:
        with session_of(make_archive(self.servers, lambda: self.keyspace)) as session:
            return {row[1]: row[2] for row in all_rows(session, "sink_position")["sink_position"]}

    def execute(self, statement: str) -> None:
        """Run a statement as an operator does."""
        with session_of(make_archive(self.servers, lambda: self.keyspace)) as session:
            session.execute(statement)

    def archived(self) -> int:
        with session_of(make_archive(self.servers, lambda: self.keyspace)) as session:
            places = (places for *_, places, _ in all_rows(session, "transaction_index")["transaction_index"])
            return len({entry[0] for some in places for entry in PLACE.iter_unpack(some)})


@pytest.fixture(scope="module")
def make_place(
    servers: Servers, topic_prefix: Callable[[], str], fresh_keyspace: Callable[[], str]
) -> Callable[[], SinkPlace]:
    def make() -> SinkPlace:
        address = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())
        log = KafkaLog(address)
        log.make(RESULTS_TOPIC, PARTITIONS)
        log.make("balance.archived")
        return SinkPlace(servers, log, make_archive(servers, fresh_keyspace).keyspace)

    return make


def payloads() -> dict[int, list[bytes]]:
    found = {}
    for lane in range(PARTITIONS):
        ledger = Ledger(lane=lane)
        roots = roots_of(lane, 20)
        for number in range(RESULTS):
            ledger.pay(root=roots[number % 20])
        found[lane] = ledger.results
    return found


PAYLOADS = payloads()


def write_all(place: SinkPlace) -> None:
    for partition, results in PAYLOADS.items():
        for start in range(0, RESULTS, 200):  # as lanes do, so that markers lie between: offsets are not gapless
            place.log.write_in_transaction(
                RESULTS_TOPIC, results[start : start + 200], commit=True, partition=partition
            )


def await_all(place: SinkPlace) -> None:
    eventually(lambda: place.archived() == RESULTS * PARTITIONS, "everything is archived", START_DEADLINE_S)


@pytest.fixture(scope="module")
def undisturbed(make_place: Callable[[], SinkPlace]) -> Rows:
    """Return the rows that an undisturbed sink leaves."""
    place = make_place()
    write_all(place)
    with place.process() as running:
        await_all(place)
        eventually(lambda: place.rows()["coverage"][-1][3] == RESULTS - 1, "and covered")
        running.terminate()
        assert running.wait(START_DEADLINE_S) == 0  # SIGTERM ends it in order
    return place.rows()


@pytest.mark.rule("A2")
@pytest.mark.rule("A5")
def test_a_sink_killed_again_and_again_leaves_the_rows_of_one_that_was_not(
    make_place: Callable[[], SinkPlace], undisturbed: Rows
) -> None:
    place = make_place()
    write_all(place)
    chance = random.Random(5)
    lives = 0
    while place.archived() < RESULTS * PARTITIONS or lives < 4:
        lives += 1
        assert lives < 40
        with place.process() as running:
            eventually(partial(archives_more, place, place.archived()), "it archives something", START_DEADLINE_S)
            time.sleep(chance.random() / 4)
            running.kill()  # SIGKILL

    with place.process():
        eventually(lambda: place.rows() == undisturbed, "the rows are those of the undisturbed run", START_DEADLINE_S)


def archives_more(place: SinkPlace, before: int) -> bool:
    return place.archived() > before or before == RESULTS * PARTITIONS


@pytest.mark.rule("A5")
def test_two_sinks_share_the_partitions_and_lose_nothing_when_one_is_killed(
    make_place: Callable[[], SinkPlace], undisturbed: Rows
) -> None:
    place = make_place()
    with place.process("one") as one, place.process("two"):
        write_all(place)
        eventually(lambda: place.archived() > 0, "they began", START_DEADLINE_S)
        one.kill()
        eventually(lambda: place.rows() == undisturbed, "the other archives all", START_DEADLINE_S)


@pytest.mark.rule("A5")
def test_a_minute_without_cassandra_loses_nothing(make_place: Callable[[], SinkPlace], undisturbed: Rows) -> None:
    place = make_place()
    servers = place.servers
    with Cable(servers.cassandra_host, servers.cassandra_port) as cable, place.process(port=cable.port) as running:
        half = {partition: results[:600] for partition, results in PAYLOADS.items()}
        for partition, results in half.items():
            place.log.write(RESULTS_TOPIC, results, partition=partition)
        eventually(lambda: place.archived() > 0, "it began", START_DEADLINE_S)
        cable.cut()
        for partition, results in PAYLOADS.items():
            place.log.write(RESULTS_TOPIC, results[600:], partition=partition)
        time.sleep(5)
        assert running.poll() is None  # it waits
        cable.mend()
        eventually(lambda: place.rows() == undisturbed, "it goes on", START_DEADLINE_S)


@pytest.mark.rule("A5")
def test_a_sink_starts_before_cassandra_does(make_place: Callable[[], SinkPlace]) -> None:
    place = make_place()
    servers = place.servers
    place.log.write(RESULTS_TOPIC, PAYLOADS[0])
    with Cable(servers.cassandra_host, servers.cassandra_port) as cable:
        cable.cut()
        with place.process(port=cable.port) as running:
            time.sleep(3)
            assert running.poll() is None
            cable.mend()
            eventually(lambda: place.archived() == RESULTS, "it archives", START_DEADLINE_S)


@pytest.mark.rule("A5")
def test_a_group_offset_moved_by_hand_leaves_nothing_out(
    make_place: Callable[[], SinkPlace], undisturbed: Rows
) -> None:
    place = make_place()
    write_all(place)
    for partition in range(PARTITIONS):
        _, end = TopicAdmin(place.log.address).bounds(RESULTS_TOPIC, partition)
        place.log.commit(SINK_GROUP, RESULTS_TOPIC, end, partition=partition)

    with place.process():
        eventually(lambda: place.rows() == undisturbed, "all is archived", START_DEADLINE_S)


@pytest.mark.rule("A5")
def test_a_topic_that_no_longer_has_what_is_not_archived_stops_the_sink(make_place: Callable[[], SinkPlace]) -> None:
    """Going on behind the gap, it would cover rows that are not there."""
    place = make_place()
    place.log.write(RESULTS_TOPIC, PAYLOADS[0])
    place.log.truncate(RESULTS_TOPIC, 10)

    with pytest.raises(
        Misconfigured,
        match=r"holds offsets 10 to 1200, and the archive goes on at 0: .* `balance archive fill --write`",
    ):
        place.run(threading.Event())
    assert place.archived() == 0


def named_statement(place: SinkPlace) -> str:
    """Return the statement that a sink's last words tell its operator."""
    with pytest.raises(Misconfigured) as told:
        place.run(threading.Event())
    found = re.search(r"UPDATE sink_position .* AND partition = \d+", str(told.value))
    assert found is not None
    return found[0]


@pytest.mark.rule("A5")
def test_the_sinks_own_notes_win_over_the_position_that_its_operator_set(make_place: Callable[[], SinkPlace]) -> None:
    place = make_place()
    place.log.write(RESULTS_TOPIC, PAYLOADS[0])
    place.log.truncate(RESULTS_TOPIC, 10)

    place.execute(position_by_hand(TopicAdmin(place.log.address).topic_id(RESULTS_TOPIC), 0, 10))
    with place.process():
        eventually(lambda: place.archived() == RESULTS - 10, "it archives what there is", START_DEADLINE_S)
        eventually(lambda: place.positions()[0] == RESULTS, "and notes how far it came")


@pytest.mark.rule("A5")
def test_a_position_above_the_topics_end_goes_back_only_when_the_table_is_emptied(
    make_place: Callable[[], SinkPlace],
) -> None:
    place = make_place()
    place.log.write(RESULTS_TOPIC, PAYLOADS[0])
    with session_of(make_archive(place.servers, lambda: place.keyspace)) as session:
        ArchiveWriter(session).note_positions(TopicAdmin(place.log.address).topic_id(RESULTS_TOPIC), {0: 5_000})
    statement = named_statement(place)
    place.execute(statement)
    assert place.positions()[0] == 5_000  # an older note, and loses

    place.execute("TRUNCATE sink_position")
    place.execute(statement)
    with place.process():
        eventually(lambda: place.archived() == RESULTS, "it archives all", START_DEADLINE_S)
        eventually(lambda: place.positions()[0] == RESULTS, "and notes how far it came")


@pytest.mark.rule("A5")
def test_a_log_that_is_cut_short_under_a_running_sink_stops_it(make_place: Callable[[], SinkPlace]) -> None:
    place = make_place()
    place.log.write(RESULTS_TOPIC, PAYLOADS[0][:50])
    servers = place.servers
    with Cable(servers.cassandra_host, servers.cassandra_port) as cable, place.process(port=cable.port) as running:
        eventually(lambda: place.archived() == 50, "it runs", START_DEADLINE_S)
        cable.cut()
        place.log.write(RESULTS_TOPIC, PAYLOADS[0][50:])
        place.log.truncate(RESULTS_TOPIC, 600)
        cable.mend()
        eventually(lambda: running.poll() is not None or place.archived() == RESULTS, "it ends, or had read all before")
        assert place.archived() == RESULTS or running.poll() not in {None, 0}
    rows = place.rows()
    covered = rows["coverage"][0][3]
    assert len([row for row in rows["journal"] if row[3] <= covered]) == covered + 1


@pytest.mark.rule("A5")
def test_coverage_is_told_on_balance_archived(make_place: Callable[[], SinkPlace]) -> None:
    place = make_place()
    place.log.write(RESULTS_TOPIC, PAYLOADS[1], partition=1)
    with place.process():
        eventually(lambda: place.archived() == RESULTS, "all is archived", START_DEADLINE_S)
        eventually(
            lambda: [each.lane_offset for each in told(place)][-1:] == [RESULTS - 1],
            "and it was told",
            START_DEADLINE_S,
        )
    offsets = [each.lane_offset for each in told(place)]
    assert offsets == sorted(offsets)


def told(place: SinkPlace) -> list[Coverage]:
    records = [decode_archived(record.value or b"") for record in place.log.read("balance.archived")]
    return [record for record in records if isinstance(record, Coverage)]
