"""The same instance started several times: the last one works, those before it end, nothing is left out (P4, L12)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.faults import Fenced
from processors.routing.buckets import partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.topics import COMMANDS_TOPIC
from tests.integration.ingress import INGRESS_PARTITIONS, Running, forwarded, letters, make_service, root_in, route_of
from tests.kafka_log import KafkaLog
from tests.servers import Servers
from tests.waiting import eventually

ROOTS = [root_in(partition) for partition in range(INGRESS_PARTITIONS)]


def fenced(router: Running) -> bool:
    """Step once, and say whether another process has this one's name."""
    try:
        router.step()
    except Fenced:
        return True
    return False


@pytest.mark.rule("P4")
def test_of_three_routers_with_one_name_the_last_goes_on_and_the_others_end(
    servers: Servers, topic_prefix: Callable[[], str]
) -> None:
    address = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())
    log = KafkaLog(address)
    make_service(address)

    def write(value: bytes) -> None:
        for root in ROOTS:
            log.write(COMMANDS_TOPIC, [value], partition=partition_of(root, INGRESS_PARTITIONS), key=root.encode())

    write(b"first")
    with Running(address) as first:
        first.forward(len(ROOTS))
        with Running(address) as second:
            eventually(lambda: bool(second.step()) + 1 and fenced(first), "the first is fenced")
            write(b"second")
            second.forward(len(ROOTS))
            with Running(address) as third:
                eventually(lambda: bool(third.step()) + 1 and fenced(second), "the second is fenced")
                write(b"third")
                third.forward(len(ROOTS))

    went = forwarded(log)
    sources = {(route.ingress_partition, route.ingress_offset) for route in map(route_of, went)}
    assert sources == {(partition, offset) for partition in range(INGRESS_PARTITIONS) for offset in range(3)}
    assert letters(log) == []
