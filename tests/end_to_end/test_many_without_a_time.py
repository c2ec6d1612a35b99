"""More records without a broker's time than one command may tell the times of, under rules of release 1 (I2)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from processors.ledger.commands import SetLaneTime
from processors.ops import addresses
from processors.ops.cli.terminal import OFFSETS_MAX
from processors.stores.mysql import Session
from processors.streams.topics import shard_topic
from processors.wire.commands import decode_command
from tests.chaos.lanes import SHARD, Shard
from tests.end_to_end.conftest import balance
from tests.kafka_log import KafkaLog
from tests.servers import Place
from tests.waiting import eventually

TOO_MANY = OFFSETS_MAX + 3


@pytest.fixture
def shard(fresh_place: Callable[..., Place]) -> Shard:
    """Return a shard of the first release, the first records of whose lane 0 have a producer's time."""
    made = Shard(fresh_place(BALANCE_TOPICS__LANES="2"))
    session = Session(addresses.mysql_address(made.settings, SHARD), lane=False)
    session.execute(
        "UPDATE rules SET rules_release = 1, result_version = 1, signing_keys = NULL, registry_ids = NULL",
        "making a shard of the first release",
    )
    session.commit()
    session.close()
    log = KafkaLog(made.address)
    log.alter(shard_topic(SHARD), "message.timestamp.type", "CreateTime")
    log.write(shard_topic(SHARD), [b"no command"] * TOO_MANY)
    log.alter(shard_topic(SHARD), "message.timestamp.type", "LogAppendTime")
    return made


def told(shard: Shard) -> list[int]:
    """Return the offsets whose times were told, in the order in which they were."""
    words = [decode_command(record.value or b"") for record in shard.records(0)[TOO_MANY:]]
    return [word.lane_offset for word in words if isinstance(word, SetLaneTime)]


@pytest.mark.rule("I2")
def test_all_says_which_records_it_told_the_times_of_where_one_command_cannot_tell_all(shard: Shard) -> None:
    with shard.worker():
        eventually(lambda: shard.stop_codes() == {0: "TIMESTAMP_TYPE"}, "the lane stops")
        now_ms = time.time_ns() // 1_000_000
        first = balance(shard.place, "lane", "release", "0", "--all", str(now_ms), "--json", "--within", "60")
        assert told(shard) == list(range(OFFSETS_MAX))
        assert (first.status, first.json) == (
            3,
            {
                "lane": 0,
                "first_offset": 0,
                "last_offset": OFFSETS_MAX - 1,
                "time_ms": now_ms,
                "next_offset": OFFSETS_MAX,
                "stop_code": "TIMESTAMP_TYPE",
            },
        )

        rest = balance(shard.place, "lane", "release", "0", "--all", str(now_ms), "--within", "60")

        assert (rest.status, rest.out) == (0, f"lane 0 knows the time of offset {OFFSETS_MAX} to {TOO_MANY - 1}\n")
        assert told(shard) == list(range(TOO_MANY))
        eventually(lambda: shard.stop_codes() == {}, "the lane goes on")
