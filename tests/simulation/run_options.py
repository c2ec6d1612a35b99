"""The options of a run, drawn from its seed: sizes, how often something goes wrong, and which disruptions may come.

Each run gets some of the disruptions only (swarm testing): one that comes all the time hides what the others would
find.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules, why_unfit
from processors.wire.signature import trusted_keys
from tests.simulation.workload import KEYRING

HOUR_MS = 3_600_000
RELEASES = tuple(range(1, RULES_RELEASE + 1))


class Disruption(StrEnum):
    """What the nemesis does that lanes get over by themselves: faults of machines, and what operators and others do."""

    KILL = "a process is killed"
    REBALANCE = "the group moves lanes"
    ELECTION = "a partition has a new leader"
    RESTORE = "the database is restored from before"
    LOSE_GROUP_OFFSET = "the lanes' group offset is lost"
    MOVE_GROUP_OFFSET = "the lanes' group offset is set by hand"
    REWIND_ROUTER = "the ingress is routed again from earlier"
    SET_RULES = "an operator changes the rules"
    BROKER_CLOCK = "a broker's clock is ahead for a while"
    TIME_PASSES = "minutes or hours pass"
    FOREIGN_WRITER = "somebody writes to the shard's topic"
    RETENTION = "the shard's topic lets go of what is old"


class LogDamage(StrEnum):
    """What the nemesis does to a log that a lane must not get over: it stops, and says why."""

    GAP = "a record is missing in the shard's topic"
    TRIMMED = "the log lets go of what was not decided"
    REWRITTEN = "the log lost what was decided, and goes on"
    RECREATED = "the shard's topic is made again and refilled"
    PRODUCER_TIME = "the shard's topic no longer has the broker's time"
    INGRESS_WENT_BACK = "the ingress lost what was forwarded, and goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """One run. ``crashes_every`` and ``failures_every`` are means, counted in calls; 0 for never."""

    lanes: int
    ingress_partitions: int
    results_partitions: int
    roots: int
    operations: int
    steps: int
    batch_max: int
    book_accounts_max: int
    crashes_every: int
    failures_every: int
    pause_share: float  # of the crashes that are pauses instead
    disruptions: tuple[Disruption, ...]
    disruptions_every: int
    log_damage: LogDamage | None
    rules: Rules
    transfers_share: float = 0.0  # of the operations, besides those of the mix
    replays: bool = False  # whether a database may be replaced by one that was replayed from the topic
    worker_ahead_ms: int = 0  # how far the second worker's clock is wrong
    rolling_upgrades: bool = False  # whether workers of two releases take turns, and what counts changes


def result_versions_of(release: int) -> tuple[int, ...]:
    """Return the result versions that a lane of a release may have."""
    every = range(1, RESULT_VERSION + 1)
    return tuple(each for each in every if why_unfit(Rules(version=1, release=release, result_version=each)) is None)


def draw_options(rng: Random) -> RunOptions:
    """Draw the options of a run."""
    beside = Random()
    beside.setstate(rng.getstate())  # draws of its own: seeds that tests rely on keep all else
    lanes = rng.choice((1, 2, 2))
    hostile = rng.random() < 0.8
    release = beside.choice(RELEASES)
    return RunOptions(
        lanes=lanes,
        ingress_partitions=rng.choice((1, 2)),
        results_partitions=rng.choice((1, 2)),
        roots=rng.randrange(1, 5),
        operations=rng.randrange(15, 70),
        steps=rng.randrange(120, 380),
        batch_max=rng.choice((1, 4, 12, 30)),
        book_accounts_max=rng.choice((2, 100)),
        crashes_every=rng.choice((25, 60, 150)) if hostile else 0,
        failures_every=rng.choice((8, 30, 100)) if hostile else 0,
        pause_share=rng.choice((0.3, 0.7)),
        disruptions=tuple(disruption for disruption in Disruption if rng.random() < 0.4),
        disruptions_every=rng.choice((15, 40)),
        log_damage=rng.choice(list(LogDamage)) if rng.random() < 0.12 else None,
        rules=Rules(
            version=1,
            window_ms=rng.choice((1, 2, 6)) * HOUR_MS,
            refund_period_ms=rng.choice((6, 12, 180 * 24)) * HOUR_MS,
            longest_hold_ms=30 * 24 * HOUR_MS,
            release=release,
            result_version=beside.choice(result_versions_of(release)),
            keys=trusted_keys(KEYRING) if release > 1 else None,
            registry_ids="" if release > 1 else None,
        ),
        replays=beside.random() < 0.5,
        rolling_upgrades=beside.random() < 0.3,
        transfers_share=beside.choice((0.0, 0.3)),
    )
