"""What the processes that send some records now and then ask of a producer."""

from __future__ import annotations

from typing import Protocol

from processors.wire.records import OutRecord


class RecordProducer(Protocol):
    """An idempotent producer (``streams.producer``): records arrive at least once, those of a partition in order."""

    def send(self, record: OutRecord) -> None:
        """Queue a record."""

    def flush(self, deadline_s: float) -> None:
        """Wait until everything queued is acknowledged."""
