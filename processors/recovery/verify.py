"""Proves a shard's books: double entry, balances, holds, sequences, and that journal, results and archive agree.

Each lane goes on from where it was proven before, which the shard's own database keeps (``stores.lane_proofs``). The
shard works on meanwhile: nothing is read in a transaction that lasts. What is found is named; nothing is changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from processors.faults import Unavailable, Undecodable
from processors.ids import slice_of
from processors.lane.placements import Placements
from processors.ledger.outcomes import Contra
from processors.recovery.account_proofs import TrailBooks, TrailParts, prove_accounts
from processors.recovery.account_sums import AccountScan, group_of, modulo, scan_accounts
from processors.recovery.archived_rows import ArchivedBooks, ArchivedLane, ArchiveTallies, Reach
from processors.recovery.checks import Check, Tally
from processors.recovery.lane_pass import (
    LaneBooks,
    LanePass,
    PassParts,
    RowTallies,
    begin_pass,
    groups_that_fit,
    prove_lane,
    system_now,
)
from processors.recovery.published import PublishedResults, Wanted, prove_published
from processors.recovery.refunds import RefundBooks, Refunds
from processors.routing.buckets import partition_of
from processors.stores.archive_rows import Covered
from processors.stores.lane_proofs import GROUPS, LaneProof
from processors.stores.rows import Progress
from processors.stores.verify_reader import ShardMoment
from processors.wire.positions import LANE_START, LanePoint

KEEP_EVERY = 100_000  # offsets: some ten seconds' work, which is all that a run that is killed loses

_Bounds = dict[int, tuple[int, int]]  # of a slice: lane -> first and last offset
Progressing = Callable[[str, int], None]  # which check, how many rows so far


class Books(TrailBooks, LaneBooks, RefundBooks, Protocol):
    """A shard's database, each answer as of a moment of its own (``stores.verify_reader``)."""

    def proofs(self) -> dict[int, LaneProof]:
        """Return how far each lane is proven."""

    def trial_balance(self, lanes: int) -> dict[tuple[int, int, str], int]:
        """Return (lane, level, currency) -> sum of all accounts, in one statement."""

    def border_at(self, lane: int, at_most: int) -> LanePoint | None:
        """Return a lane's last batch border up to an offset, if one is still known."""

    def first_border(self, lane: int) -> LanePoint | None:
        """Return the first batch border of a lane that is still known."""

    def lanes_with_rows(self) -> set[int]:
        """Return the lanes of which tables beside the journal have rows that only a lane's owner writes."""

    def window_ms(self) -> int:
        """Return the widest window of all rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyParts:
    """What is compared.

    ``results`` and ``archive`` None leave that comparison out; ``archive_away`` says why the archive could not be asked
    though it was to be. ``everything`` begins with each lane's first record, whatever is proven.
    """

    books: Books
    lanes: int
    results_partitions: int
    archive: ArchivedBooks | None
    results: PublishedResults | None
    now_ms: Callable[[], int]
    on_progress: Progressing
    everything: bool = False
    archive_away: str = ""
    keep_every: int = KEEP_EVERY


@dataclass(slots=True)
class _Tallies:
    """The checks of a shard, in the order in which they are told."""

    lanes: Tally = field(
        default_factory=lambda: Tally("lanes are all of one topic, and each that has rows says where it stands")
    )
    trial: Tally = field(default_factory=lambda: Tally("trial balance is zero in each lane, level and currency"))
    held: Tally = field(default_factory=lambda: Tally("held is the sum of open holds, and open rows are counted"))
    balances: Tally = field(default_factory=lambda: Tally("balances are the sum of postings, sequences without a gap"))
    rows: RowTallies = field(default_factory=RowTallies)
    refunds: Tally = field(default_factory=lambda: Tally("refunded is what refunds left of their originals"))
    results: Tally = field(default_factory=lambda: Tally("each journal row was published once, byte for byte"))
    archive: ArchiveTallies = field(default_factory=ArchiveTallies)

    def checks(self, parts: VerifyParts) -> list[Check]:
        rows = self.rows
        told = [
            self.lanes, self.trial, self.held, self.balances, rows.chain, rows.columns, rows.system, self.refunds,
        ]  # fmt: skip
        if parts.results is not None:
            told.append(self.results)
        if parts.archive is not None or parts.archive_away:
            told += [self.archive.journal, self.archive.statements]
        return [each.check() for each in told]


def verify(parts: VerifyParts) -> list[Check]:
    """Prove a shard's books, as far as they are not proven yet, and keep how far.

    What has a finding is not kept as proven, so that the next run finds it, too.

    Returns:
        One entry a check, each with what it found.

    Raises:
        Unavailable: MySQL or Kafka does not answer; nothing is proven then beyond what was kept. Where Cassandra does
        not, what needs it is told as incomplete.
    """
    tallies = _Tallies()
    proven = {} if parts.everything else parts.books.proofs()  # before the accounts: the auditor may go on meanwhile
    scan = scan_accounts(parts.books, parts.lanes, tallies.held, on_progress=parts.on_progress)
    looked_ms = parts.now_ms()  # before the moment: what was decided earlier is in it
    moment = parts.books.moment()
    bounds = [parts.books.slice_bounds(number) for number in parts.books.slices()]
    _lanes(parts, scan, moment, bounds, tallies.lanes)
    coverage = _coverage(parts, moment.positions, tallies.archive)
    pass_parts = PassParts(
        books=parts.books,
        scan=scan,
        tallies=tallies.rows,
        refunds=Refunds(parts.books, Placements(moment.placements, home=True), tallies.refunds),
        keep_every=parts.keep_every,
        on_progress=parts.on_progress,
    )
    passes: list[tuple[LanePass, ArchivedLane]] = []
    for lane, progress in sorted(moment.positions.items()):
        start = _start(parts, progress, proven.get(lane), bounds, tallies.archive)
        of = begin_pass(
            start,
            progress,
            system=moment.system[lane],
            moved=_moved_groups(parts, moment, lane, start.next_offset),
            may_lack=partial(_lacks_slices, parts, start.lane_time_ms, progress),
        )
        archived = ArchivedLane(
            parts.archive, coverage, parts.books, tallies.archive,
            incarnation=progress.topic_id, lane=lane, proven=start.archived_offset,
        )  # fmt: skip
        prove_lane(pass_parts, of, archived)
        passes.append((of, archived))
    _trial_balance(parts, scan, moment, [of for of, _ in passes], tallies.trial)
    fitting = _accounts(parts, scan, [of for of, _ in passes], coverage, tallies)
    agreed = _results(parts, [of for of, _ in passes], tallies.results)
    for of, archived in passes:
        _keep(parts, scan, of, archived, is_published=of.lane in agreed, fitting=fitting, looked_ms=looked_ms)
    return tallies.checks(parts)


# ---------------------------------------------------------------------- where a lane begins


def _start(
    parts: VerifyParts, progress: Progress, proof: LaneProof | None, bounds: list[_Bounds], archive: ArchiveTallies
) -> LaneProof:
    """Return from where on a lane is proven: from the proof before, if it is of this log and of what is here."""
    if proof is not None and _holds(parts, progress, proof):
        return proof
    first, first_time_ms = _first_row(parts, progress, bounds)
    if parts.everything and parts.archive is not None and not archive.away:
        at = LANE_START
    else:
        at = _first_border(parts, progress, first, first_time_ms)
    from_start = at == LANE_START
    return LaneProof(
        lane=progress.lane,
        topic_id=progress.topic_id,
        first_offset=at.next_offset,
        next_offset=at.next_offset,
        digest=at.digest,
        lane_time_ms=at.lane_time_ms or first_time_ms,
        archived_offset=at.next_offset,
        results_offset=first,
        results_time_ms=first_time_ms,
        account_sums=((0 if from_start else None),) * GROUPS,
        system_sums={} if from_start else None,
        proven_at_ms=0,
    )


def _holds(parts: VerifyParts, progress: Progress, proof: LaneProof) -> bool:
    """Say whether a proof is of the lane's log, and of no more than is here, and its digest is the lane's there."""
    if proof.topic_id != progress.topic_id or proof.next_offset > progress.at.next_offset:
        return False
    border = parts.books.border_at(progress.lane, proof.next_offset)
    if border is None or border.next_offset != proof.next_offset:
        return True  # the lane has forgotten the border (L13): its rows will not lead to the next one if it is another
    return border.digest == proof.digest


def _first_border(parts: VerifyParts, progress: Progress, first: int, first_time_ms: int) -> LanePoint:
    """Return the border from which on a lane is proven that never was: the last one before all rows that are here.

    Where none is known that early, these are the lane's first rows; or else earlier ones have left, as in a database
    that was made of a snapshot. Then it is the first border that is known.
    """
    before = parts.books.border_at(progress.lane, first)
    if before is not None:
        return before
    known = parts.books.first_border(progress.lane)
    return known if known is not None and _lacks_slices(parts, first_time_ms, progress) else LANE_START


def _first_row(parts: VerifyParts, progress: Progress, bounds: list[_Bounds]) -> tuple[int, int]:
    """Return offset and lane time of a lane's first row in MySQL; where it stands if there is none."""
    firsts = [of_slice[progress.lane][0] for of_slice in bounds if progress.lane in of_slice]
    if not firsts:
        return progress.at.next_offset, progress.at.lane_time_ms
    first = min(firsts)
    rows = parts.books.lane_rows(progress.lane, first, first + 1)
    time_ms = rows[0].columns["lane_time_ms"] if rows else 0  # the slice was removed meanwhile
    return first, time_ms


