from __future__ import annotations

from dataclasses import replace

import pytest

from processors.wire.positions import GroupPosition, LanePoint, decode_metadata, encode_metadata

pytestmark = pytest.mark.rule("L4")
POSITION = GroupPosition(
    topic_id=bytes(range(16)),
    lane=3,
    at=LanePoint(next_offset=1_234, lane_time_ms=1_760_000_000_123, digest=bytes(range(32)), leader_epoch=-1, index=2),
)
TEXT = encode_metadata(POSITION)


def test_a_position_is_read_as_it_was_written() -> None:
    assert decode_metadata(1_234, TEXT) == POSITION


def test_metadata_is_short_ascii_even_with_the_largest_numbers() -> None:
    huge = replace(
        POSITION,
        lane=65_535,
        at=replace(POSITION.at, next_offset=2**63 - 1, lane_time_ms=2**47, leader_epoch=2**31 - 1, index=99_999),
    )

    assert decode_metadata(huge.at.next_offset, encode_metadata(huge)) == huge
    assert encode_metadata(huge).isascii()
    assert len(TEXT) < len(encode_metadata(huge)) < 200


def test_metadata_that_speaks_of_another_offset_is_not_ours() -> None:
    assert decode_metadata(0, TEXT) is None
    assert decode_metadata(1_235, TEXT) is None


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "consumer-1",
        TEXT + " ",
        TEXT + "\n",
        " " + TEXT,
        TEXT.upper(),
        TEXT.replace("b1", "b2"),
        TEXT.replace("lane=3", "lane=03"),
        TEXT.replace("lane=3", "lane=\u0663"),
        TEXT.replace("lane=3 ", ""),
        TEXT.replace("offset=1234", "offset=1234e0"),
        TEXT[:-1],
        TEXT.replace("sha=00", "sha="),
    ],
)
def test_metadata_of_anybody_else_counts_as_none(metadata: str) -> None:
    assert decode_metadata(1_234, metadata) is None
