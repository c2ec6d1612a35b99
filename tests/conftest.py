"""What tests of every folder share: the real servers, and names on them that are this session's alone."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import MySQLdb
import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import RoundRobinPolicy
from confluent_kafka.admin import AdminClient
from hypothesis import settings

from devtools.stack import secured
from processors.settings import SECURE_PROFILE, load_settings
from tests import secured_servers
from tests import servers as places
from tests.servers import Place, SecondMysql, Servers

_ADMIN_TIMEOUT_S = 30.0

# A test fails for what it finds, not for how long a busy machine took over one example.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


def unique_name(kind: str) -> str:
    """Return a name that no other session uses; fit for a topic, a database or a keyspace."""
    return f"balance_test_{kind}_{secrets.token_hex(4)}"


@pytest.fixture(autouse=True)
def garbage_collected() -> Iterator[None]:
    """Have garbage collected as before, where a worker in this process made that rare: garbage keeps clients open."""
    before = gc.get_threshold()
    yield
    if gc.get_threshold() != before:
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Return the servers' addresses: the environment's, else the running stack's, else containers started for this run.

    A promised service that cannot be had fails the test; it is never skipped.
    """
    named = places.from_settings()
    silent = ["the native stack"] if named is None else places.silent(named)
    if named is not None and not silent:
        yield named
    elif places.docker_answers():
        with places.containers() as started:
            yield started
    else:
        pytest.fail(f"no answer from {', '.join(silent)}, and no Docker: start the stack with `make up`")


