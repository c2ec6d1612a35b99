"""``python -m tests.bench.client_process MODE SERVERS PREFIX``: a program beside others, whose CPU a run looks at.

``client`` sends payments at a steady rate and waits for their results. ``bare`` does the same with the driver alone: it
writes bytes made before, and looks at no more of a result than its key. ``fetch`` only has the same results fetched and
drops them: what no client can do without.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from processors.client import Client, ClientConfig
from processors.streams.connection import KafkaAddress
from processors.wire.commands import encode_command
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
    elif mode == "bare":
        _send_bare(address, stopping)
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
        sent = _steadily(lambda number: client.submit(commands[number]).add_done_callback(count), stopping)
        time.sleep(1.0)
    say(f"{sent} {answered[0]}")


def _send_bare(address: KafkaAddress, stopping: threading.Event) -> None:
    commands = list(load.payments(load.roots(PARTNERS, lane=0, lanes=1), RATE * LONGEST_S))
    records = [(command.address.encode(), encode_command(command)) for command in commands]
    ingress = load.Ingress(address, "balance.commands", linger_ms=0)  # as our own client's
    results = load.Results(address, "balance.results", load.partitions(address, "balance.results"))
    waiting: dict[bytes, None] = {}  # a partner's turn comes again after ten seconds
    answered: list[int] = []
    ended = threading.Event()

    def write(number: int) -> None:
        waiting[records[number][0]] = None
        ingress.send_bytes(*records[number])

    reading = threading.Thread(target=lambda: answered.append(results.match(waiting, ended)))
    reading.start()
    sent = _steadily(write, stopping)
    time.sleep(1.0)
    ended.set()
    reading.join()
    say(f"{sent} {answered[-1]}")


def _steadily(send: Callable[[int], None], stopping: threading.Event) -> int:
    """Send one after the other, ``RATE`` a second, until told to stop; return how many."""
    began_s, sent = time.monotonic(), 0
    say("begun")
    while not stopping.is_set():
        send(sent)
        sent += 1
        time.sleep(max(0.0, began_s + sent / RATE - time.monotonic()))
    return sent


if __name__ == "__main__":
    main()
