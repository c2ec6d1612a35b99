"""A shard's tables in memory: rows by key, and the counts and unique keys that MySQL would check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any

from processors.faults import LaneStopped, StopCode
from processors.ids import id_time_ms, slice_of, slice_of_id
from processors.ledger.addresses import level_of
from processors.ledger.book import Keys, Rows
from processors.ledger.outcomes import Contra
from processors.ledger.rows import (
    Account,
    AccountKey,
    Decision,
    DecisionKey,
    Hold,
    MovedId,
    OpenRefund,
    OpenTransfer,
    Refunded,
    SystemKey,
    TransactionKey,
)
from processors.ledger.rules import Rules
from processors.ledger.tables import (
    ACCOUNTS,
    HOLDS,
    MOVED_IDS,
    MOVING_TABLES,
    REFUNDED,
    ROOT_TABLES,
    AnyTable,
    RowChange,
)
from processors.routing.buckets import bucket_of
from processors.stores.rows import (
    BatchWrite,
    Border,
    IngressKey,
    IngressPosition,
    JournalRow,
    NewJournalRow,
    OverriddenTime,
    ParkedRow,
    PlacementRow,
    Progress,
    RowsOf,
    rows_of,
)
from processors.wire.packed_ids import IdOf, framed_ids, packed_in_rows
from processors.wire.packed_rows import pack_row
from tests.simulation.fakes.widths import too_wide

PAGE_ROWS = 20  # of frozen rows, read at once; the real one has more, and its partners have more rows

ROW_IDS_MAX = 2  # so that a hand-off of few ids has some rows of them
RowKey = tuple[int, int, int]  # lane, offset, index
CommandKey = tuple[bytes, str, int]  # command id, root, slice


@dataclass(slots=True)
class Tables:
    """Rows are never changed in place once they are in here, so that a copy of the dictionaries is a backup."""

    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    holds: dict[TransactionKey, Hold] = field(default_factory=dict)
    hold_lanes: dict[TransactionKey, int] = field(default_factory=dict)
    open_refunds: dict[TransactionKey, OpenRefund] = field(default_factory=dict)
    open_transfers: dict[TransactionKey, OpenTransfer] = field(default_factory=dict)
    refunded: dict[TransactionKey, Refunded] = field(default_factory=dict)
    moved_ids: dict[DecisionKey, MovedId] = field(default_factory=dict)
    placements: dict[tuple[int, str], PlacementRow] = field(default_factory=dict)  # lane, placement key
    parked: dict[tuple[int, int], ParkedRow] = field(default_factory=dict)  # lane, offset
    system: dict[tuple[int, SystemKey], int] = field(default_factory=dict)
    journal: dict[int, dict[RowKey, JournalRow]] = field(default_factory=dict)  # by slice; a slice must be there (A7)
    by_command: dict[CommandKey, JournalRow] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    stops: dict[int, tuple[StopCode, str]] = field(default_factory=dict)
    ingress: dict[int, dict[IngressKey, IngressPosition]] = field(default_factory=dict)
    batch_digests: dict[tuple[int, int], Border] = field(default_factory=dict)
    rules: dict[tuple[int, int], tuple[int, Rules]] = field(
        default_factory=dict
    )  # lane, version -> since offset, rules
    lane_times: dict[tuple[int, int], OverriddenTime] = field(default_factory=dict)  # lane, first offset of the stretch
    waiting: dict[int, int] = field(default_factory=dict)  # lane -> the record whose time it waited for last

    def backup(self) -> Tables:
        copied: dict[str, Any] = {each.name: dict(getattr(self, each.name)) for each in fields(self)}
        copied["journal"] = {number: dict(rows) for number, rows in self.journal.items()}
        return Tables(**copied)

    # ------------------------------------------------------------------ reading

    def load(self, keys: Keys, decision_of: Callable[[bytes], Decision]) -> Rows:
        """Return copies of the rows that are there."""
        rows = Rows()
        for table in ROOT_TABLES:
            stored = table.rows_in(self)
            table.rows_in(rows).update((key, copy(stored[key])) for key in table.keys_in(keys) if key in stored)
        for root, command_id in keys.decisions:
            time_ms = id_time_ms(command_id)
            found = None if time_ms is None else self.by_command.get((command_id, root, slice_of(time_ms)))
            if found is not None:
                rows.decisions[root, command_id] = decision_of(found.result)
        for key in keys.moved_ids:
            if key in self.moved_ids:
                rows.decisions.setdefault(key, decision_of(self.moved_ids[key].result))
        return rows

    def sums(self, rows: RowsOf) -> dict[SystemKey, int]:
        """Return what the accounts of a placement key hold, by level and currency."""
        sums: dict[SystemKey, int] = {}
        for (address, currency), account in self.accounts.items():
            if is_of(ACCOUNTS, (address, currency), rows):
                key = (level_of(address), Contra.MOVED, currency)
                sums[key] = sums.get(key, 0) + account.balance
        return dict(sorted(sums.items()))

    def parked_of(self, lane: int) -> list[ParkedRow]:
        """Return a lane's parked records, in order."""
        return [row for key, row in sorted(self.parked.items(), key=lambda each: each[0]) if key[0] == lane]

    def placements_of(self, lane: int) -> dict[str, PlacementRow]:
        """Return a lane's placement keys."""
        return {key: row for (of_lane, key), row in self.placements.items() if of_lane == lane}

    def frozen(self, lane: int, sealed: PlacementRow) -> Iterator[bytes]:
        """Yield the rows that move with a sealed placement key, packed, in an order that is the same each time.

        A page is read when its first row is asked for, as of then.
        """
        for table in MOVING_TABLES:
            yield from self.ids(lane, sealed) if table is MOVED_IDS else self._pages(table, lane, sealed)

    def ids(self, lane: int, sealed: PlacementRow) -> Iterator[bytes]:
        """Yield the ids that move with a placement key, packed, but for those that went ahead."""
        yield from _packed(MOVED_IDS, self._decided_here(lane, sealed))
        if not sealed.ahead_offset:
            yield from self._pages(MOVED_IDS, lane, sealed)

    def _pages(self, table: AnyTable, lane: int, sealed: PlacementRow) -> Iterator[bytes]:
        page = self._page(table, lane, sealed, None)
        while page:
            yield from _packed(table, page)
            page = self._page(table, lane, sealed, page[-1][0])

    def _page(self, table: AnyTable, lane: int, sealed: PlacementRow, after: Any) -> list[tuple[Any, Any]]:
        rows = rows_of(sealed.placement_key, self.placements_of(lane))
        found = (
            (key, row)
            for key, row in sorted(table.rows_in(self).items())
            if (after is None or key > after) and is_of(table, key, rows) and _is_kept(table, key, row, sealed)
        )
        return list(islice(found, PAGE_ROWS))

    def _decided_here(self, lane: int, sealed: PlacementRow) -> Iterator[tuple[DecisionKey, MovedId]]:
        rows = rows_of(sealed.placement_key, self.placements_of(lane))
        for number in sorted(self.journal):
            for key, row in sorted(self.journal[number].items()):
                time_ms = id_time_ms(row.command_id) if row.slice == slice_of_id(row.command_id) else None  # I7
                is_meant = row.root != "" and rows.has(row.root, bucket_of(row.root))
                is_recent = time_ms is not None and time_ms >= sealed.sealed_ids_since_ms
                first_offset = max(sealed.sealed_from_offset, sealed.ahead_offset)
                of_this_stay = first_offset <= key[1] < sealed.since_offset
                if key[0] == lane and is_meant and is_recent and of_this_stay:
                    yield (row.root, row.command_id), MovedId(row.result)

    def rows_of(self, lane: int, from_offset: int, to_offset: int) -> list[JournalRow]:
        found = [
            (key, row)
            for rows in self.journal.values()
            for key, row in rows.items()
            if key[0] == lane and from_offset <= key[1] < to_offset
        ]
        return [row for _, row in sorted(found, key=lambda each: each[0])]

    def border_below_published(self, lane: int) -> int:
        """Return the last batch border up to ``published_offset``: where a lane whose position is lost begins (L4)."""
        progress = self.progress.get(lane)
        at_most = 0 if progress is None else min(progress.at.next_offset, progress.published_offset)
        return max((each for of_lane, each in self.batch_digests if of_lane == lane and each <= at_most), default=0)

    def rules_of(self, lane: int) -> dict[int, Rules]:
        """Return a lane's rules by the offset from which they are in force, oldest first."""
        return dict(self.rules[key] for key in sorted(self.rules) if key[0] == lane)

    def drop_slice(self, number: int) -> None:
        for row in self.journal.pop(number).values():
            del self.by_command[row.command_id, row.root, row.slice]

    # ------------------------------------------------------------------ writing

    def apply(self, write: BatchWrite) -> None:
        """Carry out a batch.

        Raises:
            LaneStopped: BUG, where MySQL would find another count, a second row of a key, or a value that is wider
                than its column; MISSING_SLICE (A7).
        """
        lane = write.progress.lane
        for row in write.journal:
            self._insert_journal(row)
        self._write_moves(lane, write)
        for table, changes in write.changes.rows.items():
            for change in changes:
                self._store(table, change)
                if table is HOLDS:
                    self.hold_lanes[change.key] = lane
        for system_key, balance in write.changes.system.items():
            self.system[lane, system_key] = balance
        self._write_lane(lane, write)

    def _store(self, table: AnyTable, change: RowChange) -> None:
        rows, (key, row, before) = table.rows_in(self), change
        _fit(table.name, row, key)
        stored = rows.get(key)
        sequence = None if stored is None else getattr(stored, table.sequence) if table.sequence else 0
        _expect(sequence == before, f"{table.name} {key} at {before}, not at {sequence}")
        if row is None:
            del rows[key]
        elif stored is None:
            rows[key] = row
        else:
            rows[key] = replace(stored, **{name: getattr(row, name) for name in table.changing})

    def _write_moves(self, lane: int, write: BatchWrite) -> None:
        for placement in write.placements:
            self.placements[lane, placement.placement_key] = placement
        for cleared in write.cleared:
            self.delete_rows_of(cleared)
        for table, arrived in write.arrived.items():
            for values in arrived:
                if table is MOVED_IDS:
                    for id_, result in framed_ids(values[-1]):
                        _insert(self.moved_ids, (values[0], id_), MovedId(result))
                    continue
                key, row = table.made_of(values)
                self._store(table, RowChange(key, row, None))
                if table is HOLDS:
                    self.hold_lanes[key] = lane
        for row in write.parked:
            _insert(self.parked, (lane, row.record.offset), row)
        for offset, place in write.unparked.items():
            self.parked[lane, offset] = replace(self.parked[lane, offset], unparked=place)

    def delete_rows_of(self, meant: RowsOf, rows_max: int | None = None) -> int:
        """Delete all that moves with a placement key, or so many of its rows; return how many."""
        found = [
            (table, key) for table in MOVING_TABLES for key in sorted(table.rows_in(self)) if is_of(table, key, meant)
        ]
        for table, key in found[:rows_max]:
            del table.rows_in(self)[key]
        return len(found[:rows_max])

    def _write_lane(self, lane: int, write: BatchWrite) -> None:
        progress = write.progress
        self.ingress[lane] = dict(write.ingress)
        for since_offset, rules in write.rules.items():
            _insert(self.rules, (lane, rules.version), (since_offset, rules))
        for first, told in write.lane_times.items():
            _insert(self.lane_times, (lane, first), told)
        border = Border(at=replace(progress.at, leader_epoch=-1), ingress=dict(write.ingress))
        _insert(self.batch_digests, (lane, progress.at.next_offset), border)
        self.progress[lane] = progress
        self.stops.pop(lane, None)

    def _insert_journal(self, new: NewJournalRow) -> None:
        row = new.row
        if row.slice not in self.journal:
            raise LaneStopped(StopCode.MISSING_SLICE, f"no partition for slice {row.slice}")
        _fit("journal", row)
        _fit("journal", new)
        _insert(self.by_command, (row.command_id, row.root, row.slice), row)
        _insert(self.journal[row.slice], (row.lane, row.lane_offset, row.lane_index), row)


