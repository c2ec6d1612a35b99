"""Makes the roles of Cassandra, each with the rights that docs/operations.md, Rights, gives it."""

from __future__ import annotations

from collections.abc import Sequence

from processors.stores.addresses import CassandraAddress
from processors.stores.cassandra import CassandraSession

# `balance init` and `balance migrate` make keyspace and tables; whoever makes them may do everything there.
OWNER_RIGHTS = ("CREATE", "SELECT", "MODIFY")
# Sink, remover, recaller, auditor and the operators' tools.
ROW_RIGHTS = ("SELECT", "MODIFY")
READ_RIGHTS = ("SELECT",)  # the read API's


class Roles:
    """Makes roles. Close it after use."""

    def __init__(self, administrator: CassandraAddress) -> None:
        """Connect as one who may.

        Raises:
            Refused: The login is refused.
            Unavailable: No node answers.
        """
        self._session = CassandraSession(administrator, keyspace=None)

    def make_administrator(self, role: str, password: str) -> None:
        """Make a role that may do everything."""
        self._session.execute(
            f"CREATE ROLE IF NOT EXISTS {_name(role)} WITH SUPERUSER = true AND LOGIN = true "
            f"AND PASSWORD = {_text(password)}"
        )

    def make(self, role: str, password: str, rights: Sequence[str]) -> None:
        """Make a role with rights on all keyspaces; one that is there keeps its password."""
        self._session.execute(
            f"CREATE ROLE IF NOT EXISTS {_name(role)} WITH LOGIN = true AND PASSWORD = {_text(password)}"
        )
        for right in rights:
            self._session.execute(f"GRANT {right} ON ALL KEYSPACES TO {_name(role)}")

    def forbid(self, role: str) -> None:
        """Let a role log in no more."""
        self._session.execute(f"ALTER ROLE {_name(role)} WITH SUPERUSER = false AND LOGIN = false")

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
