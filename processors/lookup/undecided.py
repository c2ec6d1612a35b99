"""Whether an id that nobody knows may still be decided: only where no lane can is it safe to pay under a new one.

A lane decides an id while its time is within the window (I3, I4), counted from the lane's time, which stands still
where the lane is stopped or late. A record that is not in the lane yet (on its way, or in the ingress before the
router) will bear the time at which it is written there, which is not before now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processors.ids import COMMAND_ID_BYTES, id_text, uuid7_time_ms
from processors.ledger.rules import Rules, newest_of
from processors.lookup.times import show_time
from processors.stores.shard_reader import LanePosition

# The brokers' clocks may be behind ours by no more than this where clocks are set (docs/operations.md, Clocks).
_CLOCK_MS = 60_000
_DERIVED = 8  # the version of ids that the service makes for its own records


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneAhead:
    """A lane that could still decide an id: it stands at ``next_offset``, and its topic ends at ``end_offset``.

    ``until_ms``: when the id leaves the window of a lane that is not late, ms since the epoch; 0 where that is unknown.
    """

    shard: str
    lane: int
    next_offset: int
    end_offset: int
    stop_code: str
    until_ms: int


def lanes_ahead(
    command_id: bytes,
    shard: str,
    *,
    ends: Mapping[int, int],
    positions: Mapping[int, LanePosition],
    rules: Mapping[int, Mapping[int, Rules]],
    now_ms: int,
) -> list[LaneAhead]:
    """Return the lanes that could still decide an id; none where it is proven that it never will be.

    Whether it *was* decided must be looked up after these were read: what is decided in between is found then.

    Args:
        command_id: 16 bytes.
        shard: The shard's id.
        ends: Lane -> the offset after its topic's last; read after ``now_ms`` and before ``positions``.
        positions: Where lanes stand; one that was never owned is missing.
        rules: Lane -> offset -> rules in force from there.
        now_ms: This machine's time.

    Source: rules I2 to I5.
    """
    time_ms = uuid7_time_ms(command_id)
    if time_ms is None and not _is_derived(command_id):
        return []  # IMPLAUSIBLE_ID, whenever it comes
    found = []
    for lane, end in sorted(ends.items()):
        position, of_lane = positions.get(lane), rules.get(lane, {})
        if time_ms is not None and _has_passed(time_ms, position, end, of_lane, now_ms):
            continue
        found.append(
            LaneAhead(
                shard=shard,
                lane=lane,
                next_offset=0 if position is None else position.progress.at.next_offset,
                end_offset=end,
                stop_code="" if position is None else position.stop_code or "",
                until_ms=time_ms + newest_of(of_lane.values()).window_ms if time_ms is not None and of_lane else 0,
            )
        )
    return found


def _has_passed(time_ms: int, position: LanePosition | None, end: int, rules: Mapping[int, Rules], now_ms: int) -> bool:
    """Say whether an id's time is outside the window of every record that a lane may still meet."""
    if not rules:
        return False
    next_offset = reached_ms = 0
    stopped = False
    if position is not None:
        next_offset, reached_ms = position.progress.at.next_offset, position.progress.at.lane_time_ms
        stopped = position.stop_code is not None
    if next_offset == end and not stopped:  # a stopped lane's log may come back with older records
        reached_ms = max(reached_ms, now_ms - _CLOCK_MS)
    return time_ms < newest_of(rules.values()).window_start_ms(reached_ms)


def _is_derived(command_id: bytes) -> bool:
    return len(command_id) == COMMAND_ID_BYTES and command_id[6] >> 4 == _DERIVED


def told_of(command_id: bytes, ahead: Sequence[LaneAhead]) -> list[str]:
    """Say what may become of an id that nobody knows, and what to do.

    Args:
        command_id: 16 bytes.
        ahead: The lanes that could still decide it; at least one.
    """
    late = [each for each in ahead if each.next_offset != each.end_offset or each.stop_code]
    lines = [f"{id_text(command_id)} may still be decided: send the same id again, never a new one"]
    lines += [
        f"lane {each.lane} of {each.shard} stands at offset {each.next_offset}, the topic ends at {each.end_offset}"
        + (f"; it is stopped: {each.stop_code}, see `balance lane show`" if each.stop_code else "")
        for each in late
    ]
    until_ms = max(each.until_ms for each in ahead)
    if not late and until_ms:
        lines.append(
            "no lane has it yet: it may be on its way, or wait in balance.commands for the router; ask again after "
            f"{show_time(until_ms)}, when the id has left the window"
        )
    return lines
