"""Lanes between which somebody moves decide by rules of one release (M10)."""

from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.ops.probing import refuse_releases
from processors.wire.admission import MOVES_SINCE


def test_lanes_of_one_release_that_knows_moves_are_taken() -> None:
    refuse_releases({("s1", 0): MOVES_SINCE, ("s2", 3): MOVES_SINCE})
    refuse_releases({("s1", 0): MOVES_SINCE + 1, ("s2", 3): MOVES_SINCE + 1})


def test_a_lane_whose_release_knows_no_moves_is_named_with_the_command_that_raises_it() -> None:
    with pytest.raises(
        Misconfigured, match=r"lane 3 of s2 .* release 2, .* no moves: .*`balance rules raise --shard s2`"
    ):
        refuse_releases({("s1", 0): MOVES_SINCE, ("s2", 3): MOVES_SINCE - 1})


@pytest.mark.parametrize("later", ["s1", "s2"])
def test_lanes_of_two_releases_are_refused_whichever_has_the_later(later: str) -> None:
    releases = {(shard, 0): MOVES_SINCE + (shard == later) for shard in ("s1", "s2")}
    behind = "s2" if later == "s1" else "s1"

    with pytest.raises(
        Misconfigured, match=f"lane 0 of {behind} .* lane 0 of {later} .*`balance rules raise --shard {behind}`"
    ):
        refuse_releases(releases)
