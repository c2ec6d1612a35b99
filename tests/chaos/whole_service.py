"""Every process of the service under its supervisor, fed through ``balance.commands``, and what must come of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from processors.ids import root_of
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import Command, CommandType, Control, ServicesCommand
from processors.ops import addresses
from processors.ops.assembly import proving
from processors.ops.local_service import log_folder
from processors.ops.supervisor import read_states
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, RESULTS_TOPIC, shard_topic
from processors.wire.commands import decode_command, encode_command
from processors.wire.results import Result, decode_result
from tests.chaos.lanes import SHARD, Shard
from tests.chaos.load import Load
from tests.servers import Place
from tests.waiting import eventually

SETTLE_S = 180.0
LOG_LINES = 200  # shown of a test that failed
STOP_S = 60.0  # above the supervisor's own deadline
OF_THE_SERVICE = {TYPE_OF[kind] for kind in get_args(ServicesCommand)} | {CommandType.CONTROL}


class WholeService(Shard):
    """A place whose commands pass a real router, and whose results are archived by a real sink."""

    def __init__(self, place: Place) -> None:
        """Make topics and schemas; nothing runs yet."""
        super().__init__(place)
        self._sent: Counter[tuple[str, bytes]] = Counter()
        self._sending = threading.Lock()
        self._read: dict[int, list[tuple[int, bytes, Result]]] = {}  # results partition -> offset, value, result

    # ------------------------------------------------------------------ what goes in

    def send(self, commands: Sequence[Command]) -> None:
        """Append commands to the ingress, as a gateway does; not acknowledged yet."""
        for command in commands:
            root = root_of(command.address)
            with self._sending:
                self._sent[root, command.command_id] += 1
            self._producer.produce(
                self.address.topic_prefix + COMMANDS_TOPIC,
                encode_command(command),
                root.encode(),
                partition_of(root, self.settings.topics.commands_partitions),
                on_delivery=self._on_delivery,
            )
        self._login.renew(self._producer)
        self._producer.poll(0)

    def load(self, seed: int) -> Load:
        """Return a writer that sends commands of every kind while its block runs."""
        return Load(self, seed)

    # ------------------------------------------------------------------ processes

    @contextmanager
    def processes(self, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run router, shard worker, expirer, sink, recaller and remover; they end in an orderly way.

        ``environment`` is what theirs has besides the place's.
        """
        folder = Path(self.settings.keys_file).parent
        with (folder / "service.log").open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "processors.ops.cli", "up"],
                env={**os.environ, **self.place.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield supervisor
            if supervisor.poll() is None:
                supervisor.send_signal(signal.SIGTERM)
            status = supervisor.wait(STOP_S)
            assert status in (0, -signal.SIGKILL), (folder / "service.log").read_text()
        except BaseException:
            print(*(folder / "service.log").read_text().splitlines()[-LOG_LINES:], sep="\n")  # noqa: T201 - pytest shows it
            raise
        finally:
            if supervisor.poll() is None:
                supervisor.kill()
                supervisor.wait()

    def restarts(self) -> dict[str, int]:
        """Return how often in a row each process was started again."""
        (states,) = log_folder(self.settings).glob("*.states")
        return {state.name: state.restarts for state in read_states(states)}

    # ------------------------------------------------------------------ what comes out

    def results(self) -> dict[int, list[bytes]]:
        """Return every result that is visible; only what is new is read."""
        for partition in range(self.settings.topics.results_partitions):
            read = self._read.setdefault(partition, [])
            first, end = self.topics.bounds(RESULTS_TOPIC, partition)
            for records in read_range(self.address, RESULTS_TOPIC, partition, read[-1][0] + 1 if read else first, end):
                read += [(each.offset, each.value, decode_result(each.value)) for each in records if each.value]
        return {partition: [value for _, value, _ in read] for partition, read in self._read.items()}

    def answered(self) -> Counter[tuple[str, bytes]]:
        """Return how often each command that was sent has been answered."""
        self.results()
        return Counter(
            (result.root, result.command_id)
            for read in self._read.values()
            for _, _, result in read
            if result.type not in OF_THE_SERVICE
        )

    def await_answers(self, deadline_s: float = SETTLE_S) -> None:
        """Wait until each command that was sent is answered, as often as it was sent."""
        self.flush()

        def unanswered() -> Counter[tuple[str, bytes]]:
            return self._sent - self.answered()

        eventually(
            lambda: not unanswered(), "every command is answered", deadline_s, lambda: self._whereabouts(unanswered())
        )
        # A producer may write a command twice when its broker is killed: each record of the ingress has its answer.
        written = self._written()
        assert not self._sent - written
        eventually(lambda: not written - self.answered(), "every record is answered", deadline_s)
        assert not self.answered() - written

    def _whereabouts(self, missing: Counter[tuple[str, bytes]]) -> str:
        """Return how far commands without an answer have come."""
        written, codes = self._written(), self.stop_codes()
        routed = Counter(
            (root_of(command.address), command.command_id)
            for lane in range(self.lanes)
            for record in self.records(lane)
            if record.value
            for command in [decode_command(record.value)]
            if not isinstance(command, Control | ServicesCommand)
        )
        ends = {lane: self.topics.bounds(shard_topic(SHARD), lane) for lane in range(self.lanes)}
        return (
            f"({missing.total()} without answer, {(missing - written).total()} of them not in the ingress, "
            f"{(missing - routed).total()} not in the shard's topic; stop codes {codes}; lanes' ends {ends}, "
            f"decided {[(lane, progress.at.next_offset) for lane, progress in self.positions().items()]}; "
            f"lanes of the first: {[(root, partition_of(root, self.lanes)) for root, _ in list(missing)[:5]]})"
        )

    def _written(self) -> Counter[tuple[str, bytes]]:
        """Return how often each command stands in the ingress."""
        payloads = [
            payload
            for partition in range(self.settings.topics.commands_partitions)
            for payload in self._values(COMMANDS_TOPIC, partition)
        ]
        return Counter(
            (root_of(command.address), command.command_id)
            for command in map(decode_command, payloads)
            if not isinstance(command, Control | ServicesCommand)
        )

    def await_progress(self) -> None:
        """Wait until lanes decide: processes that were started do their work."""
        before = self._decided()
        eventually(lambda: self._decided() > before, "records are decided")

    def _decided(self) -> int:
        return sum(progress.at.next_offset for progress in self.positions().values())

    def assert_exactly_once(self) -> None:
        """Prove that what is visible is what the shard's log leads to, byte for byte; ticks may still come in."""
        positions = self.positions()
        ends = {lane: progress.at.next_offset for lane, progress in positions.items()}
        expected = {
            lane: self.expected(lane, [record for record in self.records(lane) if record.offset < end])
            for lane, end in ends.items()
        }
        for lane, each in expected.items():
            assert (positions[lane].at.next_offset, positions[lane].at.digest) == (each.next_offset, each.digest)

        def of_lane(partition: int, lane: int) -> list[bytes]:
            read = self._read.get(partition, [])
            return [value for _, value, it in read if it.lane == lane and it.lane_offset < ends[lane]]

        def all_visible() -> bool:
            self.results()
            return all(
                len(of_lane(partition, lane)) >= len(values)
                for lane, each in expected.items()
                for partition, values in each.results.items()
            )

        eventually(all_visible, "what was decided is visible")
        for lane, each in expected.items():
            for partition in range(self.settings.topics.results_partitions):
                assert of_lane(partition, lane) == each.results.get(partition, []), f"lane {lane}, {partition}"
        letters = self._values(DEAD_LETTERS_TOPIC, 0)
        assert sorted(letters) == sorted(value for each in expected.values() for value in each.dead_letters)

    def await_archived(self) -> None:
        """Wait until coverage has reached the last journalled result of each lane in each results partition."""
        self.results()
        last = {
            (result.lane, partition): (result.lane_offset, result.lane_index)
            for partition, read in self._read.items()
            for _, _, result in read
            if result.journalled
        }
        session = open_archive(addresses.cassandra_address(self.settings), requests_max=8)
        try:
            reader, incarnation = ArchiveReader(session), self.topics.topic_id(shard_topic(SHARD))

            def reached() -> bool:
                covered = reader.coverage(incarnation)
                return all(
                    at in covered and (covered[at].lane_offset, covered[at].lane_index) >= place
                    for at, place in last.items()
                )

            eventually(reached, "coverage reaches the end", SETTLE_S)
        finally:
            session.close()

    def assert_clean(self) -> None:
        """Prove the books: trial balance, holds, balances, results and archive, byte for byte."""
        checks = proving.verify_shard(self.settings, SHARD, on_progress=lambda _what, _rows: None, everything=True)
        wrong = [check for check in checks if not check.passed]
        assert wrong == [], wrong
        assert self.stop_codes() == {}

    def settle(self) -> None:
        """Wait for the last answer and the last row, and prove all of it."""
        self.await_answers()
        self.assert_exactly_once()
        self.await_archived()
        self.assert_clean()
