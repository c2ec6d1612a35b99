"""Refused logins, certificates and names of real brokers are told within seconds, and changed passwords taken up."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from devtools.stack import certificates, secured
from processors.faults import Refused
from processors.ops import addresses
from processors.ops.backlog import read_backlog
from processors.ops.setting_up import initialize
from processors.settings import Settings
from processors.streams.connection import LOGIN_LOOK_S, KafkaAddress
from processors.streams.consumer import AssignmentEvents, GroupOptions, RecordConsumer
from processors.streams.group import GroupConsumer
from processors.streams.login_refusal import LOGIN_REFUSAL
from processors.streams.producer import IdempotentProducer
from processors.streams.publisher import TransactionalPublisher
from processors.streams.rights import Right, rights
from processors.streams.tail import TopicTail
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC, TopicAdmin, shard_topic
from processors.wire.positions import GroupPosition, LanePoint
from processors.wire.records import OutRecord
from tests.servers import Place
from tests.waiting import eventually

TOLD_WITHIN_S = 25.0  # who hears nothing takes 30 s
# config/stack/kafka-secure.properties: within it every living connection has logged in again.
REAUTHENTICATED_S = 11.0
PUBLISHED_S = 55.0


@pytest.fixture(scope="module")
def settings(secured_place: Callable[..., Place]) -> Settings:
    made = secured_place().settings
    initialize(made, lambda _said: None)
    return made


@pytest.fixture(autouse=True)
def nothing_refused() -> Iterator[None]:
    """Leave nothing behind: what refuses is remembered for the whole process."""
    LOGIN_REFUSAL.forget(echo_s=0)
    yield
    LOGIN_REFUSAL.forget(echo_s=0)


@pytest.fixture(params=["password", "user", "authority", "name"])
def wrong(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> tuple[KafkaAddress, str]:
    """Return an address that is wrong in one thing, and what the fault must say of it."""
    address = addresses.kafka_address(settings)
    ours = "certificate verify failed"
    return {
        "password": (replace(address, sasl_password="old"), "invalid credentials"),
        "user": (replace(address, sasl_username="nobody"), "invalid credentials"),
        "authority": (replace(address, ssl_ca_file=str(certificates.authority(tmp_path))), ours),
        "name": (replace(address, bootstrap_servers=address.bootstrap_servers.replace("127.0.0.1", "localhost")), ours),
    }[request.param]


def fault_within(seconds: float, act: Callable[[], object]) -> str:
    began = time.monotonic()
    with pytest.raises(Refused) as caught:
        act()
    assert time.monotonic() - began < seconds
    return str(caught.value)


def test_what_a_broker_refuses_is_in_the_fault_within_seconds(wrong: tuple[KafkaAddress, str]) -> None:
    address, says = wrong
    topics = TopicAdmin(address)
    publisher = TransactionalPublisher(address, "s1.0", "t", lambda: None)
    for act in (
        lambda: topics.bounds(COMMANDS_TOPIC, 0),
        lambda: topics.topic_id(COMMANDS_TOPIC),
        lambda: TopicTail(address, RESULTS_TOPIC),
        publisher.open,
    ):
        LOGIN_REFUSAL.forget(echo_s=0)
        assert says in fault_within(TOLD_WITHIN_S, act)


def test_what_a_broker_refuses_is_heard_by_a_consumer_that_polls(wrong: tuple[KafkaAddress, str]) -> None:
    address, says = wrong
    consumer = GroupConsumer(address, COMMANDS_TOPIC, GroupOptions(group="balance-router", instance="t"))
    try:
        eventually(lambda: consumer.poll(1, 0.1) == [] and says in LOGIN_REFUSAL.now(), "it is told", TOLD_WITHIN_S)
    finally:
        consumer.close()


def heard(producer: IdempotentProducer) -> str:
    producer.poll(0.1)
    return LOGIN_REFUSAL.now()


def test_what_a_broker_refuses_is_in_the_fault_of_a_producer(wrong: tuple[KafkaAddress, str]) -> None:
    address, says = wrong
    producer = IdempotentProducer(address)
    try:
        producer.send(OutRecord("t", 0, b"k", b"v", []))
        eventually(lambda: heard(producer), "it is heard", TOLD_WITHIN_S)
        assert says in fault_within(TOLD_WITHIN_S, lambda: producer.flush(0.1))
    finally:
        producer.close()


class User:
    """A user of a test's own, whose password may be changed: on the server, in the file, or both."""

    def __init__(self, settings: Settings, file: Path, *roles: str) -> None:
        self._administrator = secured.kafka_administrator(settings)
        self._name = f"test-{secrets.token_hex(4)}"
        self._file = file
        granted: list[Right] = [right for role in roles for right in rights(["s1"])[role]]
        self.change_server("first")
        self.change_file("first")
        self._administrator.grant({self._name: granted}, prefix=settings.kafka.topic_prefix)
        self.address = replace(
            addresses.kafka_address(settings), sasl_username=self._name, sasl_password_file=str(file)
        )

    def change_server(self, password: str) -> None:
        self._administrator.set_passwords({self._name: password})

    def change_file(self, password: str) -> None:
        self._file.write_text(password + "\n")


