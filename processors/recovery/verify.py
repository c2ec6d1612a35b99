"""Proves a shard's books: double entry, balances, holds, sequences, and that journal, results and archive agree.

Everything in MySQL is read as of one moment; results and archive are compared for the rows that were published, or are
covered, at that moment. What is found is named; nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

from processors.faults import Undecodable
from processors.ids import id_time_ms, root_of, slice_of
from processors.lane.placements import Placements
from processors.ledger.addresses import at_levels
from processors.ledger.commands import SLICED_BY_LANE_TIME
from processors.ledger.rows import Account, AccountKey, Hold, OpenRefund, OpenTransfer, TransactionKey
from processors.recovery.trails import Trail, leads_to, openings_of, opens_right, whole_trail
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import ChangeKey
from processors.stores.archive_rows import Covered
from processors.stores.rows import JournalRow, PlacementRow, Progress
from processors.stores.shard_reader import SliceReader, rows_of_slice
from processors.wire.journal_chunk import ChunkRow
from processors.wire.records import Record
from processors.wire.result_keys import keys_of
from processors.wire.results import Result, decode_result
from processors.wire.statement_chunk import StatementRow

R = TypeVar("R")

DETAILS_MAX = 10  # findings named per check; the count is of all
ARCHIVE_OFFSETS = 20_000  # rows of one read from the archive: some 6 MB
ACCOUNTS_AT_ONCE = 1_000  # looked up together: many times what is on the way at once, and 300 KB of answers
CHANGES_AT_ONCE = 2_000  # some 600 KB of answers
_SUM_MASK = 2**256 - 1
# Only what the last batches published may come again (L4); this is ten of them (L8), some 10 MB a lane.
AGAIN_ROWS_MAX = 40_000


class Books(SliceReader, Protocol):
    """A shard's database as of one moment (``stores.shard_reader.open_snapshot``)."""

    def positions(self) -> dict[int, Progress]:
        """Return lane -> progress."""

    def trial_balance(self, lanes: int) -> dict[tuple[int, int, str], int]:
        """Return (lane, level, currency) -> sum of all accounts."""

    def accounts(self) -> Iterator[Account]:
        """Yield every account."""

    def holds(self) -> Iterator[tuple[TransactionKey, Hold]]:
        """Yield every open hold."""

    def open_refunds(self) -> Iterator[tuple[TransactionKey, OpenRefund]]:
        """Yield every open refund."""

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        """Return what a lane knows of placement keys, by key."""

    def open_transfers(self) -> Iterator[tuple[TransactionKey, OpenTransfer]]:
        """Yield every open transfer."""

    def slices(self) -> list[int]:
        """Return the journal's slices."""

    def slice_bounds(self, number: int) -> dict[int, tuple[int, int]]:
        """Return lane -> first and last offset in a slice."""


class ArchivedBooks(Protocol):
    """The archive (``stores.archive_reader``)."""

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return (lane, results partition) -> how far it reaches."""

    def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
        """Return the rows of a stretch."""

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        """Yield an account's changes."""

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        """Return the entries of some changes: one each, or several that differ; of one that is not there, none."""


class PlacedBooks(Protocol):
    """A shard's database, as far as it says where partners are (``stores.shard_reader``)."""

    def positions(self) -> dict[int, Progress]:
        """Return lane -> progress."""

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        """Return what a lane knows of placement keys, by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was proven or refuted. ``counted`` says over how many rows."""

    name: str
    counted: int
    wrong: int
    details: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Say whether nothing was wrong."""
        return self.wrong == 0


@dataclass(slots=True)
class _Tally:
    """Counts what a check looked at and what it found."""

    name: str
    counted: int = 0
    wrong: int = 0
    details: list[str] = field(default_factory=list)

    def refute(self, told: str) -> None:
        self.wrong += 1
        if len(self.details) < DETAILS_MAX:
            self.details.append(told)

    def check(self) -> Check:
        return Check(name=self.name, counted=self.counted, wrong=self.wrong, details=tuple(self.details))


@dataclass(slots=True)
class _Sum:
    """A sum over the hashes of rows, in any order: with a row more, a row less or another row it is another sum."""

    count: int = 0
    total: int = 0

    def add(self, payload: bytes) -> None:
        self.count += 1
        self.total = self.total + int.from_bytes(hashlib.sha256(payload).digest(), "big") & _SUM_MASK


class _Statements:
    """Compares changes that the archive covers with the accounts' statements there, some at a time."""

    def __init__(self, archive: ArchivedBooks | None) -> None:
        self._archive = archive
        self._waiting: dict[ChangeKey, bytes] = {}
        self._tally = _Tally("statements have each covered change, column by column")

    def add(self, result: Result) -> None:
        self._waiting |= {
            ChangeKey(change.address.decode(), change.currency.decode(), change.sequence): change.entry
            for change in keys_of(result).changes
        }
        if len(self._waiting) >= CHANGES_AT_ONCE:
            self._compare()

    def _compare(self) -> None:
        assert self._archive is not None
        archived = self._archive.entries_at(self._waiting)
        for key, change in self._waiting.items():
            self._tally.counted += 1
            if archived.get(key) != {change}:
                how = "is another" if key in archived else "is not there; `balance archive repair` brings it back"
                self._tally.refute(f"{key.address} {key.currency}: change {key.sequence} {how}")
        self._waiting.clear()

    def check(self) -> Check:
        if self._waiting:
            self._compare()
        return self._tally.check()


