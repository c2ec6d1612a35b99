"""What waits for the router, on real Kafka: behind its group's offsets, else the directory's notes, else everything."""

from __future__ import annotations

import pytest

from processors.ops.backlog import RouterStatus, read_backlog
from processors.settings import Settings, load_settings
from processors.streams.connection import KafkaAddress
from processors.streams.topics import COMMANDS_TOPIC, ROUTER_GROUP
from tests.kafka_log import KafkaLog


@pytest.fixture
def settings(log: KafkaLog) -> Settings:
    log.make(COMMANDS_TOPIC, 3)
    for partition in (0, 1):
        log.write(COMMANDS_TOPIC, [b"a command"] * 10, partition=partition)
    return load_settings().changed(topics={"commands_partitions": 2})


def test_without_offsets_and_notes_what_the_log_still_has_waits(
    address: KafkaAddress, log: KafkaLog, settings: Settings
) -> None:
    log.truncate(COMMANDS_TOPIC, 4, partition=1)

    found = read_backlog(settings, address, {})

    assert (found, found.stands_still) == (RouterStatus(waiting=16, members=0), True)


def test_the_groups_offset_goes_before_the_directorys_note(
    address: KafkaAddress, log: KafkaLog, settings: Settings
) -> None:
    log.commit(ROUTER_GROUP, COMMANDS_TOPIC, 9, partition=0)

    assert read_backlog(settings, address, {0: 2, 1: 8}).waiting == 1 + 2


def test_partitions_above_the_services_own_are_nobodys(
    address: KafkaAddress, log: KafkaLog, settings: Settings
) -> None:
    log.write(COMMANDS_TOPIC, [b"astray"], partition=2)

    assert read_backlog(settings, address, {0: 10, 1: 10}).waiting == 0
