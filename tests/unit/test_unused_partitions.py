from __future__ import annotations

from processors.faults import Unavailable
from processors.streams.unused_partitions import PartitionWatch
from processors.troubles import TROUBLES

KNOWN = {"balance.commands": 2}


def test_a_look_that_failed_is_told_until_the_next_that_does_not() -> None:
    TROUBLES.clear()
    is_away = True

    def read() -> dict[str, int]:
        if is_away:
            raise Unavailable("the brokers are away")
        return KNOWN

    watch = PartitionWatch(KNOWN, read, lambda: 0.0, process="router")

    watch.look()
    (told,) = TROUBLES.now()
    assert told.subject == "partition counts"

    is_away = False
    watch.look()
    assert TROUBLES.now() == []