@dataclass(slots=True)
class _Journal:
    """What was read of the journal: by account the trail of all postings, and the tail, of those not archived yet.

    ``published`` and ``covered`` are sums by lane: of the rows that were published, or covered, when the books were
    read.
    """

    statements: _Statements
    trails: dict[AccountKey, Trail] = field(default_factory=dict)
    tails: dict[AccountKey, Trail] = field(default_factory=dict)
    published: dict[int, _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    covered: dict[int, _Sum] = field(default_factory=lambda: defaultdict(_Sum))


@dataclass(slots=True)
class _Read:
    """What was read of a lane in one results partition; what has no larger place than that is a repetition (A1)."""

    largest: tuple[int, int] = (-1, 0)
    recent: OrderedDict[tuple[int, int], bytes] = field(default_factory=OrderedDict)  # place -> digest

    def is_first(self, place: tuple[int, int]) -> bool:
        return place > self.largest

    def is_same(self, place: tuple[int, int], payload: bytes) -> bool:
        return self.recent.get(place) == hashlib.sha256(payload).digest()

    def note(self, place: tuple[int, int], payload: bytes) -> None:
        if not self.is_first(place):
            return
        self.largest = place
        self.recent[place] = hashlib.sha256(payload).digest()
        if len(self.recent) > AGAIN_ROWS_MAX:
            self.recent.popitem(last=False)


Progressing = Callable[[str, int], None]  # which check, how many rows so far
LaneCoverage = dict[int, dict[int, Covered]]  # lane -> results partition -> how far the archive reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyParts:
    """What is compared. ``results`` yields the records of every results partition; None leaves that comparison out."""

    books: Books
    lanes: int
    results_partitions: int
    archive: ArchivedBooks | None
    results: Callable[[], Iterable[Record]] | None
    on_progress: Progressing


def verify(parts: VerifyParts) -> list[Check]:
    """Prove a shard's books.

    Returns:
        One entry a check, each with what it found. The journal may hold only the newest rows of an account. Then its
        books are proven from the balance before the first of these rows on (V4), and with the archive that balance is
        compared with the archived change. A gap that a removed slice left is filled from the archive. Without the
        archive, an account that has no row left is neither proven nor counted. Rows of partners who moved away do not
        count. Of one who came by a move the rows since then do, and the balance before the first of them is believed
        where the archive does not have it yet.

    Raises:
        Unavailable: A store does not answer; nothing is proven then.
    """
    positions = parts.books.positions()
    here = placements_of(parts.books)
    slices = parts.books.slices()
    coverage = _coverage(parts, positions)  # once: the sink goes on while we read
    read = _read_journal(parts, here, positions, coverage)
    checks = [
        _lanes(positions),
        _trial_balance(parts),
        _holds(parts, here),
        _balances(parts, here, read),
    ]
    if parts.results is not None:
        checks.append(_results(parts, positions, set(slices), read.published))
    if parts.archive is not None:
        archived = _archive(
            parts, parts.archive, positions, coverage=coverage, slices=set(slices), journal=read.covered
        )
        checks += [archived, read.statements.check()]
    return checks


def _lanes(positions: dict[int, Progress]) -> Check:
    """Prove that all lanes are of one topic. Else each is compared with the results and rows of its own topic."""
    tally = _Tally("lanes are all of one topic", counted=len(positions))
    lanes_of: dict[bytes, list[int]] = defaultdict(list)
    for lane, progress in sorted(positions.items()):
        lanes_of[progress.topic_id].append(lane)
    if len(lanes_of) > 1:
        for topic_id, lanes in lanes_of.items():
            tally.refute(f"topic id {topic_id.hex()}: lanes {', '.join(map(str, lanes))}")
    return tally.check()


def _trial_balance(parts: VerifyParts) -> Check:
    tally = _Tally("trial balance is zero in each lane, level and currency")
    for (lane, level, currency), total in parts.books.trial_balance(parts.lanes).items():
        tally.counted += 1
        if total:
            tally.refute(f"lane {lane} level {level} {currency}: {total}")
    return tally.check()


def placements_of(books: PlacedBooks) -> Placements:
    """Return what a shard knows of placement keys, of all lanes together: a key is in one of them."""
    rows = {key: row for lane in books.positions() for key, row in books.placements(lane).items()}
    return Placements(rows, home=True)  # no other shard has rows of a root without a placement key


def _holds(parts: VerifyParts, here: Placements) -> Check:
    """Prove that what accounts hold is what open holds say, and that they count what is open.

    Of owned partners: of one who arrives only some of the rows are there yet.
    """
    tally = _Tally("held is the sum of open holds, and open rows are counted")
    held: dict[AccountKey, int] = defaultdict(int)
    opened: dict[AccountKey, int] = defaultdict(int)
    for hold in _owned(parts.books.holds(), here):
        for address in at_levels(hold.address, hold.levels):
            held[address, hold.currency] += hold.remaining_minor
            opened[address, hold.currency] += 1
    for refund in _owned(parts.books.open_refunds(), here):
        for address in at_levels(refund.address, refund.levels):
            opened[address, refund.currency] += 1
    in_transit: dict[AccountKey, int] = defaultdict(int)
    for transfer in _owned(parts.books.open_transfers(), here):
        for address in at_levels(transfer.address, transfer.levels):
            opened[address, transfer.currency] += 1
            in_transit[address, transfer.currency] += transfer.amount_minor
    for account in _owned_accounts(parts, here):
        key = (account.address, account.currency)
        said = (account.held, account.open_count, account.in_transit_minor)
        found = (held.pop(key, 0), opened.pop(key, 0), in_transit.get(key, 0))
        tally.counted += 1
        if said != found:
            tally.refute(f"{key}: held, open count and in transit are {said}, open rows say {found}")
    for key in opened:
        tally.refute(f"{key}: something is open on an account that is not there")
    return tally.check()


def _owned(rows: Iterable[tuple[TransactionKey, R]], here: Placements) -> Iterator[R]:
    return (row for (root, _), row in rows if here.owns(root))


def _owned_accounts(parts: VerifyParts, here: Placements) -> Iterator[Account]:
    return (account for account in parts.books.accounts() if here.owns(root_of(account.address)))


def _balances(parts: VerifyParts, here: Placements, read: _Journal) -> Check:
    """Prove that each account is where its postings lead, without a gap (V4)."""
    tally = _Tally("balances are the sum of postings, sequences without a gap")
    accounts = _owned_accounts(parts, here)
    while some := list(islice(accounts, ACCOUNTS_AT_ONCE)):
        led = [(account, _trail_of(parts, account, read)) for account in some]
        openings = None if parts.archive is None else openings_of(parts.archive, led)
        for account, trail in led:
            if openings is None and not trail.count and account.sequence:
                continue  # all its rows have left, and there is nothing to compare it with
            tally.counted += 1
            came_here = here.came_here(root_of(account.address))
            if not (leads_to(trail, account) and opens_right(trail, account, openings, came_here=came_here)):
                key = (account.address, account.currency)
                tally.refute(f"{key}: the account is {account}, its postings lead to {trail}")
            parts.on_progress("balances", tally.counted)
    for key in read.trails:
        tally.refute(f"{key}: postings on an account that is not there")
    return tally.check()


def _trail_of(parts: VerifyParts, account: Account, read: _Journal) -> Trail:
    """Take an account's trail out of what was read."""
    key = (account.address, account.currency)
    return whole_trail(parts.archive, account, read.trails.pop(key, None), read.tails.get(key))


def _read_journal(
    parts: VerifyParts, here: Placements, positions: dict[int, Progress], coverage: LaneCoverage
) -> _Journal:
    """Read the journal once, and compare what is covered of it with the accounts' statements on the way."""
    read = _Journal(statements=_Statements(parts.archive))
    for count, (lane, row, result) in enumerate(_journal_rows(parts), 1):
        is_covered = _is_covered(parts, coverage.get(lane, {}), row.root, lane, (row.lane_offset, row.lane_index))
        if _is_of_this_stay(here, row):
            _add_postings(read.trails, result)
            if parts.archive is not None and not is_covered:
                _add_postings(read.tails, result)
        if row.lane_offset < positions[lane].published_offset:
            read.published[lane].add(row.result)
        if is_covered:
            read.covered[lane].add(row.result)
            read.statements.add(result)
        parts.on_progress("journal", count)
    return read


def _is_of_this_stay(here: Placements, row: JournalRow) -> bool:
    """Say whether a row leads to its partner's accounts as they are here: he is owned, and the row came after him.

    What was decided here before he moved away, and came back, is followed by what another shard decided.
    """
    placed = here.row_of(row.root)
    return here.owns(row.root) and (placed is None or row.lane_offset >= placed.since_offset)


def _add_postings(trails: dict[AccountKey, Trail], result: Result) -> None:
    for posting in result.postings:
        if posting.balance_change or posting.held_change:
            trails.setdefault((posting.address, result.currency), Trail()).add(posting)


def _journal_rows(parts: VerifyParts) -> Iterator[tuple[int, JournalRow, Result]]:
    for number in parts.books.slices():
        for lane in parts.books.slice_bounds(number):
            for row in rows_of_slice(parts.books, number, lane):
                yield lane, row, decode_result(row.result)


def _slice(result: Result) -> int:
    """Return a row's slice: its id's hour, of the service's own records the lane time's (I7)."""
    time_ms = None if result.type in SLICED_BY_LANE_TIME else id_time_ms(result.command_id)
    return slice_of(result.lane_time_ms if time_ms is None else time_ms)


def _coverage(parts: VerifyParts, positions: dict[int, Progress]) -> LaneCoverage:
    """Return lane -> results partition -> how far the archive reaches."""
    if parts.archive is None:
        return {}
    found: dict[int, dict[int, Covered]] = defaultdict(dict)
    for incarnation in {progress.topic_id for progress in positions.values()}:  # one, unless ``_lanes`` says otherwise
        for (lane, partition), covered in parts.archive.coverage(incarnation).items():
            if lane in positions and positions[lane].topic_id == incarnation:
                found[lane][partition] = covered
    return found


def _is_covered(parts: VerifyParts, coverage: dict[int, Covered], root: str, lane: int, place: tuple[int, int]) -> bool:
    count = parts.results_partitions
    covered = coverage.get(partition_of(root, count) if root else lane % count)
    return covered is not None and place <= (covered.lane_offset, covered.lane_index)


def _results(parts: VerifyParts, positions: dict[int, Progress], slices: set[int], journal: dict[int, _Sum]) -> Check:
    """Prove that each published row is on the results topic, byte for byte, and once for a consumer that dedupes (A1).

    Results may have been published twice, after the group's offset was lost (L4); then the bytes must be the same.
    """
    assert parts.results is not None
    tally = _Tally("each journal row was published once, byte for byte")
    found: dict[int, _Sum] = defaultdict(_Sum)
    read: dict[tuple[int, int], _Read] = defaultdict(_Read)  # by results partition and lane
    for record in parts.results():
        if record.value is None:
            continue
        result = decode_result(record.value)
        progress = positions.get(result.lane)
        if progress is None or result.incarnation != progress.topic_id or not result.journalled:
            continue
        place, copies = (result.lane_offset, result.lane_index), read[record.partition, result.lane]
        if not copies.is_first(place):
            if not copies.is_same(place, record.value):
                tally.refute(f"lane {result.lane} offset {place}: published again, and not known to be the same")
        elif result.lane_offset < progress.published_offset and _slice(result) in slices:
            found[result.lane].add(record.value)
        copies.note(place, record.value)
        tally.counted += 1
        parts.on_progress("results", tally.counted)
    for lane in positions:
        if journal.get(lane, _Sum()) != found[lane]:
            tally.refute(f"lane {lane}: {journal[lane].count} rows in the journal, {found[lane].count} published")
    return tally.check()


def _archive(
    parts: VerifyParts,
    archive: ArchivedBooks,
    positions: dict[int, Progress],
    *,
    coverage: LaneCoverage,
    slices: set[int],
    journal: dict[int, _Sum],
) -> Check:
    """Prove that each covered row is in the archive's journal, byte for byte."""
    tally = _Tally("each covered journal row is in the archive, byte for byte")
    for lane, progress in positions.items():
        found, reached = _Sum(), coverage.get(lane, {})
        for place, payload in _archived(archive, lane, progress, tally):
            result = decode_result(payload)
            if _slice(result) in slices and _is_covered(parts, reached, result.root, lane, place):
                found.add(payload)
            tally.counted += 1
            parts.on_progress("archive", tally.counted)
        if journal.get(lane, _Sum()) != found:
            tally.refute(f"lane {lane}: {journal[lane].count} rows covered, {found.count} archived")
    return tally.check()


def _archived(
    archive: ArchivedBooks, lane: int, progress: Progress, tally: _Tally
) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield place and bytes of a lane's archived rows, up to where the lane stood when the books were read.

    Where some rows cannot be read the check says so, and goes on with the others.
    """
    for start in range(0, progress.at.next_offset, ARCHIVE_OFFSETS):
        end = min(start + ARCHIVE_OFFSETS, progress.at.next_offset)
        try:
            rows = archive.journal(progress.topic_id, lane, start, end - 1)
        except Undecodable as fault:
            tally.refute(fault.detail)
            continue
        yield from (((offset, index), payload) for offset, index, payload in rows)
