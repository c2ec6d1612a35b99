"""What a hand-off is cut into, and what its rows come to."""

from __future__ import annotations

import pytest

from processors.lane.handing_over import PART_BYTES_MAX, PART_ROWS_MAX, cut
from processors.lane.placements import chain_rows
from processors.wire.packed_rows import split_frames

SMALL = [b"row %d" % number for number in range(3 * PART_ROWS_MAX)]
LARGE = [bytes(PART_BYTES_MAX + number) for number in range(3)]


@pytest.mark.rule("M3")
@pytest.mark.rule("M8")
@pytest.mark.parametrize("rows", [[], SMALL[:1], SMALL, LARGE, [*LARGE, *SMALL]], ids=len)
def test_a_hand_off_has_all_rows_and_their_digest_however_it_is_cut(rows: list[bytes]) -> None:
    parts = list(cut(iter(rows)))

    found, rest = [], b""
    for packed, _ in parts:
        whole, rest = split_frames(rest + packed)
        found += whole
    assert (found, rest) == (rows, b"")
    assert parts[-1][1] == chain_rows(bytes(32), rows)
    assert all(len(packed) <= PART_BYTES_MAX for packed, _ in parts)
