"""The metadata of a lane's group commit: what proves which answers were published up to the offset (L4)."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePoint:
    """A place in a lane's log, and what the records before it come to.

    Attributes:
        next_offset: The first record behind the point.
        lane_time_ms: The lane's time there, ms since the epoch (I2); 0 before the first record.
        digest: 32 bytes, chained over the result bytes of all journal rows before the point (L13).
        leader_epoch: Of the last record before the point (L3); -1 before the first record, or where it is not known.
        index: How many of the answers of the record at ``next_offset`` are before the point; 0 but within a hand-off.
    """

    next_offset: int
    lane_time_ms: int
    digest: bytes
    leader_epoch: int = -1
    index: int = 0


LANE_START = LanePoint(next_offset=0, lane_time_ms=0, digest=bytes(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPosition:
    """What a lane's group commit says: everything before ``at`` is published (P).

    ``topic_id`` is the 16 bytes of the lane's topic.
    """

    topic_id: bytes
    lane: int
    at: LanePoint


_NUMBER = r"(0|-?[1-9][0-9]{0,18})"
_METADATA = re.compile(
    rf"b1 offset={_NUMBER} index={_NUMBER} topic=([0-9a-f]{{32}}) lane={_NUMBER} ms={_NUMBER} epoch={_NUMBER} "
    r"sha=([0-9a-f]{64})",
    re.ASCII,
)


def encode_metadata(position: GroupPosition) -> str:
    """Return the commit's metadata: one readable line, less than 200 characters (Kafka 4.2 takes 4,095 UTF-16 units).

    >>> at = LanePoint(next_offset=7, lane_time_ms=5, digest=bytes(32), leader_epoch=2)
    >>> encode_metadata(GroupPosition(topic_id=bytes(16), lane=0, at=at))[:48]
    'b1 offset=7 index=0 topic=0000000000000000000000'
    """
    at = position.at
    return (
        f"b1 offset={at.next_offset} index={at.index} topic={position.topic_id.hex()} lane={position.lane} "
        f"ms={at.lane_time_ms} epoch={at.leader_epoch} sha={at.digest.hex()}"
    )


def decode_metadata(offset: int, metadata: str) -> GroupPosition | None:
    """Return the position that a group commit stands for, or None where it is not one of ours.

    Args:
        offset: The committed offset. Metadata that speaks of another one was carried along by some tool (L4).
        metadata: The committed metadata; anybody may have written it.
    """
    match = _METADATA.fullmatch(metadata)
    if match is None or int(match[1]) != offset:
        return None
    at = LanePoint(
        next_offset=offset,
        index=int(match[2]),
        lane_time_ms=int(match[5]),
        leader_epoch=int(match[6]),
        digest=bytes.fromhex(match[7]),
    )
    return GroupPosition(topic_id=bytes.fromhex(match[3]), lane=int(match[4]), at=at)