def _lacks_slices(parts: VerifyParts, since_ms: int, progress: Progress) -> bool:
    """Say whether slices in which rows decided since a lane time may have been are gone from MySQL."""
    first = slice_of(max(0, since_ms - parts.books.window_ms()))
    there = set(parts.books.slices())
    return any(number not in there for number in range(first, slice_of(progress.at.lane_time_ms) + 1))


def _moved_groups(parts: VerifyParts, moment: ShardMoment, lane: int, since: int) -> frozenset[int]:
    """Return the groups of accounts in which a partner came or left since an offset."""
    return frozenset(
        group_of(key)
        for key, row in moment.placements.items()
        if row.since_offset >= since and not row.only_waits and partition_of(key, parts.lanes) == lane
    )


# ---------------------------------------------------------------------- the shard as a whole


def _lanes(parts: VerifyParts, scan: AccountScan, moment: ShardMoment, bounds: list[_Bounds], tally: Tally) -> None:
    """Prove that all lanes are of one topic, and that none has rows without saying where it stands."""
    tally.counted = len(moment.positions)
    lanes_of: dict[bytes, list[int]] = defaultdict(list)
    for lane, progress in sorted(moment.positions.items()):
        lanes_of[progress.topic_id].append(lane)
    if len(lanes_of) > 1:
        for topic_id, lanes in lanes_of.items():
            tally.refute(f"topic id {topic_id.hex()}: lanes {', '.join(map(str, lanes))}")
    with_rows = scan.lanes.union(parts.books.lanes_with_rows(), *bounds)
    for lane in sorted(with_rows - moment.positions.keys()):
        tally.refute(f"lane {lane} has rows, and nothing says where it stands")
    for lane in sorted(lane for lane in moment.positions if lane >= parts.lanes):
        tally.refute(f"lane {lane}: the shard has {parts.lanes} lanes")


