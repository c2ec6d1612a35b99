"""What the routers wrote, against what a plain reading of the history says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from processors.routing.buckets import partition_of
from processors.routing.directory import HOME_PLACEMENT_KEY
from processors.wire.directory import DirectoryRecord, PlacementRecord
from processors.wire.records import ReadHeaders, Record
from processors.wire.route import ROUTE_HEADER, Route, decode_route, encode_route
from processors.wire.signature import SIGNATURE_HEADER
from tests.properties.routing_history import LANES, History, Told

Lane = tuple[str, int, int]  # shard, lane, ingress partition
Copy = tuple[bytes | None, bytes | None, ReadHeaders]


def taken(lanes: Mapping[tuple[str, int], list[Record]]) -> dict[Lane, list[Copy]]:
    """Return what each lane takes of each ingress partition: a redelivery is silence (L10), and the same bytes.

    Args:
        lanes: Everything in each shard's lanes, in order.
    """
    found: dict[Lane, list[Copy]] = {}
    for (shard, lane), records in lanes.items():
        first: dict[tuple[int, int], Copy] = {}
        highest: dict[int, int] = {}
        for record in records:
            copy = (record.key, record.value, record.headers)
            route = route_of(record)
            if route.ingress_offset > highest.get(route.ingress_partition, -1):
                highest[route.ingress_partition] = route.ingress_offset
                found.setdefault((shard, lane, route.ingress_partition), []).append(copy)
            source = (route.ingress_partition, route.ingress_offset)
            assert first.setdefault(source, copy) == copy, "a record was routed in two ways"
    return found


def expected(history: History, came: Mapping[int, list[Record]], epoch: int) -> dict[Lane, list[Copy]]:
    """Return what each lane must take of each ingress partition.

    Args:
        history: What was sent.
        came: The same records as they stand in the ingress, by partition.
        epoch: The directory's ingress epoch.
    """
    found: dict[Lane, list[Copy]] = {}
    for partition, told in history.told.items():
        for record, each in zip(came[partition], told, strict=True):
            if each.kind is not None:
                lane, copy = _expected_of(record, each, epoch)
                found.setdefault(lane, []).append(copy)
    return found


def _expected_of(record: Record, told: Told, epoch: int) -> tuple[Lane, Copy]:
    assert told.kind is not None
    owner = told.goes_to
    route = Route(
        told.kind,
        epoch,
        record.partition,
        record.offset,
        record.leader_epoch,
        record.timestamp_ms,
        owner.placement_key,
        owner.generation,
    )
    signatures = [(name, value) for name, value in record.headers if name == SIGNATURE_HEADER]
    lane = partition_of((record.key or b"").decode(), LANES[owner.shard])
    copy = (record.key, record.value, [*signatures, (ROUTE_HEADER, encode_route(route))])
    return (owner.shard, lane, record.partition), copy


def moves_among(met: Iterable[DirectoryRecord]) -> dict[bytes, PlacementRecord]:
    """Return the placements that moves brought; of two with one key the later one, as compaction leaves it."""
    placed = [each for each in met if isinstance(each, PlacementRecord)]
    return {each.key: each for each in placed if each.unit != HOME_PLACEMENT_KEY}


def expected_moves(history: History) -> dict[bytes, PlacementRecord]:
    """Return the placements of the markers that count."""
    placed = [each.placement for told in history.told.values() for each in told if each.placement is not None]
    return {each.key: each for each in placed}


def expected_letters(history: History) -> int:
    """Return how many records are dead letters."""
    return sum(each.kind is None for told in history.told.values() for each in told)


def route_of(record: Record) -> Route:
    (value,) = [value for name, value in record.headers if name == ROUTE_HEADER]
    return decode_route(value or b"")
