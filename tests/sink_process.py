"""A sink as a process of its own, so that a test can kill it; its one argument is JSON."""

from __future__ import annotations

import json
import signal
import sys
import threading

from processors.ops.assembly.sink import run_sink
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.topics import SINK_GROUP
from tests.archived import archive_address
from tests.servers import from_settings


def main() -> int:
    wanted = json.loads(sys.argv[1])
    servers = from_settings()
    assert servers is not None
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    return run_sink(
        KafkaAddress(bootstrap_servers=wanted["kafka"], topic_prefix=wanted["topic_prefix"]),
        archive_address(servers, wanted["keyspace"], hosts=(wanted["host"],), port=wanted["port"]),
        group=GroupOptions(group=SINK_GROUP, instance=wanted["instance"]),
        archived_partitions=1,
        batch_rows_max=wanted["batch_rows_max"],
        batch_wait_ms=20,
        requests_max=4,
        stopping=stopping,
    )


if __name__ == "__main__":
    sys.exit(main())
