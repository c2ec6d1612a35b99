"""Reads a shard's placement keys, which of them are moving, and what money is between shards: for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from processors.ledger.outcomes import Contra
from processors.ledger.tables import ACCOUNTS, HOLDS
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Reconnecting
from processors.stores.placement_sql import select_every_placement, select_moving, select_placements_at
from processors.stores.rows import PlacementRow
from processors.stores.sql_text import text_literal

MOVES_MAX = 100  # shown at once
_JOURNAL = "journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much a shard has, about: the server's own estimates, which may be a tenth off. Bytes are those of rows."""

    accounts: int
    holds: int
    ids: int
    bytes: int


class MovesReader:
    """Questions about a shard's moves. For one thread."""

    def __init__(self, address: MysqlAddress) -> None:
        """Nothing is connected yet."""
        self._connection = Reconnecting(address)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def under_way(self) -> list[PlacementRow]:
        """Return placement keys that are sealed or arriving here, or for which records wait; MOVES_MAX at most."""
        return self._connection.ask(lambda session: select_moving(session, MOVES_MAX))

    def placements(self) -> dict[str, PlacementRow]:
        """Return what the shard's lanes know of placement keys, by key; there may be 65,536 and more."""
        return self._connection.ask(select_every_placement)

    def placements_at(self, lanes: Mapping[str, int]) -> dict[str, PlacementRow]:
        """Return what lanes know of some placement keys, by key.

        Args:
            lanes: The lane of each placement key that is asked for.
        """
        return self._connection.ask(lambda session: select_placements_at(session, lanes)) if lanes else {}

    def sizes(self) -> Sizes:
        """Return how much there is, about; asked without reading it."""
        names = ", ".join(text_literal(name) for name in (ACCOUNTS.name, HOLDS.name, _JOURNAL))
        rows = self._connection.ask(
            lambda session: session.query(
                "SELECT table_name, COALESCE(table_rows, 0), COALESCE(data_length, 0) FROM information_schema.tables "
                f"WHERE table_schema = DATABASE() AND table_name IN ({names})",
                "asking how large tables are",
            )
        )
        found = {
            name.decode() if isinstance(name, bytes) else name: (int(count), int(size)) for name, count, size in rows
        }
        return Sizes(
            accounts=found[ACCOUNTS.name][0],
            holds=found[HOLDS.name][0],
            ids=found[_JOURNAL][0],
            bytes=sum(size for _, size in found.values()),
        )

    def between_shards(self) -> dict[tuple[Contra, str], int]:
        """Return what ``@moved`` and ``@transit`` have here, over lanes and levels, by name and currency; not zeros.

        Minor units. Over all shards each comes to zero where nothing is on its way.
        """
        names = ", ".join(text_literal(each.value) for each in (Contra.MOVED, Contra.TRANSIT))
        rows = self._connection.ask(
            lambda session: session.query(
                f"SELECT name, currency, SUM(balance) AS total FROM system_account WHERE name IN ({names}) "
                "GROUP BY name, currency HAVING total <> 0 ORDER BY name, currency",
                "adding up what is between shards",
            )
        )
        return {(Contra(name.decode()), currency.decode()): int(total) for name, currency, total in rows}
