"""A shard of one lane in memory, which a proof may read: what its journal leads to, and what a test changes by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from processors.faults import Unavailable
from processors.ids import root_of, slice_of
from processors.lane.placements import Placements
from processors.lane.standing import chain_digest
from processors.ledger.addresses import level_of
from processors.ledger.rows import Account, AccountKey, Hold, Refunded, SystemKey, TransactionKey
from processors.recovery.checks import Check
from processors.recovery.verify import VerifyParts, verify
from processors.routing.buckets import bucket_of
from processors.stores.archive_reader import ChangeKey
from processors.stores.archive_rows import Covered
from processors.stores.journal_names import REASON_NUMBERS, STATUS_NUMBERS, TYPE_NUMBERS
from processors.stores.lane_proofs import LaneProof
from processors.stores.proven_journal import ProvenRow
from processors.stores.rows import JournalRow, PlacementRow, Progress
from processors.stores.verify_reader import BucketsMoment, ShardMoment
from processors.wire.journal_chunk import ChunkRow
from processors.wire.positions import LANE_START, LanePoint
from processors.wire.records import Record
from processors.wire.results import Result, decode_result
from processors.wire.statement_chunk import StatementRow
from tests.archived import INCARNATION, NOW_MS, journal_row_of

HOUR_MS = 3_600_000


@dataclass(slots=True)
class ProvenBooks:
    """A shard whose lane 0 journalled some results, in batches of ``batch_rows``, all of them published."""

    journal: list[bytes] = field(default_factory=list)
    every_account: list[Account] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    placed: list[PlacementRow] = field(default_factory=list)
    system: dict[SystemKey, int] = field(default_factory=dict)
    refunded_rows: dict[TransactionKey, Refunded] = field(default_factory=dict)
    other_lanes: list[Progress] = field(default_factory=list)
    rows_of_lanes: set[int] = field(default_factory=set)
    batch_rows: int = 2
    digests: list[bytes] = field(default_factory=list)  # after each row, as the lane chained them
    wrong_columns: dict[int, tuple[str, object]] = field(default_factory=dict)  # by offset
    missing: set[int] = field(default_factory=set)  # offsets whose rows were deleted by hand
    other_bytes: dict[int, bytes] = field(default_factory=dict)  # by offset
    kept: dict[int, LaneProof] = field(default_factory=dict)
    keeps_before_kill: int = 1_000_000
    read_from: list[int] = field(default_factory=list)  # where each stretch that was read began

    def decide(self, payloads: Iterable[bytes]) -> None:
        """Journal results, and have accounts and system accounts say what they lead to."""
        accounts = {(each.address, each.currency): each for each in self.every_account}
        for payload in payloads:
            result = decode_result(payload)
            self.journal.append(payload)
            self.digests.append(chain_digest(self.digests[-1] if self.digests else LANE_START.digest, payload))
            self._post(accounts, result)
        self.every_account = [accounts[key] for key in sorted(accounts)]

    def _post(self, accounts: dict[AccountKey, Account], result: Result) -> None:
        for posting in result.postings:
            key = (posting.address, result.currency)
            accounts[key] = Account(*key, balance=posting.balance, held=posting.held, sequence=posting.sequence)
            system = (level_of(posting.address), posting.contra, result.currency)
            self.system[system] = self.system.get(system, 0) - posting.balance_change

    # ------------------------------------------------------------------ moments

    @property
    def progress(self) -> Progress:
        at = LanePoint(
            next_offset=len(self.journal),
            lane_time_ms=NOW_MS,
            digest=self.digests[-1] if self.digests else LANE_START.digest,
        )
        return Progress(
            lane=0, topic_id=INCARNATION, owner_epoch=1, version_us=1, published_offset=len(self.journal),
            published_time_ms=NOW_MS, at=at,
        )  # fmt: skip

    def accounts_and_more(self) -> int:
        return len(self.every_account)

    def buckets(self, first: int, end: int) -> BucketsMoment:
        here = Placements({row.placement_key: row for row in self.placed}, home=True)
        accounts = [
            (each, here.owns(root_of(each.address)))
            for each in self.every_account
            if first <= bucket_of(root_of(each.address)) < end and here.has(root_of(each.address))
        ]
        holds = [hold for hold in self.holds if first <= bucket_of(root_of(hold.address)) < end]
        return BucketsMoment(offsets={0: len(self.journal)}, accounts=accounts, holds=holds, refunds=[], transfers=[])

    def moment(self) -> ShardMoment:
        positions = {each.lane: each for each in [self.progress, *self.other_lanes]}
        return ShardMoment(
            positions=positions,
            system={lane: self.system if lane == 0 else {} for lane in positions},
            placements={row.placement_key: row for row in self.placed},
        )

    def trial_balance(self, lanes: int) -> dict[tuple[int, int, str], int]:
        del lanes
        here = Placements({row.placement_key: row for row in self.placed}, home=True)
        totals = Counter[tuple[int, int, str]]()
        for each in self.every_account:
            if here.has(root_of(each.address)):
                totals[0, level_of(each.address), each.currency] += each.balance
        for (level, _, currency), balance in self.system.items():
            totals[0, level, currency] += balance
        return dict(totals)

    def refunded(self, keys: Collection[TransactionKey]) -> tuple[dict[int, int], dict[TransactionKey, Refunded]]:
        return {0: len(self.journal)}, {key: self.refunded_rows[key] for key in keys if key in self.refunded_rows}

    def refund_start_ms(self, lane: int, now_ms: int) -> int:
        del lane
        return now_ms - 24 * HOUR_MS

    # ------------------------------------------------------------------ the journal

    def slices(self) -> list[int]:
        return list(range(slice_of(NOW_MS) - 2, slice_of(NOW_MS) + 2))

    def window_ms(self) -> int:
        return HOUR_MS

    def slice_bounds(self, number: int) -> dict[int, tuple[int, int]]:
        rows = self.slice_rows(number, 0)
        return {0: (rows[0].lane_offset, rows[-1].lane_offset)} if rows else {}

    def slice_rows(self, number: int, lane: int, after: tuple[int, int] = (-1, 0)) -> list[JournalRow]:
        rows = [each.row for each in self._rows(0, len(self.journal))] if lane == 0 else []
        return [row for row in rows if row.slice == number and (row.lane_offset, row.lane_index) > after]

    def lane_rows(self, lane: int, first: int, end: int) -> list[ProvenRow]:
        if lane:
            return []
        self.read_from.append(first)
        return self._rows(first, end)

    def _rows(self, first: int, end: int) -> list[ProvenRow]:
        return [self._row(offset) for offset in range(first, min(end, len(self.journal))) if offset not in self.missing]

    def _row(self, offset: int) -> ProvenRow:
        new = journal_row_of(self.journal[offset])
        columns: dict[str, object] = {
            "bucket": bucket_of(new.row.root),
            "type": TYPE_NUMBERS[new.type],
            "status": STATUS_NUMBERS[new.status],
            "reason": REASON_NUMBERS[new.reason],
            "currency": new.currency.encode(),
            "amount_minor": new.amount_minor,
            "lane_time_ms": new.lane_time_ms,
        }
        if offset in self.wrong_columns:
            name, value = self.wrong_columns[offset]
            columns[name] = value
        row = replace(new.row, result=self.other_bytes.get(offset, new.row.result))
        return ProvenRow(row, columns)

    def borders(self, lane: int, first: int, end: int) -> list[LanePoint]:
        if lane:
            return []
        ends = range(self.batch_rows, len(self.journal) + 1, self.batch_rows)
        return [
            LanePoint(next_offset=at, lane_time_ms=NOW_MS, digest=self.digests[at - 1])
            for at in ends
            if first < at <= end
        ]

    def border_at(self, lane: int, at_most: int) -> LanePoint | None:
        return next(reversed(self.borders(lane, -1, at_most)), None)

    def first_border(self, lane: int) -> LanePoint | None:
        return next(iter(self.borders(lane, -1, len(self.journal))), None)

    def lanes_with_rows(self) -> set[int]:
        return self.rows_of_lanes | ({0} if self.journal else set())

    # ------------------------------------------------------------------ proofs

    def proofs(self) -> dict[int, LaneProof]:
        return dict(self.kept)

    def keep(self, proof: LaneProof) -> None:
        if not self.keeps_before_kill:
            raise Unavailable("the process was killed")
        self.keeps_before_kill -= 1
        self.kept[proof.lane] = proof


@dataclass(slots=True)
class EmptyArchive:
    """Cassandra has no row but some changes, and may be away once single changes are asked for."""

    away: bool = False
    changes: dict[ChangeKey, set[bytes]] = field(default_factory=dict)

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        del incarnation
        return {}

    def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
        del incarnation, lane, from_offset, to_offset
        return []

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        del address, currency, from_sequence, to_sequence
        return iter(())

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        if self.away:
            raise Unavailable("Cassandra is away")
        return {key: self.changes[key] for key in keys if key in self.changes}


@dataclass(slots=True)
class Published:
    """The results topic: some results in order; ``left`` says since when it has all, if some have left it."""

    payloads: list[bytes]
    left_ms: int = 0

    def read(self, since_ms: int | None) -> Iterator[Record]:
        for number, value in enumerate(self.payloads):
            if since_ms is None or decode_result(value).lane_time_ms >= since_ms:
                yield Record("results", 0, number, 0, NOW_MS, True, b"acme", value, [])

    def reaches_back_to_ms(self) -> int:
        return self.left_ms


def proven(
    books: ProvenBooks,
    *,
    published: list[bytes] | None = None,
    archive: EmptyArchive | None = None,
    everything: bool = False,
    left_ms: int = 0,
    keep_every: int = 1,
) -> dict[str, Check]:
    """Prove the books, and return the checks by the first word of their names, the archive's by "archive"."""
    parts = VerifyParts(
        books=books,
        lanes=1,
        results_partitions=1,
        archive=archive,
        results=Published(books.journal if published is None else published, left_ms),
        now_ms=lambda: NOW_MS,
        on_progress=lambda _what, _count: None,
        everything=everything,
        keep_every=keep_every,
    )
    return {"archive" if "archive" in check.name else check.name.split()[0]: check for check in verify(parts)}
