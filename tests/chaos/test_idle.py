"""A service that nobody used for longer than its servers remember it: producers' ids, connections, locks' owners."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devtools import stack
from devtools.stack import Server
from processors.settings import load_settings
from processors.streams.connection import KafkaAddress
from processors.streams.topics import COMMANDS_TOPIC
from tests.chaos.lanes import Shard
from tests.integration.ingress import Running, forwarded, letters, make_service, root_in
from tests.integration.test_stack import variables
from tests.kafka_log import KafkaLog
from tests.servers import Place

CONFIG = Path(__file__).parents[2] / "config"
SHORT = """
transactional.id.expiration.ms=5000
transaction.remove.expired.transaction.cleanup.interval.ms=1000
producer.id.expiration.ms=5000
producer.id.expiration.check.interval.ms=1000
connections.max.idle.ms=5000
"""
# Beyond all of these, and beyond the 20 s after which MySQL closes a silent lane's connection (L7).
IDLE_S = 35.0


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[str]:
    """Return the address of a broker that soon forgets whoever is silent."""
    root = tmp_path / "root"
    shutil.copytree(CONFIG, root / "config")
    with (root / "config/stack/server.properties").open("a") as properties:
        properties.write(SHORT)
    settings = load_settings(root=root, environment=variables(tmp_path / "stack"))
    stack.start(settings, Server.KAFKA)
    try:
        yield stack.addresses(settings).kafka
    finally:
        stack.stop(settings, Server.KAFKA)


@pytest.mark.rule("L5")
@pytest.mark.rule("L7")
@pytest.mark.rule("R7")
def test_lane_and_router_go_on_after_everybody_forgot_them(brokers: str, fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(BALANCE_KAFKA__BOOTSTRAP_SERVERS=brokers))
    address = KafkaAddress(bootstrap_servers=brokers, topic_prefix="idle.")
    log, root = KafkaLog(address), root_in(0)
    make_service(address)

    with shard.worker(), Running(address) as router:
        shard.write_day("acme", 5)
        log.write(COMMANDS_TOPIC, [b"before"], key=root.encode())
        router.forward(1)
        shard.await_decided()
        idle_until_s = time.monotonic() + IDLE_S
        while time.monotonic() < idle_until_s:
            router.step()
        shard.write_day("globex", 5)
        log.write(COMMANDS_TOPIC, [b"after"], key=root.encode())
        router.forward(2)
        shard.await_decided()
        shard.assert_exactly_once()
        assert shard.stop_codes() == {}

    assert [record.value for record in forwarded(log)] == [b"before", b"after"]
    assert letters(log) == []
