"""What a proof reads of a shard: each answer as of a moment of its own, which lasts well below a second.

No transaction of a proof stays open, so that the remover need not wait for it (A7). What belongs together, such as
accounts and how far their lanes had decided, is read in one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from processors.ledger.rows import (
    Account,
    Hold,
    OpenRefund,
    OpenTransfer,
    Refunded,
    SystemKey,
    TransactionKey,
)
from processors.ledger.tables import ACCOUNTS, HOLDS, OPEN_REFUNDS, OPEN_TRANSFERS, REFUNDED, R, Table
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_proofs import LaneProof, select_proofs, store_proof
from processors.stores.lane_rows import PROGRESS_COLUMNS, progress_of, select_system_accounts
from processors.stores.mysql import Reconnecting, Session
from processors.stores.placement_sql import is_counted, is_owned, select_every_placement
from processors.stores.proven_journal import ProvenRow, select_lane_rows
from processors.stores.rows import JournalRow, PlacementRow, Progress
from processors.stores.rules_rows import select_rules
from processors.stores.shard_reader import ShardReader
from processors.stores.sql_text import chunks, hex_literal
from processors.stores.table_sql import columns_of, row_of
from processors.wire.positions import LanePoint

T = TypeVar("T")

REFUNDS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketsMoment:
    """The accounts of some buckets, and what is open on them, as of one moment.

    Attributes:
        offsets: By lane, how far it had decided.
        accounts: All that count (M2), each with whether its partner is owned here (M4).
        holds: The open ones of owned partners.
        refunds: The same of refunds.
        transfers: The same of transfers.
    """

    offsets: dict[int, int]
    accounts: list[tuple[Account, bool]]
    holds: list[Hold]
    refunds: list[OpenRefund]
    transfers: list[OpenTransfer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMoment:
    """Where the lanes stand, their system accounts, and all placement keys, as of one moment."""

    positions: dict[int, Progress]
    system: dict[int, dict[SystemKey, int]]
    placements: dict[str, PlacementRow]


class VerifyReader:
    """Questions of a proof to a shard. For one thread; close it after use."""

    def __init__(self, address: MysqlAddress) -> None:
        """Connect when it is first asked."""
        self._connection = Reconnecting(address)
        self._reader = ShardReader(self._connection)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def _at_once(self, question: Callable[[Session], T]) -> T:
        """Ask several things as of one moment."""

        def asked(session: Session) -> T:
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "beginning a moment")
            session.begin(consistent_snapshot=True)
            answer = question(session)
            session.commit()
            return answer

        return self._connection.ask(asked)

    # ------------------------------------------------------------------ moments

    def accounts_and_more(self) -> int:
        """Return the server's estimate of how many rows accounts and what is open on them are."""
        rows = self._connection.ask(
            lambda session: session.query(
                "SELECT COALESCE(SUM(table_rows), 0) FROM information_schema.tables WHERE table_schema = DATABASE() "
                f"AND table_name IN ('{ACCOUNTS.name}', '{HOLDS.name}', '{OPEN_REFUNDS.name}', "
                f"'{OPEN_TRANSFERS.name}')",
                "estimating how many accounts there are",
            )
        )
        return int(rows[0][0])

    def buckets(self, first: int, end: int) -> BucketsMoment:
        """Return the accounts of some buckets with what is open on them, as of one moment."""
        return self._at_once(lambda session: _buckets(session, first, end))

    def moment(self) -> ShardMoment:
        """Return where the lanes stand with their system accounts and all placement keys, as of one moment."""
        return self._at_once(_moment)

    def trial_balance(self, lanes: int) -> dict[tuple[int, int, str], int]:
        """Return (lane, level, currency) -> the sum of all accounts, in one statement: it reads every account."""
        return self._reader.trial_balance(lanes)

    def refunded(self, keys: Collection[TransactionKey]) -> tuple[dict[int, int], dict[TransactionKey, Refunded]]:
        """Return how far each lane had decided, and what was given back of some originals, as of one moment."""
        return self._at_once(lambda session: (_offsets(session), _refunded(session, keys)))

    # ------------------------------------------------------------------ the journal

    def slices(self) -> list[int]:
        """Return the journal's slices, ascending."""
        return self._reader.slices()

    def slice_bounds(self, number: int) -> dict[int, tuple[int, int]]:
        """Return lane -> its first and last offset in a slice."""
        return self._reader.slice_bounds(number)

    def slice_rows(self, number: int, lane: int, after: tuple[int, int] = (-1, 0)) -> list[JournalRow]:
        """Return a slice's rows of a lane after an offset and index, in ranges."""
        return self._reader.slice_rows(number, lane, after)

    def lane_rows(self, lane: int, first: int, end: int) -> list[ProvenRow]:
        """Return the rows of a stretch of a lane in order, of whatever slices, each with its columns."""
        numbers = self.slices()
        return self._connection.ask(lambda session: select_lane_rows(session, lane, first, end, numbers))

    def borders(self, lane: int, first: int, end: int) -> list[LanePoint]:
        """Return a lane's batch borders behind ``first``, up to and with ``end``, in order (L13)."""
        return self._borders(lane, f"next_offset > {first} AND next_offset <= {end} ORDER BY next_offset")

    def border_at(self, lane: int, at_most: int) -> LanePoint | None:
        """Return a lane's last batch border up to an offset, if one is still known."""
        found = self._borders(lane, f"next_offset <= {at_most} ORDER BY next_offset DESC LIMIT 1")
        return found[0] if found else None

    def first_border(self, lane: int) -> LanePoint | None:
        """Return the first batch border of a lane that is still known."""
        found = self._borders(lane, "TRUE ORDER BY next_offset LIMIT 1")
        return found[0] if found else None

    def _borders(self, lane: int, where: str) -> list[LanePoint]:
        rows = self._connection.ask(
            lambda session: session.query(
                f"SELECT next_offset, digest, lane_time_ms FROM batch_digest WHERE lane = {lane} AND {where}",
                "reading batch borders",
            )
        )
        return [LanePoint(next_offset=offset, digest=digest, lane_time_ms=ms) for offset, digest, ms in rows]

    def lanes_with_rows(self) -> set[int]:
        """Return the lanes of which tables beside the journal have rows that only a lane's owner writes."""
        rows = self._connection.ask(
            lambda session: session.query(
                "SELECT DISTINCT lane FROM batch_digest UNION SELECT DISTINCT lane FROM system_account "
                "UNION SELECT DISTINCT lane FROM progress_source",
                "looking for lanes that have rows",
            )
        )
        return {lane for (lane,) in rows}

    def window_ms(self) -> int:
        """Return the widest window of all rules: no row's id is older than its lane's time by more (I3)."""
        known = self._connection.ask(select_rules)
        return max((each.window_ms for of_lane in known.values() for each in of_lane.values()), default=0)

    def refund_start_ms(self, lane: int, now_ms: int) -> int:
        """Return since which time what was given back of an original is kept in a lane at some lane time (H3)."""
        known = self._connection.ask(select_rules)
        return max((each.recall_start_ms(now_ms) for each in known.get(lane, {}).values()), default=0)

    # ------------------------------------------------------------------ proofs

    def proofs(self) -> dict[int, LaneProof]:
        """Return how far each lane is proven."""
        return self._connection.ask(select_proofs)

    def keep(self, proof: LaneProof) -> None:
        """Keep how far a lane is proven."""
        self._connection.ask(lambda session: store_proof(session, proof))


