"""What a lane sends by itself: at least once, and acknowledged before it commits past the cause (P2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from processors.ids import root_of
from processors.lane.standing import LaneContext
from processors.routing.buckets import partition_of
from processors.wire.commands import encode_command
from processors.wire.legs import Leg, leg_of
from processors.wire.records import OutRecord
from processors.wire.signature import SIGNATURE_HEADER

# Sending and publishing together stay below the longest step of a publish thread (``runner.PUBLISH_STEP_MAX_S``, 45 s),
# of which a publication may take 25.
SEND_DEADLINE_S = 15.0

Sign = Callable[[bytes, bytes], bytes]
"""From a record's key and payload to its signature (W1)."""


class OwnProducer(Protocol):
    """An idempotent producer (``streams.producer``): in order, at least once. After any fault it is unusable."""

    def send(self, record: OutRecord) -> None:
        """Queue a record."""

    def flush(self, deadline_s: float) -> None:
        """Wait until everything queued is acknowledged, or raise a fault."""

    def close(self) -> None:
        """Let go of it, without waiting for anything."""


class LaneSender:
    """Sends what a lane sends by itself; its producer is made for the first record, since most lanes send nothing."""

    def __init__(self, make_sender: Callable[[], OwnProducer]) -> None:
        """Hold what makes the producer."""
        self._make_sender = make_sender
        self._sender: OwnProducer | None = None

    def send(self, records: list[OutRecord]) -> None:
        """Send records in their order, and wait until each is acknowledged.

        Raises:
            Fault: Some may be there and some not. Another owner, or this one anew, sends them again from P on.
        """
        if not records:
            return
        sender = self.open()
        for record in records:
            sender.send(record)
        sender.flush(SEND_DEADLINE_S)

    def open(self) -> OwnProducer:
        """Have a producer. It connects by itself: opened a while before the first record, it is ready then."""
        if self._sender is None:
            self._sender = self._make_sender()
        return self._sender

    def close(self) -> None:
        """Let go of the producer."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def legs_of(result: bytes, context: LaneContext, sign: Sign) -> list[OutRecord]:
    """Return what is to be sent because of a result: the leg of a transfer, keyed by the other's root, in his log.

    Args:
        result: Its bytes; whoever answers it again sends the same (T5), but for a signature by a later key.
        context: Names `balance.commands` and the number of its partitions.
        sign: By the key that signs now.
    """
    leg = leg_of(result)
    return [] if leg is None else [record_of(leg, context.commands_topic, context.commands_partitions, sign)]


def record_of(leg: Leg, commands_topic: str, commands_partitions: int, sign: Sign) -> OutRecord:
    """Return a leg's record, signed, in the log of the partner whom it concerns."""
    root = root_of(leg.address)
    key, payload = root.encode(), encode_command(leg)
    partition = partition_of(root, commands_partitions)  # W3
    return OutRecord(commands_topic, partition, key, payload, [(SIGNATURE_HEADER, sign(key, payload))])
