"""The router's own rules, on a log and a broker in memory that acknowledge when the test says so."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from processors.faults import Fault, Fenced, Misconfigured, Unavailable
from processors.routing.buckets import partition_of
from processors.streams.unused_partitions import LOOK_EVERY_S
from processors.wire.causes import Cause
from processors.wire.dead_letters import decode_dead_letter
from processors.wire.directory import PositionRecord
from processors.wire.records import Record
from processors.workers.router import (
    COMMIT_PATIENCE_S,
    IN_FLIGHT_RECORDS_MAX,
    NOTE_INTERVAL_S,
    SILENCE_S,
)
from tests.unit.router_fakes import HEAD, METADATA, PARTITIONS, ROOTS, RouterFakes, noted, route_of


@pytest.mark.rule("R6")
def test_an_offset_is_committed_only_when_everything_before_it_is_acknowledged() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0, 1)
    fakes.arrive(1, 0, 1)
    router.step()  # batch of offsets 0 and 1 of partition 0
    router.step()  # batch of partition 1

    fakes.lanes.acknowledge(1, 2, 3)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == []

    fakes.lanes.acknowledge(0)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == [({0: 2, 1: 2}, METADATA + "3 moves=0")]


@pytest.mark.rule("R6")
def test_a_dead_letter_is_acknowledged_too_before_its_offset_is_committed() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.ingress.waiting.append(Record("p.in", 0, 7, 5, 1_000, True, b"NO ROOT", b"x", []))
    router.step()
    fakes.later()
    router.step()
    assert fakes.ingress.commits == []

    fakes.lanes.acknowledge(0)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == [({0: 8}, METADATA + "3 moves=0")]


def test_what_comes_after_a_silence_goes_out_at_once_and_what_follows_it_waits_to_fill_requests() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0, 1, 2, 3)
    router.step()
    router.step()
    assert fakes.lanes.hurried == []

    fakes.now_s += 2 * SILENCE_S
    fakes.arrive(0, 4, 5, 6, 7)
    router.step()
    fakes.now_s += SILENCE_S / 2
    router.step()
    assert fakes.lanes.hurried == [6]


@pytest.mark.rule("R6")
def test_what_is_not_acknowledged_when_the_router_stops_is_not_committed() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()

    with pytest.raises(Unavailable):
        router.finish()
    assert fakes.ingress.commits == []

    fakes.lanes.silent = False
    router.finish()
    assert fakes.ingress.commits == [({0: 1}, METADATA + "3 moves=0")]


@pytest.mark.rule("R7")
def test_a_delivery_that_failed_ends_the_router() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.lanes.fault = Misconfigured("too large")

    with pytest.raises(Misconfigured, match="too large"):
        router.run(threading.Event())
    assert fakes.ingress.commits == []


@pytest.mark.rule("R1")
def test_the_directory_is_read_on_each_assignment_before_the_first_record() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    assert fakes.reads == 0
    fakes.directory.add(placement_key="acme", generation=1, shard="s1", ingress_partition=ROOTS.index("acme"), since=0)
    fakes.arrive(ROOTS.index("acme"), 0)

    router.step()

    assert fakes.reads == 1
    assert (route_of(fakes.lanes.sent[0]).placement_key, route_of(fakes.lanes.sent[0]).generation) == ("acme", 1)
    fakes.ingress.revoking, fakes.ingress.assigning = [0], [0]
    router.step()
    assert fakes.reads == 2


@pytest.mark.rule("W3")
def test_each_shard_has_its_own_number_of_lanes() -> None:
    fakes = RouterFakes(lanes_of={"s2": 16})
    router = fakes.router()
    acme, globex = ROOTS.index("acme"), ROOTS.index("globex")
    fakes.directory.add(placement_key="acme", generation=1, shard="s2", ingress_partition=acme, since=0)
    fakes.arrive(acme, 0)
    fakes.arrive(globex, 0)

    router.step()

    assert [(out.topic, out.partition) for out in fakes.lanes.sent] == [
        ("p.balance.shard.s2", partition_of("acme", 16)),
        ("p.balance.shard.s1", partition_of("globex", 2)),
    ]
    assert partition_of("acme", 16) != partition_of("acme", 2)


def test_records_of_a_partition_that_was_given_away_are_dropped_and_never_committed() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    fakes.arrive(1, 0)
    router.step()
    fakes.ingress.revoking = [0]
    fakes.arrive(0, 1)
    fakes.arrive(1, 1)
    router.step()

    assert [(route_of(out).ingress_partition, route_of(out).ingress_offset) for out in fakes.lanes.sent] == [
        (0, 0),
        (1, 0),
        (1, 1),
    ]
    fakes.lanes.acknowledge(0, 1, 2)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == [({1: 2}, METADATA + "3 moves=0")]
    assert router.owned == {1}


def test_what_is_acknowledged_in_time_is_committed_for_the_next_owner() -> None:
    fakes = RouterFakes()
    fakes.lanes.silent = False
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.ingress.revoking = [0]
    router.step()

    assert fakes.ingress.commits == [({0: 1}, METADATA + "3 moves=0")]


@pytest.mark.parametrize("fault", [Fenced("rebalance"), Unavailable("no answer")])
def test_a_commit_that_is_refused_is_made_again_and_given_up_after_a_minute(fault: Fault) -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.lanes.acknowledge(0)
    fakes.ingress.fault = fault
    fakes.later()
    router.step()

    fakes.ingress.fault = None
    router.step()
    assert fakes.ingress.commits == [({0: 1}, METADATA + "3 moves=0")]

    fakes.arrive(0, 1)
    router.step()
    fakes.lanes.acknowledge(1)
    fakes.ingress.fault = fault
    fakes.now_s += COMMIT_PATIENCE_S + 1
    with pytest.raises(type(fault)):
        router.step()


@pytest.mark.rule("R8")
def test_nothing_is_committed_once_the_ingress_topic_is_another() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.lanes.acknowledge(0)
    fakes.ingress_id = b"j" * 16
    fakes.later()

    with pytest.raises(Misconfigured, match="made again"):
        router.step()
    assert fakes.ingress.commits == []


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    "metadata",
    [METADATA + "4 moves=0", METADATA + "4", METADATA + "3 moves=1", f"r1 directory={'e' * 32} end=3 moves=0"],
    ids=["shorter", "shorter, of an earlier release", "a move is lost", "another directory"],
)
def test_a_directory_that_is_not_the_one_of_the_last_commit_is_refused(metadata: str) -> None:
    fakes = RouterFakes()
    fakes.ingress.kept = {1: (5, metadata)}
    router = fakes.router()

    with pytest.raises(Misconfigured, match="placements are lost"):
        router.step()


@pytest.mark.parametrize("metadata", ["", "someone's tool", METADATA + "03", METADATA + "3 moves=01"])
def test_a_commit_with_anothers_metadata_says_nothing_of_the_directory(metadata: str) -> None:
    fakes = RouterFakes()
    fakes.ingress.kept = {1: (5, metadata)}
    router = fakes.router()

    router.step()

    assert router.owned == {0, 1}


def test_a_broker_that_acknowledges_nothing_is_not_sent_more_than_memory_holds() -> None:
    fakes = RouterFakes(records_max=10_000)
    router = fakes.router()
    fakes.arrive(0, *range(IN_FLIGHT_RECORDS_MAX + 20_000))

    for _ in range(20):
        router.step()

    assert len(fakes.lanes.sent) == IN_FLIGHT_RECORDS_MAX
    assert route_of(fakes.lanes.sent[-1]).ingress_offset == IN_FLIGHT_RECORDS_MAX - 1


@pytest.mark.rule("W3")
def test_a_raised_count_is_said_once_within_a_minute_and_the_known_partitions_go_on() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    with capture_logs() as logs:
        router.step()
        fakes.partitions = 8
        fakes.now_s += LOOK_EVERY_S
        for _ in range(3):
            fakes.arrive(0, 0)
            router.step()
            fakes.now_s += LOOK_EVERY_S

    assert LOOK_EVERY_S < 30.0
    assert [(line["partitions"], line["known"]) for line in logs if line["event"] == "topic_has_more_partitions"] == [
        (8, PARTITIONS)
    ]
    assert {record.topic for record in fakes.lanes.sent} == {"p.balance.shard.s1"}
    assert all(
        "have every producer choose among the first 2" in line["detail"]
        for line in logs
        if line["event"] == "topic_has_more_partitions"
    )


@pytest.mark.rule("W3")
def test_what_is_in_a_partition_that_the_service_does_not_know_is_a_dead_letter_that_says_so() -> None:
    fakes = RouterFakes(partitions=8)
    router = fakes.router()
    fakes.ingress.assigning = [0, 1, 5]
    fakes.ingress.waiting.append(Record("p.in", 5, 0, 5, 1_000, True, ROOTS[1].encode(), b"x", []))

    router.step()

    (letter,) = [decode_dead_letter(record.value) for record in fakes.lanes.sent]
    assert letter.cause == Cause.WRONG_PARTITION
    assert "the topic has 8 partitions, the service knows 2" in letter.detail


@pytest.mark.rule("R6")
def test_what_is_committed_is_noted_in_the_directory_now_and_then_and_never_more() -> None:
    fakes = RouterFakes(records_max=4)
    router = fakes.router()
    fakes.arrive(0, 0, 1, 2)
    router.step()
    fakes.now_s += NOTE_INTERVAL_S
    router.step()
    assert noted(fakes) == []

    fakes.lanes.acknowledge(0, 1, 2)
    fakes.now_s += NOTE_INTERVAL_S
    router.step()
    assert noted(fakes) == [PositionRecord(ingress_epoch=HEAD.ingress_epoch, ingress_partition=0, next_offset=3)]


@pytest.mark.rule("R6")
def test_the_first_commit_of_a_partition_is_noted_at_once_and_later_ones_wait() -> None:
    fakes = RouterFakes(positions={})
    fakes.lanes.silent = False
    router = fakes.router()
    for offset in (0, 1):
        fakes.arrive(0, offset)
        router.step()
        fakes.lanes.acknowledge(*list(fakes.lanes.told))
        fakes.later()
        router.step()

    assert fakes.ingress.commits != []
    assert noted(fakes) == [PositionRecord(ingress_epoch=HEAD.ingress_epoch, ingress_partition=0, next_offset=1)]


@pytest.mark.rule("R6")
def test_what_the_group_has_and_the_directory_lacks_is_noted_when_a_partition_is_assigned() -> None:
    fakes = RouterFakes(positions={})
    fakes.ingress.kept = {1: (7, "")}
    fakes.router().step()

    assert noted(fakes) == [PositionRecord(ingress_epoch=HEAD.ingress_epoch, ingress_partition=1, next_offset=7)]


@pytest.mark.rule("R6")
def test_where_neither_group_nor_directory_knows_a_partition_that_is_said() -> None:
    fakes = RouterFakes(positions={})
    fakes.ingress.kept = {1: (7, "")}
    with capture_logs() as logs:
        fakes.router().step()

    assert [entry["partitions"] for entry in logs if entry["event"] == "no_positions"] == [[0]]


@pytest.mark.rule("R6")
def test_an_orderly_end_notes_where_it_was() -> None:
    fakes = RouterFakes()
    fakes.lanes.silent = False
    router = fakes.router()
    fakes.arrive(0, 0, 1)
    router.step()
    router.finish()

    assert noted(fakes) == [PositionRecord(ingress_epoch=HEAD.ingress_epoch, ingress_partition=0, next_offset=2)]
