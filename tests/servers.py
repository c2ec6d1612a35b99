"""Where the tests find real servers: the environment, else the running stack, else containers; never a fake."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from devtools import stack
from processors.settings import Settings, load_settings
from tests.borrowing import borrowed

SECOND_SHARD = "s2"  # of config/local.toml

# Kafka's is Confluent's build: the only one whose start script testcontainers knows.
KAFKA_IMAGE = "confluentinc/cp-kafka:8.0.0"
MYSQL_IMAGE = "mysql:9.7"
CASSANDRA_IMAGE = "cassandra:5.0"
_CONNECT_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Addresses of the three servers; ``mysql_user`` may create and drop databases."""

    kafka_bootstrap_servers: str
    mysql_host: str
    mysql_port: int
    mysql_user: str
    mysql_password: str
    cassandra_host: str
    cassandra_port: int

    def environment(self) -> dict[str, str]:
        """Return the settings that point a process of the service, with the one shard ``s1``, at these servers."""
        return {
            "BALANCE_PROFILE": "default",  # the only one that names one shard
            "BALANCE_REMOVER__INTERVAL_MS": "5000",
            "BALANCE_KAFKA__BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "BALANCE_SHARDS__S1__HOST": self.mysql_host,
            "BALANCE_SHARDS__S1__PORT": str(self.mysql_port),
            "BALANCE_SHARDS__S1__USER": self.mysql_user,
            "BALANCE_SHARDS__S1__PASSWORD": self.mysql_password,
            "BALANCE_CASSANDRA__HOSTS": self.cassandra_host,
            "BALANCE_CASSANDRA__PORT": str(self.cassandra_port),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondMysql:
    """Another MySQL server; ``user`` may create and drop databases on it."""

    host: str
    port: int
    user: str
    password: str

    def environment(self, shard: str, database: str) -> dict[str, str]:
        """Return the settings that give the service a further shard on this server."""
        return {
            f"BALANCE_SHARDS__{shard.upper()}__{name}": value
            for name, value in {
                "HOST": self.host,
                "PORT": str(self.port),
                "USER": self.user,
                "PASSWORD": self.password,
                "DATABASE": database,
            }.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A whole service's own names on the servers: topics, database, keyspace, keys.

    ``environment`` holds the settings as variables, for child processes; ``settings`` are the same, read.
    """

    environment: dict[str, str]
    settings: Settings


def from_settings() -> Servers | None:
    """Return the addresses of the service's own settings; None before the native stack was ever started."""
    settings = load_settings()
    shard = settings.shards[settings.home_shard]
    if shard.password is None and shard.password_file is not None and not shard.password_file.exists():
        return None
    return Servers(
        kafka_bootstrap_servers=settings.kafka.bootstrap_servers,
        mysql_host=shard.host,
        mysql_port=shard.port,
        mysql_user=shard.user,
        mysql_password=shard.read_password(),
        cassandra_host=settings.cassandra.hosts[0],
        cassandra_port=settings.cassandra.port,
    )


@contextmanager
def second_mysql() -> Iterator[SecondMysql | None]:
    """Give a second MySQL server: one that answers, else the native stack's, started for it, else a container.

    None where there is none of them.
    """
    settings = load_settings()
    found = settings.shards.get(SECOND_SHARD)
    password_file = None if found is None or found.password is not None else found.password_file
    if found is None or (password_file is not None and not password_file.exists()):
        with _mysql_container() as started:
            yield started
        return

    def second() -> SecondMysql:
        return SecondMysql(host=found.host, port=found.port, user=found.user, password=found.read_password())

    native = stack.Server.MYSQL_2 in stack.needed(settings)
    if native:
        with borrowed(settings, [stack.Server.MYSQL_2]):
            yield second()
    else:
        yield second() if _accepts(found.host, found.port) else None


@contextmanager
def _mysql_container() -> Iterator[SecondMysql | None]:
    if not docker_answers():
        yield None
        return
    from testcontainers.community.mysql import MySqlContainer  # noqa: PLC0415 - needed only where no stack runs

    with MySqlContainer(MYSQL_IMAGE, username="root", root_password="balance", password="balance") as mysql:
        host, port = mysql.get_container_host_ip(), int(mysql.get_exposed_port(3306))
        yield SecondMysql(host=host, port=port, user="root", password="balance")


def silent(servers: Servers) -> list[str]:
    """Return which of the servers accept no connection, in words."""
    kafka_host, _, kafka_port = servers.kafka_bootstrap_servers.partition(",")[0].rpartition(":")
    places = [
        ("Kafka", kafka_host, int(kafka_port)),
        ("MySQL", servers.mysql_host, servers.mysql_port),
        ("Cassandra", servers.cassandra_host, servers.cassandra_port),
    ]
    return [f"{name} at {host}:{port}" for name, host, port in places if not _accepts(host, port)]


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def docker_answers() -> bool:
    """Say whether containers can be started here."""
    import docker  # noqa: PLC0415 - needed only where no stack runs

    try:
        client = docker.from_env(timeout=int(_CONNECT_TIMEOUT_S))
    except docker.errors.DockerException:
        return False
    client.close()
    return True


@contextmanager
def containers() -> Iterator[Servers]:
    """Start the three servers as containers and stop them at the end."""
    from testcontainers.community.cassandra import CassandraContainer  # noqa: PLC0415 - needed only where no stack runs
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415
    from testcontainers.community.mysql import MySqlContainer  # noqa: PLC0415

    with (
        KafkaContainer(KAFKA_IMAGE)
        .with_kraft()
        .with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
        .with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1") as kafka,
        MySqlContainer(MYSQL_IMAGE, username="root", root_password="balance", password="balance") as mysql,
        CassandraContainer(CASSANDRA_IMAGE) as cassandra,
    ):
        host, port = cassandra.get_contact_points()[0]
        yield Servers(
            kafka_bootstrap_servers=kafka.get_bootstrap_server(),
            mysql_host=mysql.get_container_host_ip(),
            mysql_port=int(mysql.get_exposed_port(3306)),
            mysql_user="root",
            mysql_password="balance",
            cassandra_host=host,
            cassandra_port=port,
        )
