"""Proves a stretch of a lane's journal, from where it was proven before to where the lane stands.

The rows are MySQL's, and the archive's where a slice has left MySQL. What they must lead to is known: the digest of
each batch border, the system accounts, what was refunded, and the sum of each group of accounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from processors.faults import Undecodable
from processors.lane.standing import chain_digest
from processors.ledger.addresses import level_of
from processors.ledger.outcomes import Contra
from processors.ledger.rows import SystemKey
from processors.recovery.account_sums import AccountScan, change_sum, group_of, modulo
from processors.recovery.archived_rows import ArchivedLane, Place
from processors.recovery.checks import Tally
from processors.recovery.published import RowSum
from processors.recovery.refunds import Refunds
from processors.stores.lane_proofs import LaneProof
from processors.stores.proven_journal import ProvenRow, columns_that_differ
from processors.stores.rows import Progress
from processors.wire.positions import LanePoint
from processors.wire.results import Result, decode_result

STRETCH_OFFSETS = 4_000  # of one read: some megabytes, a fraction of a second


class LaneBooks(Protocol):
    """A shard's journal (``stores.verify_reader``)."""

    def slices(self) -> list[int]:
        """Return the journal's slices."""

    def lane_rows(self, lane: int, first: int, end: int) -> list[ProvenRow]:
        """Return the rows of a stretch of a lane in order."""

    def borders(self, lane: int, first: int, end: int) -> list[LanePoint]:
        """Return a lane's batch borders behind ``first``, up to and with ``end``."""

    def keep(self, proof: LaneProof) -> None:
        """Keep how far a lane is proven."""


@dataclass(slots=True)
class RowTallies:
    """The checks that look at single rows of the journal."""

    chain: Tally = field(
        default_factory=lambda: Tally(
            "rows of the journal lead to each digest that is known, none missing, none another"
        )
    )
    columns: Tally = field(default_factory=lambda: Tally("columns of the journal say what its results say"))
    system: Tally = field(default_factory=lambda: Tally("system accounts are the sum of the postings to them"))


@dataclass(slots=True, kw_only=True)
class LanePass:
    """What is known of a lane on the way from ``start`` to ``end``, where it stands.

    Attributes:
        start: What was proven before.
        end: Where the lane stands.
        system: Its system accounts there.
        moved: The groups of accounts that have a partner who came or left since ``start``.
        may_lack: Says whether slices that may have had rows of the stretch are gone from MySQL by now.
        border_offset: The last batch border; the rows from there on are not compared with a digest yet.
        next_offset: The rows before it are read, and lead to ``digest``.
        digest: The lane's there, if nothing is wrong.
        lane_time_ms: At the last border.
        sums: By group, what the accounts must add up to there.
        at_scan: The same as of when the accounts were read.
        system_changes: What the postings since ``start`` changed on system accounts.
        late_totals: By lane, level and currency, what they changed on accounts after these were read.
        published: The sum of the rows that must be on the results topic.
        clean: Whether nothing was refuted of the rows so far.
        cut: Whether rows have left MySQL and could not be read, so that nothing leads to the digest any more.
        kept_at: Where the proof was kept last.
    """

    start: LaneProof
    end: Progress
    system: dict[SystemKey, int]
    moved: frozenset[int]
    may_lack: Callable[[], bool]
    border_offset: int
    next_offset: int
    digest: bytes
    lane_time_ms: int
    sums: list[int]
    at_scan: list[int]
    system_changes: Counter[SystemKey] = field(default_factory=Counter)
    late_totals: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    published: RowSum = field(default_factory=RowSum)
    clean: bool = True
    cut: bool = False
    kept_at: int = 0

    @property
    def lane(self) -> int:
        """Return the lane's number."""
        return self.start.lane