def _offsets(session: Session) -> dict[int, int]:
    return dict(session.query("SELECT lane, next_offset FROM progress", "reading how far lanes are"))


def _buckets(session: Session, first: int, end: int) -> BucketsMoment:
    where = f"bucket >= {first} AND bucket < {end}"
    accounts = session.query(
        f"SELECT {columns_of(ACCOUNTS)}, {is_owned(ACCOUNTS, 'account')} FROM account "
        f"WHERE {where} AND {is_counted(ACCOUNTS, 'account')}",
        "reading accounts by bucket",
    )
    return BucketsMoment(
        offsets=_offsets(session),
        accounts=[(row_of(ACCOUNTS, row[:-1])[1], bool(row[-1])) for row in accounts],
        holds=_open(session, HOLDS, f"{where} AND is_open = 1"),
        refunds=_open(session, OPEN_REFUNDS, where),
        transfers=_open(session, OPEN_TRANSFERS, where),
    )


def _open(session: Session, table: Table[TransactionKey, R], where: str) -> list[R]:
    rows = session.query(
        f"SELECT {columns_of(table)} FROM {table.name} WHERE {where} AND {is_owned(table, table.name)}",
        f"reading {table.name} by bucket",
    )
    return [row_of(table, row)[1] for row in rows]


def _moment(session: Session) -> ShardMoment:
    rows = session.query(f"SELECT {PROGRESS_COLUMNS} FROM progress ORDER BY lane", "reading the lanes")
    positions = {progress.lane: progress for progress in map(progress_of, rows)}
    return ShardMoment(
        positions=positions,
        system={lane: select_system_accounts(session, lane) for lane in positions},
        placements=select_every_placement(session),
    )


def _refunded(session: Session, keys: Iterable[TransactionKey]) -> dict[TransactionKey, Refunded]:
    found: dict[TransactionKey, Refunded] = {}
    for some in chunks(sorted(keys), REFUNDS_AT_ONCE):
        literals = _key_list(some)
        rows = session.query(
            f"SELECT {columns_of(REFUNDED)} FROM refunded WHERE (root, transaction_id) IN ({literals})",
            "reading what was refunded",
        )
        found.update(row_of(REFUNDED, row) for row in rows)
    return found


def _key_list(keys: Sequence[TransactionKey]) -> str:
    return ",".join(f"({hex_literal(root.encode())},{hex_literal(id_)})" for root, id_ in keys)