def test_a_living_producer_and_a_living_consumer_go_on_under_a_new_password(settings: Settings, tmp_path: Path) -> None:
    user = User(settings, tmp_path / "word", "operator", "gateway", "router")
    producer = IdempotentProducer(user.address)
    tail = TopicTail(user.address, COMMANDS_TOPIC)

    def exchange(value: bytes) -> bool:
        producer.send(OutRecord(user.address.topic_prefix + COMMANDS_TOPIC, 0, b"k", value, []))
        producer.flush(30.0)
        eventually(lambda: value in [each.value for each in tail.read(0.1)], "it is read")
        return True

    try:
        assert exchange(b"before")
        user.change_server("second")
        user.change_file("second")
        time.sleep(LOGIN_LOOK_S)  # as a process that polls would have looked by now
        tail.read(0)
        producer.poll(0)
        time.sleep(REAUTHENTICATED_S)  # every connection must log in again meanwhile
        assert exchange(b"after")
        assert LOGIN_REFUSAL.now() == ""
    finally:
        producer.close()
        tail.close()


def test_what_is_refused_goes_on_by_itself_once_the_file_has_the_new_password(
    settings: Settings, tmp_path: Path
) -> None:
    user = User(settings, tmp_path / "word", "operator")
    consumer = TopicTail(user.address, COMMANDS_TOPIC)
    try:
        user.change_server("second")
        eventually(lambda: consumer.read(0.1) == [] and LOGIN_REFUSAL.now() != "", "the old one is refused", 40)
        user.change_file("second")
        eventually(
            lambda: consumer.read(0.1) == [] and LOGIN_REFUSAL.now() == "", "the new one is given", TOLD_WITHIN_S
        )
        ends_s = time.monotonic() + REAUTHENTICATED_S
        while time.monotonic() < ends_s:
            consumer.read(0.1)
        assert LOGIN_REFUSAL.now() == ""
    finally:
        consumer.close()


@pytest.mark.rule("L5")
def test_an_open_transaction_survives_the_logins_of_its_connection(settings: Settings, tmp_path: Path) -> None:
    user = User(settings, tmp_path / "word", "shard-s1", "operator")
    topic = user.address.topic_prefix + RESULTS_TOPIC

    class Slow(TransactionalPublisher):
        """Rests between its records and its commit."""

        def _step(self, name: str, call: Callable[[float], object], deadline_s: float) -> None:
            if name == "send_offsets_to_transaction":
                user.change_server("second")
                user.change_file("second")
                time.sleep(LOGIN_LOOK_S)
                self._login.renew(self._producer)
                time.sleep(2 * REAUTHENTICATED_S)
            super()._step(name, call, deadline_s)

    source = user.address.topic_prefix + shard_topic("s1")
    assigned: list[int] = []
    events = AssignmentEvents(assigned=assigned.extend, revoked=lambda _: None, started=lambda _: None)
    member = RecordConsumer(user.address, source, GroupOptions(group="balance-shard-s1", instance="t"), events)
    try:
        eventually(lambda: member.poll(1, 0.1) == ({}, {}) and assigned, "it has joined")
        publisher = Slow(user.address, "s1.0", source, member.group_metadata, publish_deadline_s=PUBLISHED_S)
        publisher.open()
        position = GroupPosition(
            topic_id=bytes(16), lane=0, at=LanePoint(next_offset=1, lane_time_ms=1, digest=bytes(32), leader_epoch=-1)
        )
        with ThreadPoolExecutor(1) as pool:  # its member polls on, as a worker's does
            done = pool.submit(publisher.publish, [OutRecord(topic, 0, b"k", b"v", [])], position)
            while not done.done():
                member.poll(1, 0.1)
            done.result()
        eventually(lambda: (member.committed(0) or (0,))[0] == 1, "it is committed")
    finally:
        member.close()


def test_a_member_whose_lanes_ask_nothing_logs_in_under_a_new_password(settings: Settings, tmp_path: Path) -> None:
    user = User(settings, tmp_path / "word", "shard-s1", "operator")
    source = user.address.topic_prefix + shard_topic("s1")
    events = AssignmentEvents(assigned=lambda _: None, revoked=lambda _: None, started=lambda _: None)
    member = RecordConsumer(user.address, source, GroupOptions(group="balance-shard-s1", instance="t"), events)
    asking = member._asking  # it joins no group: nothing else of the member tells what it is refused
    try:
        eventually(lambda: member.poll(1, 0.1) == ({}, {}) and member._group_metadata, "it polls")
        member.committed(0)  # it is logged in now, whatever the group's position is
        user.change_server("second")
        user.change_file("second")
        ends_s = time.monotonic() + REAUTHENTICATED_S
        while time.monotonic() < ends_s:
            member.poll(1, 0.1)
        for _ in range(100):
            asking.poll(0)
        assert LOGIN_REFUSAL.now() == ""
    finally:
        member.close()


def test_how_far_the_router_is_takes_the_operators_right_and_costs_nothing_else_without(
    settings: Settings, tmp_path: Path
) -> None:
    operator, gateway = User(settings, tmp_path / "one", "operator"), User(settings, tmp_path / "two", "gateway")
    shown = read_backlog(settings, operator.address, {})
    hidden = read_backlog(settings, gateway.address, {})

    assert shown.waiting is not None  # how many depends on what other tests left in the topic (test_backlog counts)
    assert (shown.members, shown.fault) == (0, "")
    assert (hidden.waiting, hidden.members) == (None, None)
    assert "balance-router" in hidden.fault
