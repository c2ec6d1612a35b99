"""Reads which moves are under way in a shard, and what money is between shards: for people."""

from __future__ import annotations

from processors.ledger.outcomes import Contra
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Reconnecting
from processors.stores.placement_sql import select_moving
from processors.stores.rows import PlacementRow
from processors.stores.sql_text import text_literal

MOVES_MAX = 100  # shown at once


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
