"""A service of two shards on two MySQL servers, whose partners move while they are paid; and what must come of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from processors.ids import root_of
from processors.lane.placements import chain_rows
from processors.ledger.commands import Command
from processors.ledger.rules import Rules
from processors.ledger.tables import ACCOUNTS
from processors.ops import addresses, keys
from processors.ops.exits import EXIT_FAULT
from processors.ops.probing import await_vouched
from processors.ops.ruling import rules_by_lane
from processors.ops.setting_up import initialize
from processors.ops.stages import MoveSeen, Stage
from processors.routing.buckets import bucket_named, partition_of
from processors.routing.directory import Placement
from processors.stores import placement_sql
from processors.stores.frozen_rows import FrozenRowsReader
from processors.stores.mysql import Row, Session
from processors.stores.rows import PlacementRow, PlacementState
from processors.stores.shard_reader import ShardReader, open_reader
from processors.streams.directory import read_directory
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, RESULTS_TOPIC, TopicAdmin
from processors.wire.causes import Cause
from processors.wire.commands import encode_command
from processors.wire.dead_letters import DeadLetter, decode_dead_letter
from processors.wire.records import Headers, Record
from processors.wire.results import Result, decode_result
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign
from tests.chaos.straight_run import StraightRun
from tests.markers import marker_of
from tests.servers import Place
from tests.waiting import eventually

SHARDS = ("s1", "s2")
KINDS = ("router", "shard-s1", "shard-s2", "expirer-s1", "expirer-s2", "remover-s1", "remover-s2")
SETTLE_S = 180.0
MOVED_S = 60.0  # far above a move's pause, and above a taken over lane's (6 s, P4) or a restarted server's
STOP_S = 120.0  # expirer and remover have 30 s of their own
SUPERVISE_S = 0.5
FLUSH_S = 60.0
EXPIRED_S = 120.0  # every hold of the load is over, and its end visible
_FAR = 1 << 62
_ACCOUNTS_MAX = 10_000  # of a partner
_WITHOUT_IDS_MS = (1 << 48) - 1  # of an id's time, the last: no id is later, and no hold that is over


class Process:
    """One process of the service, which can be killed and started again."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        kind, _, shard = name.partition("-")
        self._words = [kind, "run", *(["--shard", shard] if shard else [])]
        self._environment = {**os.environ, **place.environment, "BALANCE_HEALTH__PORT": "0"}
        self._log = Path(place.settings.keys_file).parent / f"{name}.log"
        self._running: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start it; a process that runs is left alone."""
        with self._starting:
            if self._running is None or self._running.poll() is not None:
                self._start()

    def start_again(self) -> None:
        """Start it again where it ended by itself for a fault that it cannot mend."""
        with self._starting:
            if self._running is not None and self._running.poll() == EXIT_FAULT:
                self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "processors.ops.cli", *self._words],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, and the end in time."""
        assert self._running is not None
        assert self._running.poll() is None, f"{self.name} ended by itself:\n{self.log_end}"
        self._running.terminate()
        status = self._running.wait(STOP_S)
        assert status == 0, f"{self.name} ended with {status}:\n{self.log_end}"

    @property
    def log_end(self) -> str:
        """Return the end of what it wrote; nothing if it never ran."""
        return "\n".join(self._log_lines()[-30:])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return what it wrote of an event, in order."""
        lines = [json.loads(line) for line in self._log_lines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def _log_lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@contextmanager
def _supervised(processes: Sequence[Process]) -> Iterator[None]:
    """Start processes again as a supervisor does: a broker that stood still for some seconds has fenced them."""
    ending = threading.Event()

    def supervise() -> None:
        while not ending.wait(SUPERVISE_S):
            for process in processes:
                process.start_again()

    thread = threading.Thread(target=supervise, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


class TwoShardService:
    """The service's own names on the servers, what is sent to it, and what it answered."""

    def __init__(self, place: Place) -> None:
        """Make topics and schemas; nothing runs yet."""
        self.place, self.settings = place, place.settings
        initialize(self.settings, lambda _said: None)
        self.address = addresses.kafka_address(self.settings)
        self.topics = TopicAdmin(self.address)
        self.of = {name: Process(name, place) for name in KINDS}
        self._producer = Producer(self.address.options() | {"enable.idempotence": True, "acks": "all", "linger.ms": 2})
        self._sending = threading.Lock()
        self._undelivered: list[str] = []
        self._read: dict[int, list[tuple[int, Result]]] = {}  # results partition -> offset, result
        self.readers = {shard: open_reader(addresses.mysql_address(self.settings, shard)) for shard in SHARDS}

    def close(self) -> None:
        """Give connections back."""
        for reader in self.readers.values():
            reader.close()

    # ------------------------------------------------------------------ what goes in

    def send(self, commands: Sequence[Command]) -> None:
        """Append commands to the ingress, as a gateway does; not acknowledged yet."""
        for command in commands:
            root = root_of(command.address)
            self._append(root, encode_command(command), [])

    def send_signed(self, command: Command) -> None:
        """Append a command with the signature of this installation's key; not acknowledged yet."""
        root, payload = root_of(command.address), encode_command(command)
        signature = sign(keys.keyring(self.settings), root.encode(), payload)
        self._append(root, payload, [(SIGNATURE_HEADER, signature)])

    def _append(self, key: str, payload: bytes, headers: Headers) -> None:
        topic = self.address.topic_prefix + COMMANDS_TOPIC
        partition = partition_of(key, self.settings.topics.commands_partitions)
        with self._sending:
            self._producer.produce(
                topic, payload, key.encode(), partition, headers=list(headers), on_delivery=self._on_delivery
            )
            self._producer.poll(0)

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._undelivered.append(str(error))

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        assert self._producer.flush(FLUSH_S) == 0
        assert self._undelivered == []

    # ------------------------------------------------------------------ moves

    def owner(self, key: str) -> Placement:
        """Return who owns a placement key, as the directory has it by now."""
        partition = partition_of(key, self.settings.topics.commands_partitions)
        return read_directory(self.address).directory.place(key, ingress_partition=partition, ingress_offset=_FAR)

    def send_marker(self, key: str) -> Placement:
        """Send the marker that moves a placement key to the other shard; return what it makes of it."""
        owner = self.owner(key)
        target = next(shard for shard in SHARDS if shard != owner.shard)
        begins = owner.generation + 1 if owner.placement_key == key else 1
        await_vouched(self.settings, SHARDS)
        self.send_as_marker(key, begins, owner.shard, target, keys.keyring(self.settings))
        return Placement(placement_key=key, generation=begins, shard=target)

    def send_as_marker(self, key: str, generation: int, source: str, target: str, keyring: KeyRing) -> None:
        """Send a marker as it is described, whether or not it counts."""
        record = marker_of(
            key,
            generation,
            source,
            target,
            keyring=keyring,
            topic=COMMANDS_TOPIC,
            partitions=self.settings.topics.commands_partitions,
        )
        self._append(key, record.value, record.headers)

    def move(self, key: str) -> None:
        """Move a placement key to the other shard, and wait until it is there and nothing waits."""
        self.await_moved(self.send_marker(key))

    def await_moved(self, placed: Placement, deadline_s: float = MOVED_S) -> None:
        """Wait until a placement is that which the shards have, with nothing parked."""

        def is_there() -> bool:
            row = self.rows_of_key(placed.shard).get(placed.placement_key)
            wanted = (PlacementState.OWNED, placed.generation, 0)
            return row is not None and (row.state, row.generation, row.parked) == wanted

        eventually(is_there, f"{placed} is there", deadline_s, lambda: self.told_of_key(placed.placement_key))

    def rows_of_key(self, shard: str) -> dict[str, PlacementRow]:
        """Return a shard's placement rows, by key."""
        session = Session(addresses.mysql_address(self.settings, shard), lane=False)
        try:
            rows = [placement_sql.select_placements(session, lane) for lane in range(self.settings.lanes_of(shard))]
        finally:
            session.close()
        return {key: row for of_lane in rows for key, row in of_lane.items()}

    def told_of_key(self, key: str) -> str:
        """Say what both shards know of a placement key, and what their processes said last."""
        said = [f"{shard}: {self.rows_of_key(shard).get(key)}; stops {self.stops(shard)}" for shard in SHARDS]
        return "\n".join([*said, *(f"{name}:\n{process.log_end}" for name, process in self.of.items())])

    def seen(self, placed: Placement) -> MoveSeen:
        """Return how far a move is that was sent."""
        source = next(shard for shard in SHARDS if shard != placed.shard)
        owner = self.owner(placed.placement_key)
        return MoveSeen(
            generation=placed.generation,
            is_placed=owner.placement_key == placed.placement_key and owner.generation >= placed.generation,
            target=self.rows_of_key(placed.shard).get(placed.placement_key),
            source=self.rows_of_key(source).get(placed.placement_key),
        )

    def await_stage(self, placed: Placement, stage: Stage) -> MoveSeen:
        """Wait until a move is in a stage."""
        eventually(
            lambda: self.seen(placed).stage is stage,
            f"{placed} is {stage}",
            MOVED_S,
            lambda: f"{self.seen(placed)} {self.told_of_key(placed.placement_key)}",
        )
        return self.seen(placed)

    def stops(self, shard: str) -> list[str]:
        """Return why lanes of a shard are stopped."""
        found = self.readers[shard].lane_positions().values()
        return [f"{each.stop_code}: {each.stop_detail}" for each in found if each.stop_code is not None]

    # ------------------------------------------------------------------ processes

    @contextmanager
    def processes(self, *names: str) -> Iterator[None]:
        """Run the named processes, or all; they end in an orderly way, unless the block failed."""
        running = [self.of[name] for name in names or KINDS]
        with ExitStack() as ending:
            for process in running:
                ending.callback(process.kill)
                process.start()
            with _supervised(running):
                yield
            for process in running:
                process.stop()

    # ------------------------------------------------------------------ what comes out

    def ingress(self) -> dict[str, list[Record]]:
        """Return every record of the ingress by its key, in order."""
        found: dict[str, list[Record]] = {}
        for partition in range(self.settings.topics.commands_partitions):
            for record in self.records(COMMANDS_TOPIC, partition):
                found.setdefault((record.key or b"").decode(), []).append(record)
        return found

    def results(self) -> dict[str, list[Result]]:
        """Return every visible result that concerns a partner, by root, in order; only what is new is read."""
        found: dict[str, list[Result]] = {}
        for partition in range(self.settings.topics.results_partitions):
            read = self._read.setdefault(partition, [])
            first, end = self.topics.bounds(RESULTS_TOPIC, partition)
            for records in read_range(self.address, RESULTS_TOPIC, partition, read[-1][0] + 1 if read else first, end):
                read += [(record.offset, decode_result(record.value)) for record in records if record.value]
            for _, result in read:
                if result.root:
                    found.setdefault(result.root, []).append(result)
        return found

    def records(self, topic: str, partition: int) -> list[Record]:
        """Return every record of a topic's partition that has a value, in order."""
        first, end = self.topics.bounds(topic, partition)
        found = read_range(self.address, topic, partition, first, end)
        return [record for records in found for record in records if record.value is not None]

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters of all partitions, those of a partition in order."""
        partitions = range(self.settings.topics.dead_letters_partitions)
        records = (record for partition in partitions for record in self.records(DEAD_LETTERS_TOPIC, partition))
        return [decode_dead_letter(record.value or b"") for record in records]

    def await_answers(self) -> None:
        """Wait until each record of the ingress is answered, or is a dead letter."""
        self.flush()
        sent = sum(map(len, self.ingress().values()))

        def unanswered() -> int:
            results = [result for of_root in self.results().values() for result in of_root]
            refused = {(letter.ingress_partition, letter.ingress_offset) for letter in self.dead_letters()}
            return sent - len(refused) - sum(result.ingress_offset >= 0 for result in results)

        eventually(lambda: unanswered() <= 0, "every command is answered", SETTLE_S, lambda: self._told(unanswered()))

    def _told(self, unanswered: int) -> str:
        return f"({unanswered} are not; {len(self.dead_letters())} dead letters; {self.told_of_key('acme')})"

    # ------------------------------------------------------------------ what must hold

    def assert_as_if_nothing_had_moved(self, *refused: tuple[bytes, Cause]) -> None:
        """Prove that each partner's answers, rows and digest are those of a straight run of his log on one shard.

        Holds may still expire meanwhile: then rows and results are read once more.

        Args:
            refused: Keys and causes of all dead letters that there are; the straight run is without these records.
        """
        letters = self.dead_letters()
        assert [(letter.key, letter.cause) for letter in letters] == [*refused]
        dead = {(letter.ingress_partition, letter.ingress_offset) for letter in letters}
        rules = self._rules()
        ingress = {root: records for root, records in self.ingress().items() if bucket_named(root) is None}
        runs = {
            root: StraightRun(root, rules, [each for each in records if (each.partition, each.offset) not in dead])
            for root, records in ingress.items()
        }
        found: dict[str, tuple[object, object]] = {}

        def is_straight() -> bool:
            results = {root: of_root for root, of_root in self.results().items() if bucket_named(root) is None}
            assert results.keys() == ingress.keys()
            for root, straight in runs.items():
                straight.follow(results[root])
                stored = self._rows(root, straight), self._digest(root)
                found[root] = stored, (straight.rows(), straight.digest())
            return all(stored == wanted for stored, wanted in found.values())

        eventually(is_straight, "rows are those of a straight run", EXPIRED_S, lambda: found)

    def _rules(self) -> Rules:
        (rules,) = {
            replace(each, version=1) for shard in SHARDS for each in rules_by_lane(self.settings, shard).values()
        }
        return rules

    def _rows(self, root: str, straight: StraightRun) -> dict[str, dict[Any, Any]]:
        """Return a partner's rows as his owner shows them to people, in the form of ``StraightRun.rows``."""
        reader: ShardReader = self.readers[self.owner(root).shard]
        accounts = reader.accounts_below(root, rows_max=_ACCOUNTS_MAX)
        return {
            "account": {(row.address, row.currency): row for row in accounts},
            "hold": {key: row for key, row in reader.holds() if key[0] == root},
            "open_refund": {key: row for key, row in reader.open_refunds() if key[0] == root},
            "open_transfer": {key: row for key, row in reader.open_transfers() if key[0] == root},
            "refunded": reader.refunded(straight.refunded),
        }

    def _digest(self, root: str) -> bytes:
        """Return the digest of the rows that his owner would hand over if he moved now: all but ids (M8)."""
        shard = self.owner(root).shard
        as_if = PlacementRow(
            placement_key=root, generation=1, state=PlacementState.SEALED, sealed_ids_since_ms=_WITHOUT_IDS_MS
        )
        lane = partition_of(root, self.settings.lanes_of(shard))
        with closing(FrozenRowsReader(addresses.mysql_address(self.settings, shard), lane)) as rows:
            return chain_rows(bytes(32), (row for row in rows.read(as_if) if row is not None))

    def assert_books_balance(self) -> None:
        """Prove that each shard's own accounts, and what is arriving, come to nothing with its system accounts."""
        owner = placement_sql.owner_state(ACCOUNTS, "account")
        for shard in SHARDS:
            (total,) = self.ask(
                shard,
                f"SELECT (SELECT COALESCE(SUM(balance), 0) FROM account WHERE COALESCE({owner}, 'OWNED') "
                "NOT IN ('SEALED', 'LEFT')) + (SELECT COALESCE(SUM(balance), 0) FROM system_account)",
            )
            assert total == (0,), f"{shard}: {total}"

    def assert_nothing_is_left(self) -> None:
        """Prove that the removers delete what moves left: frozen rows, and parked records that are answered."""
        owner = placement_sql.owner_state(ACCOUNTS, "account")
        nobodys = f"SELECT COUNT(*) FROM account WHERE COALESCE({owner}, 'OWNED') NOT IN ('OWNED', 'ARRIVING')"

        def left() -> dict[str, tuple[int, int, int]]:
            return {
                shard: (self._count(shard, nobodys), self._left_keys(shard), self._parked(shard)) for shard in SHARDS
            }

        eventually(lambda: not any(map(any, left().values())), "nothing is left of moves", MOVED_S, left)

    def _left_keys(self, shard: str) -> int:
        return self._count(shard, f"SELECT COUNT(*) FROM placement WHERE state = '{PlacementState.LEFT}'")

    def _parked(self, shard: str) -> int:
        return self._count(shard, "SELECT COUNT(*) FROM parked")

    def _count(self, shard: str, sql: str) -> int:
        ((count,),) = self.ask(shard, sql)
        return int(count)

    def ask(self, shard: str, sql: str) -> list[Row]:
        """Ask a shard's database."""
        session = Session(addresses.mysql_address(self.settings, shard), lane=False)
        try:
            return session.query(sql, "a test's question")
        finally:
            session.close()

    def assert_nothing_in_between(self) -> None:
        """Prove that what moved away from one shard has come to the other: ``@moved`` is zero over both (M2, M4)."""
        total: Counter[tuple[int, str]] = Counter()
        for shard in SHARDS:
            rows = self.ask(
                shard,
                "SELECT level, currency, SUM(balance) FROM system_account WHERE name = 'MOVED' "
                "GROUP BY level, currency",
            )
            for level, currency, balance in rows:
                total[level, currency.decode()] += int(balance)
        assert {key: balance for key, balance in total.items() if balance} == {}
