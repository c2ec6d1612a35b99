"""What a member of a group shows of its brokers: how many records it is behind, and whether they answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from processors.metrics import LAG_RECORDS, SERVER_UP
from processors.streams.connection import hear

LOOK_S = 1.0
# Asked only while the brokers are known to be away: the poll thread has nothing else to do then.
PROBE_S = 0.5
_KAFKA = "kafka"


class Watched:
    """One consumer's. For its poll thread; ``hear`` is called from within its polls."""

    def __init__(self, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at once.

        Args:
            topic: The whole name.
            clock: Seconds that never go back.
        """
        self._topic = topic
        self._clock = clock
        self._looks_s = 0.0
        self._away = False

    def hear(self, error: KafkaError) -> None:
        """Hear a client's word by the way, as every client of ours does; where all brokers are away, note it."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._away = True
            SERVER_UP.labels(_KAFKA).set(0)
        hear(error)

    def look(self, consumer: Consumer, positions: Mapping[int, int], ends: Collection[int] = ()) -> None:
        """Show how far behind a consumer is, once in ``LOOK_S``; call it with each poll.

        Args:
            consumer: Knows the ends as of its last fetches: that of a partition that is paused stays as it was.
            positions: By partition the offset after the last record that was taken.
            ends: Partitions whose end was met: marks that end transactions lie behind the last record there.
        """
        now_s = self._clock()
        if now_s - self._looks_s < LOOK_S:
            return
        self._looks_s = now_s
        if not self._away or self._answers(consumer):
            self._away = False
            SERVER_UP.labels(_KAFKA).set(1)
        for partition, position in positions.items():
            behind = 0 if partition in ends else self._end(consumer, partition) - position
            LAG_RECORDS.labels(self._topic, str(partition)).set(max(0, behind))

    def forget(self, partitions: Collection[int]) -> None:
        """Show nothing of partitions that were given away: their next owner does."""
        for partition in partitions:
            with contextlib.suppress(KeyError):  # no record came of it; some releases of the library say so
                LAG_RECORDS.remove(self._topic, str(partition))

    def _end(self, consumer: Consumer, partition: int) -> int:
        """Return the offset behind a partition's last record, as of the last fetch; below 0 before the first."""
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)[1])
        except KafkaException:  # a partition that the client does not fetch any more: its end is not known here
            return -1

    def _answers(self, consumer: Consumer) -> bool:
        try:
            consumer.list_topics(self._topic, timeout=PROBE_S)
        except KafkaException:  # away still: whoever reads is told the fault by the read itself
            return False
        return True
