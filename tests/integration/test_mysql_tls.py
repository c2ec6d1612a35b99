"""MySQL over TLS: what each mode checks, what a lost connection is called there, and a server that offers no TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import MySQLdb
import pytest

from processors.faults import Fault, Misconfigured, Refused, Retryable
from processors.stores.mysql import Session
from tests.integration.mysql_of_our_own import OwnMysql, own_mysql


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnMysql]:
    with own_mysql(tmp_path_factory.mktemp("mysql")) as own:
        yield own


@pytest.fixture
def without_tls(mysql: OwnMysql) -> Iterator[OwnMysql]:
    mysql.root("SET GLOBAL tls_version = ''", "ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR")
    yield mysql
    mysql.root("SET GLOBAL tls_version = 'TLSv1.2,TLSv1.3'", "ALTER INSTANCE RELOAD TLS")


def test_over_tls_a_connection_that_was_killed_is_a_lost_one(mysql: OwnMysql) -> None:
    session = Session(replace(mysql.address, ssl_mode="REQUIRED"), lane=True)
    ((number,),) = session.query("SELECT CONNECTION_ID()", "looking")
    mysql.root(f"KILL {number}")

    for _ in range(3):  # whatever the library calls it, first and later
        with pytest.raises(Retryable):
            session.query("SELECT 1", "a statement")


def test_over_tls_an_answer_that_does_not_come_in_time_is_a_lost_connection(mysql: OwnMysql) -> None:
    session = Session(replace(mysql.address, ssl_mode="REQUIRED", read_timeout_s=4), lane=True)

    with pytest.raises(Retryable, match="2026"):
        session.query("SELECT SLEEP(20)", "sleeping")


@pytest.mark.parametrize("mode", ["REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"])
def test_a_server_without_tls_is_refused_where_tls_is_asked_for(without_tls: OwnMysql, mode: str) -> None:
    ca = str(without_tls.data / "ca.pem") if mode != "REQUIRED" else None

    with pytest.raises((Misconfigured, Refused)):
        Session(replace(without_tls.address, ssl_mode=mode, ssl_ca_file=ca), lane=True)


def test_required_alone_would_go_on_in_clear_text(without_tls: OwnMysql) -> None:
    """Why the session asks: with this library REQUIRED asks for TLS, and takes what it gets."""
    address = without_tls.address
    connection = MySQLdb.connect(
        host=address.host, port=address.port, user=address.user, password=address.password, ssl_mode="REQUIRED"
    )
    connection.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    ((_, cipher),) = connection.store_result().fetch_row(0, 0)
    connection.close()

    assert cipher == ""


def test_a_server_without_tls_is_taken_where_none_is_asked_for(without_tls: OwnMysql) -> None:
    Session(without_tls.address, lane=True).close()


@pytest.mark.parametrize(
    ("mode", "ca", "kind"),
    [
        ("REQUIRED", None, None),  # whoever the server is
        ("REQUIRED", "ca.pem", None),
        ("REQUIRED", "client-cert.pem", Refused),  # where a file is named, the certificate is held against it
        ("VERIFY_CA", None, Refused),  # the machine's own authorities do not know it
        ("VERIFY_CA", "ca.pem", Refused),  # made for another name than 127.0.0.1: as VERIFY_IDENTITY
        ("VERIFY_IDENTITY", "ca.pem", Refused),
    ],
)
def test_what_each_mode_checks(mysql: OwnMysql, mode: str, ca: str | None, kind: type[Fault] | None) -> None:
    """As docs/operations.md says; MySQL's own library would take VERIFY_CA with the right file."""
    address = replace(mysql.address, ssl_mode=mode, ssl_ca_file=str(mysql.data / ca) if ca else None)

    if kind is None:
        Session(address, lane=True).close()
    else:
        with pytest.raises(kind, match="TLS"):
            Session(address, lane=True)


def test_verify_identity_takes_a_certificate_of_the_host_that_was_named(mysql: OwnMysql) -> None:
    authority = _certificate_for_loopback(mysql.data)
    mysql.root(
        "SET GLOBAL ssl_cert = 'loopback.pem'", "SET GLOBAL ssl_key = 'loopback.key'", "ALTER INSTANCE RELOAD TLS"
    )
    try:
        address = replace(mysql.address, ssl_mode="VERIFY_IDENTITY", ssl_ca_file=str(authority))
        Session(address, lane=True).close()
    finally:
        mysql.root(
            "SET GLOBAL ssl_cert = 'server-cert.pem'",
            "SET GLOBAL ssl_key = 'server-key.pem'",
            "ALTER INSTANCE RELOAD TLS",
        )


def _certificate_for_loopback(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself, and its key, where the server finds them."""
    file = folder / "loopback.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "loopback.key"), "-out", str(file)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return file
