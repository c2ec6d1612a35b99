"""Router processes on real topics, an ingress with moves in it, and what a plain reading of it says they must write."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from confluent_kafka import Producer

from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_directory, write_directory_head
from processors.streams.topics import (
    COMMANDS_TOPIC,
    DEAD_LETTERS_TOPIC,
    DIRECTORY_TOPIC,
    TopicAdmin,
    service_topics,
    shard_topic,
)
from processors.wire.directory import DirectoryRecord, decode_directory
from processors.wire.records import Record
from tests.chaos.router_process import GROUP
from tests.kafka_log import KafkaLog
from tests.properties.routing_comparison import expected, expected_letters, expected_moves, moves_among, route_of, taken
from tests.properties.routing_history import HOME, KEYS, LANES, PARTITIONS, History
from tests.waiting import eventually

STOP_S = 120.0
# Of the load: 200 records a second, every third of them a marker.
PAUSE_S = 0.05
RECORDS_A_PAUSE = 10


@dataclass(slots=True)
class RouterProcess:
    """One process, and what it said."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> int:
        return self.process.wait(60.0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass(slots=True)
class Ingress:
    """The service's topics with three shards, and a history that grows in its ingress."""

    address: KafkaAddress
    seed: int
    folder: Path
    history: History = field(init=False)
    _log: KafkaLog = field(init=False)
    _producer: Producer = field(init=False)
    _growing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.history = History(Random(self.seed))
        self._log = KafkaLog(self.address)
        self._producer = Producer(self.address.options() | {"enable.idempotence": True, "linger.ms": 0})
        days = dict.fromkeys(("commands", "shard", "results", "dead_letters", "archived"), 1)
        specs = service_topics(
            commands=PARTITIONS, results=1, lanes=LANES, dead_letters=1, archived=1, days=days, min_insync_replicas=1
        )
        TopicAdmin(self.address).create(specs, replication_factor=1)
        counts = {COMMANDS_TOPIC: PARTITIONS} | {shard_topic(shard): lanes for shard, lanes in LANES.items()}
        write_directory_head(self.address, home_shard=HOME, shards=list(LANES), partitions=counts, keys=KEYS)

    def grow(self, records: int) -> None:
        """Append some records, in the order of the history."""
        with self._growing:
            for _ in range(records):
                sent = self.history.next()
                self._producer.produce(
                    self.address.topic_prefix + sent.topic,
                    sent.value,
                    sent.key,
                    sent.partition,
                    headers=list(sent.headers),
                )
            assert self._producer.flush(STOP_S) == 0

    @contextmanager
    def load(self) -> Iterator[None]:
        """Have records come all the time."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(PAUSE_S):
                self.grow(RECORDS_A_PAUSE)

        writer = threading.Thread(target=run)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()

    @contextmanager
    def router(self, instance: str = "a", *, plug: str = "", batch_records_max: int = 50) -> Iterator[RouterProcess]:
        """Run a router; it ends in an orderly way if nobody killed it, and never by itself."""
        wanted = {
            "kafka": self.address.bootstrap_servers,
            "topic_prefix": self.address.topic_prefix,
            "instance": instance,
            "plug": plug,
            "batch_records_max": batch_records_max,
        }
        log = self.folder / f"router-{instance}.log"
        with log.open("ab") as file:
            begins = file.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.router_process", json.dumps(wanted)],
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield RouterProcess(process, log)
            # It tells of its assignment; before that it perhaps does not know yet what the signal means.
            eventually(lambda: log.stat().st_size > begins or process.poll() is not None, "it has joined the group")
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(STOP_S) == 0, log.read_text()
            assert process.returncode in (0, -signal.SIGKILL), log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def await_routed(self) -> None:
        """Wait until everything that came is committed."""

        def is_routed() -> bool:
            return all(
                self._log.committed(GROUP, COMMANDS_TOPIC, partition=part).offset == length
                for part, length in self.history.lengths().items()
            )

        eventually(is_routed, "the ingress is routed")

    def compare(self) -> None:
        """Hold what lanes, directory and dead letters have against the history: nothing lost, nothing reordered."""
        came = {part: self._log.read(COMMANDS_TOPIC, partition=part) for part in range(PARTITIONS)}
        epoch = read_directory(self.address).head.ingress_epoch
        assert taken(self.lanes()) == expected(self.history, came, epoch)
        assert moves_among(self.directory()) == expected_moves(self.history)
        letters = {record.value for record in self._log.read(DEAD_LETTERS_TOPIC)}
        assert len(letters) == expected_letters(self.history)

    def lanes(self) -> dict[tuple[str, int], list[Record]]:
        return {
            (shard, lane): self._log.read(shard_topic(shard), partition=lane)
            for shard, count in LANES.items()
            for lane in range(count)
        }

    def directory(self) -> list[DirectoryRecord]:
        return [decode_directory(record.value or b"") for record in self._log.read(DIRECTORY_TOPIC)]

    def copies(self) -> int:
        """Return how many records lanes have twice."""
        sources = [
            (shard, lane, route.ingress_partition, route.ingress_offset)
            for (shard, lane), records in self.lanes().items()
            for route in map(route_of, records)
        ]
        return len(sources) - len(set(sources))


def wait_a_moment(rng: random.Random, least_s: float, most_s: float) -> None:
    """Let the routers work for a while."""
    time.sleep(rng.uniform(least_s, most_s))
