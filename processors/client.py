"""For Python programs that send commands and wait for their results.

    with Client(ClientConfig(kafka=KafkaAddress(bootstrap_servers="localhost:9092"))) as client:
        command = Pay(command_id=client.new_id(), address="acme:vn", currency="USD", amount_minor=1250)
        result = client.send(command)

The same id again is safe: within the window (6 hours by default) a command that was decided is answered again and
changes nothing. So after ``NoAnswer`` send *the same command* again, never one with a new id.

A refund of an archived payment is OPEN first. Sent again, it is answered OPEN with ``duplicate_of`` set, also when it
ended long ago: its final result is published once, perhaps before this client began to read. So nobody waits on that
answer; what became of the refund is read from the stores (``balance tx get ID``).
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from processors.faults import Fault, Misconfigured, UnknownOutcome
from processors.ids import id_text, make_command_id, root_of
from processors.ledger.addresses import refuse_malformed
from processors.ledger.commands import Adjust, Command, CommandType, SetLaneTime, SetRules
from processors.ledger.outcomes import Status
from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.tail import TopicTail
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC, shard_topic
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from processors.wire.results import Result, decode_result
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign

# A record is decided within some 100 ms, within a few seconds while a lane changes its owner (6 s, P4).
DEADLINE_MS = 15_000
# At 1 KiB each 10 MB; more than a lane decides in half a second.
IN_FLIGHT_MAX = 10_000
_BY_KEY = -1  # the partitioner's choice: murmur2 of the key (W3)
_RANDOM_BITS = 74  # of a UUIDv7, beside its time
_READ_S = 0.1
_LOOK_S = 0.25  # how often deadlines are looked at: a result may be given up this much later than asked
_JOIN_S = 10.0


class NoAnswer(UnknownOutcome):
    """No result came in time: the command may have been decided, or may be later.

    Send the same command again, with the same ``command_id``: it is decided once, and answered again.
    """

    def __init__(self, command_id: bytes, detail: str) -> None:
        super().__init__(
            f"no result for command {id_text(command_id)}: {detail}; it may have been decided, so send it again with "
            "the same id, which is safe, or look it up"
        )
        self.command_id = command_id


class CommandIds:
    """Makes UUIDv7 ids that rise within the process, also within a millisecond; any thread may ask.

    Source: RFC 9562 section 6.2, method 2 (monotonic random).
    """

    def __init__(self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock_ms = clock_ms
        self._lock = threading.Lock()
        self._time_ms = 0
        self._random = 0

    def next(self) -> bytes:
        """Return a new id, 16 bytes, above every earlier one."""
        with self._lock:
            now_ms = self._clock_ms()
            if now_ms > self._time_ms:
                self._time_ms, self._random = now_ms, secrets.randbits(_RANDOM_BITS - 1)
            else:
                self._random += 1 + secrets.randbits(32)
            if self._random >> _RANDOM_BITS:
                self._time_ms, self._random = self._time_ms + 1, secrets.randbits(_RANDOM_BITS - 1)
            # 12 bits lie before the variant, 62 behind it, so that ids sort as the bits do.
            high, low = self._random >> 62, self._random & (1 << 62) - 1
            return make_command_id(self._time_ms, high.to_bytes(2, "big") + low.to_bytes(8, "big"))


class Deduplication:
    """Lets each result through once (A1): a lane publishes in order, so one pair for each lane tells what was seen."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bytes, int], tuple[int, int]] = {}

    def is_new(self, partition: int, result: Result) -> bool:
        """Say whether a result of a results partition was not seen before, and remember it."""
        lane = (partition, result.incarnation, result.lane)
        position = (result.lane_offset, result.lane_index)
        if position <= self._seen.get(lane, (-1, -1)):
            return False
        self._seen[lane] = position
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What a client needs to know.

    ``keyring`` is needed only for what operators send (ADJUST and control records, W1). ``deadline_ms`` is for one
    result, from its command's sending. ``in_flight_max`` bounds commands without a result; above it ``submit`` waits.
    """

    kafka: KafkaAddress
    keyring: KeyRing | None = None
    deadline_ms: int = DEADLINE_MS
    in_flight_max: int = IN_FLIGHT_MAX


_Key = tuple[str, bytes]  # root and command id; of a control record, no root and its payload


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record on its way. Its first result may be OPEN; then ``until_final`` waits for the transaction's next one."""

    key: _Key
    command_id: bytes
    until_final: bool
    deadline_s: float
    future: Future[Result]


