"""Forwards the records that need no more than a look at where their key goes; the bytes are ``forwarding.forward``'s.

Nearly every record is a command of a root that was met before. Where such a root goes is remembered, with all of the
route that is the same for its records: a look-up a record instead of a decision. No I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from processors.routing.buckets import partition_of
from processors.wire.commands import PAYLOAD_BYTES_MAX
from processors.wire.forwarding import MARKERS, RoutingContext, root_of_key
from processors.wire.records import Content, Record
from processors.wire.route import ROUTE_HEADER, RouteKind, encode_route_middle, needed_headers, route_ends

# The roots that one router meets often are what is worth remembering: half a kilobyte each.
KEYS_MAX = 200_000


class Destination(NamedTuple):
    """A lane as the router writes to it; ``topic`` is the whole name, ``partition`` the lane in it."""

    shard: str
    topic: str
    partition: int


Outgoing = defaultdict[Destination, list[Content]]  # in order


class _Known(NamedTuple):
    """Where records of a key go that stand in one ingress partition, at ``since`` or behind it."""

    ingress_partition: int
    since: int
    lane: Destination
    route_begin: bytes
    route_end: bytes


class Forwarder:
    """Remembers where keys go, for as long as the directory says the same (R2)."""

    def __init__(self, context: RoutingContext, *, keys_max: int = KEYS_MAX) -> None:
        """Know no key yet; at a read that meets more than ``keys_max``, all are forgotten."""
        self._context = context
        self._keys_max = keys_max
        self._known: dict[bytes | None, _Known] = {}
        self._changes = context.directory.changes

    def take(self, records: Sequence[Record], start: int, outgoing: Outgoing) -> int:
        """Add what goes to lanes of some records, up to the first one that needs more than a look.

        Args:
            records: As they were read.
            start: The index of the first.
            outgoing: By lane what goes there; added to.

        Returns:
            The index of the record that stopped it, or how many records there are. That one is refused, a marker, too
            large, or stands before a move of its key; or its key goes where nothing is known of.
        """
        known = self._look()
        for index in range(start, len(records)):
            record = records[index]
            key, value = record.key, record.value
            found = known.get(key)
            if found is None and (found := self._learn(record)) is None:
                return index
            partition, since, lane, begin, end = found
            if (
                record.partition != partition
                or record.offset < since
                or not value
                or len(value) > PAYLOAD_BYTES_MAX
                or value.startswith(MARKERS)
            ):
                return index
            route = begin + encode_route_middle(record.offset, record.leader_epoch, record.timestamp_ms) + end
            headers = [(ROUTE_HEADER, route)]
            outgoing[lane].append((key, value, needed_headers(record.headers) + headers if record.headers else headers))
        return len(records)

    def _look(self) -> dict[bytes | None, _Known]:
        """Return what is known, nothing of it by a directory that has grown since, and forget where it is too much."""
        changes = self._context.directory.changes
        if changes != self._changes or len(self._known) > self._keys_max:
            self._known, self._changes = {}, changes
        return self._known

    def _learn(self, record: Record) -> _Known | None:
        """Return where a record's key goes, and remember it; None where it is no root, or that is not known."""
        context = self._context
        root = root_of_key(record.key)
        partition = partition_of(root, context.ingress_partitions)
        if not root or record.partition != partition:  # W3: the directory would be asked of another partition's offset
            return None
        placement, since = context.directory.settled(root, ingress_partition=partition)
        topic = context.topic_of.get(placement.shard)
        if topic is None:
            return None
        begin, end = route_ends(
            RouteKind.COMMAND,
            ingress_epoch=context.ingress_epoch,
            ingress_partition=partition,
            placement_key=placement.placement_key,
            generation=placement.generation,
        )
        lane = Destination(placement.shard, topic, partition_of(root, context.lanes_of[placement.shard]))
        known = self._known[record.key] = _Known(partition, since, lane, begin, end)
        return known
