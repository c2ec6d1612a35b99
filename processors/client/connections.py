"""What a client has of Kafka: the ends of the results' partitions, what reads them on, and what writes commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from processors.client import reader, sender
from processors.streams.connection import KafkaAddress
from processors.streams.ends import TopicEnds
from processors.streams.producer import IdempotentProducer
from processors.streams.tail import TopicTail
from processors.streams.topics import RESULTS_TOPIC

# How long the sender's thread waits for room in the producer's queue: it has deadlines to look at.
_ROOM_S = 0.2


class ResultsEnds(sender.Ends, Protocol):
    """The results topic (``streams.ends.TopicEnds``)."""

    partitions: int

    def now(self) -> dict[int, int]:
        """Return the end of every partition."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """What a client needs; each tail and producer is a connection of its own, opened anew after a fault."""

    ends: ResultsEnds
    open_tail: Callable[[Mapping[int, int]], reader.Tail]
    open_producer: Callable[[], sender.Producer]


def connect(address: KafkaAddress, *, deadline_ms: int) -> Connections:
    """Connect to the brokers.

    Args:
        address: Where they are.
        deadline_ms: Bounds connecting, and the delivery of one record.

    Raises:
        Misconfigured: The topics are not there.
        Refused: A broker does not let this program at them.
        Unavailable: No broker answered.
    """
    return Connections(
        ends=TopicEnds(address, RESULTS_TOPIC, deadline_s=deadline_ms / 1_000),
        open_tail=partial(TopicTail, address, RESULTS_TOPIC),
        open_producer=partial(
            IdempotentProducer, address, delivery_deadline_ms=deadline_ms, linger_ms=0, room_deadline_s=_ROOM_S
        ),
    )
