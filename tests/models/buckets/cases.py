"""The scenarios in which buckets and their roots are checked, and the mutations that they must show."""

from __future__ import annotations

from functools import partial

from tests.models.buckets.world import BUCKET, BY_HAND, Buckets, Wish
from tests.models.catalogue import Catalogue, Mutation
from tests.models.checker import Report, check

Q, R = Wish("q"), Wish(BY_HAND)


def bucket_to(shard: int) -> Wish:
    """Return the marker of a move of the bucket; shards are numbered from 1 as people do."""
    return Wish(BUCKET, target=shard - 1)


def root_to(shard: int) -> Wish:
    """Return the marker of a move of the root that is placed by hand."""
    return Wish(BY_HAND, target=shard - 1)


def check_buckets(ingress: tuple[Wish, ...], shards: int, *without: str) -> Report:
    """Check the model with what lies in the ingress, with rules taken out."""
    return check(Buckets(ingress, shards, frozenset(without)))


def mutation(name: str, says: str, ingress: tuple[Wish, ...], shards: int = 3) -> tuple[str, Mutation]:
    """Return a mutation by its name, which is the switch that makes it."""
    return name, Mutation(says=says, check=partial(check_buckets, ingress, shards, name))


LEAVES = (R, bucket_to(2), Q, R, root_to(3), R, Q)
LEAVES_FOR_THE_OLD_SHARD = (bucket_to(2), R, root_to(1), R, Q)
THE_BUCKET_FOLLOWS = (root_to(2), R, bucket_to(2), Q, R, bucket_to(1), Q, R)
ROUND_ABOUT = (bucket_to(2), R, root_to(3), R, root_to(1), R, bucket_to(3), Q)

BACK_BEFORE_THE_RECEIPT = (bucket_to(2), bucket_to(3), R, root_to(2), R, bucket_to(1), Q)

INGRESSES = {
    "a root leaves its bucket on the way": (LEAVES, 3),
    "a root goes back to where its bucket came from": (LEAVES_FOR_THE_OLD_SHARD, 2),
    "the bucket comes to the root's shard and goes": (THE_BUCKET_FOLLOWS, 2),
    "the bucket is back before its first receipt": (BACK_BEFORE_THE_RECEIPT, 3),
    "a root comes round before its bucket's receipt": (ROUND_ABOUT, 3),
}  # fmt: skip

MUTATIONS = dict([
    mutation("M1 leaving", "the first MOVE_OUT of a root ends the root's generation 0", LEAVES),
    mutation("M6 own", "a bucket takes along all roots of its number", THE_BUCKET_FOLLOWS, 2),
    mutation("M7 whole", "an install replaces the rows of its roots, no others", BACK_BEFORE_THE_RECEIPT),
    mutation("M7 own", "the bucket's frozen rows are deleted by their number", LEAVES_FOR_THE_OLD_SHARD, 2),
])  # fmt: skip

BUCKETS = Catalogue(
    scenarios={name: partial(check_buckets, ingress, shards) for name, (ingress, shards) in INGRESSES.items()},
    mutations=MUTATIONS,
    redundant={},
)