def _coverage(parts: VerifyParts, positions: dict[int, Progress], archive: ArchiveTallies) -> Reach:
    reached: dict[tuple[int, int], Covered] = {}
    if parts.archive is None:
        if parts.archive_away:
            archive.lacks(parts.archive_away)
        return Reach(reached, parts.results_partitions)
    try:
        for incarnation in sorted({progress.topic_id for progress in positions.values()}):
            of_topic = parts.archive.coverage(incarnation).items()
            reached |= {
                place: each
                for place, each in of_topic
                if place[0] in positions and positions[place[0]].topic_id == incarnation
            }
    except Unavailable as fault:
        archive.lacks(str(fault))
    return Reach(reached, parts.results_partitions)


def _trial_balance(
    parts: VerifyParts, scan: AccountScan, moment: ShardMoment, passes: Iterable[LanePass], tally: Tally
) -> None:
    """Prove that accounts as they were read, postings since, and system accounts come to zero.

    Who moves while they are read is counted on one side alone: where they do not, one statement, as of one moment,
    decides.
    """
    totals = Counter(scan.totals)
    for of in passes:
        totals.update(of.late_totals)
    for lane, accounts in moment.system.items():
        for (level, _, currency), balance in accounts.items():
            totals[lane, level, currency] += balance
    found = dict(totals) if not any(totals.values()) else parts.books.trial_balance(parts.lanes)
    for (lane, level, currency), total in sorted(found.items()):
        tally.counted += 1
        if total:
            tally.refute(f"lane {lane} level {level} {currency}: {total}")


