"""Which placement keys a lane has, what waits for others, and what a hand-off has brought so far (M1 to M7). No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum

from processors.ledger.book import KnownSince
from processors.routing.buckets import bucket_named, bucket_of, placement_key_of
from processors.stores.rows import ParkedRow, PlacementRow, PlacementState, RowsOf, rows_of
from processors.wire.admission import Admission
from processors.wire.route import Route, RouteKind

_NEVER_MOVED = KnownSince(ids_ms=0, refunds_ms=0)


class Turn(Enum):
    """Whether a record's generation of its placement key is the one that is owned here (M1)."""

    HERE = "HERE"  # it is, and nothing waits before it
    LATER = "LATER"  # it is still to come, or others wait: the record is parked
    NEVER = "NEVER"  # it was here, or never will be: no router sends such a record


class Placements:
    """A lane's placement keys, as its database has them once the batches decided so far are committed.

    ``changed`` has the rows that were changed since ``take_changes``. A row itself is never changed, but replaced.
    ``home`` says whether the shard owns generation 0 of every placement key.

    A lane may have tens of thousands of them, so nothing that a single record asks goes through all.
    """

    def __init__(self, rows: Mapping[str, PlacementRow], *, home: bool) -> None:
        """Begin with the lane's rows."""
        self.rows: dict[str, PlacementRow] = {}
        self.changed: dict[str, PlacementRow] = {}
        self.parked_records = 0  # that wait for any of them
        self.home = home
        self._waiting: set[str] = set()  # owned placement keys for which records wait
        self._roots_in: dict[int, set[str]] = {}  # roots that have a row, by bucket
        for row in rows.values():
            self._keep(row)

    def turn_of(self, route: Route, root: str) -> Turn:
        """Say whether a root's record that came by a route is to be decided now.

        A MOVE_OUT names the generation that it ends; where it takes a root out of its bucket, the bucket's.
        """
        row, generation = self.rows.get(route.placement_key), route.generation
        if self.rows and root != route.placement_key and self._has_its_own(root):
            return Turn.NEVER  # the root has left its bucket
        if row is None:
            if generation == 0:
                return Turn.HERE if self.home else Turn.NEVER
            return Turn.LATER
        match row.state:
            case PlacementState.OWNED if generation == row.generation:
                return Turn.LATER if row.parked else Turn.HERE
            case PlacementState.ARRIVING:
                return Turn.LATER if generation >= row.generation else Turn.NEVER
            case _:
                return Turn.LATER if generation > row.generation else Turn.NEVER

    def row_of(self, root: str) -> PlacementRow | None:
        """Return the row of the placement key that has a root here: its own, else its bucket's."""
        if not self.rows:
            return None
        return self.rows.get(root if self._has_its_own(root) else placement_key_of(root))

    def _has_its_own(self, root: str) -> bool:
        """Say whether a root was here under its own key; while only records wait for that, the bucket has it (M6)."""
        row = self.rows.get(root)
        return row is not None and not row.only_waits

    def owns(self, root: str) -> bool:
        """Say whether a root's commands are decided here (M9)."""
        row = self.row_of(root)
        return self.home if row is None else row.state is PlacementState.OWNED

    def has(self, root: str) -> bool:
        """Say whether the rows of a root that are here are his, and neither frozen nor left behind."""
        row = self.row_of(root)
        return self.home if row is None else row.state in {PlacementState.OWNED, PlacementState.ARRIVING}

    def came_here(self, root: str) -> bool:
        """Say whether a root moved here, or is about to: another shard may have decided some of its ids (M6)."""
        return self.row_of(root) is not None

    def known_since(self, root: str) -> KnownSince:
        """Return since when all of a root's ids are known here (M6)."""
        row = self.row_of(root)
        if row is None:
            return _NEVER_MOVED
        return KnownSince(ids_ms=row.ids_since_ms, refunds_ms=row.refunds_since_ms)

    def here_from(self, root: str) -> int:
        """Return the lane offset of the record by which a root came here; 0 where it was here from the beginning."""
        row = self.row_of(root)
        return 0 if row is None else row.since_offset

    def waiting(self) -> list[PlacementRow]:
        """Return the owned placement keys for which records wait, in the order of the keys (M5)."""
        return [self.rows[key] for key in sorted(self._waiting)]

    def rows_of(self, placement_key: str) -> RowsOf:
        """Return which rows move with a placement key (M6)."""
        roots = self._roots_in.get(bucket_of(placement_key), ())
        return rows_of(placement_key, {root: self.rows[root] for root in roots})

    def forget_ahead_of(self, placement_key: str) -> None:
        """Have nothing count that went ahead of other moves and has ids of the same roots: a bucket's, its roots'."""
        if bucket_named(placement_key) is None:
            row = self.rows.get(placement_key)
            others = [] if row is not None and not row.only_waits else [placement_key_of(placement_key)]
        else:
            roots = self._roots_in.get(bucket_of(placement_key), ())
            others = [root for root in roots if self.rows[root].only_waits]
        for row in [self.rows[key] for key in others if key in self.rows]:
            if row.ahead_generation and row.state is PlacementState.AWAY:
                self.put(row.without_ahead())

    def put(self, row: PlacementRow) -> None:
        """Replace a placement key's row."""
        self.changed[row.placement_key] = row
        self._keep(row)

    def _keep(self, row: PlacementRow) -> None:
        key = row.placement_key
        before = self.rows.get(key)
        self.parked_records += row.parked - (0 if before is None else before.parked)
        self.rows[key] = row
        if row.parked and row.state is PlacementState.OWNED:
            self._waiting.add(key)
        else:
            self._waiting.discard(key)
        if bucket_named(key) is None:
            self._roots_in.setdefault(bucket_of(key), set()).add(key)

    def park(self, admission: Admission, route: Route) -> ParkedRow:
        """Note that one more record waits for its placement key, and return it as it is stored."""
        key = route.placement_key
        row = self.rows.get(key) or PlacementRow(
            placement_key=key, generation=route.generation - 1, state=PlacementState.AWAY
        )
        self.put(replace(row, parked=row.parked + 1))
        return ParkedRow(placement_key=key, record=admission.record, is_move_out=route.kind is RouteKind.MOVE_OUT)

    def unpark(self, placement_key: str, records: int) -> None:
        """Note that some of the records that waited for a placement key are decided."""
        row = self.rows[placement_key]
        assert records <= row.parked, f"{records} records of {placement_key} are decided, {row.parked} waited"
        self.put(replace(row, parked=row.parked - records))

    def take_changes(self) -> list[PlacementRow]:
        """Return the rows that were changed since the last call, which from now on count as stored."""
        changed, self.changed = self.changed, {}
        return list(changed.values())


def in_turn(keys: list[PlacementRow], offset: int) -> list[PlacementRow]:
    """Return the keys from another one on at each offset, so that each has the most room now and then (M5).

    By a hash, since TICKs may stand at every second offset, or every tenth; by the log alone, since it decides.
    """
    first = int.from_bytes(hashlib.sha256(b"%d" % offset).digest()[:8]) % max(1, len(keys))
    return keys[first:] + keys[:first]


def digest_so_far(digest: bytes, rest: bytes) -> bytes:
    """Return the digest that the next part of a hand-off must name (M4).

    Args:
        digest: Over the whole rows that have come.
        rest: The beginning of a row of which the end is still to come.
    """
    return chain_rows(digest, [rest]) if rest else digest


def chain_rows(digest: bytes, rows: Iterable[bytes]) -> bytes:
    """Return a digest over rows after some more: SHA-256 of the last digest and each packed row, one by one (M8).

    One by one, so that it does not matter into which parts the rows are cut.
    """
    for row in rows:
        digest = hashlib.sha256(digest + row).digest()
    return digest
