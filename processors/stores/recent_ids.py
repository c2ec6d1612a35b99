"""The ids that a lane decided lately: what is newer than all that was met is not looked for in the journal (I3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from processors.ids import id_time_ms, slice_of, slice_of_id
from processors.stores.mysql import Session
from processors.stores.rows import NewJournalRow
from processors.stores.sql_text import hex_literal

# Ids that stay; twice as many may be there before the oldest leave. 20 MB a lane, and five seconds of the busiest.
IDS_MAX = 100_000
# How far back a new owner reads what the lane decided: at most ``IDS_MAX`` entries of an index. Ids that were made
# before are looked for, as all are by a lane that remembers nothing.
LOADED_MS = 10_000


class RecentIds:
    """Every id from ``floor_ms`` on under which the lane wrote a journal row; of older ones it says nothing.

    An id is remembered under whatever root it came, so that another root's makes it looked for, and does no harm.
    Nobody else writes the lane's rows (L1); after any doubt the lane is taken over anew, and so is this.
    """

    def __init__(self, floor_ms: int, ids: Iterable[bytes], *, ids_max: int = IDS_MAX) -> None:
        """Remember ids, 16 bytes each; each of the lane's that was made at or after ``floor_ms`` must be among them."""
        self.floor_ms = floor_ms
        self._ids_max = ids_max
        self._ids: set[bytes] = set()
        self.add(ids)

    def add(self, ids: Iterable[bytes]) -> None:
        """Remember ids that carry a time and whose rows are committed."""
        floor = self.floor_ms.to_bytes(6, "big")  # an id begins with its time
        self._ids.update(id_ for id_ in ids if id_ >= floor)
        if len(self._ids) > 2 * self._ids_max:
            self._forget_oldest()

    def may_be_decided(self, command_id: bytes) -> bool:
        """Say whether the journal must be asked for an id; False: it has no row of it in this lane."""
        time_ms = id_time_ms(command_id)
        return time_ms is None or time_ms < self.floor_ms or command_id in self._ids

    def may_be_any(self, keys: Collection[tuple[str, bytes]]) -> dict[tuple[str, bytes], None]:
        """Return those of some roots and ids for which the journal must be asked."""
        return {key: None for key in keys if self.may_be_decided(key[1])}

    def _forget_oldest(self) -> None:
        """Raise the floor above the oldest ones' times."""
        newest = sorted(self._ids)[-self._ids_max :]
        self.floor_ms = _after(newest[0])
        self._ids = set()
        self.add(newest)


def ids_of(rows: Iterable[NewJournalRow]) -> Iterator[bytes]:
    """Yield the ids under which rows are found later: those whose time says the row's slice (I1, I7)."""
    return (new.row.command_id for new in rows if slice_of_id(new.row.command_id) == new.row.slice)


def select_recent(session: Session, lane: int, lane_time_ms: int, *, ids_max: int = IDS_MAX) -> RecentIds:
    """Return the newest ids that the journal has of a lane, as far back as ``LOADED_MS``.

    Args:
        session: In the transaction that has the lane's row locked.
        lane: Partition of the shard's topic.
        lane_time_ms: Of the lane's last record. Ids have no bound ahead of it: a credit has the id that another shard's
            rules let through, perhaps further ahead than this lane's do (T2).
        ids_max: How many are remembered.
    """
    first_ms = max(lane_time_ms - LOADED_MS, 0)
    rows = session.query(
        f"SELECT command_id FROM journal FORCE INDEX (by_command) "
        f"WHERE slice >= {slice_of(first_ms)} AND lane = {lane} AND command_id >= {_lowest(first_ms)} "
        f"ORDER BY command_id DESC LIMIT {ids_max}",
        "reading the lane's recent ids",
    )
    ids = [id_ for (id_,) in rows]
    floor_ms = _after(ids[-1]) if len(ids) == ids_max else first_ms  # of the last one's time there may be more
    return RecentIds(floor_ms, ids, ids_max=ids_max)


def _after(id_: bytes) -> int:
    return int.from_bytes(id_[:6], "big") + 1


def _lowest(time_ms: int) -> str:
    return hex_literal(time_ms.to_bytes(6, "big") + bytes(10))
