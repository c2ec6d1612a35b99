"""How buckets are shared out among shards, and which of them move so that they are. Pure.

A plan follows from shares and owners alone. Whichever of its moves are done, the plan from there on is those that are
not: so whoever was killed goes on, and ends with the same assignment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from processors.faults import Misconfigured
from processors.routing.buckets import BUCKETS

# 0.25, 1 or 1/3: some digits on each side, since 65,536 buckets tell no more of them apart.
_SHARE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}|/[1-9][0-9]{0,8})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketMove:
    """One bucket's way from the shard that owns it to the one that is to own it."""

    bucket: int
    source: str
    target: str


def read_shares(text: str) -> dict[str, Fraction]:
    """Read which part of all buckets each shard is to own, as people write it.

    Args:
        text: Such as ``s1=0.5,s2=0.5`` or ``s1=1/3,s2=1/3,s3=1/3``; a share of 0 empties a shard.

    Raises:
        Misconfigured: A part of it cannot be read, a shard is named twice, or the shares do not come to 1 exactly.

    >>> {shard: str(share) for shard, share in read_shares("s1=0.75, s2=1/4").items()}
    {'s1': '3/4', 's2': '1/4'}
    """
    shares: dict[str, Fraction] = {}
    for each in text.split(","):
        shard, equals, share = (word.strip() for word in each.partition("="))
        if not shard or not equals or not _SHARE.fullmatch(share):
            raise Misconfigured(f"{each.strip()!r} is no share: write s1=0.5,s2=0.5 or s1=1/3,s2=2/3")
        if shard in shares:
            raise Misconfigured(f"{shard} is named twice")
        shares[shard] = Fraction(share)
    total = sum(shares.values())
    if total != 1:
        raise Misconfigured(f"the shares come to {float(total):.9g}, and must come to 1 exactly; 1/3 is written so")
    return shares


def buckets_of_shares(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Return how many buckets each shard gets: all 65,536 of them, none differing from its share by one or more.

    What is left after the whole buckets goes to the largest remainders; of equal ones, to the first shard by name.

    >>> buckets_of_shares(read_shares("s1=1/3,s2=1/3,s3=1/3"))
    {'s1': 21846, 's2': 21845, 's3': 21845}
    """
    found = {shard: int(share * BUCKETS) for shard, share in shares.items()}
    by_remainder = sorted(shares, key=lambda shard: (found[shard] - shares[shard] * BUCKETS, shard))
    for shard in by_remainder[: BUCKETS - sum(found.values())]:
        found[shard] += 1
    return found


def plan_moves(owners: Sequence[str], wanted: Mapping[str, int]) -> list[BucketMove]:
    """Return the fewest moves after which each shard owns as many buckets as it is to own.

    A shard that has too many gives those of the highest numbers. So it gives evenly from all of its lanes, which are
    the low bits; and what is left to give after some of the moves is the rest of the same ones. Those that get
    some take them in the order of their names, each a stretch of numbers.

    Args:
        owners: The shard of each bucket, by the bucket's number; all of them.
        wanted: How many each shard is to own; all of them together. A shard that is not named is to own none.

    Returns:
        In the order of the buckets.
    """
    assert len(owners) == sum(wanted.values()), "each bucket is to have an owner"
    owned = Counter(owners)
    surplus = {shard: count - wanted.get(shard, 0) for shard, count in owned.items()}
    leaving: list[int] = []
    for bucket in reversed(range(len(owners))):
        if surplus[owners[bucket]] > 0:
            surplus[owners[bucket]] -= 1
            leaving.append(bucket)
    leaving.reverse()
    targets = [shard for shard in sorted(wanted) for _ in range(wanted[shard] - owned[shard])]
    return [
        BucketMove(bucket=bucket, source=owners[bucket], target=target)
        for bucket, target in zip(leaving, targets, strict=True)
    ]
