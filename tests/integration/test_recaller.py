"""The recaller on a real Cassandra: what it says of an original, when it says that there is none, what it commits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from processors.ids import derived_id, id_text
from processors.ledger.commands import CommandType, Recalled, RecallOriginal
from processors.ledger.outcomes import Reason, Status
from processors.ledger.rules import Rules
from processors.ops.assembly.recaller import run_recaller
from processors.routing.buckets import partition_of, placement_key_of
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_rows import Collector
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.topics import COMMANDS_TOPIC, RECALLER_GROUP, RESULTS_TOPIC
from processors.wire.admission import Gate, admit
from processors.wire.commands import decode_command
from processors.wire.journal_chunk import WINDOW_OFFSETS
from processors.wire.records import OutRecord, Record
from processors.wire.result_format import write_result
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.signature import SIGNATURE_HEADER, verify
from processors.workers.recaller import ASKED_MAX
from tests.archived import NOW_MS, a_posting, a_result, all_rows, alter, empty, id_at, make_archive, session_of
from tests.integration.recalls import (
    KEYRING,
    LONG_AGO_MS,
    PARTITION,
    Place,
    an_open_refund,
    an_original,
    make_place,
    publish,
    the_end_of,
)
from tests.kafka_log import KafkaLog
from tests.servers import Servers
from tests.sink_parts import ResultsLog
from tests.waiting import eventually


@pytest.fixture(scope="module")
def address(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    return make_archive(servers, fresh_keyspace)


@pytest.fixture(scope="module")
def connected(address: CassandraAddress) -> Iterator[CassandraSession]:
    with session_of(address) as session:
        yield session


@pytest.fixture
def session(connected: CassandraSession) -> CassandraSession:
    empty(connected)
    return connected


@pytest.fixture
def start(session: CassandraSession) -> Callable[..., Place]:
    return partial(make_place, session)


# ------------------------------------------------------------------ what is said


@pytest.mark.rule("H4")
def test_an_original_that_is_archived_is_recalled_with_all_that_a_refund_needs(start: Callable[..., Place]) -> None:
    place = start()
    original = an_original(address="acme:vn", currency="VND", postings=(a_posting(address="acme:vn", sequence=4),))
    refund = an_open_refund(original.command_id, address="acme:vn", currency="VND")
    place.archive_rows(original, covered=False)
    publish(place, refund)

    assert place.step() == 1
    assert place.commands() == [
        RecallOriginal(
            command_id=derived_id("RECALL_ORIGINAL", refund.command_id),
            address="acme:vn",
            currency="VND",
            refund_id=refund.command_id,
            original_id=original.command_id,
            recalled=Recalled.FOUND,
            original_type="PAY",
            original_accepted=True,
            original_address="acme:vn",
            original_currency="VND",
            original_amount_minor=500,
            original_levels=3,
        )
    ]
    publish(place, the_end_of(refund))
    place.step()
    assert place.consumer.committed == {PARTITION: 2}


@pytest.mark.rule("H4")
@pytest.mark.rule("A4")
def test_a_capture_is_recalled_by_its_own_id(start: Callable[..., Place]) -> None:
    place = start()
    capture = an_original(type=CommandType.CAPTURE_HOLD, transaction_id=id_at(LONG_AGO_MS - 90_000_000))
    place.archive_rows(capture)
    publish(place, an_open_refund(capture.command_id))
    place.step()

    (command,) = place.commands()
    assert (command.recalled, command.original_type) == (Recalled.FOUND, "CAPTURE_HOLD")


def test_an_original_that_was_rejected_is_found_and_said_to_be_so(start: Callable[..., Place]) -> None:
    place = start()
    rejected = an_original(status=Status.REJECTED, reason=Reason.INSUFFICIENT_FUNDS, postings=())
    place.archive_rows(rejected)
    publish(place, an_open_refund(rejected.command_id))
    place.step()

    (command,) = place.commands()
    assert (command.recalled, command.original_accepted) == (Recalled.FOUND, False)


@pytest.mark.rule("I1")
def test_the_same_id_of_another_partner_is_not_the_original(start: Callable[..., Place]) -> None:
    place = start()
    theirs = an_original(root="bolt", address="bolt", postings=())
    refund = an_open_refund(theirs.command_id)
    place.archive_rows(theirs, refund)
    publish(place, refund)
    place.step()

    assert place.answered() == [(refund.command_id, Recalled.NOT_FOUND)]


@pytest.mark.rule("W1")
@pytest.mark.rule("W3")
def test_a_recall_goes_to_its_roots_partition_signed_so_that_the_lane_admits_it(start: Callable[..., Place]) -> None:
    place = start()
    original = an_original()
    place.archive_rows(original)
    publish(place, an_open_refund(original.command_id))
    place.step()

    (record,) = place.sent.records
    assert (record.topic, record.partition, record.key) == (COMMANDS_TOPIC, partition_of("acme", 8), b"acme")
    assert verify(KEYRING, record.key, record.value, dict(record.headers)[SIGNATURE_HEADER])
    admission = admit(routed(record), Rules(version=1), Gate(keyring=KEYRING, lane=partition_of("acme", 4), lanes=4))
    assert admission.refusal is None
    assert [admission.command] == place.commands()


def routed(record: OutRecord) -> Record:
    """Return the record as the lane reads it."""
    route = Route(RouteKind.COMMAND, 1, record.partition, 9, 0, NOW_MS, placement_key_of("acme"), 0)
    headers = [*record.headers, (ROUTE_HEADER, encode_route(route))]
    return Record("balance.shard.s1", 0, 0, 0, NOW_MS, True, record.key, record.value, headers)


# ------------------------------------------------------------------ when there is nothing


@pytest.mark.rule("H4")
def test_an_absent_original_is_not_found_only_once_coverage_has_reached_the_refund(
    start: Callable[..., Place],
) -> None:
    place = start()
    refund = an_open_refund(id_at(LONG_AGO_MS), 50, lane_index=2)
    publish(place, refund)

    assert place.step() == 0
    place.archive_rows(a_result(49))
    assert place.step() == 0
    place.archive_rows(a_result(50, lane_index=1))
    assert place.step() == 0
    assert place.sent.records == []
    assert place.consumer.committed == {PARTITION: 0}

    place.archive_rows(refund)
    assert place.step() == 1
    assert place.answered() == [(refund.command_id, Recalled.NOT_FOUND)]
    publish(place, the_end_of(refund))
    assert place.step() == 0
    assert place.consumer.committed == {PARTITION: 2}


@pytest.mark.rule("H4")
@pytest.mark.parametrize(
    "elsewhere", [{"lane": 1}, {"incarnation": b"another life of s1"[:16]}], ids=["lane", "incarnation"]
)
def test_coverage_of_another_lane_or_incarnation_says_nothing(
    start: Callable[..., Place], elsewhere: dict[str, object]
) -> None:
    place = start()
    refund = an_open_refund(id_at(LONG_AGO_MS))
    publish(place, refund)
    place.archive_rows(a_result(99, **elsewhere))

    assert place.step() == 0


@pytest.mark.rule("H4")
def test_an_original_that_is_archived_while_it_is_looked_for_is_never_called_absent(
    start: Callable[..., Place],
) -> None:
    """The archive is asked for coverage first: what that covers is there when originals are read after it."""
    place = start()
    original = an_original()
    refund = an_open_refund(original.command_id)
    publish(place, refund)
    place.archive.after_next_answer = lambda: place.archive_rows(original, refund)

    place.step()
    place.step()

    assert place.answered() == [(refund.command_id, Recalled.FOUND)]


# ------------------------------------------------------------------ what is committed


@pytest.mark.rule("H4")
def test_one_that_waits_holds_up_the_commit_but_not_the_others(start: Callable[..., Place]) -> None:
    place = start()
    original = an_original()
    place.archive_rows(original)
    waiting, ready = an_open_refund(id_at(LONG_AGO_MS), 60), an_open_refund(original.command_id, 61)
    publish(place, a_result(59), waiting, ready, a_result(62))

    assert place.step() == 1
    assert place.answered() == [(ready.command_id, Recalled.FOUND)]
    assert place.consumer.committed == {PARTITION: 1}

    publish(place, the_end_of(ready))
    again = start(place.log, committed=1)  # killed, and started from what is committed
    again.step()
    again.archive_rows(a_result(62))
    again.step()
    assert again.answered() == [(waiting.command_id, Recalled.NOT_FOUND)]
    publish(again, the_end_of(waiting))
    again.step()
    assert again.consumer.committed == {PARTITION: 6}


@pytest.mark.rule("H4")
def test_nothing_is_committed_before_the_lane_has_ended_the_refund(start: Callable[..., Place]) -> None:
    place = start()
    original = an_original()
    refund = an_open_refund(original.command_id)
    place.archive_rows(original)
    publish(place, refund)
    place.step()
    again = start(place.log, committed=0)  # killed after the recall was acknowledged
    again.step()

    assert [record.value for record in again.sent.records] == [record.value for record in place.sent.records]
    assert place.consumer.committed == again.consumer.committed == {PARTITION: 0}
    publish(again, the_end_of(refund))
    again.step()
    assert again.consumer.committed == {PARTITION: 2}


@pytest.mark.rule("H4")
def test_a_recall_that_no_lane_answers_is_sent_again_less_and_less_often(start: Callable[..., Place]) -> None:
    """It may have become a dead letter: of a key that the worker's file lacked, say."""
    place = start()
    original = an_original()
    refund = an_open_refund(original.command_id)
    place.archive_rows(original)
    publish(place, refund)
    place.step()
    for _ in range(3_600):
        place.step()
    assert len(place.answered()) == 1 + 5  # after 1, 3, 7, 15, 31 minutes; then 63
    assert len({record.value for record in place.sent.records}) == 1

    publish(place, the_end_of(refund))
    place.step(3_600)
    place.step(3_600)
    assert len(place.answered()) == 6


