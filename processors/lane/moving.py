"""Decides what moves placement keys: seals, parts of a hand-off, receipts, and records that were parked (M1 to M7).

Such records are decided apart from others, with nothing on its way before them, since they change what the records
after them may do, and whose rows are here. Those that are there together are a batch together, as long as none reads
what another has written. Parts between the first and the last of a hand-off are decided while the batch before is being
written: they only add rows nobody reads. So are records that are parked, where they lie between parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Protocol

from processors.faults import Fault
from processors.lane.decided import Decided, Gathered, Receipt, told_of
from processors.lane.deciding import Decider
from processors.lane.parts import (
    Part,
    Parts,
    after_ids_ahead,
    begun_ahead,
    begun_arriving,
    bucket_of_record,
    fits_route,
    follows,
    follows_on_others,
    is_plain_part,
    lacks_ahead,
    not_understood,
    told_lacking,
)
from processors.lane.placements import Turn, chain_rows, in_turn
from processors.ledger.addresses import level_of
from processors.ledger.book import Keys
from processors.ledger.commands import HandOff, Installed, LacksAhead, MoveAhead, MovePartner, SendAgain, Tick
from processors.ledger.outcomes import Contra, Outcome, Reason, Status
from processors.ledger.rows import SystemKey
from processors.ledger.rules import Rules
from processors.ledger.tables import ACCOUNTS, MOVED_IDS
from processors.routing.buckets import bucket_named, bucket_of, placement_key_of
from processors.stores.rows import ParkedRow, PlacementRow, PlacementState, RowsOf
from processors.wire.admission import Admission
from processors.wire.packed_rows import UnpackedRows
from processors.wire.records import Record
from processors.wire.route import RouteKind

# What one record unparks at most: as much as a batch may have (L8). No setting, since it decides.
UNPARKED_RECORDS_MAX = 4_000
UNPARKED_BYTES_MAX = 1024 * 1024  # of payloads, of which a byte can take four in SQL

# Parts of a hand-off that are one batch: eight cost little more than one, and a neighbour waits some 50 ms for them.
PARTS_TOGETHER = 8
# Records that are one batch, whatever they are: the parts, and the last, of as many hand-offs of empty buckets.
TOGETHER_MAX = 2 * PARTS_TOGETHER

# Frozen rows that one transaction deletes before a key comes back: a tenth of a second, and 3 MB of binlog. The lane
# waits for all of them in any case, so there are fewer commits than where the remover deletes them, 2,000 at a time.
CLEARED_ROWS_MAX = 10_000

ARRIVING, SEALED = PlacementState.ARRIVING, PlacementState.SEALED
ALONE = frozenset({HandOff, Installed, LacksAhead, MoveAhead, MovePartner, SendAgain, Tick})


class MovesStore(Protocol):
    """What is read of a lane's rows before a record that is decided alone (``stores.lane_store``)."""

    def sums(self, rows: RowsOf) -> dict[SystemKey, int]:
        """Return what the accounts of a placement key hold, by level and currency (M2)."""

    def parked(self, placement_key: str, *, records_max: int, bytes_max: int) -> list[ParkedRow]:
        """Return the first records that wait for a placement key (M5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A record that is decided alone, and all that was read for it.

    ``unparked`` are the parked records that are decided with it, each as it was stored and as it is admitted now;
    ``sums`` what the accounts hold that it seals, or that are thrown away because it does not follow on them.
    """

    admission: Admission
    unparked: list[tuple[ParkedRow, Admission]] = field(default_factory=list)
    sums: dict[SystemKey, int] = field(default_factory=dict)
    needs: Keys = field(default_factory=Keys)


