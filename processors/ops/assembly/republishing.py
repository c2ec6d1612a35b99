"""Results copied to a consumer's own topic, put together from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from processors.faults import Misconfigured
from processors.lookup.times import show_time
from processors.ops import addresses, counts
from processors.recovery.republish import (
    Copied,
    ResultsAsked,
    ResultsBorder,
    ResultsGap,
    ResultsStretch,
    copy_results,
    stretches_between,
)
from processors.routing.buckets import partition_of
from processors.settings import Settings
from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.reader import read_range
from processors.streams.topics import RESULTS_TOPIC, TopicAdmin
from processors.wire.records import OutRecord, Record

_SERVICE_TOPICS = "balance."  # what every topic of the service begins with
FLUSH_S = 60.0  # for what is on its way at the end: a second's work for a broker that is well
Progressing = Callable[[ResultsStretch, int], None]  # which stretch, and up to which offset it is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Republished:
    """What was found in each partition, and whether what the copy lacked was written."""

    results: dict[ResultsStretch, Copied]
    written: bool

    @property
    def there(self) -> int:
        """Return how many results the copy had already."""
        return sum(each.there for each in self.results.values())

    @property
    def sent(self) -> int:
        """Return how many results the copy lacked."""
        return sum(each.sent for each in self.results.values())


class ResultsLog:
    """The results topic (``recovery.republish``)."""

    def __init__(self, address: KafkaAddress) -> None:
        """Ask these brokers."""
        self._address = address
        self._admin = TopicAdmin(address)

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return a partition's first offset that is still there, and the one after its last."""
        return self._admin.bounds(RESULTS_TOPIC, partition)

    def offset_at(self, partition: int, time_ms: int) -> int:
        """Return the offset of a partition's first record from a time of the brokers on; its end where none is."""
        return self._admin.offset_at(RESULTS_TOPIC, partition, time_ms)

    def read(self, partition: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
        """Yield the records of a stretch in order."""
        return read_range(self._address, RESULTS_TOPIC, partition, from_offset, to_offset)


def republish(
    settings: Settings,
    topic: str,
    *,
    since: ResultsBorder,
    until: ResultsBorder | None,
    partner: str | None,
    write: bool,
    on_progress: Progressing,
) -> Republished:
    """Copy results to a topic of somebody's own, as far as it lacks them; without ``write`` only count them.

    Args:
        settings: Of the whole service.
        topic: Where to, without prefix; exists, with as many partitions as ``balance.results``.
        since: From this time or these offsets on.
        until: Up to, and without, this time or these offsets; None: up to now.
        partner: Only this partner's, a root; None: all.
        write: Whether they are written.
        on_progress: Told how far each partition is read.

    Raises:
        Misconfigured: The topic cannot take them or has something else, or results have left ``balance.results``.
        Fault: The brokers do not answer, or refuse a record; what was written stays.
    """
    address = addresses.kafka_address(settings)
    partitions = counts.of_directory(settings, address).topics.results_partitions
    _refuse_topic(address, topic, partitions)
    refuse_partitions(partitions, since, until)
    log = ResultsLog(address)
    which = range(partitions) if partner is None else [partition_of(partner, partitions)]
    asked = stretches_between(log, which, since=since, until=until)
    if asked.gaps:
        raise Misconfigured(_told(asked))
    found: dict[ResultsStretch, Copied] = {}
    with closing(IdempotentProducer(address)) as producer:
        send = partial(_send, producer, address.topic_prefix + topic) if write else _leave
        for stretch in asked.stretches:
            found[stretch] = copy_results(
                log,
                stretch,
                partner=partner,
                there=_there(address, topic, stretch.partition),
                send=send,
                on_progress=partial(on_progress, stretch),
            )
        producer.flush(FLUSH_S)
    return Republished(results=found, written=write)


def _send(producer: IdempotentProducer, topic: str, record: Record) -> None:
    producer.send(_copy_of(record, topic))


def _leave(_record: Record) -> None:
    """Write nothing."""


def _there(address: KafkaAddress, topic: str, partition: int) -> Iterator[list[Record]]:
    """Yield what the copy has of a partition, which it must have from its first record on."""
    first, end = TopicAdmin(address).bounds(topic, partition)
    if first:
        raise Misconfigured(
            f"{address.topic_prefix}{topic} {partition} has lost its records before offset {first}, so that nothing "
            "says how far the copy is: make the topic anew, with a retention that lasts until it is read"
        )
    return read_range(address, topic, partition, first, end)


def _copy_of(record: Record, topic: str) -> OutRecord:
    return OutRecord(
        topic=topic,
        partition=record.partition,
        key=record.key,
        value=record.value or b"",
        headers=[(name, value or b"") for name, value in record.headers],
    )


def _refuse_topic(address: KafkaAddress, topic: str, partitions: int) -> None:
    if topic.startswith(_SERVICE_TOPICS):
        raise Misconfigured(
            f"{topic} is the service's own: name a topic of the consumer's, which is not called balance.…"
        )
    admin = TopicAdmin(address)
    if not admin.exists(topic):
        raise Misconfigured(f"there is no topic {address.topic_prefix}{topic}: make it, with {partitions} partitions")
    found = admin.partition_counts([topic])[topic]
    if found != partitions:
        raise Misconfigured(
            f"topic {address.topic_prefix}{topic} has {found} partitions, and balance.results {partitions}: a consumer "
            "tells repetitions by partition and lane, so make one that has as many"
        )


def refuse_partitions(partitions: int, *borders: ResultsBorder | None) -> None:
    """Refuse borders that name a partition which ``balance.results`` does not have.

    Raises:
        Misconfigured: They do; it has ``partitions``.
    """
    named = {partition for border in borders if border is not None for partition in border.offsets or ()}
    if named and max(named) >= partitions:
        raise Misconfigured(f"balance.results has partitions 0 to {partitions - 1}, and no {max(named)}")


def _told(asked: ResultsAsked) -> str:
    """Say what has left the topic, what is left of what was asked for, and where the rest may be had."""
    lost = "; ".join(map(gap_text, asked.gaps))
    left = ",".join(f"{each.partition}={each.first}" for each in asked.stretches)
    return (
        f"what was asked for has left balance.results, and nothing was written: {lost}. `balance statement` and "
        f"`balance tx get` show what is archived of it; what the topic still has comes with --from {left}"
    )


def gap_text(gap: ResultsGap) -> str:
    """Say which results have left the topic, and since when it has what is left."""
    since = "nothing is left" if gap.reaches_back_ms is None else f"it begins at {show_time(gap.reaches_back_ms)}"
    return f"partition {gap.partition}, offsets {gap.first} to {gap.end - 1} ({since})"
