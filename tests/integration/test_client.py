"""The client on real Kafka; a thread of the test stands in for the service, so that it can misbehave."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # of the driver's stubs

from processors.client import AsyncClient, Client, ClientConfig, NoAnswer
from processors.faults import Misconfigured, Unavailable
from processors.ids import derived_id
from processors.ledger.commands import (
    Adjust,
    Command,
    Control,
    Direction,
    GetBalance,
    MovePartner,
    Pay,
    Recalled,
    RecallOriginal,
    Refund,
    SetLaneTime,
)
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import record_of
from processors.wire.admission import Admission
from processors.wire.commands import body_hash, decode_command
from processors.wire.records import Record
from processors.wire.results import LaneIdentity, encode_control, encode_duplicate, encode_result
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, verify
from tests.kafka_log import KafkaLog
from tests.servers import Servers
from tests.waiting import eventually

PARTITIONS = 4
LANE = LaneIdentity(shard="s1", incarnation=b"i" * 16, lane=0)
RULES = Rules(version=1)
KEYS = KeyRing(signing="k1", keys={"k1": b"s" * 32})


@dataclass(slots=True)
class Service:
    """Reads commands and answers each as ``answer`` says: with outcomes, each one result, or not at all."""

    address: KafkaAddress
    answer: Callable[[Command], list[Outcome]]
    seen: deque[Record]
    offset: int = 0
    times: int = 1
    partitions: int = PARTITIONS
    opened: dict[bytes, bytes] = field(default_factory=dict)  # command id -> its first answer, OPEN

    def run(self, stopping: threading.Event, ready: threading.Event) -> None:
        prefix = self.address.topic_prefix
        servers = {"bootstrap.servers": self.address.bootstrap_servers}
        consumer = Consumer({**servers, "group.id": "unused", "auto.offset.reset": "error"})
        places = [TopicPartition(prefix + "balance.commands", number) for number in range(self.partitions)]
        places.append(TopicPartition(prefix + "balance.shard.s1", 0))
        for place in places:  # what an earlier test sent was answered there
            place.offset = end_of(consumer, place)
        consumer.assign(places)
        producer = Producer({**servers, "transactional.id": prefix + "service", "linger.ms": 0})
        producer.init_transactions(30)
        ready.set()
        while not stopping.is_set():
            records = [record_of(message) for message in consumer.consume(1000, 0.05) if message.error() is None]
            if not records:
                continue
            self.seen.extend(records)
            answers = [payload for record in records for payload in self.answers(record)]
            for _ in range(self.times):
                producer.begin_transaction()
                for root, payload in answers:
                    partition = partition_of(root, self.partitions) if root else 0
                    producer.produce(prefix + "balance.results", payload, root.encode() or None, partition)
                producer.commit_transaction(30)
        consumer.close()

    def answers(self, record: Record) -> list[tuple[str, bytes]]:
        command = decode_command(record.value or b"")
        self.offset += 1
        if isinstance(command, SetLaneTime):
            payload = encode_control(
                LANE, offset=self.offset, index=0, lane_time_ms=1, version_us=1, rules=RULES,
                record=record, control=command,
            )  # fmt: skip
            return [("", payload)]
        assert not isinstance(command, Control)
        root = (record.key or b"").decode()
        return [
            (root, self.encoded(record, root, command, index, outcome))
            for index, outcome in enumerate(self.answer(command))
        ]

    def encoded(self, record: Record, root: str, command: Command, index: int, outcome: Outcome) -> bytes:
        if outcome.status is Status.COMPLETED:  # what ends an open refund is the recaller's record, not the partner's
            assert isinstance(command, Refund)
            command = RecallOriginal(
                command_id=derived_id("RECALL_ORIGINAL", command.command_id), address=command.address,
                currency=command.currency, refund_id=command.command_id, original_id=command.original_id,
                recalled=Recalled.FOUND,
            )  # fmt: skip
        admission = Admission(
            record=record, route=None, root=root, command=command, body_hash=body_hash(command), refusal=None
        )
        payload = encode_result(
            LANE, offset=self.offset, index=index, lane_time_ms=1, version_us=1, rules=RULES,
            admission=admission, outcome=outcome,
        )  # fmt: skip
        first = self.opened.setdefault(command.command_id, payload) if outcome.status is Status.OPEN else payload
        if first is payload:
            return payload
        return encode_duplicate(
            LANE, first, offset=self.offset, index=index, lane_time_ms=1, rules=RULES, admission=admission
        )  # fmt: skip


def accept(command: Command) -> list[Outcome]:
    return [Outcome(Status.ACCEPTED, Reason.NONE, command.command_id, amount_minor=getattr(command, "amount_minor", 0))]


@pytest.fixture(scope="module")
def kafka(servers: Servers, topic_prefix: Callable[[], str]) -> KafkaAddress:
    address = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())
    admin = AdminClient({"bootstrap.servers": address.bootstrap_servers})
    names = {"balance.commands": PARTITIONS, "balance.results": PARTITIONS, "balance.shard.s1": 1}
    new = [NewTopic(address.topic_prefix + name, num_partitions=count) for name, count in names.items()]
    for done in admin.create_topics(new, operation_timeout=30).values():
        done.result(30)
    return address


def end_of(consumer: Consumer, place: TopicPartition) -> int:
    """Return the offset after the last; a new topic's leader may need a moment before it tells."""
    ends_s = time.monotonic() + 30
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=30)[1]
        except KafkaException:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.1)