class _Desk:
    """Who waits for which result. Any thread may register; the reader answers.

    Records with the same id are answered in the order they were sent in, which is the order of their results.
    A transaction is in ``_open`` while somebody has waited for its end since its first OPEN answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[_Key, deque[_Waiting]] = {}
        self._open: dict[_Key, deque[_Waiting]] = {}

    def register(self, waiting: _Waiting) -> None:
        """Begin to wait; before the record is sent, so that no result can come too early."""
        with self._lock:
            self._sent.setdefault(waiting.key, deque()).append(waiting)

    def answer(self, result: Result) -> None:
        """Hand a result to whoever waits for it."""
        with self._lock:
            ready = self._ready(result)
        for waiting in ready:
            waiting.future.set_result(result)

    def _ready(self, result: Result) -> list[_Waiting]:
        ready: list[_Waiting] = []
        first = self._first_sent(
            ("", result.control) if result.type is CommandType.CONTROL else (result.root, result.command_id)
        )
        transaction = (result.root, result.transaction_id)
        if first is not None and first.until_final and self._ends_later(result):
            self._open.setdefault(transaction, deque()).append(first)
        elif first is not None:
            ready.append(first)
        if result.status is not Status.OPEN and result.command_id != result.transaction_id:
            ready.extend(self._open.pop(transaction, ()))
        return ready

    def _ends_later(self, result: Result) -> bool:
        """Say whether a transaction's end is still to come: a repeated OPEN answer may be given after it."""
        known = (result.root, result.transaction_id) in self._open
        return result.status is Status.OPEN and (result.duplicate_of is None or known)

    def _first_sent(self, key: _Key) -> _Waiting | None:
        queue = self._sent.get(key)
        if queue is None:
            return None
        first = queue.popleft()
        if not queue:
            del self._sent[key]
        return first

    def give_up(self, detail: str, *, until_s: float | None = None) -> None:
        """End the waiting of those whose deadline is at or before ``until_s``, of all where it is None."""
        with self._lock:
            late = _taken_out(self._sent, until_s) + _taken_out(self._open, until_s)
        for waiting in late:
            waiting.future.set_exception(NoAnswer(waiting.command_id, detail))


def _taken_out(queues: dict[_Key, deque[_Waiting]], until_s: float | None) -> list[_Waiting]:
    late: list[_Waiting] = []
    for key, queue in list(queues.items()):
        gone = [each for each in queue if until_s is None or each.deadline_s <= until_s]
        for waiting in gone:
            queue.remove(waiting)
        if not queue:
            del queues[key]
        late += gone
    return late


