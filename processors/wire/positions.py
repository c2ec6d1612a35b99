"""What a lane's group commit says beside the offset: enough to prove what was published up to there (L4)."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPosition:
    """P, and the lane's state there.

    ``next_offset`` (with ``index``, 0 except within a hand-off) is the first record whose result is not published.
    ``topic_id`` has 16 bytes, ``digest`` 32; ``leader_epoch`` is -1 where none is known.
    """

    next_offset: int
    topic_id: bytes
    lane: int
    lane_time_ms: int
    digest: bytes
    leader_epoch: int
    index: int = 0


_NUMBER = r"(0|-?[1-9][0-9]{0,18})"
_METADATA = re.compile(
    rf"b1 offset={_NUMBER} index={_NUMBER} topic=([0-9a-f]{{32}}) lane={_NUMBER} ms={_NUMBER} epoch={_NUMBER} "
    r"sha=([0-9a-f]{64})",
    re.ASCII,
)


def encode_metadata(position: GroupPosition) -> str:
    """Return the commit's metadata: one readable line, less than 200 characters (Kafka 4.2 takes 4,095 UTF-16 units).

    >>> encode_metadata(GroupPosition(next_offset=7, topic_id=bytes(16), lane=0, lane_time_ms=5, digest=bytes(32),
    ...     leader_epoch=2))[:48]
    'b1 offset=7 index=0 topic=0000000000000000000000'
    """
    return (
        f"b1 offset={position.next_offset} index={position.index} topic={position.topic_id.hex()} lane={position.lane} "
        f"ms={position.lane_time_ms} epoch={position.leader_epoch} sha={position.digest.hex()}"
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
    return GroupPosition(
        next_offset=offset,
        index=int(match[2]),
        topic_id=bytes.fromhex(match[3]),
        lane=int(match[4]),
        lane_time_ms=int(match[5]),
        leader_epoch=int(match[6]),
        digest=bytes.fromhex(match[7]),
    )
