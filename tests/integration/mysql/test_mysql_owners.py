"""Which of two shards' databases has a partner's balances, and what is said while neither has (M11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from processors.faults import Retryable
from processors.lookup.owners import MOVING_S, owner_of
from processors.lookup.service import ServiceReader
from processors.ops.looking_up import read_service
from processors.routing.buckets import partition_of
from processors.settings import load_settings
from processors.stores.addresses import MysqlAddress
from processors.stores.migrations import migrate
from processors.stores.rows import PlacementRow, PlacementState
from tests.integration.mysql_shard import RULES, SHARD, address_of, clock_ms, take_lane
from tests.servers import SecondMysql, Servers

ROOT = "acme"
LANE = partition_of(ROOT, SHARD.lanes)
SINCE_MS = 1_700_000_000_123


@pytest.fixture
def two(servers: Servers, address: MysqlAddress, fresh_database: Callable[[], str]) -> Iterator[ServiceReader]:
    """Give a look into two shards, whose databases are on one server."""
    other = address_of(servers, fresh_database())
    migrate(other, replace(SHARD, shard="s2", home=False), {0: RULES}, now_ms=clock_ms())
    same = SecondMysql(
        host=servers.mysql_host, port=servers.mysql_port, user=servers.mysql_user, password=servers.mysql_password
    )
    first = {**servers.environment(), "BALANCE_SHARDS__S1__DATABASE": address.database}
    settings = load_settings(environment={**first, **same.environment("s2", other.database)})
    with read_service(settings) as service:
        yield service


@pytest.mark.rule("M11")
def test_while_a_partner_moves_it_is_waited_and_then_said_since_when_and_what_to_look_at(
    two: ServiceReader, address: MysqlAddress
) -> None:
    assert owner_of(two, ROOT) == "s1"
    sealed = PlacementRow(
        placement_key=ROOT, generation=1, state=PlacementState.SEALED, other_shard="s2", since_time_ms=SINCE_MS
    )
    lane = take_lane(address, LANE)
    lane.commit(replace(lane.batch(), placements=[sealed]))

    begun_s = time.monotonic()
    with pytest.raises(Retryable) as told:
        owner_of(two, ROOT)

    assert time.monotonic() - begun_s >= MOVING_S
    assert str(told.value) == (
        "acme is moving from s1 to s2 since 2023-11-14T22:13:20.123Z, and no shard has his balances meanwhile; it ends "
        "by itself once everything runs that it needs: `balance status` shows how far it is, and what is down"
    )
