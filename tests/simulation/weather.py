"""What a run is like: its sizes, how often something goes wrong, and what may happen to it. All of it from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules
from processors.wire.signature import trusted_keys
from tests.simulation.customers import KEYRING

HOUR_MS = 3_600_000


class Mishap(StrEnum):
    """What operators, other people and machines do to a run; the lanes get over all of it by themselves."""

    KILL = "a process is killed"
    SHIFT = "the group moves lanes"
    ELECTION = "a partition has a new leader"
    RESTORE = "the database is restored from before"
    LOSE_POSITION = "the lanes' group offset is lost"
    MOVE_POSITION = "the lanes' group offset is set by hand"
    REROUTE = "the ingress is routed again from earlier"
    SET_RULES = "an operator changes the rules"
    BROKER_CLOCK = "a broker's clock is ahead for a while"
    TIME_PASSES = "minutes or hours pass"
    STRANGER = "somebody writes to the shard's topic"
    RETENTION = "the shard's topic lets go of what is old"


class Disaster(StrEnum):
    """What a lane must not get over: it stops, and says why."""

    GAP = "a record is missing in the shard's topic"
    TRIMMED = "the log lets go of what was not decided"
    REWRITTEN = "the log lost what was decided, and goes on"
    RECREATED = "the shard's topic is made again and refilled"
    PRODUCER_TIME = "the shard's topic no longer has the broker's time"
    INGRESS_WENT_BACK = "the ingress lost what was forwarded, and goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """One run. ``cuts_every`` and ``failures_every`` are means, counted in calls; 0 for never."""

    lanes: int
    ingress_partitions: int
    results_partitions: int
    roots: int
    letters: int
    steps: int
    batch_max: int
    book_accounts_max: int
    cuts_every: int
    failures_every: int
    pause_share: float  # of the cuts that are pauses instead
    mishaps: tuple[Mishap, ...]
    mishaps_every: int
    disaster: Disaster | None
    rules: Rules
    replays: bool = False  # whether a database may be replaced by one that was replayed from the topic
    worker_ahead_ms: int = 0  # how far the second worker's clock is wrong
    rolls: bool = False  # whether workers of two releases take turns, and what counts changes (``rolling``)


def weather_of(rng: Random) -> Weather:
    """Draw the weather of a run."""
    beside = Random()
    beside.setstate(rng.getstate())  # draws of its own: seeds that tests rely on keep all else
    lanes = rng.choice((1, 2, 2))
    stormy = rng.random() < 0.8
    release = beside.choice((1, RULES_RELEASE))
    return Weather(
        lanes=lanes,
        ingress_partitions=rng.choice((1, 2)),
        results_partitions=rng.choice((1, 2)),
        roots=rng.randrange(1, 5),
        letters=rng.randrange(15, 70),
        steps=rng.randrange(120, 380),
        batch_max=rng.choice((1, 4, 12, 30)),
        book_accounts_max=rng.choice((2, 100)),
        cuts_every=rng.choice((25, 60, 150)) if stormy else 0,
        failures_every=rng.choice((8, 30, 100)) if stormy else 0,
        pause_share=rng.choice((0.3, 0.7)),
        mishaps=tuple(mishap for mishap in Mishap if rng.random() < 0.4),
        mishaps_every=rng.choice((15, 40)),
        disaster=rng.choice(list(Disaster)) if rng.random() < 0.12 else None,
        rules=Rules(
            version=1,
            window_ms=rng.choice((1, 2, 6)) * HOUR_MS,
            refund_period_ms=rng.choice((6, 12, 180 * 24)) * HOUR_MS,
            longest_hold_ms=30 * 24 * HOUR_MS,
            release=release,
            result_version=beside.choice((1, RESULT_VERSION)),
            keys=trusted_keys(KEYRING) if release == RULES_RELEASE else None,
            registry_ids="" if release == RULES_RELEASE else None,
        ),
        replays=beside.random() < 0.5,
        rolls=beside.random() < 0.3,
    )
