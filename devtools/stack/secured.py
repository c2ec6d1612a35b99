"""What the secured stack has beyond the plain one: certificates, users with passwords, and their rights."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from fcntl import LOCK_EX, flock
from pathlib import Path

from devtools.stack.certificates import authority, server_certificate
from devtools.stack.files import write
from devtools.stack.probes import accepts
from processors.faults import Fault, Refused
from processors.ops.addresses import cassandra_address, kafka_address
from processors.settings import OPERATOR, Settings
from processors.stores.addresses import CassandraAddress
from processors.stores.cassandra_roles import OWNER_RIGHTS, READ_RIGHTS, ROW_RIGHTS, Roles
from processors.streams.connection import KafkaAddress
from processors.streams.rights import Administrator, Right, rights

ADMIN = "admin"  # may do everything, on Kafka and on Cassandra; the service never logs in so
# Cassandra's own first user, with a password that everybody knows.
FIRST_ROLE = "cassandra"
PASSWORD_BYTES = 24


def secrets_folder(settings: Settings) -> Path:
    """Return the folder of passwords and certificates, made if it is not there."""
    folder = settings.stack.directory / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    settings.stack.directory.chmod(0o700)
    return folder


def password(file: Path) -> str:
    """Return the password in a file, drawn if there is none: once, though servers that share it start at once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_name(f".{file.name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if not file.exists():
                write(file, secrets.token_urlsafe(PASSWORD_BYTES) + "\n", mode=0o600)
    return file.read_text(encoding="utf-8").rstrip("\n")


def values(settings: Settings, server: str) -> dict[str, str]:
    """Return what the templates of a secured server want filled in."""
    folder = secrets_folder(settings)
    return {
        "authority": str(authority(folder)),
        "certificate": str(server_certificate(folder, server)),
        "admin": ADMIN,
        "password": password(folder / f"{server}-{ADMIN}"),
    }


# ------------------------------------------------------------------ Kafka


def kafka_answers(settings: Settings) -> bool:
    """Say whether the broker lets its administrator in, and serves."""
    return accepts(settings.stack.kafka_port) and kafka_administrator(settings).answers()


def settle_kafka(settings: Settings) -> None:
    """Make each process's user and give it its rights; what is there stays as it is."""
    administrator = kafka_administrator(settings)
    granted = kafka_users(settings)
    folder = secrets_folder(settings)
    administrator.set_passwords({user: password(folder / f"kafka-{user}") for user in granted})
    administrator.grant(granted, prefix=settings.kafka.topic_prefix)


def kafka_users(settings: Settings) -> dict[str, list[Right]]:
    """Return the rights of each user of the service, by name."""
    return {f"balance-{process}": wanted for process, wanted in rights(list(settings.shards)).items()}


def kafka_administrator(settings: Settings) -> Administrator:
    """Return a connection that may make users and give rights."""
    return Administrator(kafka_admin_address(settings))


def kafka_admin_address(settings: Settings) -> KafkaAddress:
    """Return the brokers' address as its administrator uses it."""
    word = password(secrets_folder(settings) / f"kafka-{ADMIN}")
    return replace(kafka_address(settings), sasl_username=ADMIN, sasl_password=word)


# ------------------------------------------------------------------ Cassandra


def cassandra_answers(settings: Settings) -> bool:
    """Say whether the node lets its administrator in: the one we make, or Cassandra's own before that."""
    if not accepts(settings.stack.cassandra_port):
        return False
    for address in (cassandra_admin_address(settings), _first_address(settings)):
        try:
            Roles(address).close()
        except Fault:
            continue
        return True
    return False


def settle_cassandra(settings: Settings) -> None:
    """Make an administrator of our own, take Cassandra's login away, and make each process's role with its rights."""
    folder, admin = secrets_folder(settings), cassandra_admin_address(settings)
    try:
        roles = Roles(admin)
    except Refused:  # there is none yet
        first = Roles(_first_address(settings))
        first.make_administrator(ADMIN, admin.password)
        first.close()
        roles = Roles(admin)
    try:
        roles.forbid(FIRST_ROLE)
        for role, wanted in cassandra_roles(settings).items():
            roles.make(role, password(folder / f"cassandra-{role}"), wanted)
    finally:
        roles.close()


def cassandra_roles(settings: Settings) -> dict[str, Sequence[str]]:
    """Return the rights of each role of the service, by name."""
    of_shards = [f"{kind}-{shard}" for kind in ("remover", "auditor") for shard in settings.shards]
    processes = ["sink", "recaller", *of_shards]
    roles: dict[str, Sequence[str]] = {f"balance-{OPERATOR}": OWNER_RIGHTS, "balance-api": READ_RIGHTS}
    return roles | {f"balance-{process}": ROW_RIGHTS for process in processes}


def cassandra_admin_address(settings: Settings) -> CassandraAddress:
    """Return the archive's address as its administrator uses it."""
    word = password(secrets_folder(settings) / f"cassandra-{ADMIN}")
    return replace(cassandra_address(settings), username=ADMIN, password=word)


def _first_address(settings: Settings) -> CassandraAddress:
    return replace(cassandra_admin_address(settings), username=FIRST_ROLE, password=FIRST_ROLE)
