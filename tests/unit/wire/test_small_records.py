from __future__ import annotations

import pytest

from processors.faults import Undecodable
from processors.wire.coverage import Coverage, SliceRemoved, decode_archived, encode_archived
from processors.wire.directory import (
    DirectoryHead,
    PlacementRecord,
    ShardRecord,
    decode_directory,
    encode_directory,
)

HEAD = DirectoryHead(directory_id=b"d" * 16, ingress_topic_id=b"t" * 16, ingress_epoch=1)
PLACEMENT = PlacementRecord(unit="bucket:9", generation=1, shard="s2", ingress_partition=3, since=77)
SHARD = ShardRecord(shard="s1", topic="balance.shard.s1", topic_id=b"i" * 16)
COVERAGE = Coverage(
    incarnation=b"i" * 16, shard="s1", lane=1, results_partition=2, lane_offset=900, lane_index=0, time_ms=5
)
REMOVED = SliceRemoved(incarnation=b"i" * 16, shard="s1", slice=488_888, rows=10_000, time_ms=5)


@pytest.mark.rule("R8")
@pytest.mark.parametrize("record", [HEAD, PLACEMENT, SHARD], ids=lambda record: type(record).__name__)
def test_a_directory_record_is_read_as_it_was_written(record: DirectoryHead | PlacementRecord | ShardRecord) -> None:
    assert decode_directory(encode_directory(record)) == record


@pytest.mark.rule("R2")
def test_a_placement_has_one_key_a_generation_so_that_none_overwrites_another() -> None:
    later = PlacementRecord(unit="bucket:9", generation=2, shard="s1", ingress_partition=3, since=99)

    assert PLACEMENT.key == b"placement/bucket:9/1"
    assert len({PLACEMENT.key, later.key, SHARD.key, HEAD.key}) == 4


@pytest.mark.rule("A5")
@pytest.mark.parametrize("record", [COVERAGE, REMOVED], ids=lambda record: type(record).__name__)
def test_an_archive_record_is_read_as_it_was_written(record: Coverage | SliceRemoved) -> None:
    assert decode_archived(encode_archived(record)) == record


@pytest.mark.parametrize("payload", [b"", b"x", encode_archived(COVERAGE), encode_directory(HEAD) + b"x"])
def test_what_is_no_directory_record_is_refused(payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_directory(payload)


@pytest.mark.parametrize("payload", [b"", b"x", encode_directory(HEAD), encode_archived(REMOVED)[:-1], bytes(600)])
def test_what_is_no_archive_record_is_refused(payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_archived(payload)
