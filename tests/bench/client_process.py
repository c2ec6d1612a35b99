"""``python -m tests.bench.client_process MODE SERVERS PREFIX``: a program beside others, whose CPU a run looks at.

``client`` sends payments at a steady rate and waits for their results. ``fetch`` only has the same results fetched and
drops them: what no client can do without.
"""

from __future__ import annotations

import sys
import threading
import time

from processors.client import Client, ClientConfig
from processors.streams.connection import KafkaAddress
from tests.bench import load

PARTNERS = 1_000
RATE = 100
LONGEST_S = 120


def main() -> None:
    """Run until standard input ends; the first line of output says that it has begun."""
    mode, servers, prefix = sys.argv[1:]
    address = KafkaAddress(bootstrap_servers=servers, topic_prefix=prefix)
    stopping = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        stopping.set()

    threading.Thread(target=await_end, daemon=True).start()
    if mode == "client":
        _send(address, stopping)
    else:
        results = load.Results(address, "balance.results", load.partitions(address, "balance.results"))
        say("begun")
        results.drop(stopping)


def say(line: str) -> None:
    """Tell the run."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _send(address: KafkaAddress, stopping: threading.Event) -> None:
    # Made before: what is measured is the client, not the program around it.
    commands = list(load.payments(load.roots(PARTNERS, lane=0, lanes=1), RATE * LONGEST_S))
    answered = [0]

    def count(_: object) -> None:
        answered[0] += 1

    with Client(ClientConfig(kafka=address)) as client:
        began_s, sent = time.monotonic(), 0
        say("begun")
        while not stopping.is_set():
            client.submit(commands[sent]).add_done_callback(count)
            sent += 1
            time.sleep(max(0.0, began_s + sent / RATE - time.monotonic()))
        time.sleep(1.0)
    say(f"{sent} {answered[0]}")


if __name__ == "__main__":
    main()