class Mover:
    """Decides a lane's records that are decided apart from others."""

    records_max = UNPARKED_RECORDS_MAX
    cleared_rows_max = CLEARED_ROWS_MAX

    def __init__(self, decider: Decider, store: MovesStore, admit: Callable[[Record, Rules], Admission]) -> None:
        """Hold the parts; ``admit`` says what a parked record is, which was admitted before, under other rules."""
        self._decider = decider
        self._store = store
        self._admit = admit
        self._parts = Parts(decider.placements)

    def is_alone(self, admission: Admission) -> bool:
        """Say whether a record is decided alone: it seals, arrives, tells of an installation, or unparks others.

        Ask it of a TICK once nothing is on its way before it: only records that are decided alone make a TICK unpark.
        """
        command = admission.command
        if type(command) not in ALONE:
            return False
        if isinstance(command, MovePartner):
            return admission.route is not None and admission.route.kind is RouteKind.MOVE_OUT
        return not isinstance(command, Tick) or bool(self._decider.placements.waiting())

    def waits(self, admission: Admission) -> bool:
        """Say whether a record is parked: it may be decided with parts of a hand-off, since nothing is read for it."""
        route, placements = admission.route, self._decider.placements
        if route is None or admission.command is None:
            return False
        return placements.turn_of(route, admission.root) is Turn.LATER

    def reads_nothing(self, admission: Admission) -> bool:
        """Say whether nothing is read for a record: the next part of a hand-off that has begun, or what is parked."""
        command = admission.command
        if not isinstance(command, Part):
            return self.waits(admission)
        return is_plain_part(command) and self._parts.goes_on(command)

    def left_by(self, admission: Admission) -> PlacementRow | None:
        """Return the row of the stay from which frozen rows may be left that a record brings back; else None (M7)."""
        command, placements = admission.command, self._decider.placements
        if not isinstance(command, Part) or command.number > 0 or not self._parts.is_next(command):
            return None
        row = placements.rows.get(command.placement_key)
        if bucket_named(command.placement_key) is None and (row is None or row.only_waits):  # he left with his bucket
            row = placements.rows.get(placement_key_of(command.placement_key), row)
        return row

    # ------------------------------------------------------------------ reading

    def prepare(self, admission: Admission) -> Alone:
        """Read what a record needs that is decided alone; nothing is on its way before it, unless it reads nothing.

        Raises:
            Fault: The store's.
        """
        placements, command = self._decider.placements, admission.command
        unparked: list[tuple[ParkedRow, Admission]] = []
        summed: MovePartner | HandOff | None = None
        if isinstance(command, Part) and not self.reads_nothing(admission):
            self._forget(command.placement_key)
        if isinstance(command, HandOff):
            if self._parts.disagrees(command):
                summed = command
            elif self._parts.completes(command):
                unparked = self._waiting([placements.rows[command.placement_key]], may_seal=False)
        elif isinstance(command, Tick):
            unparked = self._waiting(in_turn(placements.waiting(), admission.record.offset), may_seal=True)
        elif isinstance(command, MovePartner):
            assert admission.route is not None
            turn = placements.turn_of(admission.route, admission.root)
            summed = command if turn is Turn.HERE else None
        if unparked and isinstance(unparked[0][1].command, MovePartner) and unparked[0][0].is_move_out:
            summed = unparked[0][1].command
        sums = {} if summed is None else self._store.sums(placements.rows_of(summed.placement_key))
        needs = self._decider.needs_of([admission for _, admission in unparked])
        return Alone(admission=admission, unparked=unparked, sums=sums, needs=needs)

    def _forget(self, placement_key: str) -> None:
        """Have the book know nothing of a placement key's roots: their rows come or go."""
        rows = self._decider.placements.rows_of(placement_key)
        self._decider.book.forget_roots(rows.bucket, lambda root: rows.has(root, bucket_of(root)))

    def _waiting(self, keys: Sequence[PlacementRow], *, may_seal: bool) -> list[tuple[ParkedRow, Admission]]:
        """Return the next records to unpark: those before a MOVE_OUT; it alone where it is the first (P3).

        Each key has its even share of the room that is left, so that one's backlog does not hold up the others'.
        """
        found: list[tuple[ParkedRow, Admission]] = []
        bytes_left = UNPARKED_BYTES_MAX
        for keys_left, key in zip(range(len(keys), 0, -1), keys, strict=True):
            records_left = self.records_max - len(found)
            if not key.parked or records_left <= 0 or bytes_left <= 0:
                continue
            rows = self._store.parked(
                key.placement_key, records_max=max(1, records_left // keys_left), bytes_max=bytes_left // keys_left
            )
            if rows[0].is_move_out and may_seal and not found:
                return [self._admitted(rows[0])]
            before = list(takewhile(lambda row: not row.is_move_out, rows))
            found += map(self._admitted, before)
            bytes_left -= sum(len(row.record.value or b"") for row in before)
        return found

    def _admitted(self, row: ParkedRow) -> tuple[ParkedRow, Admission]:
        return row, self._admit(row.record, self._decider.book.rules)

    # ------------------------------------------------------------------ deciding

    def decide(self, alone: Alone, *, published: tuple[int, int]) -> Decided:
        """Decide a record and what it unparks; every row that this needs is in the book.

        Args:
            alone: As it was prepared.
            published: As ``Decider.decide`` takes it.

        Raises:
            UndecidedError: As ``Decider.decide``.
        """
        batch = Gathered()
        self._one(alone, batch)
        with told_of(alone.admission.record):
            self._unpark(alone, batch)
        return self._decided(alone, batch, 1, published)

    def decide_together(
        self,
        alone: Alone,
        behind: Sequence[Admission],
        *,
        published: tuple[int, int],
        clear: Callable[[Admission], None] | None,
    ) -> Decided:
        """Decide a record that unparks nothing, and those right behind it that can be written with it.

        Args:
            alone: As it was prepared.
            behind: Those that come next.
            published: As ``Decider.decide`` takes it.
            clear: Deletes what is left of frozen rows before a record that brings a key back. None where the record
                reads nothing: then only such are decided with it.

        Raises:
            UndecidedError: As ``Decider.decide``.
            Fault: The store's, while it is read what one of them needs.
        """
        assert not alone.unparked, "what is unparked has its rows read"
        batch, taken = Gathered(), 1
        self._one(alone, batch)
        buckets, parts = {bucket_of_record(alone.admission.command)}, int(is_plain_part(alone.admission.command))
        for admission in behind:
            parts += is_plain_part(admission.command)
            if parts > PARTS_TOGETHER or not self._joins(admission, buckets, reads_nothing=clear is None):
                break
            with told_of(admission.record, but=Fault):  # L11: those before it can be decided
                if clear is not None:
                    clear(admission)
                prepared = self.prepare(admission)
            self._one(prepared, batch)
            buckets.add(bucket_of_record(admission.command))
            taken += 1
        return self._decided(alone, batch, taken, published)

    def _joins(self, admission: Admission, buckets: Collection[int | None], *, reads_nothing: bool) -> bool:
        """Say whether a record can be decided in one batch with those before it, which are of some buckets.

        What it reads is what was stored before all of them: it must be none of what they write. Theirs are the rows of
        their buckets.
        """
        if reads_nothing or self.waits(admission):
            return self.reads_nothing(admission)
        command = admission.command
        if bucket_of_record(command) is None or not self.is_alone(admission):
            return False
        if isinstance(command, HandOff) and self._parts.completes(command):
            return not self._decider.placements.rows[command.placement_key].parked
        if bucket_of_record(admission.command) not in buckets:
            return True
        begins = isinstance(command, Part) and command.number == 0
        return not (begins or self._parts.disagrees(command) or isinstance(command, MovePartner))

    def _decided(self, alone: Alone, batch: Gathered, taken: int, published: tuple[int, int]) -> Decided:
        stamped_ms = alone.admission.record.timestamp_ms
        return self._decider.decided(batch, taken=taken, needs=alone.needs, published=published, stamped_ms=stamped_ms)

    def _one(self, alone: Alone, batch: Gathered) -> None:
        with told_of(alone.admission.record):
            if self._decider.meet(alone.admission):
                batch.silent += 1
            else:
                self._itself(alone, batch)

    def _itself(self, alone: Alone, batch: Gathered) -> None:
        admission, command = alone.admission, alone.admission.command
        if isinstance(command, HandOff):
            self._part(admission, command, alone.sums, batch)
        elif isinstance(command, MoveAhead):
            self._part_ahead(admission, command, batch)
        elif isinstance(command, Installed):
            self._installed(admission, command, batch)
        elif isinstance(command, SendAgain | LacksAhead):
            self._send_again(admission, command, batch)
        elif admission.route is not None and not self._decider.waits(admission, batch):
            assert isinstance(command, MovePartner), "it is parked"
            self._seal(admission, command, alone.sums, batch, (admission.record.offset, 0))

    def _unpark(self, alone: Alone, batch: Gathered) -> None:
        """Decide what was parked, in its order; the answers have this record's offset, and an index each (M5)."""
        decider, offset = self._decider, alone.admission.record.offset
        counts: Counter[str] = Counter()
        for index, (row, admission) in enumerate(alone.unparked, 1):
            counts[row.placement_key] += 1
            batch.unparked[row.record.offset] = (offset, index)
            command = admission.command
            if row.is_move_out and isinstance(command, MovePartner):
                decider.placements.unpark(row.placement_key, counts.pop(row.placement_key))
                self._seal(admission, command, alone.sums, batch, (offset, index))
            else:
                decider.answer(admission, batch, (offset, index))
        for placement_key, records in counts.items():
            decider.placements.unpark(placement_key, records)

    # ------------------------------------------------------------------ the source

    def _seal(
        self,
        admission: Admission,
        command: MovePartner,
        sums: dict[SystemKey, int],
        batch: Gathered,
        place: tuple[int, int],
    ) -> None:
        """Freeze a placement key's rows, and post what they hold against ``@moved`` (M2)."""
        decider, placements, standing = self._decider, self._decider.placements, self._decider.standing
        key, now_ms, route = command.placement_key, standing.lane_time_ms, admission.route
        assert route is not None
        if not fits_route(command, route, decider.context.identity.shard):
            decider.refuse(admission, route, batch, why="a MOVE_OUT that does not fit its route")  # no router sends it
            return
        self._post({of: -total for of, total in sums.items()})
        known = placements.known_since(key)
        rules = decider.book.rules
        row = placements.rows.get(key)
        self._forget(key)
        outcome = Outcome(Status.ACCEPTED, Reason.NONE, command.command_id)
        decider.give(admission, outcome, batch, place)
        sealed = PlacementRow(
            placement_key=key,
            generation=command.generation,
            state=PlacementState.SEALED,
            other_shard=command.target,
            since_offset=place[0],
            since_time_ms=now_ms,
            version_us=standing.version_us,
            parked=0 if row is None else row.parked,
            ids_since_ms=known.ids_ms,
            refunds_since_ms=known.refunds_ms,
            sealed_ids_since_ms=max(known.ids_ms, rules.window_start_ms(now_ms)),
            sealed_refunds_since_ms=max(known.refunds_ms, rules.recall_start_ms(now_ms)),
            sealed_from_offset=placements.here_from(key),
        )
        sealed = after_ids_ahead(sealed, command)
        placements.put(sealed)
        decider.note_moves()
        batch.handed_over.append(sealed)

    def _installed(self, admission: Admission, command: Installed, batch: Gathered) -> None:
        """Let the frozen rows be deleted that the target has; a receipt for another generation is none (M7)."""
        row = self._decider.placements.rows.get(command.placement_key)
        if row is None or not row.is_at(SEALED, command.generation):
            batch.silent += 1
            return
        self._decider.placements.put(replace(row, state=PlacementState.LEFT))
        self._decider.journal_control(admission, command, batch)

    def _send_again(self, admission: Admission, command: SendAgain | LacksAhead, batch: Gathered) -> None:
        """Send all of a sealed placement key's rows once more, as an operator wants it; no other has any (M4).

        What went ahead, too. The target's word that it lacks that counts once: then all is sent (M6).
        """
        row = self._decider.placements.rows.get(command.placement_key)
        was_told = isinstance(command, LacksAhead) and row is not None and not row.ahead_generation
        if row is None or was_told or not row.is_at(SEALED, command.generation):
            batch.silent += 1
            return
        self._decider.journal_control(admission, command, batch)
        if row.ahead_generation:
            row = row.without_ahead()
            self._decider.placements.put(row)
        batch.handed_over.append(row)

    # ------------------------------------------------------------------ the target

    def _part(self, admission: Admission, command: HandOff, sums: dict[SystemKey, int], batch: Gathered) -> None:
        if self._parts.disagrees(command):
            self._discard(admission, command, sums, batch)
        elif not self._parts.is_next(command):
            batch.silent += 1
            if lacks_ahead(command, self._decider.placements):
                batch.handed_over.append(told_lacking(command))
        elif command.is_last:
            self._install(admission, command, batch)
        elif (rows := self._parts.unpacked(command)) is None:
            batch.silent += 1  # the first: nothing has come that could be thrown away
            batch.alarms.append(not_understood(command, admission.record.offset))
        else:
            self._arrive(command, rows, batch)
            self._decider.journal_control(admission, command, batch)

    def _part_ahead(self, admission: Admission, command: MoveAhead, batch: Gathered) -> None:
        """Store ids that go ahead of a move (M6); what is not the next of them changes nothing, and has no answer."""
        rows = self._parts.unpacked(command) if self._parts.is_next(command) else None
        if rows is None or any(table is not MOVED_IDS for table, _ in rows.rows):
            batch.silent += 1
            return
        placements, key = self._decider.placements, command.placement_key
        row = placements.rows.get(key)
        if command.number == 0:
            placements.forget_ahead_of(key)
            batch.cleared.append(placements.rows_of(key))
            row = begun_ahead(command, row)
        assert row is not None
        self._store_rows(row, rows, batch)
        self._decider.journal_control(admission, command, batch)

    def _arrive(self, command: HandOff, rows: UnpackedRows, batch: Gathered) -> None:
        """Store a part's rows where they belong: nobody reads them before the key is owned (M4)."""
        placements, standing, key = self._decider.placements, self._decider.standing, command.placement_key
        row = placements.rows.get(key)
        if row is None or not row.is_at(ARRIVING, command.generation):
            if command.number == 0:
                placements.forget_ahead_of(key)
                batch.cleared.append(placements.rows_of(key))  # M7: what is left of rows that were frozen here
            row = begun_arriving(command, row, standing)
        self._post(self._store_rows(row, rows, batch))
        self._decider.note_moves()

    def _store_rows(self, row: PlacementRow, rows: UnpackedRows, batch: Gathered) -> Counter[SystemKey]:
        """Store a part's rows and note that it has come; return what its accounts hold, by level and currency."""
        placements = self._decider.placements
        sums: Counter[SystemKey] = Counter()
        meant = placements.rows_of(row.placement_key)
        for table, values in rows.rows:
            root = table.root_of(values)
            if table is MOVED_IDS and not meant.has(root, bucket_of(root)):
                continue  # a root that left its bucket brought its ids itself; where it left is not told to every shard
            batch.arrived.setdefault(table, []).append(values)
            if table is ACCOUNTS:
                (address, currency), account = table.made_of(values)
                sums[level_of(address), Contra.MOVED, currency] += account.balance
        placements.put(replace(row, parts=row.parts + 1, rest=rows.rest, digest=chain_rows(row.digest, rows.packed)))
        return sums

    def _discard(self, admission: Admission, command: HandOff, sums: dict[SystemKey, int], batch: Gathered) -> None:
        """Throw away what has come of a placement key; it stays parked, with an alarm, until it is sent again (M4).

        Its rows are left as those of a key that went away: they are nobody's, and the remover deletes them.
        """
        placements, standing, key = self._decider.placements, self._decider.standing, command.placement_key
        row = placements.rows[key]
        is_next = row.parts == command.number and follows(command, row)
        told = not_understood if is_next else follows_on_others
        self._post({of: -total for of, total in sums.items()})
        thrown_away = PlacementRow(
            placement_key=key,
            generation=command.generation - 1,
            state=PlacementState.LEFT,
            other_shard=command.source,
            since_offset=admission.record.offset,
            since_time_ms=standing.lane_time_ms,
            parked=row.parked,
        )
        placements.put(thrown_away)
        batch.silent += 1
        batch.alarms.append(told(command, admission.record.offset))

    def _install(self, admission: Admission, command: HandOff, batch: Gathered) -> None:
        """Own a placement key, all of which is here now (M4)."""
        decider = self._decider
        placements, standing, key = decider.placements, decider.standing, command.placement_key
        row = placements.rows[key]
        standing.lane_time_ms = max(standing.lane_time_ms, command.lane_time_ms)
        standing.version_us = max(standing.version_us, command.version_us)
        owned = PlacementRow(
            placement_key=key,
            generation=command.generation,
            state=PlacementState.OWNED,
            other_shard=command.source,
            since_offset=admission.record.offset,
            since_time_ms=standing.lane_time_ms,
            parked=row.parked,
            ids_since_ms=command.ids_since_ms,
            refunds_since_ms=command.refunds_since_ms,
        )
        placements.put(owned)
        decider.journal_control(admission, command, batch)
        batch.handed_over.append(Receipt(shard=command.source, placement_key=key, generation=command.generation))

    def _post(self, sums: dict[SystemKey, int]) -> None:
        """Post what came with accounts, or went with them, against ``@moved``, so that the trial balance stays zero."""
        book = self._decider.book
        for key, total in sums.items():
            if total:
                book.system[key] = book.system.get(key, 0) - total
                book.changed.system[key] = None