def _accounts(
    parts: VerifyParts, scan: AccountScan, passes: list[LanePass], coverage: Reach, tallies: _Tallies
) -> dict[int, frozenset[int]]:
    """Prove all accounts: by their groups' sums, and one by one in groups of which these say nothing, or another.

    Returns:
        By lane the groups whose accounts are where they must be.
    """
    fitting = {of.lane: groups_that_fit(of, scan) for of in passes}
    rest = {
        group
        for group in range(GROUPS)
        if any(group not in fitting[of.lane] and _has_accounts(of, scan, group) for of in passes)
    }
    for of in passes:
        fits = fitting[of.lane] - rest
        tallies.balances.counted += sum(scan.counts[group][of.lane] for group in fits)
    archive = None if tallies.archive.away else parts.archive
    trail_parts = TrailParts(
        books=parts.books, lanes=parts.lanes, archive=archive, coverage=coverage, on_progress=parts.on_progress
    )
    try:
        bad = prove_accounts(trail_parts, rest, tallies.balances)
    except Undecodable as fault:
        tallies.balances.refute(fault.detail)
        return {of.lane: fitting[of.lane] - rest for of in passes}
    except Unavailable as fault:
        if archive is None:
            raise
        tallies.archive.lacks(str(fault))
        tallies.balances.lacks(f"Cassandra does not answer: {fault}")
        return {of.lane: fitting[of.lane] - rest for of in passes}
    if tallies.archive.away and rest:
        tallies.balances.lacks("Cassandra does not answer: what has left MySQL of an account is believed")
    if archive is None:
        return {of.lane: fitting[of.lane] - rest for of in passes}
    return {
        of.lane: frozenset(group for group in range(GROUPS) if (group, of.lane) not in bad and not of.cut)
        for of in passes
    }


def _has_accounts(of: LanePass, scan: AccountScan, group: int) -> bool:
    return bool(scan.sums[group][of.lane] or of.at_scan[group] or scan.counts[group][of.lane])


def _results(parts: VerifyParts, passes: Iterable[LanePass], tally: Tally) -> set[int]:
    """Compare what was published, and return the lanes of which all is there."""
    if parts.results is None:
        return set()
    wanted = {}
    for of in passes:
        if of.cut:
            tally.lacks(f"lane {of.lane}: not all rows could be read")
            continue
        start = of.start
        wanted[of.lane] = Wanted(
            topic_id=of.end.topic_id,
            first=start.results_offset,
            end=of.end.published_offset,
            since_ms=start.results_time_ms,
            journal=of.published,
        )
    return prove_published(parts.results, wanted, tally, on_progress=parts.on_progress)


# ---------------------------------------------------------------------- what is kept


def _keep(
    parts: VerifyParts,
    scan: AccountScan,
    of: LanePass,
    archived: ArchivedLane,
    *,
    is_published: bool,
    fitting: dict[int, frozenset[int]],
    looked_ms: int,
) -> None:
    """Keep how far a lane is proven; where its rows have a finding, no further than before."""
    end, start = of.end, of.start
    proof = start
    if is_published:
        at = max(end.published_offset, start.results_offset)
        proof = replace(proof, results_offset=at, results_time_ms=end.published_time_ms)
    if of.clean and not of.cut:
        system = system_now(of)
        if system is None:
            system = {key: total for key, total in of.system.items() if key[1] is not Contra.MOVED}
        proof = replace(
            proof,
            next_offset=end.at.next_offset,
            digest=end.at.digest,
            lane_time_ms=end.at.lane_time_ms,
            archived_offset=archived.proven_to(end.at.next_offset),
            account_sums=tuple(_sum_now(of, scan, group, fitting[of.lane]) for group in range(GROUPS)),
            system_sums=system,
            proven_at_ms=looked_ms,
        )
    parts.books.keep(proof)


def _sum_now(of: LanePass, scan: AccountScan, group: int, fitting: frozenset[int]) -> int | None:
    """Return what a group's accounts add up to where the lane stands; None where one is not where it must be."""
    if group not in fitting:
        return None
    return modulo(scan.sums[group][of.lane] + of.sums[group] - of.at_scan[group])
