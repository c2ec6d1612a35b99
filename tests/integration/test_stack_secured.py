"""The secured native stack: nothing in clear text, nobody without a password, no right beyond the table's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import MySQLdb
import pytest

from devtools.stack import certificates
from processors.faults import Fault, Refused
from processors.ops import addresses
from processors.ops.process_kinds import KINDS, name_of
from processors.ops.setting_up import initialize
from processors.settings import Settings
from processors.stores.cassandra import CassandraSession
from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.rights import WRITE, Administrator, rights
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC, shard_topic
from processors.wire.records import OutRecord
from tests.servers import Place
from tests.waiting import eventually

CHECKOUT = Path(__file__).parents[2]
DEADLINE_S = 10.0
# As the driver says it: of a record, where no gap is allowed, and to who may write nothing anywhere.
REFUSED = re.compile("TOPIC_AUTHORIZATION_FAILED|Topic authorization failed|CLUSTER_AUTHORIZATION_FAILED")


@pytest.fixture(scope="module")
def settings(secured_place: Callable[..., Place]) -> Settings:
    """Settings of a place whose topics, database and keyspace are made."""
    made = secured_place().settings
    initialize(made, lambda _said: None)
    return made


def of_process(settings: Settings, process: str) -> KafkaAddress:
    return addresses.kafka_address(settings.changed(process=process))


def write(address: KafkaAddress, topic: str) -> None:
    producer = IdempotentProducer(address, delivery_deadline_ms=int(DEADLINE_S * 1000))
    try:
        producer.send(OutRecord(address.topic_prefix + topic, 0, b"k", b"v", []))
        producer.flush(DEADLINE_S)
    finally:
        producer.close()


def test_kafka_answers_nobody_in_clear_text_or_without_a_login(settings: Settings) -> None:
    address = addresses.kafka_address(settings)
    for protocol in ("PLAINTEXT", "SASL_PLAINTEXT", "SSL"):
        admin = Administrator(replace(address, security_protocol=protocol))
        assert not admin.answers(), protocol
    eventually(Administrator(address).answers, "a broker lets us in")


def test_mysql_lets_nobody_in_without_tls(settings: Settings) -> None:
    shard = settings.shards["s1"]
    with pytest.raises(MySQLdb.OperationalError, match=r"insecure transport|Access denied"):
        MySQLdb.connect(
            host=shard.host, port=shard.port, user=shard.user, password=shard.read_password(), ssl_mode="DISABLED"
        )


def test_cassandra_lets_nobody_in_without_tls_or_as_its_well_known_first_user(settings: Settings) -> None:
    address = addresses.cassandra_address(settings)
    with pytest.raises(Fault):
        CassandraSession(replace(address, tls_ca_file=""), keyspace=None)
    with pytest.raises(Refused, match="AuthenticationFailed"):
        CassandraSession(replace(address, username="cassandra", password="cassandra"), keyspace=None)
    CassandraSession(address, keyspace=None).close()


@pytest.mark.parametrize("process", sorted(rights(["s1"])))
def test_each_process_writes_where_the_table_says_and_nowhere_else(settings: Settings, process: str) -> None:
    address = of_process(settings, process)
    granted = {right.name for right in rights(["s1"])[process] if WRITE in right.operations}
    for topic in (COMMANDS_TOPIC, RESULTS_TOPIC, shard_topic("s1")):
        if topic in granted:
            write(address, topic)
        else:
            with pytest.raises(Fault, match=REFUSED):
                write(address, topic)


def test_each_process_has_a_user() -> None:
    wanted = {name_of(kind, "s1" if chosen.per_shard else "") for kind, chosen in KINDS.items()}
    assert set(rights(["s1"])) == wanted | {"api", "operator", "gateway"}


def test_certificates_are_made_once_and_their_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    made = certificates.server_certificate(tmp_path, "kafka")
    first = made.read_bytes()
    assert certificates.server_certificate(tmp_path, "kafka").read_bytes() == first
    assert {file.name for file in tmp_path.iterdir()} == {".ca.lock", "ca.key", "ca.pem", "kafka.pem"}
    assert [(tmp_path / name).stat().st_mode & 0o077 for name in ("ca.key", "kafka.pem")] == [0, 0]