def _packed(table: AnyTable, rows: Iterable[tuple[Any, Any]]) -> Iterator[bytes]:
    if table is MOVED_IDS:
        yield from packed_in_rows([_id_of(*each) for each in rows], ids_max=ROW_IDS_MAX)
        return
    for key, row in rows:
        values = table.values_of(RowChange(key, row, None))
        yield pack_row(table, [value.encode() if isinstance(value, str) else value for value in values])


def _id_of(key: DecisionKey, moved: MovedId) -> IdOf:
    root, command_id = key
    return IdOf(root.encode(), command_id, moved.result)


def _is_kept(table: AnyTable, key: Any, row: Any, sealed: PlacementRow) -> bool:
    """Say whether no remover may have deleted a row yet, as of a seal (M3)."""
    if table is HOLDS:
        return bool(row.remaining_minor) or row.expires_at_ms >= sealed.sealed_ids_since_ms
    if table is REFUNDED:
        return (id_time_ms(key[1]) or 0) >= sealed.sealed_refunds_since_ms
    return table is not MOVED_IDS or (id_time_ms(key[1]) or 0) >= sealed.sealed_ids_since_ms


def is_of(table: AnyTable, key: Any, rows: RowsOf) -> bool:
    """Say whether a row moves with a placement key."""
    root = table.root_of(key)
    return rows.has(root, bucket_of(root))


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise LaneStopped(StopCode.BUG, f"expected {what}")


def _fit(table: str, row: object, key: tuple[Any, ...] = ()) -> None:
    column = None if row is None else too_wide(table, row, key)
    _expect(column is None, f"room in {table}.{column}")


def _insert(table: dict[Any, Any], key: object, row: object) -> None:
    _expect(key not in table, f"no row {key} yet")
    table[key] = row