@pytest.fixture
def service(kafka: KafkaAddress) -> Iterator[Service]:
    service = Service(kafka, accept, deque())
    stopping, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=service.run, args=(stopping, ready))
    thread.start()
    assert ready.wait(60)
    yield service
    stopping.set()
    thread.join(60)


@pytest.fixture
def client(kafka: KafkaAddress) -> Iterator[Client]:
    with Client(ClientConfig(kafka=kafka, keyring=KEYS, in_flight_max=500)) as client:
        yield client


def pay(client: Client | AsyncClient, root: str = "acme", amount_minor: int = 100) -> Pay:
    return Pay(command_id=client.new_id(), address=root, currency="USD", amount_minor=amount_minor)


@pytest.mark.rule("W3")
def test_a_command_lies_in_its_roots_partition_and_its_result_comes_back(service: Service, client: Client) -> None:
    service.seen.clear()
    for root in ("acme", "kite", "lotus", "pearl"):
        command = pay(client, root)
        result = client.send(command)
        assert (result.command_id, result.root, result.status) == (command.command_id, root, Status.ACCEPTED)
    mine = [record for record in service.seen if record.topic.endswith("balance.commands")]
    for record in mine[-4:]:
        assert record.partition == partition_of((record.key or b"").decode(), PARTITIONS)


def test_a_rejection_is_a_value(service: Service, client: Client) -> None:
    service.answer = lambda command: [Outcome(Status.REJECTED, Reason.INSUFFICIENT_FUNDS, command.command_id)]
    result = client.send(pay(client))
    assert (result.status, result.reason) == (Status.REJECTED, Reason.INSUFFICIENT_FUNDS)


def test_after_no_answer_the_same_command_again_is_answered(service: Service, client: Client) -> None:
    service.answer = lambda _: []
    command = pay(client)
    with pytest.raises(NoAnswer) as none:
        client.send(command, deadline_ms=300)
    assert none.value.command_id == command.command_id
    assert "send it again with the same id" in str(none.value)

    service.answer = accept
    assert client.send(command).command_id == command.command_id


def test_two_commands_with_one_id_are_answered_in_their_order(service: Service, client: Client) -> None:
    def once(command: Command) -> list[Outcome]:
        assert isinstance(command, Pay)
        if command.amount_minor == 1:
            return accept(command)
        return [Outcome(Status.REJECTED, Reason.COMMAND_ID_REUSED, command.command_id)]

    service.answer = once
    first = pay(client, amount_minor=1)
    again = Pay(command_id=first.command_id, address="acme", currency="USD", amount_minor=2)
    futures = [client.submit(first), client.submit(again)]
    assert [future.result().reason for future in futures] == [Reason.NONE, Reason.COMMAND_ID_REUSED]


@pytest.mark.rule("A1")
def test_a_result_that_is_published_twice_answers_once(service: Service, client: Client) -> None:
    asked: list[Command] = []

    def first_only(command: Command) -> list[Outcome]:
        asked.append(command)
        return accept(command) if len(asked) == 1 else []

    service.times, service.answer = 2, first_only
    command = pay(client)
    futures = [client.submit(command), client.submit(command, deadline_ms=1_000)]
    assert futures[0].result().status is Status.ACCEPTED
    with pytest.raises(NoAnswer):
        futures[1].result()