def test_recalls_that_no_lane_answers_are_bounded_and_read_again_at_the_next_start(start: Callable[..., Place]) -> None:
    place = start(pending_max=3)
    original = an_original()
    place.archive_rows(original)
    refunds = [an_open_refund(original.command_id, number) for number in range(8)]
    publish(place, *refunds, *map(the_end_of, refunds[3:]))
    for _ in range(8):
        place.step()
    assert (len(place.answered()), place.recaller.open.sent) == (8, 0)
    assert place.consumer.committed == {PARTITION: 0}

    again = start(place.log)
    again.step()
    assert [refund_id for refund_id, _ in again.answered()] == [refund.command_id for refund in refunds[:3]]


@pytest.mark.rule("H4")
def test_thousands_of_refunds_of_one_partner_hold_up_nobody_elses(start: Callable[..., Place]) -> None:
    place = start(pending_max=5_000)
    original = an_original(root="bolt", address="bolt", postings=())
    refund = an_open_refund(original.command_id, 3_000, root="bolt", address="bolt")
    place.archive_rows(original, covered=False)
    publish(place, *(an_open_refund(id_at(LONG_AGO_MS + number), number) for number in range(3_000)), refund)
    while not place.consumer.at_end:
        assert place.answered() == []
        place.step(0.001)
    assert place.answered() == [(refund.command_id, Recalled.FOUND)]

    place.archive_rows(a_result(2_999))
    place.step()
    assert len(place.answered()) == 1 + ASKED_MAX


