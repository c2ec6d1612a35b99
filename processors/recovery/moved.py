"""Proves that ``@moved`` comes to zero over all shards: what left one of them has come to another (M2, M4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from processors.recovery.checks import Check

NAME = "@moved of all shards comes to zero, but for moves under way"


def money_moved(moved: Mapping[str, Mapping[str, int]], moving: Collection[str]) -> Check:
    """Add up what the shards have on ``@moved``.

    Args:
        moved: By shard and currency, minor units.
        moving: The placement keys that are sealed or arriving somewhere: what they have may be between two shards.

    Returns:
        A currency is wrong whose sum is not zero though nothing moves; then each shard's part is told.
    """
    total = Counter[str]()
    for of_shard in moved.values():
        total.update(of_shard)
    wrong = [] if moving else [currency for currency, amount_minor in sorted(total.items()) if amount_minor]
    details = [
        f"{currency}: {total[currency]}, of which "
        + ", ".join(f"{shard} has {of_shard.get(currency, 0)}" for shard, of_shard in moved.items())
        for currency in wrong
    ]
    return Check(name=NAME, counted=len(total), wrong=len(wrong), details=tuple(details))