@pytest.fixture(scope="session")
def topic_prefix(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Return a maker of topic prefixes; every topic that begins with one is deleted when the session ends.

    So are the logs of processes that ran on them, unless a test failed.
    """
    made: list[str] = []

    def make() -> str:
        made.append(f"t{secrets.token_hex(4)}.")
        return made[-1]

    yield make
    _delete_topics(servers, tuple(made))
    if not request.session.testsfailed:  # else someone wants to read what the processes said
        logs = load_settings().stack.directory / "log"
        for prefix in made:
            shutil.rmtree(logs / f"{prefix}processes", ignore_errors=True)


def _delete_topics(servers: Servers, prefixes: tuple[str, ...]) -> None:
    admin = AdminClient({"bootstrap.servers": servers.kafka_bootstrap_servers})
    topics = [name for name in admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics if name.startswith(prefixes)]
    if prefixes and topics:
        for done in admin.delete_topics(topics).values():  # not waiting until all of it is done
            done.result(timeout=_ADMIN_TIMEOUT_S)


@pytest.fixture(scope="session")
def fresh_database(servers: Servers) -> Iterator[Callable[[], str]]:
    """Return a maker of empty MySQL databases, which are dropped when the session ends."""
    made: list[str] = []

    def make() -> str:
        made.append(unique_name("db"))
        _mysql(servers, [f"CREATE DATABASE {made[-1]}"])
        return made[-1]

    yield make
    _mysql(servers, [f"DROP DATABASE IF EXISTS {name}" for name in made])


def _mysql(servers: Servers, statements: list[str]) -> None:
    connection = MySQLdb.connect(
        host=servers.mysql_host,
        port=servers.mysql_port,
        user=servers.mysql_user,
        password=servers.mysql_password,
        connect_timeout=int(_ADMIN_TIMEOUT_S),
    )
    try:
        for statement in statements:
            connection.query(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def second_mysql() -> Iterator[SecondMysql]:
    """Return a second MySQL server, which is started when the first test asks for it."""
    with places.second_mysql() as second:
        if second is None:
            pytest.fail("no second MySQL server, and no Docker: start the stack with `make up`")
        yield second


@pytest.fixture(scope="session")
def fresh_second_database(second_mysql: SecondMysql) -> Iterator[Callable[[], str]]:
    """Return a maker of names of databases on the second MySQL server, which are dropped when the session ends."""
    made: list[str] = []

    def make() -> str:
        made.append(unique_name("db"))
        return made[-1]

    yield make
    connection = MySQLdb.connect(
        host=second_mysql.host,
        port=second_mysql.port,
        user=second_mysql.user,
        password=second_mysql.password,
        connect_timeout=int(_ADMIN_TIMEOUT_S),
    )
    try:
        for name in made:
            connection.query(f"DROP DATABASE IF EXISTS {name}")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def fresh_keyspace(servers: Servers) -> Iterator[Callable[[], str]]:
    """Return a maker of keyspace names; the keyspaces made under them are dropped with the module's last test.

    Not with the session's: each table takes some of Cassandra's heap even when nobody asks for it, and with the tables
    of all modules it runs full.
    """
    with _keyspaces(servers) as make:
        yield make


@contextmanager
def _keyspaces(servers: Servers) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        made.append(unique_name("ks"))
        return made[-1]

    yield make
    if made:
        _drop_keyspaces(servers, made)


@pytest.fixture(scope="module")
def fresh_place(
    servers: Servers,
    topic_prefix: Callable[[], str],
    fresh_database: Callable[[], str],
    fresh_keyspace: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Place]:
    """Return a maker of places for a whole service; further settings are given as ``BALANCE_...`` variables."""
    return _maker_of_places(servers, topic_prefix, fresh_database, fresh_keyspace, tmp_path_factory)


@pytest.fixture(scope="session")
def lasting_place(
    servers: Servers,
    topic_prefix: Callable[[], str],
    fresh_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Place]]:
    """Return a maker of places as ``fresh_place`` does, for a service that tests of several modules share."""
    with _keyspaces(servers) as lasting_keyspace:
        yield _maker_of_places(servers, topic_prefix, fresh_database, lasting_keyspace, tmp_path_factory)


def _maker_of_places(
    servers: Servers,
    prefix: Callable[[], str],
    database: Callable[[], str],
    keyspace: Callable[[], str],
    folders: pytest.TempPathFactory,
) -> Callable[..., Place]:
    def make(**variables: str) -> Place:
        environment = {
            **servers.environment(),
            "BALANCE_KAFKA__TOPIC_PREFIX": prefix(),
            "BALANCE_SHARDS__S1__DATABASE": database(),
            "BALANCE_CASSANDRA__KEYSPACE": keyspace(),
            "BALANCE_KEYS_FILE": str(folders.mktemp("keys") / "signing-keys.json"),
            "BALANCE_LOG_FORMAT": "json",
            **variables,
        }
        return Place(environment=environment, settings=load_settings(environment=environment))

    return make


@pytest.fixture(scope="module")
def fresh_two_shards(
    fresh_place: Callable[..., Place], second_mysql: SecondMysql, fresh_second_database: Callable[[], str]
) -> Callable[..., Place]:
    """Return a maker of places for a service with two shards, s1 and s2, each on a MySQL server of its own."""

    def make(**variables: str) -> Place:
        return fresh_place(**second_mysql.environment("s2", fresh_second_database()), **variables)

    return make


@pytest.fixture(scope="session")
def secured_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Place]]:
    """Return a maker of places on the secured native stack: certificates, passwords, and no right beyond the table's.

    The stack is started if it does not run.
    """
    made: list[Place] = []

    def make(**variables: str) -> Place:
        environment = {
            "BALANCE_PROFILE": SECURE_PROFILE,
            "BALANCE_KAFKA__TOPIC_PREFIX": f"t{secrets.token_hex(4)}.",
            "BALANCE_SHARDS__S1__DATABASE": unique_name("db"),
            "BALANCE_CASSANDRA__KEYSPACE": unique_name("ks"),
            "BALANCE_KEYS_FILE": str(tmp_path_factory.mktemp("keys") / "signing-keys.json"),
            "BALANCE_LOG_FORMAT": "json",
            **variables,
        }
        # As a process of the service would read them: what else the environment says of the stack counts, too.
        made.append(Place(environment=environment, settings=load_settings(environment={**os.environ, **environment})))
        secured.settle_kafka(made[-1].settings)  # rights on names with this prefix
        return made[-1]

    with secured_servers.borrowed():
        yield make
        for place in made:
            secured_servers.forget(place.settings)


def _drop_keyspaces(servers: Servers, names: list[str]) -> None:
    cluster = Cluster(
        [servers.cassandra_host],
        port=servers.cassandra_port,
        protocol_version=5,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(
                load_balancing_policy=RoundRobinPolicy(), request_timeout=_ADMIN_TIMEOUT_S
            )
        },
    )
    try:
        session = cluster.connect()
        for name in names:
            session.execute(f"DROP KEYSPACE IF EXISTS {name}")
    finally:
        cluster.shutdown()
