"""``stores.frozen_rows.FrozenRowsReader`` on the in-memory shard database, and a courier that reads from it."""

from __future__ import annotations

from collections.abc import Iterator

from processors.lane.handing_over import FrozenRows, LaneCourier
from processors.routing.buckets import partition_of
from processors.stores.rows import PlacementRow
from tests.simulation.fakes.broker import Broker
from tests.simulation.fakes.crash_points import CrashPoints
from tests.simulation.fakes.database import Database


class FakeFrozenRowsReader:
    """A lane's frozen rows."""

    def __init__(self, database: Database, lane: int, crash_points: CrashPoints) -> None:
        self.database = database
        self.lane = lane
        self.crash_points = crash_points

    def placement(self, placement_key: str) -> PlacementRow | None:
        self.crash_points.point("sealed.look")
        return self.database.tables.placements.get((self.lane, placement_key))

    def read(self, sealed: PlacementRow) -> Iterator[bytes]:
        yield from self.database.tables.frozen(self.lane, sealed)

    def close(self) -> None:
        """There is nothing to give back."""


class CourierOfSmallParts(LaneCourier):
    """Has more parts than the real one for as many rows."""

    part_rows_max = 3


def fake_courier(shard: str, database: Database, lane: int, broker: Broker, crash_points: CrashPoints) -> LaneCourier:
    """Return what takes to other shards' lanes what a lane hands over."""
    return courier_of(shard, FakeFrozenRowsReader(database, lane, crash_points), broker)


class FrozenElsewhere:
    """Frozen rows as another database has them, in which the placement key is sealed."""

    def __init__(self, rows: list[bytes], sealed: PlacementRow) -> None:
        self.rows = rows
        self.sealed = sealed

    def placement(self, placement_key: str) -> PlacementRow | None:  # noqa: ARG002 - the real one's signature
        return self.sealed

    def read(self, sealed: PlacementRow) -> Iterator[bytes]:  # noqa: ARG002
        yield from self.rows

    def close(self) -> None:
        """There is nothing to give back."""


def courier_of(shard: str, rows: FrozenRows, broker: Broker) -> LaneCourier:
    """Return what takes frozen rows to other shards' lanes; shards' topics are named by their ids."""

    def address_of(to: str, placement_key: str) -> tuple[str, int]:
        topic = f"balance.shard.{to}"
        return topic, partition_of(placement_key, len(broker.topic(topic).partitions))

    return CourierOfSmallParts(shard, rows, address_of)