class Client:
    """Sends commands and waits for their results. Any number of threads may use one; close it after use."""

    def __init__(self, config: ClientConfig, *, observe: Callable[[Result], None] | None = None) -> None:
        """Connect, and begin to read results from their end.

        Args:
            config: Where, and within which limits.
            observe: Told of every result, whoever's command it answers, each once; called by the reader's thread.

        Raises:
            Misconfigured: The topics are not there.
            Fault: The brokers cannot be reached.
        """
        self._config = config
        self._ids = CommandIds()
        self._desk = _Desk()
        self._room = threading.BoundedSemaphore(config.in_flight_max)
        self._sending = threading.Lock()
        self._producer: IdempotentProducer | None = None
        self._closing = threading.Event()
        self._observe = observe
        self._ended: str | None = None  # why nobody reads results any more
        self._tail = TopicTail(config.kafka, RESULTS_TOPIC)
        self._reader = threading.Thread(target=self._read, name="results", daemon=True)
        self._reader.start()

    def new_id(self) -> bytes:
        """Return a new command id, above every earlier one of this client."""
        return self._ids.next()

    def send(self, command: Command, *, until_final: bool = False, deadline_ms: int | None = None) -> Result:
        """Send a command and wait for its result.

        Args:
            command: With its id; the same command may be sent again at any time within the window.
            until_final: Whether to wait on where the result is OPEN (a refund whose original is in the archive). A
                repeated answer (``duplicate_of``) is waited on only while this client waits for the first one's end:
                else the end may have been published before; look the transaction up.
            deadline_ms: Instead of the config's.

        Returns:
            The result, REJECTED ones too: a "no" is a value.

        Raises:
            NoAnswer: There was none in time; send the same command again, which is safe.
            Misconfigured: The command must be signed and the client has no keys.
            ValueError: A field is not exactly of its type (an amount of 12.50), does not fit the command's schema, or
                an address is malformed; the text says which field and what to write. Nothing was sent.
        """
        return self.submit(command, until_final=until_final, deadline_ms=deadline_ms).result()

    def submit(self, command: Command, *, until_final: bool = False, deadline_ms: int | None = None) -> Future[Result]:
        """Send a command, and return its result's future; arguments and errors as ``send``'s.

        Waits while ``in_flight_max`` commands have no result yet, at most until the deadline.
        """
        payload = encode_command(command)
        refuse_malformed(command)
        root = root_of(command.address)
        record = OutRecord(
            self._config.kafka.topic_prefix + COMMANDS_TOPIC, _BY_KEY, root.encode(), payload, headers=[]
        )
        if isinstance(command, Adjust):
            record.headers.append(self._signature(record))
        return self._submit(record, (root, command.command_id), command.command_id, until_final, deadline_ms)

    def exchange(
        self, commands: Iterable[Command], *, until_final: bool = False
    ) -> Iterator[tuple[Command, Result | NoAnswer]]:
        """Send many commands, up to ``in_flight_max`` at once, and yield each with its answer, in their order."""
        sent: deque[tuple[Command, Future[Result]]] = deque()
        for command in commands:
            sent.append((command, self.submit(command, until_final=until_final)))
            while sent and (len(sent) >= self._config.in_flight_max or sent[0][1].done()):
                yield _answered(*sent.popleft())
        while sent:
            yield _answered(*sent.popleft())

    def send_control(self, control: SetRules | SetLaneTime, *, shard: str, lane: int) -> Result:
        """Write an operator's record into one lane, signed, and wait for its CONTROL result (I2, I6, W1).

        Errors are those of ``send``.
        """
        return self.submit_control(control, shard=shard, lane=lane).result()

    def submit_control(self, control: SetRules | SetLaneTime, *, shard: str, lane: int) -> Future[Result]:
        """Write an operator's record into one lane, signed, and return its result's future."""
        record = OutRecord(
            self._config.kafka.topic_prefix + shard_topic(shard), lane, None, encode_command(control), headers=[]
        )
        record.headers.append(self._signature(record))
        return self._submit(record, ("", record.value), control.command_id, False, None)

    def close(self) -> None:
        """Stop; whoever still waits gets NoAnswer."""
        self._closing.set()
        self._reader.join(_JOIN_S)
        with self._sending:
            if self._producer is not None:
                self._producer.close()
                self._producer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ sending

    def _signature(self, record: OutRecord) -> tuple[str, bytes]:
        if self._config.keyring is None:
            raise Misconfigured("this command must be signed, and the client was given no keys (setting keys_file)")
        return SIGNATURE_HEADER, sign(self._config.keyring, record.key, record.value)

    def _submit(
        self, record: OutRecord, key: _Key, command_id: bytes, until_final: bool, deadline_ms: int | None
    ) -> Future[Result]:
        wait_s = (self._config.deadline_ms if deadline_ms is None else deadline_ms) / 1000
        deadline_s = time.monotonic() + wait_s
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()  # a command that was sent cannot be taken back
        if not self._room.acquire(timeout=wait_s):
            future.set_exception(NoAnswer(command_id, "too many commands wait for results, so it was not sent"))
            return future
        future.add_done_callback(lambda _: self._room.release())
        self._desk.register(_Waiting(key, command_id, until_final, deadline_s, future))
        if self._ended is not None:
            self._desk.give_up(self._ended)
            return future
        with self._sending:
            try:
                self._opened_producer().send(record)
            except Fault as fault:
                self._drop_producer(fault)
        return future

    def _opened_producer(self) -> IdempotentProducer:
        if self._producer is None:
            self._producer = IdempotentProducer(
                self._config.kafka, delivery_deadline_ms=self._config.deadline_ms, linger_ms=1
            )
        return self._producer

    def _drop_producer(self, fault: Fault) -> None:
        """Begin anew with the next send: after a failed delivery nobody knows which records were written."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None
        self._desk.give_up(str(fault))

    # ------------------------------------------------------------------ results

    def _read(self) -> None:
        """Read results until closed; runs in the reader's thread."""
        deduplication = Deduplication()
        looked_s = time.monotonic()
        ended = "the client ended"
        try:
            while not self._closing.is_set():
                self._read_once(deduplication)
                if time.monotonic() - looked_s >= _LOOK_S:
                    looked_s = time.monotonic()
                    self._look(looked_s)
        except Fault as fault:
            ended = f"results can no longer be read ({fault})"
        finally:
            self._ended = ended
            self._desk.give_up(ended)
            self._tail.close()

    def _read_once(self, deduplication: Deduplication) -> None:
        for record in self._tail.read(_READ_S):
            result = decode_result(record.value or b"")
            if deduplication.is_new(record.partition, result):
                self._tell(result)

    def _tell(self, result: Result) -> None:
        if self._observe is not None:
            self._observe(result)
        self._desk.answer(result)

    def _look(self, now_s: float) -> None:
        self._desk.give_up("none came in time", until_s=now_s)
        with self._sending:
            if self._producer is not None:
                try:
                    self._producer.poll(0)
                except Fault as fault:
                    self._drop_producer(fault)


def _answered(command: Command, future: Future[Result]) -> tuple[Command, Result | NoAnswer]:
    try:
        return command, future.result()
    except NoAnswer as fault:
        return command, fault


class AsyncClient:
    """``Client`` for asyncio: ``async with AsyncClient(config) as client: result = await client.send(command)``."""

    def __init__(self, config: ClientConfig) -> None:
        """Prepare; ``async with`` connects."""
        self._config = config
        self._client: Client | None = None
        self._room = asyncio.Semaphore(config.in_flight_max)

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(Client, self._config)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    def new_id(self) -> bytes:
        """Return a new command id; see ``Client.new_id``."""
        return self._connected().new_id()

    async def send(self, command: Command, *, until_final: bool = False, deadline_ms: int | None = None) -> Result:
        """Send a command and wait for its result; see ``Client.send``. Cancelling it does not take the command back."""
        client = self._connected()
        async with self._room:  # so that submit never makes the loop wait
            return await asyncio.wrap_future(client.submit(command, until_final=until_final, deadline_ms=deadline_ms))

    def _connected(self) -> Client:
        assert self._client is not None, "use it as `async with AsyncClient(config) as client`"
        return self._client
