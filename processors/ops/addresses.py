"""Where the servers are, as the settings name them; the layers below know no settings, and no driver is loaded here."""

from __future__ import annotations

from dataclasses import replace

from processors.faults import Misconfigured
from processors.settings import PROCESS, Settings
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.streams.connection import KafkaAddress


def kafka_address(settings: Settings) -> KafkaAddress:
    """Return where the brokers are."""
    kafka = settings.kafka
    return KafkaAddress(
        bootstrap_servers=kafka.bootstrap_servers,
        topic_prefix=kafka.topic_prefix,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username.replace(PROCESS, settings.process),
        sasl_password="" if kafka.sasl_password is None else kafka.sasl_password.get_secret_value(),
        sasl_password_file=str(kafka.sasl_password_file or "").replace(PROCESS, settings.process),
        ssl_ca_file=str(kafka.ssl_ca_file or ""),
    )


def mysql_address(settings: Settings, shard: str) -> MysqlAddress:
    """Return where a shard's database is.

    Raises:
        Misconfigured: The settings know no such shard.
    """
    if shard not in settings.shards:
        raise Misconfigured(f"there is no shard {shard} in the settings; known: {', '.join(settings.shards)}")
    place = settings.shards[shard]
    return MysqlAddress(
        host=place.host,
        port=place.port,
        user=place.user,
        password="" if place.password is None else place.password.get_secret_value(),
        password_file=place.password_file if place.password is None else None,
        database=place.database,
        ssl_mode=place.ssl_mode,
        ssl_ca_file=str(place.ssl_ca_file) if place.ssl_ca_file else None,
        shard=shard,
    )


def replica_address(settings: Settings, shard: str) -> MysqlAddress:
    """Return where a shard's database is read: its replica, where one is named; raises as ``mysql_address``."""
    address, place = mysql_address(settings, shard), settings.shards[shard]
    if not place.replica_host:
        return address
    return replace(address, host=place.replica_host, port=place.replica_port or address.port)


def cassandra_address(settings: Settings) -> CassandraAddress:
    """Return where the archive is."""
    cassandra = settings.cassandra
    return CassandraAddress(
        hosts=cassandra.hosts,
        port=cassandra.port,
        keyspace=cassandra.keyspace,
        local_dc=cassandra.local_dc,
        username=cassandra.username.replace(PROCESS, settings.process),
        password="" if cassandra.password is None else cassandra.password.get_secret_value(),
        password_file=str(cassandra.password_file or "").replace(PROCESS, settings.process),
        tls_ca_file=str(cassandra.tls_ca_file or ""),
        replication_factor=cassandra.replication_factor,
    )