def refund(client: Client) -> Refund:
    return Refund(
        command_id=client.new_id(), address="acme", currency="USD", original_id=client.new_id(), amount_minor=1
    )


def still_open(command: Command) -> list[Outcome]:
    return [Outcome(Status.OPEN, Reason.NONE, command.command_id)]


def open_then_completed(command: Command) -> list[Outcome]:
    return [*still_open(command), Outcome(Status.COMPLETED, Reason.NONE, command.command_id)]


def test_an_open_refund_is_waited_for_until_it_ends_if_asked(service: Service, client: Client) -> None:
    service.answer = open_then_completed
    assert client.send(refund(client)).status is Status.OPEN
    asked = refund(client)
    final = client.send(asked, until_final=True)
    assert (final.status, final.transaction_id) == (Status.COMPLETED, asked.command_id)


@pytest.mark.rule("I3")
def test_an_open_refund_sent_again_is_answered_since_its_end_may_be_published(service: Service, client: Client) -> None:
    service.answer = still_open
    asked = refund(client)
    with pytest.raises(NoAnswer):
        client.send(asked, until_final=True, deadline_ms=5_000)
    assert asked.command_id in service.opened

    again = client.send(asked, until_final=True)
    assert again.status is Status.OPEN
    assert again.duplicate_of is not None


def test_an_open_refund_sent_again_waits_with_the_first_that_waits(service: Service, client: Client) -> None:
    asked = refund(client)
    service.answer = lambda command: open_then_completed(command) if command.command_id in service.opened else (
        still_open(command)
    )  # fmt: skip
    futures = [client.submit(asked, until_final=True) for _ in range(2)]
    assert [future.result().status for future in futures] == [Status.COMPLETED] * 2


@pytest.mark.rule("W1")
def test_an_adjustment_is_signed_and_a_payment_is_not(service: Service, client: Client) -> None:
    adjust = Adjust(
        command_id=client.new_id(), address="acme", currency="USD", amount_minor=1, direction=Direction.CREDIT,
        explanation="why",
    )  # fmt: skip
    client.send(adjust)
    record = service.seen[-1]
    assert [name for name, _ in record.headers] == [SIGNATURE_HEADER]
    assert verify(KEYS, record.key, record.value or b"", record.headers[0][1] or b"")
    client.send(pay(client))
    assert service.seen[-1].headers == []


@pytest.mark.rule("W1")
def test_without_keys_an_adjustment_is_not_sent(kafka: KafkaAddress) -> None:
    adjust = Adjust(
        command_id=bytes(16),
        address="acme",
        currency="USD",
        amount_minor=1,
        direction=Direction.CREDIT,
        explanation="why",
    )
    with Client(ClientConfig(kafka=kafka)) as client, pytest.raises(Misconfigured, match="keys_file"):
        client.send(adjust)


@pytest.mark.rule("I2")
def test_an_operators_record_goes_to_its_lane_signed(service: Service, client: Client) -> None:
    control = SetLaneTime(command_id=client.new_id(), lane_offset=7, time_ms=1_700_000_000_000)
    result = client.send_control(control, shard="s1", lane=0)
    assert decode_command(result.control) == control
    record = service.seen[-1]
    assert (record.topic.rpartition(".")[2], record.partition, record.key) == ("s1", 0, None)
    assert verify(KEYS, None, record.value or b"", record.headers[0][1] or b"")


@pytest.mark.rule("W3")
@pytest.mark.rule("R3")
@pytest.mark.parametrize("key", ["acme", *(f"bucket:{number}" for number in range(8))])
def test_a_moves_marker_lies_where_the_roots_are_that_move_signed(service: Service, client: Client, key: str) -> None:
    service.seen.clear()
    marker = MovePartner(command_id=client.new_id(), placement_key=key, generation=1, source="s1", target="s2")

    assert client.send_marker(marker, partitions=PARTITIONS).status is Status.ACCEPTED

    (record,) = service.seen
    assert (record.key, record.partition) == (key.encode(), partition_of(key, PARTITIONS))
    assert verify(KEYS, record.key, record.value or b"", record.headers[0][1] or b"")


def test_many_commands_come_back_in_their_order(service: Service, client: Client) -> None:
    commands = [pay(client, f"p{number % 50}", amount_minor=number + 1) for number in range(3_000)]
    answers = list(client.exchange(commands))
    assert [command for command, _ in answers] == commands
    assert all(not isinstance(answer, NoAnswer) and answer.amount_minor == command.amount_minor
               for command, answer in answers if isinstance(command, Pay))  # fmt: skip
    assert service.seen


