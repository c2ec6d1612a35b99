"""What a shard's lanes know of placement keys, and how far each has met the ingress, as of one moment (R8)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from processors.ledger.rules import Rules
from processors.stores.addresses import MysqlAddress
from processors.stores.migrations import ShardRow
from processors.stores.mysql import Session
from processors.stores.placement_sql import select_every_placement
from processors.stores.rows import IngressKey, PlacementRow, Progress
from processors.stores.shard_reader import open_snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlacements:
    """A shard as of one moment.

    ``positions`` and ``rules`` are by lane, ``placements`` by placement key. ``ingress`` has the highest offset that
    any lane has met of each ingress epoch and partition (L10). ``move_outs_parked`` are the placement keys for which a
    MOVE_OUT waits.
    """

    row: ShardRow
    positions: dict[int, Progress]
    rules: dict[int, dict[int, Rules]]
    placements: dict[str, PlacementRow]
    ingress: dict[IngressKey, int]
    move_outs_parked: list[str]


def read_shard_placements(address: MysqlAddress, shard: str) -> ShardPlacements:
    """Read a shard; with all buckets placed that takes a second.

    Raises:
        Misconfigured: The database is not the shard's, or not of this release.
        Unavailable: The server does not answer.
    """
    with closing(open_snapshot(address)) as reader:
        return ShardPlacements(
            row=reader.check(shard),
            positions=reader.positions(),
            rules=reader.rules(),
            placements=reader.ask(select_every_placement),
            ingress=reader.ask(_ingress),
            move_outs_parked=reader.ask(_move_outs_parked),
        )


def _ingress(session: Session) -> dict[IngressKey, int]:
    rows = session.query(
        "SELECT ingress_epoch, ingress_partition, MAX(ingress_offset) FROM progress_source "
        "GROUP BY ingress_epoch, ingress_partition",
        "reading source positions",
    )
    return {(epoch, partition): offset for epoch, partition, offset in rows}


def _move_outs_parked(session: Session) -> list[str]:
    rows = session.query(
        "SELECT DISTINCT placement_key FROM parked WHERE is_move_out = 1 AND unparked_offset IS NULL "
        "ORDER BY placement_key",
        "looking for parked MOVE_OUTs",
    )
    return [key.decode() for (key,) in rows]
