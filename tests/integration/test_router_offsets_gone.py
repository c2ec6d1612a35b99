"""The router whose group's offsets have expired, as they do where nobody is there for days (R6, L10)."""

from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.routing.buckets import partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_directory
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.records import Record
from tests.integration.ingress import (
    GROUP,
    INGRESS_PARTITIONS,
    Running,
    forwarded,
    letters,
    make_service,
    root_in,
    route_of,
)
from tests.kafka_log import KafkaLog
from tests.waiting import DEADLINE_S, eventually

ROOTS = [root_in(partition) for partition in range(INGRESS_PARTITIONS)]


def write_round(log: KafkaLog, value: bytes) -> None:
    """Write a command to every partition, and one into a wrong partition."""
    for root in ROOTS:
        log.write(COMMANDS_TOPIC, [value], partition=partition_of(root, INGRESS_PARTITIONS), key=root.encode())
    log.write(COMMANDS_TOPIC, [value], partition=1, key=ROOTS[0].encode())


A_ROUND = len(ROOTS) + 1


def sources(records: list[Record]) -> list[tuple[int, int]]:
    return sorted((route.ingress_partition, route.ingress_offset) for route in map(route_of, records))


@pytest.mark.rule("R6")
def test_a_router_that_ended_in_order_goes_on_where_it_was_and_repeats_nothing(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    write_round(log, b"before")
    with Running(address) as router:
        router.forward(A_ROUND)
    log.forget(GROUP)
    write_round(log, b"meanwhile")

    with Running(address) as router:
        router.forward(A_ROUND)

    went = forwarded(log)
    assert len(set(sources(went))) == len(went) == 2 * len(ROOTS)
    assert [(letter.ingress_partition, letter.ingress_offset) for letter in letters(log)] == [(1, 1), (1, 3)]


@pytest.mark.rule("R6")
def test_a_router_that_was_killed_before_it_noted_anything_leaves_nothing_out(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    write_round(log, b"before")
    with Running(address, clock_s=lambda: 0.0) as router:  # so that no commit is due
        eventually(lambda: bool(router.step() or router.met >= A_ROUND) and router.met >= A_ROUND, "all was met")
        router.producer.flush(DEADLINE_S)
    log.forget(GROUP)
    write_round(log, b"meanwhile")

    with Running(address) as router:
        router.forward(2 * A_ROUND)

    assert len(set(sources(forwarded(log)))) == 2 * len(ROOTS)
    told = [(letter.ingress_epoch, letter.ingress_partition, letter.ingress_offset) for letter in letters(log)]
    epoch = read_directory(address).head.ingress_epoch
    assert told == [(epoch, 1, 1), (epoch, 1, 1), (epoch, 1, 3)]  # the repeat says what it repeats


@pytest.mark.rule("R6")
def test_a_router_that_is_killed_after_its_first_commit_has_noted_it(address: KafkaAddress, log: KafkaLog) -> None:
    make_service(address)
    write_round(log, b"before")
    with Running(address) as router:

        def noted() -> int:
            router.step()
            return len(read_directory(address).positions)

        eventually(lambda: noted() == INGRESS_PARTITIONS, "every partition is noted")
    log.forget(GROUP)
    write_round(log, b"meanwhile")

    with Running(address) as router:
        router.forward(A_ROUND)

    went = forwarded(log)
    assert len(set(sources(went))) == len(went) == 2 * len(ROOTS)


@pytest.mark.rule("R6")
def test_records_that_left_the_topic_unread_stop_the_router_though_its_offsets_are_gone(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    write_round(log, b"before")
    with Running(address) as router:
        router.forward(A_ROUND)
    log.forget(GROUP)
    write_round(log, b"lost")
    log.truncate(COMMANDS_TOPIC, 4, partition=1)

    with Running(address) as router, pytest.raises(Misconfigured, match="records may be lost"):
        router.forward(A_ROUND)
