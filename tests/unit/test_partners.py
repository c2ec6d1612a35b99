"""What people are told of where partners live; the directory's topic is not asked."""

from __future__ import annotations

import pytest

from processors.ops.partners import PlacementShown, partner_of, placed_of
from processors.routing.buckets import BUCKETS, bucket_of, placement_key_of
from processors.routing.directory import HOME_PLACEMENT_KEY
from tests.command_line import said

BUCKET = placement_key_of("acme")


def placed(key: str, generation: int, shard: str, since: int = 0) -> PlacementShown:
    partition = None if key == HOME_PLACEMENT_KEY else 3
    return PlacementShown(
        placement_key=key,
        generation=generation,
        shard=shard,
        ingress_partition=partition,
        since=since,
        placed_at_ms=1_000 + since,
    )


HOME = placed(HOME_PLACEMENT_KEY, 0, "s1")
FIRST, SECOND, THIRD = placed(BUCKET, 1, "s2", 10), placed(BUCKET, 2, "s3", 20), placed(BUCKET, 3, "s1", 40)
LEAVES, GOES_ON = placed("acme", 1, "s4", 30), placed("acme", 2, "s2", 50)
ALL = [GOES_ON, HOME, THIRD, FIRST, LEAVES, SECOND]  # in whatever order compaction left them


@pytest.mark.rule("R2")
def test_who_was_never_moved_is_with_his_bucket_and_that_is_on_the_home_shard() -> None:
    found = partner_of([HOME, placed("globex", 1, "s2")], "acme")

    assert (found.now, found.placements, found.by_hand) == (HOME, [HOME], False)
    assert found.bucket == bucket_of("acme")


@pytest.mark.rule("R2")
def test_who_is_with_his_bucket_goes_where_it_goes() -> None:
    found = partner_of([HOME, SECOND, FIRST], "acme")

    assert (found.now, found.placements, found.by_hand) == (SECOND, [SECOND, FIRST, HOME], False)


@pytest.mark.rule("R2")
def test_who_left_his_bucket_has_its_placements_from_before_that_and_none_of_later() -> None:
    found = partner_of(ALL, "acme")

    assert (found.now, found.by_hand) == (GOES_ON, True)
    assert found.placements == [GOES_ON, LEAVES, SECOND, FIRST, HOME]


@pytest.mark.rule("R2")
def test_a_bucket_has_its_own_placements() -> None:
    found = partner_of(ALL, BUCKET)

    assert (found.now, found.placements) == (THIRD, [THIRD, SECOND, FIRST, HOME])


def test_those_in_force_are_listed_and_every_bucket_is_counted_at_its_owner() -> None:
    other = placed("bucket:7", 1, "s2", 5)

    found = placed_of([*ALL, other])

    assert found.partners == [GOES_ON]
    assert found.buckets == sorted([THIRD, other], key=lambda each: int(each.placement_key.partition(":")[2]))
    assert found.buckets_of == {"s1": BUCKETS - 1, "s2": 1}


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("acme:vn", "'acme:vn' lies below the partner acme, and a partner lives in one shard: say acme"),
        ("bucket:65536", "'bucket:65536' is no bucket: write bucket: and a number from 0 to 65535"),
        ("bucket:017", "'bucket:017' is no bucket: write bucket: and a number from 0 to 65535"),
        ("ACME", "'ACME' is neither a partner, such as acme, nor a bucket, such as bucket:17"),
    ],
)
def test_a_key_that_is_neither_partner_nor_bucket_is_answered_with_what_to_write(typed: str, sentence: str) -> None:
    status, answer = said("partner", "show", typed)

    assert status == 2
    assert sentence in answer
