"""No partner goes towards a shard that could not decide for him soon: behind, or of an earlier release (M10)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from processors.faults import Misconfigured
from processors.ledger.commands import Tick
from processors.ops import addresses, probing
from processors.ops.moving import PlannedMove, plan_move, refuse_unready
from processors.ops.setting_up import initialize
from processors.routing.buckets import partition_of
from processors.settings import Settings
from processors.stores.mysql import Session
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import shard_topic
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from tests.servers import Place

ROOT = "acme"


@pytest.fixture
def planned(fresh_two_shards: Callable[..., Place]) -> PlannedMove:
    """Return the move of a partner to s2; no process of the service runs."""
    settings = fresh_two_shards().settings
    initialize(settings, lambda _said: None)
    found = plan_move(settings, ROOT, "s2")
    assert isinstance(found, PlannedMove)
    return found


def in_second(settings: Settings, sql: str) -> None:
    with closing(Session(addresses.mysql_address(settings, "s2"), lane=False)) as session:
        session.execute(sql, "making a shard unfit")
        session.commit()


@pytest.mark.rule("M10")
def test_a_target_that_is_behind_is_refused(planned: PlannedMove) -> None:
    address = addresses.kafka_address(planned.settings)
    lane = partition_of(ROOT, planned.settings.lanes_of("s2"))
    tick = OutRecord(address.topic_prefix + shard_topic("s2"), lane, None, encode_command(Tick()), [])
    with closing(IdempotentProducer(address, delivery_deadline_ms=30_000, linger_ms=5)) as producer:
        for _ in range(probing.LAG_MAX + 1):
            producer.send(tick)
        producer.flush(30.0)

    with pytest.raises(Misconfigured, match=f"lane {lane} of s2 is {probing.LAG_MAX + 1} records behind"):
        refuse_unready(planned)


@pytest.mark.rule("M10")
def test_a_target_whose_rules_know_no_moves_is_refused(planned: PlannedMove) -> None:
    in_second(planned.settings, "UPDATE rules SET rules_release = 2")

    with pytest.raises(Misconfigured, match="first `balance rules raise --shard s2`"):
        refuse_unready(planned)


@pytest.mark.rule("M10")
def test_a_target_whose_schema_is_of_an_earlier_release_is_refused(planned: PlannedMove) -> None:
    in_second(planned.settings, "DELETE FROM migration ORDER BY number DESC LIMIT 1")

    with pytest.raises(Misconfigured, match="balance migrate"):
        refuse_unready(planned)