@pytest.mark.rule("H4")
def test_an_original_that_cannot_be_read_waits_and_the_others_go_on(start: Callable[..., Place]) -> None:
    place = start()
    broken, good = an_original(lane_offset=WINDOW_OFFSETS), an_original()  # in chunks of their own
    place.archive_rows(broken, good)
    chunk = next(row[6] for row in all_rows(place.session, "journal")["journal"] if row[3] == WINDOW_OFFSETS)
    alter(place.session, "journal", lambda key, blob: b"no chunk" if key[3] == WINDOW_OFFSETS else blob, 10**16)
    refunds = [an_open_refund(broken.command_id, 1), an_open_refund(good.command_id, 2)]
    place.archive_rows(*refunds)
    publish(place, *refunds)
    assert place.step() == 1
    assert place.answered() == [(refunds[1].command_id, Recalled.FOUND)]

    alter(place.session, "journal", lambda key, blob: chunk if key[3] == WINDOW_OFFSETS else blob, 10**16 + 1)
    assert place.step() == 1
    assert place.answered()[1:] == [(refunds[0].command_id, Recalled.FOUND)]


def test_the_answer_to_a_refunds_duplicate_recalls_nothing(start: Callable[..., Place]) -> None:
    place = start()
    original = an_original()
    place.archive_rows(original)
    publish(place, an_open_refund(original.command_id, journalled=False, version_us=0))

    assert place.step() == 0
    assert place.consumer.committed == {PARTITION: 1}


def test_other_results_recall_nothing(start: Callable[..., Place]) -> None:
    place = start()
    accepted = an_open_refund(id_at(NOW_MS), status=Status.ACCEPTED)
    publish(place, a_result(0), accepted, a_result(2, type=CommandType.PLACE_HOLD))

    assert place.step() == 0
    assert place.sent.records == []
    assert place.consumer.committed == {PARTITION: 3}


