"""Where databases are and how to log in. No driver is imported here: who only names a server needs none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from processors.faults import Misconfigured

# The library takes these for the machine's own socket, and ignores the port.
SOCKET_HOSTS = frozenset({"", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlAddress:
    """Where a shard's database is. ``ssl_mode`` is DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, always sent.

    ``password_file`` goes before ``password`` and is read at each connect, so that a password can be changed while
    processes run. ``read_timeout_s`` is how long one answer may take; None: the lane's or the reader's own. ``shard``
    is whose it is, for people.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False, default="")
    password_file: Path | None = None
    database: str
    ssl_mode: str = "DISABLED"
    ssl_ca_file: str | None = None
    read_timeout_s: int | None = None
    shard: str = ""

    def __post_init__(self) -> None:
        """Refuse a host that the library would not look for in the network.

        Raises:
            Misconfigured: It means a socket.
        """
        if self.host in SOCKET_HOSTS:
            raise Misconfigured(
                f"host {self.host!r} of database {self.database} means a socket, whatever the port: write 127.0.0.1"
            )

    def __str__(self) -> str:
        place = f"{self.database} at {self.host}:{self.port}"
        return f"shard {self.shard} ({place})" if self.shard else place

    def read_password(self) -> str:
        """Return the password as it is now.

        Raises:
            Misconfigured: The file cannot be read.
        """
        if self.password_file is None:
            return self.password
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise Misconfigured(
                f"the password of database {self.database} cannot be read from {self.password_file}: {error.strerror}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CassandraAddress:
    """Where the archive is and how to log in. ``local_dc`` is whose quorum counts; no ``tls_ca_file``: clear text.

    ``replication_factor``: how many copies of each row ``local_dc`` must keep, at least.
    """

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    local_dc: str
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    tls_ca_file: str = ""
    replication_factor: int = 1

    def read_password(self) -> str:
        """Return the password, as its file has it now where one is named and no ``password``.

        Raises:
            Misconfigured: The file cannot be read.
        """
        if self.password or not self.password_file:
            return self.password
        try:
            return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise Misconfigured(
                f"Cassandra's password cannot be read from {self.password_file}: {error.strerror}"
            ) from error