@dataclass(frozen=True, slots=True, kw_only=True)
class PassParts:
    """What a pass works with. ``keep_every`` is how many offsets are proven between two times that it is kept."""

    books: LaneBooks
    scan: AccountScan
    tallies: RowTallies
    refunds: Refunds
    keep_every: int
    on_progress: Callable[[str, int], None]


def begin_pass(
    start: LaneProof,
    end: Progress,
    *,
    system: dict[SystemKey, int],
    moved: frozenset[int],
    may_lack: Callable[[], bool],
) -> LanePass:
    """Return a pass that goes on from a proof."""
    known = [0 if total is None else total for total in start.account_sums]
    return LanePass(
        start=start,
        end=end,
        system=system,
        moved=moved,
        may_lack=may_lack,
        border_offset=start.next_offset,
        next_offset=start.next_offset,
        digest=start.digest,
        lane_time_ms=start.lane_time_ms,
        sums=list(known),
        at_scan=list(known),
        kept_at=start.next_offset,
    )


def prove_lane(parts: PassParts, of: LanePass, archive: ArchivedLane) -> None:
    """Prove a lane up to where it stands; ``of`` has the outcome."""
    last = of.end.at
    first = min(of.next_offset, archive.needs_from(last.next_offset), of.start.results_offset)
    while first < last.next_offset:
        end = min(first + STRETCH_OFFSETS, last.next_offset)
        borders = parts.books.borders(of.lane, first, end)
        if borders and end < last.next_offset:
            end = borders[-1].next_offset
        if end == last.next_offset:
            borders = [*(each for each in borders if each.next_offset < end), last]
        _stretch(parts, of, archive, (first, end), borders)
        if borders and of.clean and not of.cut and end - of.kept_at >= parts.keep_every:
            _keep(parts, of, archive)
        first = end
    archive.finish()
    _system_accounts(parts, of)
    if not of.cut:
        of.clean = parts.refunds.prove_rest(of.end) and of.clean


def _stretch(
    parts: PassParts, of: LanePass, archive: ArchivedLane, stretch: tuple[int, int], borders: list[LanePoint]
) -> None:
    first, end = stretch
    here = {(each.row.lane_offset, each.row.lane_index): each for each in parts.books.lane_rows(of.lane, first, end)}
    there = archive.rows(first, end)
    waiting = [border for border in borders if border.next_offset > of.next_offset]
    for place in sorted({*here, *there}):
        found = here.get(place)
        payload = there[place] if found is None else found.row.result
        while waiting and place[0] >= waiting[0].next_offset:
            _border(parts, of, archive, waiting.pop(0))
        _row(parts, of, archive, (place, found, payload))
    for border in waiting:
        _border(parts, of, archive, border)
    of.next_offset = max(of.next_offset, end)
    parts.on_progress(f"lane {of.lane}, offset", end)


def _border(parts: PassParts, of: LanePass, archive: ArchivedLane, border: LanePoint) -> None:
    """Compare the digest at a batch border; after one that differs go on from what it should be."""
    tally = parts.tallies.chain
    tally.counted += 1
    if of.digest != border.digest:
        told = f"lane {of.lane}, offsets {of.border_offset} to {border.next_offset - 1}"
        if not archive.is_read and of.may_lack():
            tally.lacks(f"lane {of.lane}: rows have left MySQL, and the archive was not read")
            of.cut = True
        else:
            tally.refute(f"{told}: the rows lead to another digest than the lane's")
            of.clean = False
    of.digest, of.lane_time_ms = border.digest, border.lane_time_ms
    of.border_offset = of.next_offset = border.next_offset


def _row(parts: PassParts, of: LanePass, archive: ArchivedLane, each: tuple[Place, ProvenRow | None, bytes]) -> None:
    place, found, payload = each
    try:
        result = decode_result(payload)
    except Undecodable as fault:
        parts.tallies.columns.refute(f"lane {of.lane} offset {place[0]} index {place[1]}: {fault.detail}")
        of.clean = False
        result = None
    if place[0] >= of.next_offset:
        of.digest = chain_digest(of.digest, payload)
        if result is not None:
            _columns(parts, of, found, result)
            _postings(parts, of, result)
            parts.refunds.add(result)
    if result is not None:
        archive.compare(place, found, result, payload)
    if of.start.results_offset <= place[0] < of.end.published_offset:
        of.published.add(payload)


