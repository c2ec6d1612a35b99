"""A MySQL server of a test's own, where it may change what all sessions meet: users, passwords, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import MySQLdb

from devtools import stack
from devtools.stack import Server
from processors.settings import Settings, load_settings
from processors.stores.addresses import MysqlAddress
from tests.integration.test_stack import variables


@dataclass(frozen=True, slots=True)
class OwnMysql:
    """The server: ``address`` is its user's, with a database; ``root`` runs statements that only root may."""

    address: MysqlAddress
    data: Path
    socket: Path
    settings: Settings

    def start(self) -> None:
        """Start the server again if it has ended, and wait until it answers."""
        stack.start(self.settings, Server.MYSQL)

    def root(self, *statements: str) -> None:
        """Run statements as root, through the socket."""
        connection = MySQLdb.connect(unix_socket=str(self.socket), user="root")
        try:
            for statement in statements:
                connection.query(statement)
        finally:
            connection.close()


@contextmanager
def own_mysql(folder: Path) -> Iterator[OwnMysql]:
    """Start a server on free ports, and stop it at the end."""
    settings = load_settings(environment=variables(folder))
    stack.start(settings, Server.MYSQL)
    try:
        yield _made(settings)
    finally:
        stack.stop(settings, Server.MYSQL)


def _made(settings: Settings) -> OwnMysql:
    addresses, shard = stack.addresses(settings), settings.shards["s1"]
    own = OwnMysql(
        address=MysqlAddress(
            host=addresses.mysql_host,
            port=addresses.mysql_port,
            user=shard.user,
            password=shard.read_password(),
            database=shard.database,
        ),
        data=addresses.mysql_socket.parent,
        socket=addresses.mysql_socket,
        settings=settings,
    )
    own.root(f"CREATE DATABASE IF NOT EXISTS {shard.database}")
    return own
