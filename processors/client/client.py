"""What a program calls: commands go out, and their results come back."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from processors.client.command_ids import CommandIds
from processors.client.connections import Connections, connect
from processors.client.desk import Desk, Key, NoAnswer, Waiting
from processors.client.reader import Reader
from processors.client.sender import LOOK_S, Sender
from processors.faults import Misconfigured
from processors.ids import root_of
from processors.ledger.addresses import refuse_malformed
from processors.ledger.command_types import ROW_OF, Origin
from processors.ledger.commands import Command, MovePartner, OperatorsControl
from processors.ledger.rules import RULES_RELEASE
from processors.routing.buckets import bucket_of, partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.topics import COMMANDS_TOPIC, shard_topic
from processors.wire.commands import body_hash, encode_command, first_release, with_metadata_as_bytes
from processors.wire.records import OutRecord
from processors.wire.results import Result
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign

# A record is decided within some 100 ms, within a few seconds while a lane changes its owner (6 s, P4).
DEADLINE_MS = 15_000
# At 1 KiB each 10 MB; more than a lane decides in half a second.
IN_FLIGHT_MAX = 10_000
_BY_KEY = -1  # the partitioner's choice: murmur2 of the key (W3)
_JOIN_S = 10.0
# How much longer than its deadline ``send`` waits for the sender to say so: two looks.
_GRACE_S = 2 * LOOK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What a client needs to know.

    ``keyring`` is needed only for what operators send (ADJUST and control records, W1). ``deadline_ms`` bounds
    connecting, and one result from its command's sending on. ``in_flight_max`` bounds commands without a result; above
    it ``submit`` waits.
    """

    kafka: KafkaAddress
    keyring: KeyRing | None = None
    deadline_ms: int = DEADLINE_MS
    in_flight_max: int = IN_FLIGHT_MAX


def deadline_of(config: ClientConfig, deadline_ms: int | None) -> float:
    """Return when a command that is sent now is given up, on the monotonic clock."""
    return time.monotonic() + (config.deadline_ms if deadline_ms is None else deadline_ms) / 1_000


