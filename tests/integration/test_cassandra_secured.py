"""A password of Cassandra that is changed while a session lives: the fault says so, and a good one ends it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devtools.stack import certificates
from processors.faults import Fault, Refused, Unavailable
from processors.ops import addresses
from processors.settings import Settings
from processors.stores.cassandra import CassandraSession
from tests.cable import Cable
from tests.secured_servers import cassandra_admin
from tests.servers import Place
from tests.waiting import eventually

# Cassandra 5.0 lets a password be changed again after so long; it knows of a change after two seconds.
CHANGED_AGAIN_S = 5.5
TOLD_WITHIN_S = 50.0
ONE_COPY = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
INSERT = "INSERT INTO $kept (key) VALUES (?)"


@pytest.fixture(scope="module")
def settings(secured_place: Callable[..., Place]) -> Settings:
    return secured_place().settings


class Role:
    """A role of a test's own, with a keyspace, reached through a cable that can be cut."""

    def __init__(self, settings: Settings, cable: Cable, file: Path) -> None:
        self._settings = settings
        self._name = f"test_{secrets.token_hex(4)}"
        self._changed_s = time.monotonic()
        self.file = file
        self.keyspace = f"balance_test_{secrets.token_hex(4)}"
        with cassandra_admin(settings) as admin:
            for cql in (
                f"CREATE ROLE {self._name} WITH LOGIN = true AND PASSWORD = 'first'",
                f"CREATE KEYSPACE {self.keyspace} WITH replication = {ONE_COPY}",
                f"CREATE TABLE {self.keyspace}.kept (key int PRIMARY KEY)",
                f"GRANT SELECT ON KEYSPACE {self.keyspace} TO {self._name}",
                f"GRANT MODIFY ON KEYSPACE {self.keyspace} TO {self._name}",
            ):
                admin.execute(cql)
        file.write_text("first\n")
        self.address = replace(
            addresses.cassandra_address(settings),
            port=cable.port,
            keyspace=self.keyspace,
            username=self._name,
            password_file=str(file),
        )

    def change(self, password: str) -> None:
        """Change the password on the server."""
        time.sleep(max(0.0, self._changed_s + CHANGED_AGAIN_S - time.monotonic()))
        with cassandra_admin(self._settings) as admin:
            admin.execute(f"ALTER ROLE {self._name} WITH PASSWORD = '{password}'")
        self._changed_s = time.monotonic()

    def forget(self) -> None:
        with cassandra_admin(self._settings) as admin:
            admin.execute(f"DROP KEYSPACE {self.keyspace}")
            admin.execute(f"DROP ROLE {self._name}")


@pytest.fixture
def cable(settings: Settings) -> Iterator[Cable]:
    with Cable(settings.cassandra.hosts[0], settings.cassandra.port) as cable:
        yield cable


@pytest.fixture
def role(settings: Settings, cable: Cable, tmp_path: Path) -> Iterator[Role]:
    made = Role(settings, cable, tmp_path / "word")
    yield made
    made.forget()


def fault_of_writing(session: CassandraSession) -> Fault | None:
    try:
        session.note(INSERT, [1])
    except Unavailable as fault:
        return fault
    return None


def lose_connections(cable: Cable, session: CassandraSession) -> None:
    cable.cut()
    eventually(lambda: fault_of_writing(session) is not None, "the connections are lost")
    cable.mend()


def says_refused(session: CassandraSession) -> bool:
    fault = fault_of_writing(session)
    return isinstance(fault, Refused) and "password" in str(fault)


def test_a_session_whose_login_was_refused_says_so_and_goes_on_once_the_password_is_back(
    role: Role, cable: Cable
) -> None:
    session = CassandraSession(role.address, keyspace=role.keyspace)
    try:
        assert fault_of_writing(session) is None
        role.change("second")
        assert fault_of_writing(session) is None  # who is in stays in
        lose_connections(cable, session)
        eventually(lambda: says_refused(session), "the fault names the login", TOLD_WITHIN_S)
        role.change("first")
        eventually(lambda: fault_of_writing(session) is None, "it writes again", TOLD_WITHIN_S)
    finally:
        session.close()


def test_a_session_takes_up_a_new_password_from_its_file(role: Role, cable: Cable) -> None:
    session = CassandraSession(role.address, keyspace=role.keyspace)
    statement = session.prepare(INSERT)
    try:
        role.change("second")
        lose_connections(cable, session)
        eventually(lambda: says_refused(session), "the fault names the login", TOLD_WITHIN_S)
        role.file.write_text("second\n")
        eventually(lambda: fault_of_writing(session) is None, "it writes again", TOLD_WITHIN_S)
        session.write([[(statement, [(7).to_bytes(4, "big")])]])  # a statement from before
    finally:
        session.close()


def test_what_a_role_may_not_do_is_refused_and_waited_for(role: Role, settings: Settings) -> None:
    session = CassandraSession(role.address, keyspace=role.keyspace)
    try:
        with cassandra_admin(settings) as admin:
            admin.execute(f"REVOKE MODIFY ON KEYSPACE {role.keyspace} FROM {role.address.username}")
            eventually(lambda: isinstance(fault_of_writing(session), Refused), "the right is gone", TOLD_WITHIN_S)
            began_s = time.monotonic()
            admin.execute(f"GRANT MODIFY ON KEYSPACE {role.keyspace} TO {role.address.username}")
        eventually(lambda: fault_of_writing(session) is None, "the right is back", TOLD_WITHIN_S)
        assert time.monotonic() - began_s < TOLD_WITHIN_S
    finally:
        session.close()


def test_a_certificate_of_another_authority_is_refused(settings: Settings, tmp_path: Path) -> None:
    address = addresses.cassandra_address(settings)
    with pytest.raises(Refused, match=r"(?i)certificate verify failed"):
        CassandraSession(replace(address, tls_ca_file=str(certificates.authority(tmp_path))), keyspace=None)


def test_a_session_that_was_silent_for_long_is_built_anew(role: Role, cable: Cable) -> None:
    session = CassandraSession(role.address, keyspace=role.keyspace, silence_s=0.0)
    try:
        assert fault_of_writing(session) is None
        before = session._cluster
        lose_connections(cable, session)
        eventually(lambda: fault_of_writing(session) is None, "it writes again", TOLD_WITHIN_S)
        assert session._cluster is not before
    finally:
        session.close()
