"""The router on a topic whose number of partitions is raised while it runs (W3)."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from processors.routing.buckets import bucket_of
from processors.streams.connection import KafkaAddress
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.causes import Cause
from tests.integration.ingress import INGRESS_PARTITIONS, Running, forwarded, letters, make_service, route_of
from tests.kafka_log import DEADLINE_S, KafkaLog
from tests.waiting import eventually

ROOTS = [f"u-{number}" for number in range(16)]
MORE = 2 * INGRESS_PARTITIONS


def write_round(address: KafkaAddress, log: KafkaLog, number: int) -> None:
    """Write a record of every root, as a gateway does: its client learns how many partitions there are, and hashes."""
    producer = Producer(address.options() | {"enable.idempotence": True, "partitioner": "murmur2_random"})
    for root in ROOTS:
        producer.produce(log.full(COMMANDS_TOPIC), b"%d" % number, root.encode())
    assert producer.flush(DEADLINE_S) == 0


@pytest.mark.rule("W3")
def test_roots_whose_partition_stays_go_on_in_order_and_the_others_are_dead_letters_that_say_why(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    stay = {root for root in ROOTS if bucket_of(root) & (MORE - 1) < INGRESS_PARTITIONS}
    assert 0 < len(stay) < len(ROOTS)

    with Running(address) as router:
        write_round(address, log, 0)
        router.forward(len(ROOTS))
        log.widen(COMMANDS_TOPIC, MORE)
        for number in (1, 2):
            write_round(address, log, number)
        # The client learns of the new partitions within its 30 s; they are read from their beginning.
        router.forward(3 * len(ROOTS))
        eventually(lambda: len(router.router.owned) == MORE, "the new partitions are read, too")

    went: dict[str, list[bytes]] = {}
    for record in forwarded(log):
        went.setdefault((record.key or b"").decode(), []).append(record.value or b"")
        assert route_of(record).ingress_partition < INGRESS_PARTITIONS
    assert went == {root: [b"0", b"1", b"2"] if root in stay else [b"0"] for root in ROOTS}
    astray = letters(log)
    assert len(astray) == 2 * (len(ROOTS) - len(stay))
    for letter in astray:
        assert letter.cause == Cause.WRONG_PARTITION
        assert f"the topic has {MORE} partitions, the service knows {INGRESS_PARTITIONS}" in letter.detail
