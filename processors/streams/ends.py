"""Where a topic's partitions end: a client asks before it sends a command, and waits for the result behind that end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # of the driver's stubs

from processors.faults import Fault, Misconfigured, Refused, Retryable, Unavailable
from processors.streams.connection import KafkaAddress, Login, answer_of, error_of, fault_of, hear

CONNECT_DEADLINE_S = 30.0
# One request; it is asked again for as long as somebody needs the answer.
ASK_DEADLINE_S = 5.0
# Where every broker refuses connections for this long, waiting longer says nothing new. One that is started again
# refuses for some seconds, so another must take over meanwhile, or the caller tries again.
_REFUSED_S = 2.0
_LOOK_S = 0.25
_LATE_S = 3.0  # three tries to connect, at reconnect.backoff.max.ms
_RETRY_S = 0.1

Told = Callable[[int, int | Fault], None]


class TopicEnds:
    """Knows a topic's partitions, and asks for their ends. Any thread may ask."""

    def __init__(self, address: KafkaAddress, topic: str, *, deadline_s: float = CONNECT_DEADLINE_S) -> None:
        """Connect.

        Args:
            address: The brokers.
            topic: Name without prefix.
            deadline_s: How long to wait for a broker; half of it, or 2 s, where every one refuses the connection.

        Raises:
            Misconfigured: There is no such topic.
            Refused: A broker does not let this program at it.
            Unavailable: No broker answered; the text names them, and what each said last.
        """
        self._address = address
        self._topic = address.topic_prefix + topic
        self._said: dict[str, tuple[float, str]] = {}  # by broker: when it was told, and the last error
        self._all_down = False
        self._login = Login(address)
        options: dict[str, Any] = {**address.options(), "error_cb": self._note}
        self._admin = AdminClient(options)
        self.partitions = self._connect(deadline_s)
        """How many the topic has; a power of two, unless somebody raised it by hand."""

    def ask(self, partitions: Collection[int], told: Told) -> None:
        """Ask for the ends of some partitions: whatever is written from now on lies there or behind.

        Args:
            partitions: Their numbers.
            told: Called once for each, in a thread of the client's, with its number and its end, or why there is no
                answer: then ask again.
        """
        self._login.renew(self._admin)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # of the driver's stubs
        answers = self._admin.list_offsets(
            {TopicPartition(self._topic, partition): latest for partition in partitions},
            # Not the last stable offset, which lies before it while a transaction is open: what is committed of those
            # records was sent before.
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=ASK_DEADLINE_S,
        )
        for place, answer in answers.items():
            answer.add_done_callback(partial(self._tell, place.partition, told))

    def now(self) -> dict[int, int]:
        """Return the end of every partition.

        Raises:
            Fault: The brokers did not answer.
        """
        ends_s = time.monotonic() + CONNECT_DEADLINE_S
        while True:
            found: dict[int, Future[int]] = {partition: Future() for partition in range(self.partitions)}
            self.ask(found.keys(), lambda partition, end, found=found: _settle(found[partition], end))  # type: ignore[misc]
            try:
                return {
                    partition: answer_of(answer, ASK_DEADLINE_S, f"end of {self._topic}", self._admin)
                    for partition, answer in found.items()
                }
            except Retryable:
                if time.monotonic() > ends_s:
                    raise
                time.sleep(_RETRY_S)  # a new topic's leader is elected, but does not know it yet

    def trouble(self) -> str:
        """Return what brokers said of late that cannot be reached, or nothing. For one thread."""
        self._login.renew(self._admin)
        self._admin.poll(0)
        now_s = time.monotonic()
        return "; ".join(text for said_s, text in self._said.values() if now_s - said_s < _LATE_S)

    # ------------------------------------------------------------------ connecting

    def _connect(self, deadline_s: float) -> int:
        began_s = time.monotonic()
        while True:
            self._login.renew(self._admin)
            try:
                found = self._admin.list_topics(self._topic, timeout=min(_LOOK_S, deadline_s)).topics[self._topic]
            except KafkaException as exception:
                fault = fault_of(error_of(exception), f"look at {self._topic}")
            else:
                if found.error is None:
                    return len(found.partitions)
                if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                    raise Misconfigured(f"there is no topic {self._topic}: run `balance init`")
                fault = fault_of(found.error, f"look at {self._topic}")
            self._admin.poll(0)  # tells of errors
            waited_s = time.monotonic() - began_s
            says_no = self._all_down or isinstance(fault, Refused)
            if waited_s > (min(_REFUSED_S, deadline_s / 2) if says_no else deadline_s):
                raise self._unreached(fault, waited_s)

    def _unreached(self, fault: Fault, waited_s: float) -> Fault:
        said = "; ".join(text for _, text in self._said.values()) or str(fault)
        if isinstance(fault, Refused):
            return fault
        servers = self._address.bootstrap_servers
        return Unavailable(
            f"no broker of {servers} answered within {waited_s:.1f} s ({said}): does Kafka run there? (setting "
            "kafka.bootstrap_servers)"
        )

    def _note(self, error: KafkaError) -> None:
        hear(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down = True
        else:
            broker = error.str().partition("/")[0]
            self._said[broker] = (time.monotonic(), error.str())

    def _tell(self, partition: int, told: Told, answer: Future[object]) -> None:
        try:
            told(partition, answer.result().offset)  # type: ignore[attr-defined] # ListOffsetsResultInfo
        except KafkaException as exception:
            told(partition, fault_of(error_of(exception), f"end of {self._topic} {partition}"))


def _settle(answer: Future[int], end: int | Fault) -> None:
    if isinstance(end, Fault):
        answer.set_exception(end)
    else:
        answer.set_result(end)
