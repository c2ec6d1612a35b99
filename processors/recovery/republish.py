"""Copies results, as they were published, to a topic of somebody's own: for a consumer who lost what he made of them.

A consumer tells a repetition by results partition, lane and place (A1). So a copy has each result in the partition of
the same number, in the same order, and nothing else is in that topic. Hence a copy that was cut off shows itself how
far it came: what is there is compared with what belongs there, and the rest is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from processors.faults import Misconfigured
from processors.wire.records import Record
from processors.wire.results import ROOT_HEADER


class PublishedLog(Protocol):
    """The results topic, read without a consumer group."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return a partition's first offset that is still there, and the one after its last."""

    def offset_at(self, partition: int, time_ms: int) -> int:
        """Return the offset of a partition's first record from a time of the brokers on; its end where none is."""

    def read(self, partition: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
        """Yield the records of a stretch in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsBorder:
    """Where results begin or end: a time of the brokers, ms since the epoch, or an offset for each partition named."""

    time_ms: int | None = None
    offsets: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsStretch:
    """Which results of a partition: from offset ``first`` up to ``end``."""

    partition: int
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsGap:
    """Results that were asked for, or may be, and have left the topic: a partition's from ``first`` up to ``end``.

    ``reaches_back_ms`` is the brokers' time of the first result that is left, ms since the epoch; None where none is.
    """

    partition: int
    first: int
    end: int
    reaches_back_ms: int | None


@dataclass(slots=True, kw_only=True)
class ResultsAsked:
    """What was asked for: the stretches that are there, and what has left the topic."""

    stretches: list[ResultsStretch]
    gaps: list[ResultsGap]


def stretches_between(
    log: PublishedLog, partitions: Sequence[int], *, since: ResultsBorder, until: ResultsBorder | None
) -> ResultsAsked:
    """Return which results lie between two borders; what comes later than this call is not among them.

    Args:
        log: The results topic.
        partitions: Which of its partitions. Where ``since`` names offsets, only those that it names.
        since: From this border on.
        until: Up to, and without, this one; None, and of partitions that it does not name: up to now.
    """
    asked = ResultsAsked(stretches=[], gaps=[])
    for partition in partitions:
        if since.offsets is not None and partition not in since.offsets:
            continue
        first, end = log.bounds(partition)
        stop = _stop(log, partition, end, until)
        start = _start(log, partition, since)
        gap = _gap(log, partition, (first, end), since)
        if gap is not None and stop > gap.first:
            asked.gaps.append(gap)
        start = min(max(first, start), max(first, stop))
        asked.stretches.append(ResultsStretch(partition=partition, first=start, end=max(start, stop)))
    return asked


def _start(log: PublishedLog, partition: int, since: ResultsBorder) -> int:
    if since.offsets is not None:
        return since.offsets[partition]
    return log.offset_at(partition, since.time_ms or 0)


def _stop(log: PublishedLog, partition: int, end: int, until: ResultsBorder | None) -> int:
    if until is None:
        return end
    if until.offsets is not None:
        return min(end, until.offsets.get(partition, end))
    return min(end, log.offset_at(partition, until.time_ms or 0))


def _gap(log: PublishedLog, partition: int, bounds: tuple[int, int], since: ResultsBorder) -> ResultsGap | None:
    """Return what has left a partition though it is asked for, or may be: of a record that is gone no time is known."""
    first, end = bounds
    if not first:
        return None
    if since.offsets is not None and since.offsets[partition] >= first:
        return None
    there = next((records[0] for records in log.read(partition, first, end)), None)
    reaches_back_ms = None if there is None else there.timestamp_ms
    if since.time_ms is not None and reaches_back_ms is not None and reaches_back_ms <= since.time_ms:
        return None
    begins = 0 if since.offsets is None else since.offsets[partition]
    return ResultsGap(partition=partition, first=begins, end=first, reaches_back_ms=reaches_back_ms)


@dataclass(slots=True, kw_only=True)
class Copied:
    """How many results of a stretch were in the copy already, and how many were sent."""

    there: int = 0
    sent: int = 0


def copy_results(
    log: PublishedLog,
    stretch: ResultsStretch,
    *,
    partner: str | None,
    there: Iterable[list[Record]],
    send: Callable[[Record], None],
    on_progress: Callable[[int], None],
) -> Copied:
    """Send what a copy lacks of the results of a stretch, in order.

    Args:
        log: The results topic.
        stretch: Which.
        partner: Only this partner's, a root; None: everybody's, and those of no partner.
        there: What the copy's partition has, from its first record on.
        send: Takes each; may keep it until it is acknowledged.
        on_progress: Told up to which offset it has come, after each read.

    Raises:
        Misconfigured: The copy's partition has something else than these results; nothing was sent behind it.
    """
    done, copies = Copied(), chain.from_iterable(there)
    for records in log.read(stretch.partition, stretch.first, stretch.end):
        for record in records:
            if partner is not None and dict(record.headers).get(ROOT_HEADER) != partner.encode():
                continue
            copy = next(copies, None) if not done.sent else None
            if copy is None:
                send(record)
                done.sent += 1
            elif _content(copy) == _content(record):
                done.there += 1
            else:
                raise _other(copy, f"another record than offset {record.offset} of the results")
        on_progress(records[-1].offset + 1)
    extra = None if done.sent else next(copies, None)
    if extra is not None:
        raise _other(extra, "more than the results that were asked for")
    on_progress(stretch.end)
    return done


def _content(record: Record) -> tuple[object, ...]:
    return record.key, record.value, list(record.headers)


def _other(copy: Record, what: str) -> Misconfigured:
    return Misconfigured(
        f"{copy.topic} {copy.partition} has at offset {copy.offset} {what}: a copy is gone on with only by the same "
        "--from, --partner and --to, or a later one, and has its topic to itself; else make a new topic"
    )
