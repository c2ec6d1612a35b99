"""All processes away for longer than the brokers keep groups and their offsets: the service just goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import pytest

from processors.ops import addresses
from processors.streams.topics import shard_topic
from tests.end_to_end.conftest import started
from tests.kafka_log import KafkaLog
from tests.servers import Place
from tests.waiting import eventually

GROUPS = ("balance-router", "balance-shard-s1", "balance-sink", "balance-recaller")


@pytest.mark.rule("L4")
@pytest.mark.rule("R6")
def test_every_groups_offsets_may_be_gone_and_nothing_is_forwarded_decided_or_answered_twice(
    fresh_place: Callable[..., Place],
) -> None:
    place = fresh_place()
    log = KafkaLog(addresses.kafka_address(place.settings))
    with contextmanager(started)(place) as running:
        assert running.balance("account", "open", "acme", "USD").status == 0
        assert running.balance("topup", "acme", "9.00", "USD").status == 0
        assert running.balance("pay", "acme", "1.00", "USD").status == 0
    for group in GROUPS:
        log.forget(group)

    def commands() -> list[bytes]:
        return [
            record.value or b""
            for lane in range(place.settings.topics.lanes)
            for record in log.read(shard_topic("s1"), partition=lane)
            if record.key is not None
        ]

    before = commands()
    assert len(before) >= 3
    with contextmanager(started)(place) as running:
        assert running.balance("pay", "acme", "1.00", "USD").status == 0
        (account,) = running.balance("account", "show", "acme", "--json").json_lines
        assert account["balance_minor"] == 700
        eventually(lambda: running.balance("verify").status == 0, "it is proven")
        went = commands()
    assert all(went.count(command) == 1 for command in before)
