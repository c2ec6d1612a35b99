"""How many copies of a row a keyspace keeps, as Cassandra's driver knows it."""

from __future__ import annotations

import pytest
from cassandra.metadata import NetworkTopologyStrategy, SimpleStrategy

from processors.stores.cassandra import copies_everywhere, copies_in


@pytest.mark.parametrize(
    ("strategy", "here", "everywhere"),
    [
        (NetworkTopologyStrategy({"here": "2", "there": "3"}), 2, {"here": 2, "there": 3}),
        (NetworkTopologyStrategy({"there": "3"}), 0, {"there": 3}),
        (SimpleStrategy({"replication_factor": "1"}), 1, {}),
    ],
)
def test_copies_are_counted_in_each_data_center(strategy: object, here: int, everywhere: dict[str, int]) -> None:
    assert copies_in(strategy, "here") == here
    assert copies_everywhere(strategy) == everywhere
