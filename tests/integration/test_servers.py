"""The fixtures themselves: names on the real servers that are this session's alone."""

from __future__ import annotations

from collections.abc import Callable

import MySQLdb
from confluent_kafka.admin import AdminClient

from tests.servers import Place, Servers


def test_every_server_answers(servers: Servers) -> None:
    assert AdminClient({"bootstrap.servers": servers.kafka_bootstrap_servers}).list_topics(timeout=10).brokers


def test_two_places_share_no_name(fresh_place: Callable[..., Place], servers: Servers) -> None:
    one, other = fresh_place(), fresh_place(BALANCE_TOPICS__LANES="2")
    assert one.settings.kafka.topic_prefix != other.settings.kafka.topic_prefix
    assert one.settings.cassandra.keyspace != other.settings.cassandra.keyspace
    assert one.settings.keys_file != other.settings.keys_file
    assert (one.settings.topics.lanes, other.settings.topics.lanes) == (4, 2)
    for place in (one, other):
        MySQLdb.connect(
            host=servers.mysql_host,
            port=servers.mysql_port,
            user=servers.mysql_user,
            password=servers.mysql_password,
            database=place.settings.shards["s1"].database,
        ).close()