class Client:
    """Sends commands and waits for their results. Any number of threads may use one; close it after use.

    It belongs to the process that made it: after ``fork`` the child makes one of its own. A fault of the brokers does
    not end it: what was sent meanwhile is given up at its deadline, and what is sent later goes on.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        observe: Callable[[Result], None] | None = None,
        connections: Connections | None = None,
    ) -> None:
        """Connect.

        Args:
            config: Where, and within which limits.
            observe: Told of every result from now on, whoever's command it answers, each once, in a thread of its own;
                it may send and wait itself. This reads and decodes all results of the service, some 25 µs each; without
                it only the partitions are read in which somebody waits, and only the awaited results decoded. What it
                raises ends its thread.
            connections: Instead of those to the config's brokers.

        Raises:
            TypeError: The config is something else; the text says what to write.
            Misconfigured: The topics are not there.
            Refused: A broker does not let this program at them.
            Unavailable: No broker answered within ``deadline_ms``, or within 2 s where every one refuses the
                connection; the text names them and what each said.
        """
        _refuse_other_config(config)
        self._config = config
        self._process_id = os.getpid()
        self._ids = CommandIds()
        self._closing = threading.Event()
        kafka = connections or connect(config.kafka, deadline_ms=config.deadline_ms)
        self._desk = Desk(kafka.ends.partitions, config.in_flight_max)
        self._reader = Reader(kafka.open_tail, self._tell, keys=self._desk.keys, places={})
        self._sender = Sender(self._desk, kafka.ends, self._reader, kafka.open_producer)
        runs = {"results": self._run_reader, "commands": self._run_sender}
        if observe is not None:
            places = kafka.ends.now()
            observer = Reader(kafka.open_tail, lambda _, result: observe(result), keys=None, places=places)
            runs["observe"] = lambda: observer.run(self._closing)
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]
        self._own = frozenset(self._threads[:2])  # those without which no result comes
        for thread in self._threads:
            thread.start()

    def new_id(self) -> bytes:
        """Return a new command id, above every earlier one of this client."""
        self._refuse_other_process()
        return self._ids.next()

    def send(self, command: Command, *, until_final: bool = False, deadline_ms: int | None = None) -> Result:
        """Send a command and wait for its result.

        Args:
            command: With its id; the same command may be sent again at any time within the window. Each field is
                exactly of its type; ``metadata`` may be a dict.
            until_final: Whether to wait on where the result is OPEN (a refund whose original is in the archive, a
                transfer to another partner). A repeated answer (``duplicate_of``) is waited on only while this client
                waits for the first one's end: else the end may have been published before; look the transaction up.
            deadline_ms: Instead of the config's.

        Returns:
            The result, REJECTED ones too: a "no" is a value.

        Raises:
            NoAnswer: There was none in time; send the same command again, which is safe.
            Misconfigured: The command must be signed and the client has no keys.
            TypeError: It is no command, but a dict, say. Nothing was sent.
            ValueError: A field is not exactly of its type (an amount of 12.50), does not fit the command's schema, or
                an address is malformed; the text says which field and what to write. Nothing was sent.
            RuntimeError: Another process made this client; or this is a callback of one of its futures, which would
                wait for itself: ``submit`` there. Nothing was sent.
        """
        self._refuse_own_thread()
        ends_s = deadline_of(self._config, deadline_ms)
        future = self.submit(command, until_final=until_final, deadline_ms=deadline_ms)
        return _awaited(future, command.command_id, ends_s)

    def submit(self, command: Command, *, until_final: bool = False, deadline_ms: int | None = None) -> Future[Result]:
        """Send a command, and return its result's future; arguments and errors as ``send``'s.

        Waits while ``in_flight_max`` commands have no result yet, at most until the deadline; in a callback of one of
        its futures it does not wait, and the future has NoAnswer then.
        """
        if isinstance(command, MovePartner):
            raise TypeError("a move's marker is sent with submit_marker: a bucket's partition is not that of its key")
        return self._submit_command(command, _BY_KEY, until_final=until_final, deadline_ms=deadline_ms)

    def send_marker(self, marker: MovePartner, *, partitions: int) -> Result:
        """Send the marker of a move, signed, and wait for its result (R3, W1).

        ``partitions`` is how many of ``balance.commands`` the service uses (W3). Errors as ``send``'s.
        """
        self._refuse_own_thread()
        ends_s = deadline_of(self._config, None)
        return _awaited(self.submit_marker(marker, partitions=partitions), marker.command_id, ends_s)

    def submit_marker(self, marker: MovePartner, *, partitions: int) -> Future[Result]:
        """Send the marker of a move, signed, and return its result's future.

        It goes into the partition in which the placement key's roots are; of a bucket no hash of its key says which.
        """
        return self._submit_command(
            marker, partition_of(marker.placement_key, partitions), until_final=False, deadline_ms=None
        )

    def _submit_command(
        self, command: Command, partition: int, *, until_final: bool, deadline_ms: int | None
    ) -> Future[Result]:
        """Send a command into a partition of ``balance.commands``; an operator's is signed."""
        self._refuse_other_process()
        is_marker = isinstance(command, MovePartner)  # lanes of earlier rules read one that says no more than they know
        payload = encode_command(command, release=first_release(command) if is_marker else RULES_RELEASE)
        refuse_malformed(command)
        # A marker lies in the log of what it moves: a partner's, or a bucket's own (R3).
        root = command.placement_key if isinstance(command, MovePartner) else root_of(command.address)
        plain = with_metadata_as_bytes(command)  # whose hash is the one that the service takes
        record = OutRecord(self._topic(COMMANDS_TOPIC), partition, root.encode(), payload, headers=[])
        if ROW_OF[type(command)].origin is Origin.OPERATOR:
            record.headers.append(self._signature(record))
        key = (root, command.command_id, body_hash(plain))
        waiting = self._waiting(record, key, command.command_id, bucket_of(root), deadline_ms)
        waiting.until_final = until_final
        return self._submit(waiting)

    def exchange(
        self, commands: Iterable[Command], *, until_final: bool = False
    ) -> Iterator[tuple[Command, Result | NoAnswer]]:
        """Send many commands, up to ``in_flight_max`` at once, and yield each with its answer, in their order.

        Where no result came in time, ``NoAnswer`` is yielded in its place and not raised: the others go on. What
        ``submit`` raises of a command ends the exchange; what was sent before that is decided all the same.
        """
        self._refuse_own_thread()
        sent: deque[tuple[Command, Future[Result]]] = deque()
        for command in commands:
            sent.append((command, self.submit(command, until_final=until_final)))
            while sent and (len(sent) >= self._config.in_flight_max or sent[0][1].done()):
                yield _answered(*sent.popleft())
        while sent:
            yield _answered(*sent.popleft())

    def send_control(self, control: OperatorsControl, *, shard: str, lane: int, release: int = RULES_RELEASE) -> Result:
        """Write an operator's record into one lane, signed, and wait for its CONTROL result (I2, I6, W1).

        ``release`` is that of the lane's rules: a record of a later one is a dead letter there. Errors as ``send``'s.
        """
        self._refuse_own_thread()
        ends_s = deadline_of(self._config, None)
        sent = self.submit_control(control, shard=shard, lane=lane, release=release)
        return _awaited(sent, control.command_id, ends_s)

    def submit_control(
        self, control: OperatorsControl, *, shard: str, lane: int, release: int = RULES_RELEASE
    ) -> Future[Result]:
        """Write an operator's record into one lane, signed, and return its result's future."""
        self._refuse_other_process()
        payload = encode_command(control, release=release)
        record = OutRecord(self._topic(shard_topic(shard)), lane, None, payload, headers=[])
        record.headers.append(self._signature(record))
        return self._submit(self._waiting(record, ("", record.value, b""), control.command_id, lane, None))

    def close(self) -> None:
        """Stop; whoever still waits gets NoAnswer. In another process than that which made it, nothing happens."""
        if os.getpid() != self._process_id:
            return
        self._closing.set()
        self._sender.stir()
        self._reader.stir()
        own, observers = self._threads[:2], self._threads[2:]
        _join(own)
        self._desk.close("the client ended")
        _join(observers)  # who may wait for an answer, and has none now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ sending

    def _refuse_other_process(self) -> None:
        """Refuse to wait for threads that a forked process does not have."""
        if os.getpid() != self._process_id:
            raise RuntimeError(f"this client belongs to process {self._process_id}: a process makes its own after fork")

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() in self._own:
            raise RuntimeError("a callback of a future cannot wait for a result, which it would hold up: use submit")

    def _topic(self, name: str) -> str:
        return self._config.kafka.topic_prefix + name

    def _signature(self, record: OutRecord) -> tuple[str, bytes]:
        if self._config.keyring is None:
            raise Misconfigured("this command must be signed, and the client was given no keys (setting keys_file)")
        return SIGNATURE_HEADER, sign(self._config.keyring, record.key, record.value)

    def _waiting(self, record: OutRecord, key: Key, command_id: bytes, spread: int, deadline_ms: int | None) -> Waiting:
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()  # a command that was sent cannot be taken back
        return Waiting(key, record, command_id, deadline_of(self._config, deadline_ms), spread, future)

    def _submit(self, waiting: Waiting) -> Future[Result]:
        future = waiting.future
        own = threading.current_thread() in self._own
        refused = self._desk.register(waiting, 0.0 if own else waiting.deadline_s - time.monotonic())
        if refused is None:
            self._sender.submit(waiting)
        else:
            future.set_exception(NoAnswer(waiting.command_id, refused, sent=False))
        return future

    # ------------------------------------------------------------------ threads

    def _tell(self, partition: int, result: Result) -> None:
        self._desk.answer(result, partition)

    def _run_reader(self) -> None:
        with self._deskless("results"):
            self._reader.run(self._closing)

    def _run_sender(self) -> None:
        with self._deskless("commands"):
            self._sender.run(self._closing)

    @contextmanager
    def _deskless(self, thread: str) -> Iterator[None]:
        """Let nobody wait for a thread that has ended by a bug, which Python reports."""
        try:
            yield
        except BaseException as bug:
            self._desk.close(f"the client's thread for {thread} ended: {bug!r}")
            raise


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread is not threading.current_thread():  # closed in a callback
            thread.join(_JOIN_S)


def _refuse_other_config(config: object) -> None:
    if not isinstance(config, ClientConfig):
        raise TypeError(
            f"Client was given {config!r:.60}, a {type(config).__name__}: write "
            'Client(ClientConfig(kafka=KafkaAddress(bootstrap_servers="127.0.0.1:19092")))'
        )
    if not isinstance(config.kafka, KafkaAddress):
        raise TypeError(
            f"ClientConfig's kafka is {config.kafka!r:.60}, a {type(config.kafka).__name__}: write "
            'KafkaAddress(bootstrap_servers="127.0.0.1:19092")'
        )


def _awaited(future: Future[Result], command_id: bytes, ends_s: float) -> Result:
    try:
        return future.result(max(0.0, ends_s - time.monotonic()) + _GRACE_S)
    except TimeoutError:
        raise NoAnswer(command_id, "a callback holds up the client's threads") from None


def _answered(command: Command, future: Future[Result]) -> tuple[Command, Result | NoAnswer]:
    try:
        return command, future.result()
    except NoAnswer as fault:
        return command, fault
