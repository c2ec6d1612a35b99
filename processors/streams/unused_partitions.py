"""Notices topics that have more partitions than the service uses: somebody raised a count, which nothing takes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processors.faults import Fault
from processors.metrics import TOPIC_PARTITIONS_UNUSED
from processors.streams.topics import COMMANDS_TOPIC
from processors.telemetry import get_logger
from processors.troubles import TROUBLES

log = get_logger(__name__)

# A count that was raised is told within a minute: this, the brokers' answer, and a client's own look at topics (30 s).
LOOK_EVERY_S = 20.0


def _cure(topic: str, known: int) -> str:
    """Return what the service does about it, and what is to be done."""
    page = "docs/operations.md, Partition counts"
    if topic != COMMANDS_TOPIC:
        return f"the service goes on with the {known} it knows, the others stay empty; {page}"
    return (
        f"the service goes on with the {known} it knows, and what is written to the others becomes a dead letter: have "
        f"every producer choose among the first {known}, then send those commands again under their ids; {page}"
    )


class PartitionWatch:
    """Looks now and then how many partitions topics have, and says once of each count that is above the known one.

    The service goes on with those that it knows: a key's partition is its order guarantee (W3). For one thread.
    """

    def __init__(
        self,
        known: Mapping[str, int],
        read: Callable[[], Mapping[str, int]],
        clock_s: Callable[[], float],
        *,
        process: str,
    ) -> None:
        """Begin without a look.

        Args:
            known: How many partitions of each topic the service uses.
            read: Asks the brokers how many each of them has.
            clock_s: Seconds that never go back.
            process: Which kind of process this is, for metrics.
        """
        self._known = known
        self._read = read
        self._clock_s = clock_s
        self._process = process
        self._found = dict(known)
        self._looked_s: float | None = None

    def found(self, topic: str) -> int:
        """Return how many partitions a topic had at the last look; those known before the first."""
        return self._found[topic]

    def look_if_due(self) -> None:
        """Look, unless that was done within ``LOOK_EVERY_S``."""
        if self._looked_s is None or self._clock_s() - self._looked_s >= LOOK_EVERY_S:
            self.look()

    def look(self) -> None:
        """Ask the brokers, and tell of each topic that has more partitions than before, and than the service uses."""
        self._looked_s = self._clock_s()
        try:
            found = self._read()
        except Fault as fault:  # the brokers are away: whoever needs them says so, and the next look asks again
            TROUBLES.met(self._process, fault, subject="partition counts")
            return
        TROUBLES.over(self._process, subject="partition counts")
        for topic, partitions in found.items():
            if partitions != self._found[topic] and partitions > self._known[topic]:
                log.warning(
                    "topic_has_more_partitions",
                    topic=topic,
                    partitions=partitions,
                    known=self._known[topic],
                    detail=_cure(topic, self._known[topic]),
                )
            TOPIC_PARTITIONS_UNUSED.labels(topic).set(max(0, partitions - self._known[topic]))
            self._found[topic] = partitions
