"""The state from which a decider in memory begins a lane's log."""

from __future__ import annotations

from processors.ledger.rules import Rules
from processors.stores.rows import LaneState, Progress
from processors.wire.positions import LANE_START


def state_of_new_lane(lane: int, topic_id: bytes, rules: Rules) -> LaneState:
    """Return what the first owner of a lane finds before its first record, with rules in force from there."""
    return LaneState(
        progress=Progress(
            lane=lane,
            topic_id=topic_id,
            owner_epoch=1,
            version_us=0,
            published_offset=0,
            published_time_ms=0,
            at=LANE_START,
        ),
        ingress={},
        rules=rules,
        rules_since={0: rules},
        system={},
        lane_times={},
        waiting_at=None,
        stop_code=None,
        stop_detail="",
        home=True,
    )
