"""Plays the sample day on the running service, and gathers what shows that every command got the answer it must get."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from devtools.sample_day import SHORT_HOLD_MS, Day, Planned
from processors.client import Client, NoAnswer
from processors.faults import Unavailable
from processors.ids import id_text
from processors.ledger.commands import Command, CommandType
from processors.routing.buckets import partition_of
from processors.stores.archive_rows import Covered
from processors.wire.results import Result

# Longest of what is waited for: the expirer's next look (5 s) and the lane's answer, on a busy machine.
EXPIRY_DEADLINE_S = 60.0
# The sink gathers for half a second, and a busy Cassandra takes some seconds a round.
ARCHIVE_DEADLINE_S = 120.0
# Holds that are left last for SHORT_HOLD_MS of lane time: after this a capture comes too late, whoever looks first.
EVENING_S = SHORT_HOLD_MS / 1_000 + 0.2
MISTAKES_SHOWN = 10
_LOOK_S = 0.1

LanePartition = tuple[bytes, int, int]  # incarnation, lane, results partition


@dataclass(slots=True)
class Daybook:
    """What the day's results said; told of each by the client's reader thread."""

    roots: frozenset[str]
    results_partitions: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # status and reason
    types: Counter[str] = field(default_factory=Counter)
    expired: set[bytes] = field(default_factory=set)
    journalled: dict[LanePartition, tuple[int, int]] = field(default_factory=dict)  # the last one's offset and index
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, result: Result) -> None:
        """Take in one result, of whoever's command."""
        if result.root not in self.roots:
            return
        with self._lock:
            self.counts[result.status, result.reason] += 1
            self.types[result.type] += 1
            if result.type is CommandType.EXPIRE_HOLD:
                self.expired.add(result.transaction_id)
            if result.journalled:
                partition = partition_of(result.root, self.results_partitions)
                self.journalled[result.incarnation, result.lane, partition] = (result.lane_offset, result.lane_index)

    def waiting(self, holds: frozenset[bytes]) -> int:
        """Return how many of some holds have not expired yet."""
        with self._lock:
            return len(holds - self.expired)

    def uncovered(self, coverage: Callable[[bytes], dict[tuple[int, int], Covered]]) -> int:
        """Return how many lanes' stretches of results are not archived up to the day's last one."""
        with self._lock:
            last = dict(self.journalled)
        covered = {incarnation: coverage(incarnation) for incarnation in {key[0] for key in last}}
        return sum(
            position > _reached(covered[incarnation], lane, partition)
            for (incarnation, lane, partition), position in last.items()
        )


def _reached(covered: dict[tuple[int, int], Covered], lane: int, partition: int) -> tuple[int, int]:
    found = covered.get((lane, partition))
    return (-1, -1) if found is None else (found.lane_offset, found.lane_index)


@dataclass(slots=True)
class DayOutcome:
    """How the day went: commands answered, the time spent on exchanging them, and what was not as planned, in words."""

    answered: int = 0
    mistakes: list[str] = field(default_factory=list)
    seconds: float = 0.0


Advance = Callable[[int], None]


def play(
    client: Client,
    day: Day,
    book: Daybook,
    advance: Advance,
    check: Callable[[], None],
    *,
    midday: Callable[[], object] = lambda: None,
) -> DayOutcome:
    """Send the day's commands, in three parts, and compare every answer with the planned one.

    Args:
        client: Its observer is ``book.observe``.
        day: The plan.
        book: Knows which holds have expired.
        advance: Told of each answer.
        check: Called while waiting; raises when there is no use in waiting on.
        midday: Called when half of the business is sent.

    Raises:
        Unavailable: The holds that were left did not expire in time.
    """
    outcome = DayOutcome()
    _exchange(client, day.opening, outcome, advance)
    check()
    _exchange(client, day.business, outcome, advance, midday)
    check()
    time.sleep(EVENING_S)
    _exchange(client, day.evening, outcome, advance)
    wait_for(lambda: book.waiting(day.left_holds), EXPIRY_DEADLINE_S, "holds that did not expire", check)
    return outcome


def wait_for(left: Callable[[], int], deadline_s: float, what: str, check: Callable[[], None]) -> None:
    """Wait until nothing is left.

    Raises:
        Unavailable: Something was, at the deadline.
    """
    ends_s = time.monotonic() + deadline_s
    while waiting := left():
        check()
        if time.monotonic() > ends_s:
            raise Unavailable(f"{waiting} {what} within {deadline_s:.0f} s")
        time.sleep(_LOOK_S)


def _exchange(
    client: Client,
    part: list[Planned],
    outcome: DayOutcome,
    advance: Advance,
    midday: Callable[[], object] = lambda: None,
) -> None:
    waits = [planned for planned in part if planned.until_final]
    final = [(planned, client.submit(planned.command, until_final=True)) for planned in waits]
    others = [planned for planned in part if not planned.until_final]
    began_s = time.monotonic()
    answers = client.exchange(_commands(others, midday))
    for planned, (_, answer) in zip(others, answers, strict=True):
        _compare(planned, answer, outcome)
        advance(1)
    outcome.seconds += time.monotonic() - began_s
    for planned, future in final:
        _compare(planned, _awaited(future.result), outcome)
        advance(1)


def _commands(part: list[Planned], midday: Callable[[], object]) -> Iterator[Command]:
    for number, planned in enumerate(part):
        if number == len(part) // 2:
            midday()
        yield planned.command


def _awaited(result: Callable[[], Result]) -> Result | NoAnswer:
    try:
        return result()
    except NoAnswer as fault:
        return fault


def _compare(planned: Planned, answer: Result | NoAnswer, outcome: DayOutcome) -> None:
    name = f"{type(planned.command).__name__} {id_text(planned.command.command_id)}"
    if isinstance(answer, NoAnswer):
        outcome.mistakes.append(f"{name}: {answer}")
        return
    outcome.answered += 1
    duplicate = answer.duplicate_of is not None
    if (answer.status, duplicate) != (planned.status, planned.duplicate) or answer.reason not in planned.reasons:
        wanted = " or ".join(planned.reasons)
        outcome.mistakes.append(
            f"{name}: {answer.status} {answer.reason}{' (duplicate)' * duplicate}, not {planned.status} {wanted}"
        )


def counted(counts: Iterable[tuple[tuple[str, str], int]]) -> list[tuple[str, str, int]]:
    """Return status, reason and count, the most frequent first."""
    rows = [(status, "" if reason == "NONE" else reason, count) for (status, reason), count in counts]
    return sorted(rows, key=lambda row: (-row[2], row))
