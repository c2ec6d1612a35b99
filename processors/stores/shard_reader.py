"""Read-only questions about a shard, over a connection of their own: for the command line, expirer, remover, verify.

Answers are bounded: whatever could be long is read in ranges, by the key that the last answer ended with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from processors.faults import StopCode
from processors.ids import root_of
from processors.ledger.outcomes import Contra
from processors.ledger.rows import (
    Account,
    AccountKey,
    DecisionKey,
    Hold,
    OpenRefund,
    OpenRow,
    OpenTransfer,
    Refunded,
    TransactionKey,
)
from processors.ledger.rules import Rules
from processors.ledger.tables import ACCOUNTS, HOLDS, OPEN_REFUNDS, OPEN_TRANSFERS, REFUNDED, AnyTable, R, Table
from processors.stores.addresses import MysqlAddress
from processors.stores.journal_reading import TRANSACTION_STEPS_MAX, decided, journal_rows, steps_of
from processors.stores.lane_rows import (
    PROGRESS_COLUMNS,
    progress_of,
    stop_of,
)
from processors.stores.lane_sql import select_decisions
from processors.stores.migrations import ShardRow, check_schema
from processors.stores.mysql import OneSession, Reconnecting, Row, Session
from processors.stores.partitions import slices, slices_with_any_table
from processors.stores.placement_sql import is_counted, is_owned, select_placements, select_placements_of
from processors.stores.rows import JournalRow, PlacementRow, PlacementState, Progress
from processors.stores.rules_rows import select_rules
from processors.stores.sql_text import hex_literal, text_literal
from processors.stores.table_sql import columns_of, row_of

T = TypeVar("T")

KEYS_AT_ONCE = 1_000  # below what one statement of a lane names (L8)
RANGE_ROWS = 5_000  # a few megabytes, and well below a second
# Offsets that one statement groups: a second's work, however large the slice is.
GROUPED_OFFSETS = 200_000
_INDEXES = 2**32  # that one offset may have: lane_index is INT UNSIGNED

_ACCOUNT_COLUMNS = columns_of(ACCOUNTS)
_OWNED_ACCOUNT = is_owned(ACCOUNTS, "account")  # M11: frozen rows are nobody's balances


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePosition:
    """Where a lane stands, for people and for the remover; ``stopped_at_ms`` is 0 for a lane that runs."""

    progress: Progress
    stop_code: StopCode | None
    stop_detail: str
    stopped_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueHold:
    """A hold past its expiry, as far as EXPIRE_HOLD needs it."""

    root: str
    transaction_id: bytes
    address: str
    currency: str


class SliceReader(Protocol):
    """Whatever reads a slice range by range, as ``ShardReader`` does."""

    def slice_rows(self, number: int, lane: int, after: tuple[int, int] = (-1, 0)) -> list[JournalRow]:
        """Return a slice's rows of a lane after an offset and index, in ranges."""


def rows_of_slice(reader: SliceReader, number: int, lane: int) -> Iterator[JournalRow]:
    """Yield all of a slice's rows of a lane, in order."""
    after = (-1, 0)
    while rows := reader.slice_rows(number, lane, after):
        yield from rows
        after = (rows[-1].lane_offset, rows[-1].lane_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much a shard holds. ``journal_rows`` is the server's estimate; the others are exact."""

    journal_rows: int
    slices: int
    open_holds: int
    open_refunds: int
    open_transfers: int


class Connection(Protocol):
    """Something that answers questions over a session: ``Reconnecting``, or a snapshot's."""

    def ask(self, question: Callable[[Session], T]) -> T:
        """Return the question's answer."""

    def close(self) -> None:
        """Give the connection back."""


def open_reader(address: MysqlAddress) -> ShardReader:
    """Return a reader that answers each question as of its own moment, and connects when it is first asked."""
    return ShardReader(Reconnecting(address))


def open_snapshot(address: MysqlAddress) -> ShardReader:
    """Return a reader that answers every question as of one moment, the present one. After a fault it is unusable.

    Its transaction keeps partition DDL waiting (A7), so it is for comparing, and must not be kept open. If a slice is
    dropped meanwhile, fewer rows come, without an error (tried). So whoever reads the journal asks for ``slices``
    before and after, and compares the two answers.
    """
    session = Session(address, lane=False)
    try:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "beginning a snapshot")
        session.begin(consistent_snapshot=True)
    except BaseException:
        session.close()
        raise
    return ShardReader(OneSession(session))


