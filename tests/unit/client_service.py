"""A service on the in-memory Kafka that answers each command at once, as a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from processors.client import Client, ClientConfig
from processors.ledger.commands import Command, Control, Pay, SetLaneTime
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of
from processors.streams.connection import KafkaAddress
from processors.wire.admission import Admission
from processors.wire.commands import body_hash, decode_command
from processors.wire.records import Record
from processors.wire.results import LaneIdentity, encode_control, encode_result
from processors.wire.signature import KeyRing
from tests.simulation.fakes.client_kafka import RESULTS, ClientKafka

RULES = Rules(version=1)
LANE = LaneIdentity(shard="s1", incarnation=b"i" * 16, lane=0)
KEYS = KeyRing(signing="k1", keys={"k1": b"s" * 32})
Answer = Callable[[Command], list[Outcome]]


def accept(command: Command) -> list[Outcome]:
    return [Outcome(Status.ACCEPTED, Reason.NONE, command.command_id, amount_minor=getattr(command, "amount_minor", 0))]


def nothing(_command: Command) -> list[Outcome]:
    return []


@dataclass(slots=True)
class Service:
    """``results_partitions``: in how many the service spreads results, however many the topic has."""

    kafka: ClientKafka
    answer: Answer = accept
    results_partitions: int = 4
    before: Callable[[], None] = lambda: None  # what happens before a record is answered
    seen: list[Record] = field(default_factory=list)
    offset: int = 0

    def __post_init__(self) -> None:
        self.kafka.wrote = self.take

    def take(self, record: Record) -> None:
        """Answer a record as it is written."""
        self.seen.append(record)
        self.before()
        for payload, root in self.answers(record):
            self.publish(payload, root)

    def publish(self, payload: bytes, root: str) -> None:
        partition = partition_of(root, self.results_partitions) if root else LANE.lane
        self.kafka.write(RESULTS, partition, root.encode() or None, payload)

    def answers(self, record: Record) -> list[tuple[bytes, str]]:
        command = decode_command(record.value or b"")
        self.offset += 1
        place = {"offset": self.offset, "index": 0, "lane_time_ms": 1, "version_us": 1}
        if isinstance(command, SetLaneTime):
            return [(encode_control(LANE, **place, rules=RULES, record=record, control=command), "")]
        assert not isinstance(command, Control)
        root = (record.key or b"").decode()
        admission = Admission(record, None, root, command, body_hash(command), None)
        return [
            (encode_result(LANE, **{**place, "index": index}, rules=RULES, admission=admission, outcome=outcome), root)
            for index, outcome in enumerate(self.answer(command))
        ]


def connected(kafka: ClientKafka, *, deadline_ms: int = 5_000, in_flight_max: int = 100) -> Client:
    return Client(config(deadline_ms=deadline_ms, in_flight_max=in_flight_max), connections=kafka.connections())


def config(*, deadline_ms: int = 5_000, in_flight_max: int = 100) -> ClientConfig:
    address = KafkaAddress(bootstrap_servers="nowhere:1")
    return ClientConfig(kafka=address, keyring=KEYS, deadline_ms=deadline_ms, in_flight_max=in_flight_max)


def pay(client: Client, root: str = "acme", amount_minor: int = 100) -> Pay:
    return Pay(command_id=client.new_id(), address=root, currency="USD", amount_minor=amount_minor)
