"""Which buckets move so that each shard has its share: the fewest, always the same, whatever of them is done."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.faults import Misconfigured
from processors.routing.buckets import BUCKETS
from processors.routing.shares import BucketMove, buckets_of_shares, plan_moves, read_shares

SHARDS = ("s1", "s2", "s3", "s4")

parts = st.lists(st.integers(0, 9), min_size=len(SHARDS), max_size=len(SHARDS)).filter(any)


def owners_of(seed: int, count: int, shards: tuple[str, ...] = SHARDS) -> list[str]:
    rng = Random(seed)
    return [rng.choice(shards) for _ in range(count)]


def wanted_of(weights: list[int], count: int) -> dict[str, int]:
    """Return how many of so many buckets each shard is to own, as the weights say."""
    total = sum(weights)
    wanted = {shard: weight * count // total for shard, weight in zip(SHARDS, weights, strict=True)}
    wanted["s1"] += count - sum(wanted.values())
    return wanted


def after(owners: list[str], moves: list[BucketMove]) -> list[str]:
    left = list(owners)
    for move in moves:
        assert left[move.bucket] == move.source
        left[move.bucket] = move.target
    return left


@given(parts)
def test_every_bucket_is_shared_out_and_no_shard_is_a_bucket_off_its_share(weights: list[int]) -> None:
    shares = {shard: Fraction(weight, sum(weights)) for shard, weight in zip(SHARDS, weights, strict=True)}

    found = buckets_of_shares(shares)

    assert sum(found.values()) == BUCKETS
    assert all(abs(found[shard] - share * BUCKETS) < 1 for shard, share in shares.items())
    assert found == buckets_of_shares(dict(reversed(shares.items())))


@given(st.integers(0, 10**6), st.integers(0, 300), parts)
def test_a_plan_meets_the_shares_with_the_fewest_moves(seed: int, count: int, weights: list[int]) -> None:
    owners, wanted = owners_of(seed, count), wanted_of(weights, count)

    moves = plan_moves(owners, wanted)

    assert Counter(after(owners, moves)) == Counter(wanted)
    assert len(moves) == sum(max(0, owned - wanted[shard]) for shard, owned in Counter(owners).items())
    assert [move.bucket for move in moves] == sorted({move.bucket for move in moves})


@given(st.integers(0, 10**6), st.integers(0, 300), parts)
def test_whichever_moves_are_done_the_plan_from_there_on_is_the_rest(seed: int, count: int, weights: list[int]) -> None:
    owners, wanted = owners_of(seed, count), wanted_of(weights, count)
    moves = plan_moves(owners, wanted)
    rng = Random(seed)
    done = [move for move in moves if rng.random() < 0.5]

    rest = plan_moves(after(owners, done), wanted)

    assert rest == [move for move in moves if move not in done]
    assert plan_moves(after(owners, moves), wanted) == []


def test_a_shard_that_is_not_named_is_emptied_and_a_new_one_is_filled_from_every_lane() -> None:
    moves = plan_moves(["s1"] * 8, {"s2": 8})
    assert [(move.bucket, move.source, move.target) for move in moves] == [(n, "s1", "s2") for n in range(8)]

    half = plan_moves(["s1"] * BUCKETS, {"s1": BUCKETS // 2, "s2": BUCKETS // 2})
    assert set(Counter(move.bucket % 16 for move in half).values()) == {BUCKETS // 2 // 16}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s1=0.5,s2=0.4", "the shares come to 0.9, and must come to 1 exactly"),
        ("s1=0.33,s2=0.33,s3=0.33", "the shares come to 0.99"),
        ("s1=0.5,s1=0.5", "s1 is named twice"),
        ("s1=half", "'s1=half' is no share"),
        ("s1", "'s1' is no share"),
        ("s1=1e0", "is no share"),
        ("s1=-1,s2=2", "is no share"),
        ("s1=1/0", "is no share"),
        ("s1=1,", "'' is no share"),
        ("=1", "is no share"),
    ],
)
def test_shares_that_cannot_be_are_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Misconfigured, match=why.replace("(", r"\(")):
        read_shares(text)
