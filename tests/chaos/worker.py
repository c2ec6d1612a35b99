"""A shard worker that can be told where to end itself: ``python -m tests.chaos.worker before:commit_transaction``.

The places are the steps of its transactional producer. Those of its MySQL transactions are met from outside, by
``tests.chaos.tripwire``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from confluent_kafka import KafkaError, Message

from processors.ops.assembly import shard
from processors.ops.running import Persistence
from processors.settings import load_settings
from processors.streams.publisher import TransactionalPublisher
from processors.telemetry import configure_logging
from processors.wire.records import OutRecord

HALFWAY = 5  # records into a transaction


class PluggedPublisher(TransactionalPublisher):
    """A producer whose process loses its power before or after one of its steps."""

    plug = ""
    _produced = 0

    def _step(self, name: str, call: Callable[[float], object], deadline_s: float) -> None:
        self._meet(f"before:{name}")
        super()._step(name, call, deadline_s)
        self._meet(f"after:{name}")

    def _produce_one(
        self, record: OutRecord, deadline_s: float, on_delivery: Callable[[KafkaError | None, Message], None] | None
    ) -> None:
        super()._produce_one(record, deadline_s, on_delivery)
        self._produced += 1
        if self._produced == HALFWAY:
            self._meet("within:produce")

    def _meet(self, place: str) -> None:
        if place == self.plug:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run the worker."""
    configure_logging("chaos", level="info", form="console")
    PluggedPublisher.plug = sys.argv[1] if len(sys.argv) > 1 else ""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    settings = load_settings().changed(process="shard-s1")
    return Persistence("shard", stopping).run(
        lambda stopping: shard.run(settings, "s1", stopping, publisher=PluggedPublisher)
    )


if __name__ == "__main__":
    sys.exit(main())