def _columns(parts: PassParts, of: LanePass, found: ProvenRow | None, result: Result) -> None:
    if found is None:
        return
    tally = parts.tallies.columns
    tally.counted += 1
    wrong = columns_that_differ(found, result)
    if wrong:
        row = found.row
        tally.refute(f"lane {of.lane} offset {row.lane_offset} index {row.lane_index}: {', '.join(wrong)}")
        of.clean = False


def _postings(parts: PassParts, of: LanePass, result: Result) -> None:
    if not result.postings:
        return
    group = group_of(result.root)
    was_read = result.lane_offset < parts.scan.offsets[group].get(of.lane, 0)
    for posting in result.postings:
        if not (posting.balance_change or posting.held_change):
            continue
        change = change_sum(posting, result.currency)
        of.sums[group] += change
        of.at_scan[group] += change if was_read else 0
        level = level_of(posting.address)
        if posting.balance_change:
            of.system_changes[level, posting.contra, result.currency] -= posting.balance_change
        if not was_read:
            of.late_totals[of.lane, level, result.currency] += posting.balance_change


def _system_accounts(parts: PassParts, of: LanePass) -> None:
    """Compare the lane's system accounts with what they were before and the postings since; not ``@moved`` (M2).

    What left for another shard, or came, is on ``@moved`` without a posting; the sums over all shards prove it.
    """
    tally = parts.tallies.system
    if of.cut:
        tally.lacks(f"lane {of.lane}: not all postings could be read")
        return
    meant = system_now(of)
    if meant is None:
        return  # the first proof: they are what the next ones begin with
    found = {key: balance for key, balance in of.system.items() if key[1] is not Contra.MOVED}
    for key in sorted({*found, *meant}):
        tally.counted += 1
        if found.get(key, 0) != meant.get(key, 0):
            level, name, currency = key
            tally.refute(
                f"lane {of.lane} level {level} @{name.value.lower()} {currency} is {found.get(key, 0)}, "
                f"its postings lead to {meant.get(key, 0)}"
            )


def system_now(of: LanePass) -> dict[SystemKey, int] | None:
    """Return what a lane's system accounts must be, but for ``@moved``; None where nothing was known before."""
    if of.start.system_sums is None:
        return None
    meant = Counter(of.start.system_sums)
    for key, change in of.system_changes.items():
        meant[key] += change
    return {key: total for key, total in meant.items() if total}


def _keep(parts: PassParts, of: LanePass, archive: ArchivedLane) -> None:
    """Keep what is proven so far, so that a run that is killed need not begin again."""
    if not parts.refunds.prove_so_far(of.lane):
        return  # an original may have been given back again behind this: the end tells
    archive.finish()
    known = [
        None if total is None or group in of.moved else modulo(of.sums[group])
        for group, total in enumerate(of.start.account_sums)
    ]
    parts.books.keep(
        replace(
            of.start,
            next_offset=of.next_offset,
            digest=of.digest,
            lane_time_ms=of.lane_time_ms,
            account_sums=tuple(known),
            system_sums=system_now(of),
            archived_offset=archive.proven_to(of.next_offset),
        )
    )
    of.kept_at = of.next_offset


def groups_that_fit(of: LanePass, scan: AccountScan) -> frozenset[int]:
    """Return the groups whose accounts, as they were read, are what their sums and the postings since lead to."""
    return frozenset(
        group
        for group, known in enumerate(of.start.account_sums)
        if known is not None and group not in of.moved and modulo(of.at_scan[group]) == scan.sums[group][of.lane]
    )