class ShardReader:
    """Questions to a shard: ``open_reader`` or ``open_snapshot`` makes it. For one thread."""

    def __init__(self, connection: Connection) -> None:
        """Ask over a connection."""
        self._connection = connection
        self.ask = connection.ask  # for the questions of this layer's other modules, as of the same moment

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def _query(self, sql: str, what: str) -> list[Row]:
        return self._connection.ask(lambda session: session.query(sql, what))

    # ------------------------------------------------------------------ the shard and its lanes

    def check(self, shard: str) -> ShardRow:
        """Return the shard this database holds; Misconfigured where it is another one's, or of another release."""
        return self._connection.ask(lambda session: check_schema(session, shard))

    def positions(self) -> dict[int, Progress]:
        """Return lane -> its progress, as one moment saw them; a lane that was never owned is missing."""
        return {lane: position.progress for lane, position in self.lane_positions().items()}

    def lane_positions(self) -> dict[int, LanePosition]:
        """Return lane -> where it stands, as one moment saw them; a lane that was never owned is missing."""
        rows = self._query(
            f"SELECT {PROGRESS_COLUMNS}, stop_code, stop_detail, COALESCE(stopped_at_ms, 0) FROM progress "
            "ORDER BY lane",
            "reading the lanes",
        )
        found = {}
        for *progress, code, detail, stopped_at_ms in rows:
            stop_code, stop_detail = stop_of(code, detail)
            found[progress[0]] = LanePosition(
                progress=progress_of(tuple(progress)),
                stop_code=stop_code,
                stop_detail=stop_detail,
                stopped_at_ms=stopped_at_ms,
            )
        return found

    def rules(self) -> dict[int, dict[int, Rules]]:
        """Return lane -> offset -> the rules in force from that offset on, in the order of their versions (I6)."""
        return self._connection.ask(select_rules)

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        """Return what a lane knows of placement keys, by key (docs/design.md, A move)."""
        return self._connection.ask(lambda session: select_placements(session, lane))

    def counts(self) -> Counts:
        """Return how much the shard holds."""
        ((journal_rows, holds, refunds, transfers),) = self._query(
            "SELECT (SELECT COALESCE(SUM(table_rows), 0) FROM information_schema.partitions "
            "WHERE table_schema = DATABASE() AND table_name = 'journal'), "
            "(SELECT COUNT(*) FROM hold WHERE is_open = 1), (SELECT COUNT(*) FROM open_refund), "
            "(SELECT COUNT(*) FROM open_transfer)",
            "counting rows",
        )
        return Counts(
            journal_rows=int(journal_rows),
            slices=len(self.slices()),
            open_holds=holds,
            open_refunds=refunds,
            open_transfers=transfers,
        )

    def overdue_holds(self, lane: int, *, now_ms: int, holds_max: int) -> list[OverdueHold]:
        """Return the lane's open holds that expired at or before ``now_ms``, the longest overdue first (H2).

        Of partners who are owned here: the others' are frozen, or still arriving, and their owner's to ask for (M9).

        Args:
            lane: Partition of the shard's topic.
            now_ms: The lane's own time, ms since the epoch, as ``lane_positions`` gives it; never the wall clock.
            holds_max: At most so many.
        """
        rows = self._query(
            "SELECT root, transaction_id, address, currency FROM hold FORCE INDEX (by_expiry) "
            f"WHERE lane = {lane} AND is_open = 1 AND expires_at_ms <= {now_ms} AND {is_owned(HOLDS, 'hold')} "
            f"ORDER BY expires_at_ms LIMIT {holds_max}",
            "reading overdue holds",
        )
        return [
            OverdueHold(root=root.decode(), transaction_id=id_, address=address.decode(), currency=currency.decode())
            for root, id_, address, currency in rows
        ]

    def placements_of(self, root: str, lane: int) -> dict[str, PlacementRow]:
        """Return what a root's lane knows of its own placement key, and of its bucket's."""
        return self._connection.ask(lambda session: select_placements_of(session, lane, root))

    def unparking_lanes(self) -> list[int]:
        """Return the lanes that run and own a placement key for which records wait: a TICK unparks some (M5).

        Whether anything waits is asked first, by an index; there may be 65,536 placement keys and more to look at.
        """
        waits = "SELECT 1 FROM parked WHERE parked.lane = progress.lane AND unparked_offset IS NULL LIMIT 1"
        owned = (
            "SELECT 1 FROM placement WHERE placement.lane = progress.lane "
            f"AND state = '{PlacementState.OWNED}' AND placement.parked > 0 LIMIT 1"
        )
        rows = self._query(
            f"SELECT lane FROM progress WHERE stop_code IS NULL AND IF(({waits}), ({owned}), 0) ORDER BY lane",
            "looking for lanes that unpark",
        )
        return [lane for (lane,) in rows]

    # ------------------------------------------------------------------ money

    def account(self, address: str, currency: str) -> Account | None:
        """Return one account, if its partner is owned here (M11)."""
        rows = self._query(
            f"SELECT {_ACCOUNT_COLUMNS} FROM account "
            f"WHERE address = {text_literal(address)} AND currency = {text_literal(currency)} AND {_OWNED_ACCOUNT}",
            "reading an account",
        )
        return row_of(ACCOUNTS, rows[0])[1] if rows else None

    def accounts(self, after: AccountKey = ("", "")) -> Iterator[Account]:
        """Yield every account in key order, from the one after ``after`` on, read in ranges."""
        while True:
            address, currency = text_literal(after[0]), text_literal(after[1])
            rows = self._query(
                f"SELECT {_ACCOUNT_COLUMNS} FROM account WHERE address > {address} "
                f"OR (address = {address} AND currency > {currency}) ORDER BY address, currency LIMIT {RANGE_ROWS}",
                "reading accounts",
            )
            for row in rows:
                after, account = row_of(ACCOUNTS, row)
                yield account
            if len(rows) < RANGE_ROWS:
                return

    def accounts_below(self, address: str, *, rows_max: int = RANGE_ROWS) -> list[Account]:
        """Return the accounts of an address and of everything below it, in key order."""
        return self.accounts_page(address, rows_max=rows_max)

    def accounts_page(self, below: str | None, *, after: str = "", rows_max: int = RANGE_ROWS) -> list[Account]:
        """Return some owned accounts in key order, whole addresses: all currencies of the last one are there.

        Args:
            below: Only those of this address and below it; None: all.
            after: Only those behind this address.
            rows_max: At most, and what is left of the last one's currencies.
        """
        where = f"{_is_below(below)} AND address > {text_literal(after)} AND {_OWNED_ACCOUNT}"
        page = self._accounts_where(where, rows_max)
        if len(page) == rows_max:
            last = page[-1]
            rest = f"address = {text_literal(last.address)} AND currency > {text_literal(last.currency)}"
            page += self._accounts_where(rest, RANGE_ROWS)
        return page

    def count_accounts(self, below: str | None, *, most: int) -> int:
        """Return how many accounts an address has, with those below it (None: all), or ``most`` if they are more."""
        where = f"{_is_below(below)} AND {_OWNED_ACCOUNT} LIMIT {most}"
        ((count,),) = self._query(f"SELECT COUNT(*) FROM (SELECT 1 FROM account WHERE {where}) AS n", "counting rows")
        return int(count)

    def _accounts_where(self, where: str, rows_max: int) -> list[Account]:
        statement = f"SELECT {_ACCOUNT_COLUMNS} FROM account WHERE {where} ORDER BY address, currency LIMIT {rows_max}"
        return [row_of(ACCOUNTS, row)[1] for row in self._query(statement, "reading accounts in order")]

    def holds(self) -> Iterator[tuple[TransactionKey, Hold]]:
        """Yield every open hold in key order, read in ranges."""
        yield from self._open_rows(HOLDS, where="is_open = 1")

    def open_refunds(self) -> Iterator[tuple[TransactionKey, OpenRefund]]:
        """Yield every open refund in key order, read in ranges."""
        yield from self._open_rows(OPEN_REFUNDS)

    def open_transfers(self) -> Iterator[tuple[TransactionKey, OpenTransfer]]:
        """Yield every open transfer in key order, read in ranges."""
        yield from self._open_rows(OPEN_TRANSFERS)

    def owned_transfers(self) -> Iterator[tuple[TransactionKey, OpenTransfer]]:
        """Yield the open transfers of partners who live here, and are not on their way to another shard."""
        yield from self._open_rows(OPEN_TRANSFERS, where=is_owned(OPEN_TRANSFERS, OPEN_TRANSFERS.name))

    def _open_rows(self, table: Table[TransactionKey, R], *, where: str = "TRUE") -> Iterator[tuple[TransactionKey, R]]:
        after: TransactionKey = ("", b"")
        while True:
            root, id_ = text_literal(after[0]), hex_literal(after[1])
            rows = self._query(
                f"SELECT {columns_of(table)} FROM {table.name} "
                f"WHERE (root > {root} OR (root = {root} AND transaction_id > {id_})) AND {where} "
                f"ORDER BY root, transaction_id LIMIT {RANGE_ROWS}",
                f"reading {table.name}",
            )
            for row in rows:
                after, found = row_of(table, row)
                yield after, found
            if len(rows) < RANGE_ROWS:
                return

    def refunded(self, originals: Collection[TransactionKey]) -> dict[TransactionKey, Refunded]:
        """Return what was given back of some payments and captures, by root and id; nothing where none was (H3)."""
        if not originals:
            return {}
        keys = ",".join(f"({hex_literal(root.encode())},{hex_literal(id_)})" for root, id_ in sorted(originals))
        rows = self._query(
            f"SELECT {columns_of(REFUNDED)} FROM refunded WHERE (root, transaction_id) IN ({keys}) "
            f"AND {is_owned(REFUNDED, 'refunded')}",
            "reading what was refunded",
        )
        return dict(row_of(REFUNDED, row) for row in rows)

    def open_transactions(self, transaction_id: bytes) -> list[tuple[str, OpenRow]]:
        """Return what is open under an id: root and row; of each partner who uses the id (I1)."""
        found: list[tuple[str, OpenRow]] = []
        tables: tuple[tuple[AnyTable, str], ...] = (
            (HOLDS, "is_open = 1"),
            (OPEN_REFUNDS, "TRUE"),
            (OPEN_TRANSFERS, "TRUE"),
        )
        for table, where in tables:
            rows = self._query(
                f"SELECT {columns_of(table)} FROM {table.name} WHERE transaction_id = {hex_literal(transaction_id)} "
                f"AND {where} AND {is_owned(table, table.name)} LIMIT {TRANSACTION_STEPS_MAX}",
                f"looking for an id in {table.name}",
            )
            found += [(key[0], row) for key, row in (row_of(table, each) for each in rows)]
        return found

    def trial_balance(self, lanes: int) -> dict[tuple[int, int, str], int]:
        """Return (lane, level, currency) -> the sum of partners' and system accounts: zero, each of them.

        Frozen rows do not count: what they held is on ``@moved`` (M2). Arriving ones do: each part is posted (M4).
        One statement, so that it sees one moment; it reads every account.
        """
        rows = self._query(
            "SELECT lane, level, currency, SUM(balance) FROM ("
            f"SELECT bucket & {lanes - 1} AS lane, LENGTH(address) - LENGTH(REPLACE(address, ':', '')) + 1 AS level, "
            f"currency, balance FROM account WHERE {is_counted(ACCOUNTS, 'account')} "
            "UNION ALL SELECT lane, level, currency, balance FROM system_account) AS every "
            "GROUP BY lane, level, currency ORDER BY lane, level, currency",
            "adding up all balances",
        )
        return {(lane, level, currency.decode()): int(total) for lane, level, currency, total in rows}

    def transit(self) -> dict[str, int]:
        """Return currency -> the sum of ``@transit`` over all lanes and levels, minor units (T5)."""
        rows = self._query(
            f"SELECT currency, SUM(balance) FROM system_account WHERE name = {text_literal(Contra.TRANSIT.value)} "
            "GROUP BY currency",
            "adding up what is in transit",
        )
        return {currency.decode(): int(total) for currency, total in rows}

    # ------------------------------------------------------------------ the journal

    def decided(self, keys: Collection[DecisionKey]) -> dict[DecisionKey, bytes]:
        """Return the results of some ids, by root and id; those that the journal has."""
        found: dict[DecisionKey, bytes] = {}
        for sql in select_decisions(keys, KEYS_AT_ONCE):
            found.update(self._connection.ask(partial(decided, sql=sql)))
        return found

    def slices(self) -> list[int]:
        """Return the slices whose rows are here, ascending."""
        return self._connection.ask(slices)

    def slices_with_any_table(self) -> list[int]:
        """Return the slices of which anything is left, ascending: one that was half dropped is among them."""
        return self._connection.ask(slices_with_any_table)

    def transaction(self, transaction_id: bytes) -> list[JournalRow]:
        """Return the steps of a transaction that are still here, and the command of that id, in order (A8).

        The id alone is asked for: the rows of different partners who use the same id (I1) all come.
        """
        return self._connection.ask(lambda session: steps_of(session, transaction_id))

    def slice_rows(
        self, number: int, lane: int, after: tuple[int, int] = (-1, 0), *, rows_max: int = RANGE_ROWS
    ) -> list[JournalRow]:
        """Return a slice's rows of one lane in order, from the one after ``after`` (offset, index) on."""
        offset, index = after
        return self._journal(
            f"journal AS t FORCE INDEX (PRIMARY) WHERE slice = {number} AND lane = {lane} AND lane_offset >= {offset} "
            f"AND (lane_offset > {offset} OR lane_index > {index}) ORDER BY lane_offset, lane_index LIMIT {rows_max}"
        )

    def rows_that_name(self, address: str, lane: int, offsets: range, *, numbers: Sequence[int]) -> list[JournalRow]:
        """Return the rows of a stretch of a lane whose result names an account, in no particular order.

        The server looks through all rows of the stretch, some million a second, and returns the partner's; those whose
        result has the address in it are chosen here. An index on the partner would cost each payment 8 to 15 % of its
        INSERT, all day long (measured when a row had its result), for a look now and then.

        Args:
            address: The account's; a result that names one below it, or one whose address begins with it, comes, too.
            lane: That of the address's root.
            offsets: The stretch; as many rows may come.
            numbers: The slices to look into, as ``slices`` returned them.
        """
        if not numbers or not offsets:
            return []
        name = address.encode()
        rows = self._journal(
            f"journal AS t FORCE INDEX (PRIMARY) WHERE slice IN ({', '.join(map(str, numbers))}) AND lane = {lane} "
            f"AND lane_offset >= {offsets.start} AND lane_offset < {offsets.stop} "
            f"AND root = {text_literal(root_of(address))}"
        )
        return [row for row in rows if name in row.result]

    def _journal(self, where: str) -> list[JournalRow]:
        return self._connection.ask(lambda session: journal_rows(session, where))

    def slice_bounds(self, number: int) -> dict[int, tuple[int, int]]:
        """Return lane -> its first and last offset in a slice; a lane without a row there is missing."""
        rows = self._query(
            f"SELECT lane, MIN(lane_offset), MAX(lane_offset) FROM journal WHERE slice = {number} GROUP BY lane",
            "reading a slice's bounds",
        )
        return {lane: (first, last) for lane, first, last in rows}

    def slice_last_rows(self, number: int, results_partitions: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Return (lane, results partition) -> offset and index of the slice's last row there (A6).

        Args:
            number: The slice.
            results_partitions: A power of two; a row's partition is its bucket's low bits, a control row's its lane's.
        """
        last: dict[tuple[int, int], tuple[int, int]] = {}
        for lane, (first, end) in self.slice_bounds(number).items():
            for start in range(first, end + 1, GROUPED_OFFSETS):
                rows = self._query(
                    f"SELECT IF(root = '', lane, bucket) & {results_partitions - 1} AS results_partition, "
                    f"MAX(lane_offset * CAST({_INDEXES} AS DECIMAL(38)) + lane_index) FROM journal "
                    f"WHERE slice = {number} AND lane = {lane} AND lane_offset >= {start} "
                    f"AND lane_offset < {start + GROUPED_OFFSETS} GROUP BY results_partition",
                    "reading a slice's last rows",
                )
                last.update({(lane, partition): divmod(int(place), _INDEXES) for partition, place in rows})
        return last


def _is_below(address: str | None) -> str:
    """Return the condition of an address and everything below it; of anything where None."""
    if address is None:
        return "TRUE"
    # ';' follows ':', so that all addresses which begin with "<address>:" lie between the two.
    between = f"address > {text_literal(address + ':')} AND address < {text_literal(address + ';')}"
    return f"(address = {text_literal(address)} OR ({between}))"