def test_no_more_is_read_than_may_wait(start: Callable[..., Place]) -> None:
    place = start(pending_max=3)
    refunds = [an_open_refund(id_at(LONG_AGO_MS), number) for number in range(8)]
    publish(place, *refunds)
    for _ in range(5):
        place.step()

    assert place.consumer.paused
    assert place.consumer.polls_while_paused > 0
    place.archive_rows(refunds[4])
    for _ in range(8):
        place.step()

    assert [id_text(refund_id) for refund_id, _ in place.answered()] == [id_text(r.command_id) for r in refunds[:5]]
    place.archive_rows(refunds[7])
    for _ in range(8):
        place.step()
    assert len(place.answered()) == 8
    assert place.consumer.committed == {PARTITION: 0}


def test_a_partition_given_away_is_left_to_its_next_owner(start: Callable[..., Place]) -> None:
    place = start()
    refund = an_open_refund(id_at(LONG_AGO_MS))
    publish(place, refund)
    place.step()

    place.consumer.given_away.add(PARTITION)
    place.recaller.revoked([PARTITION])
    place.archive_rows(refund)

    assert place.step() == 0
    assert place.consumer.committed == {PARTITION: 0}


@pytest.mark.rule("H4")
def test_without_cassandra_refunds_wait_and_none_is_called_absent(start: Callable[..., Place]) -> None:
    place = start()
    original = an_original()
    refund = an_open_refund(original.command_id)
    place.archive_rows(original, refund)
    publish(place, refund)
    place.archive.silent = True
    for _ in range(5):
        assert place.step() == 0
    assert place.recaller.wait.waiting

    place.archive.silent = False
    assert place.step(10) == 1
    assert place.answered() == [(refund.command_id, Recalled.FOUND)]
    assert not place.recaller.wait.waiting


def test_what_waits_is_asked_for_again_once_a_pause_not_with_each_poll(start: Callable[..., Place]) -> None:
    place = start()
    publish(place, an_open_refund(id_at(LONG_AGO_MS)))
    place.step()
    place.archive.silent = True  # asking now would be noticed

    place.step(0.5)

    assert not place.recaller.wait.waiting


# ------------------------------------------------------------------ as a process, on real Kafka


@pytest.mark.rule("H4")
def test_an_open_refund_on_the_results_topic_becomes_a_signed_recall_on_the_ingress(
    address: CassandraAddress, session: CassandraSession, servers: Servers, topic_prefix: Callable[[], str]
) -> None:
    kafka = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())
    log = KafkaLog(kafka)
    log.make(RESULTS_TOPIC, 4)
    log.make(COMMANDS_TOPIC, 4)
    original = an_original()
    refund = an_open_refund(original.command_id)
    collector = Collector()
    collector.add(PARTITION, write_result(original))
    ArchiveWriter(session).write(collector.take())
    results = ResultsLog()
    results.append(0, [write_result(refund)])
    (record,) = results.partitions[0]
    log.write(RESULTS_TOPIC, [record.value or b""], partition=PARTITION, headers=record.headers)
    stopping = threading.Event()
    partition = partition_of("acme", 4)

    def run() -> None:
        run_recaller(
            kafka,
            address,
            group=GroupOptions(group=RECALLER_GROUP, instance="here"),
            keyring=KEYRING,
            commands_partitions=4,
            batch_records_max=100,
            retry_ms=100,
            requests_max=4,
            stopping=stopping,
        )

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: len(log.read(COMMANDS_TOPIC, partition=partition)) == 1, "the recall is sent")
        results.append(0, [write_result(the_end_of(refund))])
        ended = results.partitions[0][1]
        log.write(RESULTS_TOPIC, [ended.value or b""], partition=PARTITION, headers=ended.headers)
        eventually(
            lambda: log.committed(RECALLER_GROUP, RESULTS_TOPIC, partition=PARTITION).offset == 2, "and committed past"
        )
    finally:
        stopping.set()
        thread.join()

    (sent,) = log.read(COMMANDS_TOPIC, partition=partition)
    command = decode_command(sent.value or b"")
    assert isinstance(command, RecallOriginal)
    assert (command.refund_id, command.recalled) == (refund.command_id, Recalled.FOUND)
    assert verify(KEYRING, sent.key, sent.value or b"", dict(sent.headers)[SIGNATURE_HEADER] or b"")
