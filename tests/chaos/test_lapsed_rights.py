"""Rights on the brokers that are gone for some seconds, as in a rolling restart: waited out, loudly, and no stop."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of the driver's stubs
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from processors.faults import Fault
from processors.ops import addresses
from processors.streams.consumer import GroupOptions
from processors.streams.publisher import TransactionalPublisher
from processors.streams.topics import ARCHIVED_TOPIC, RESULTS_TOPIC, shard_topic
from processors.troubles import needs_somebody
from processors.wire.positions import GroupPosition, LanePoint
from processors.wire.records import OutRecord
from tests import secured_servers
from tests.chaos.lanes import SHARD, Shard
from tests.chaos.whole_service import WholeService
from tests.kafka_log import Member
from tests.servers import Place

LAPSE_S = 8.0
DEADLINE_S = 30.0
# A broker acknowledges a change of rights some time before it goes by it: mostly milliseconds, more under load.
LEARNT_S = 10.0
# Now and then the client knows of the refusal before the offsets are sent, and says only that its state is erroneous
# (one in six). A lane tries again with another producer, as this test does.
TRIES = 8
WORKER = f"shard-{SHARD}"
RIGHTS = {
    "group READ": (WORKER, ResourceType.GROUP, f"balance-shard-{SHARD}", AclOperation.READ),
    "topic READ": (WORKER, ResourceType.TOPIC, shard_topic(SHARD), AclOperation.READ),
    "topic WRITE": (WORKER, ResourceType.TOPIC, RESULTS_TOPIC, AclOperation.WRITE),
    "transactional id WRITE": (WORKER, ResourceType.TRANSACTIONAL_ID, f"{SHARD}.0", AclOperation.WRITE),
}
OF_THE_OTHERS = {
    "router's group": ("router", ResourceType.GROUP, "balance-router", AclOperation.READ),
    "router's topic": ("router", ResourceType.TOPIC, shard_topic(SHARD), AclOperation.WRITE),
    "expirer's topic": (f"expirer-{SHARD}", ResourceType.TOPIC, shard_topic(SHARD), AclOperation.WRITE),
    "sink's group": ("sink", ResourceType.GROUP, "balance-sink", AclOperation.READ),
    "sink's topic": ("sink", ResourceType.TOPIC, ARCHIVED_TOPIC, AclOperation.WRITE),
    "recaller's group": ("recaller", ResourceType.GROUP, "balance-recaller", AclOperation.READ),
    "recaller's topic": ("recaller", ResourceType.TOPIC, RESULTS_TOPIC, AclOperation.READ),
}


@pytest.fixture(scope="module")
def shard(secured_place: Callable[..., Place]) -> Shard:
    return Shard(secured_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))


@contextmanager
def without(shard: Shard, right: str) -> Iterator[None]:
    """Deny a right while the block runs."""
    user, kind, name, operation = (RIGHTS | OF_THE_OTHERS)[right]
    admin = secured_servers.kafka_admin(shard.settings)
    of_whom = (
        kind,
        shard.address.topic_prefix + name,
        ResourcePatternType.LITERAL,
        f"User:balance-{user}",
        "*",
        operation,
    )
    for done in admin.create_acls([AclBinding(*of_whom, AclPermissionType.DENY)]).values():
        done.result(DEADLINE_S)
    try:
        yield
    finally:
        for taken in admin.delete_acls([AclBindingFilter(*of_whom, AclPermissionType.DENY)]).values():
            taken.result(DEADLINE_S)


def test_a_right_that_is_gone_for_some_seconds_is_waited_out_with_a_loud_log(shard: Shard) -> None:
    shard.write_day("before", payments=20)
    with shard.worker() as worker:
        shard.await_decided()
        for right in RIGHTS:
            with without(shard, right):
                shard.write_day(right.lower().replace(" ", "-"), payments=20)
                time.sleep(LAPSE_S)
            shard.await_decided()
            assert shard.stop_codes() == {}, right
        told = [line for line in worker.log.splitlines() if "AUTHORIZATION_FAILED" in line]
        assert len(told) >= len(RIGHTS), worker.log
        assert [line for line in told if not re.search(r"\[(error|critical) ", line)] == []
        assert len(told) < LAPSE_S * len(RIGHTS)  # and it does not fill the log
    shard.assert_exactly_once()


def test_a_transaction_whose_records_are_refused_says_what_the_broker_said(shard: Shard) -> None:
    address = addresses.kafka_address(shard.settings.changed(process=WORKER))
    position = GroupPosition(
        topic_id=bytes(16), lane=0, at=LanePoint(next_offset=1, lane_time_ms=1, digest=bytes(32), leader_epoch=0)
    )
    records = [OutRecord(address.topic_prefix + RESULTS_TOPIC, 0, b"k", b"v", []) for _ in range(100)]
    told: list[Fault] = []
    with Member(address, shard_topic(SHARD), GroupOptions(group=f"balance-shard-{SHARD}", instance="a")) as member:
        member.await_assigned(0)
        with without(shard, "topic WRITE"):
            time.sleep(LEARNT_S)
            while len(told) < TRIES and not any(needs_somebody(fault) for fault in told):
                publisher = TransactionalPublisher(
                    address,
                    f"{SHARD}.0",
                    address.topic_prefix + shard_topic(SHARD),
                    member.consumer.group_metadata,
                    publish_deadline_s=10.0,
                )
                publisher.open()
                with pytest.raises(Fault) as refused:
                    publisher.publish(records, position)
                told.append(refused.value)
                publisher.close()
    assert "TOPIC_AUTHORIZATION_FAILED" in str(told[-1])
    assert needs_somebody(told[-1])


def test_rights_of_every_process_that_are_gone_for_some_seconds_end_none_of_them(
    secured_place: Callable[..., Place],
) -> None:
    service = WholeService(
        secured_place(
            BALANCE_EXPIRER__TICK_MS="500", BALANCE_REMOVER__INTERVAL_MS="1000", BALANCE_SINK__BATCH_WAIT_MS="50"
        )
    )
    with service.processes():
        with service.load(seed=7) as load:
            service.await_progress()
            with ExitStack() as lapsed:
                for right in RIGHTS | OF_THE_OTHERS:
                    lapsed.enter_context(without(service, right))
                time.sleep(LAPSE_S)
            service.await_progress()
            load.await_batches(5)
        service.await_answers()
        assert set(service.restarts().values()) == {0}
        service.settle()