@pytest.mark.usefixtures("service")
def test_asyncio_programs_wait_for_many_at_once(kafka: KafkaAddress) -> None:
    async def send_all() -> list[bool]:
        async with AsyncClient(ClientConfig(kafka=kafka, in_flight_max=50)) as client:
            commands = [pay(client, f"p{number}") for number in range(300)]
            results = await asyncio.gather(*(client.send(command) for command in commands))
            return [result.command_id == command.command_id for result, command in zip(results, commands, strict=True)]

    assert asyncio.run(send_all()) == [True] * 300


def test_sends_that_are_cancelled_never_hold_the_loop(service: Service, kafka: KafkaAddress) -> None:
    service.answer = lambda _: []
    longest_s = 0.0

    async def cancel_many() -> None:
        nonlocal longest_s
        async with AsyncClient(ClientConfig(kafka=kafka, in_flight_max=50, deadline_ms=10_000)) as client:
            for _ in range(50):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.send(pay(client)), 0.002)
            watching = asyncio.create_task(watch())
            with pytest.raises(NoAnswer):
                await client.send(pay(client), deadline_ms=7_000)
            service.answer = accept
            command = pay(client)
            assert (await client.send(command, deadline_ms=60_000)).command_id == command.command_id
            watching.cancel()

    async def watch() -> None:
        nonlocal longest_s
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - before_s)

    asyncio.run(cancel_many())
    assert longest_s < 5  # a loop that is held is held until the deadline of a send


@pytest.mark.parametrize("deadline_ms", [10_000, 60_000])
def test_brokers_that_are_away_are_named_at_once(deadline_ms: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match=rf"no broker of 127.0.0.1:{port} answered .*Connection refused"):
        Client(ClientConfig(kafka=KafkaAddress(bootstrap_servers=f"127.0.0.1:{port}"), deadline_ms=deadline_ms))
    assert time.monotonic() - began_s < deadline_ms / 1_000


def test_brokers_that_do_not_answer_are_waited_for_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match=f"no broker of {servers} answered within"):
            Client(ClientConfig(kafka=KafkaAddress(bootstrap_servers=servers), deadline_ms=1_000))
    assert time.monotonic() - began_s < ClientConfig(kafka=KafkaAddress(bootstrap_servers=servers)).deadline_ms / 1_000


def test_a_topic_that_is_made_again_ends_nothing(kafka: KafkaAddress) -> None:
    """Unknown topics, lost offsets: what a living client meets then is waited out."""
    log = KafkaLog(replace(kafka, topic_prefix=kafka.topic_prefix + "again."))
    for name in ("balance.commands", "balance.results"):
        log.make(name)
    with Client(ClientConfig(kafka=log.address)) as client:
        with pytest.raises(NoAnswer):
            client.send(pay(client), deadline_ms=500)
        for name in ("balance.commands", "balance.results"):
            log.drop(name)
        with pytest.raises(NoAnswer):
            client.send(pay(client), deadline_ms=2_000)
        for name in ("balance.commands", "balance.results"):
            log.make(name)
        other = Service(log.address, accept, deque(), partitions=1)
        stopping, ready = threading.Event(), threading.Event()
        log.make("balance.shard.s1")
        thread = threading.Thread(target=other.run, args=(stopping, ready))
        thread.start()
        assert ready.wait(60)
        try:
            command = pay(client)
            eventually(lambda: _answers(client, command), "the same command again is answered")
        finally:
            stopping.set()
            thread.join(60)


def _answers(client: Client, command: Pay) -> bool:
    try:
        return client.send(command, deadline_ms=3_000).status is Status.ACCEPTED
    except NoAnswer:
        return False


def test_a_client_without_topics_says_what_to_run(servers: Servers) -> None:
    address = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix="nothing-here.")
    with pytest.raises(Misconfigured, match=r"nothing-here.balance.results: run `balance init`"):
        Client(ClientConfig(kafka=address))


def test_who_waits_when_the_client_closes_gets_no_answer(service: Service, kafka: KafkaAddress) -> None:
    service.answer = lambda _: []
    client = Client(ClientConfig(kafka=kafka))
    future = client.submit(GetBalance(command_id=client.new_id(), address="acme", currency="USD"))
    client.close()
    with pytest.raises(NoAnswer):
        future.result(timeout=5)
