"""How far the archive is behind a lane: never less than it is, and nothing where nothing waits."""

from __future__ import annotations

from processors.lookup.archived import LaneArchived, lanes_archived
from processors.stores.shard_reader import open_reader
from tests.integration.mysql_shard import SHARD, TOPIC_ID
from tests.integration.shard_and_archive import LANE, ROOT, Stores

NOBODY_WAITS = dict.fromkeys(range(SHARD.results_partitions), 0)


def lag(stores: Stores, waiting: dict[int, int]) -> LaneArchived:
    with stores.service() as service:
        found = {each.lane: each for each in lanes_archived(service, waiting)}
    return found[LANE]


def lane_time_ms(stores: Stores) -> int:
    reader = open_reader(stores.mysql)
    try:
        return reader.positions()[LANE].at.lane_time_ms
    finally:
        reader.close()


def test_what_waits_longest_is_younger_than_what_is_covered(stores: Stores) -> None:
    results = [stores.ledger.pay(ROOT, incarnation=TOPIC_ID) for _ in range(3)]
    stores.in_mysql(results)
    stores.archived(results[:2])

    found = lag(stores, NOBODY_WAITS | {LANE: 1})

    assert found.until_ms == results[1].lane_time_ms
    assert found.behind_ms == lane_time_ms(stores) - results[1].lane_time_ms
    assert found.behind_ms > 0


def test_where_nothing_waits_nothing_is_behind_however_long_ago_the_last_result_was(stores: Stores) -> None:
    results = [stores.ledger.pay(ROOT, incarnation=TOPIC_ID) for _ in range(3)]
    stores.in_mysql(results)
    stores.archived(results[:1])

    found = lag(stores, NOBODY_WAITS | {(LANE + 1) % SHARD.results_partitions: 7})

    assert (found.behind_ms, found.until_ms) == (0, lane_time_ms(stores))


def test_a_lane_of_which_nothing_is_archived_yet_says_so(stores: Stores) -> None:
    stores.in_mysql([stores.ledger.pay(ROOT, incarnation=TOPIC_ID)])

    for waiting in ({LANE: 1}, {}):  # of the second nobody knows whether anything waits
        found = lag(stores, waiting)
        assert (found.until_ms, found.behind_ms) == (0, None)
