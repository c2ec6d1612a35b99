"""A shard's database as the release before the narrow journal left it, with the rows of a long mixed log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from processors.ids import slice_of_id
from processors.ledger.addresses import chain
from processors.ledger.currencies import has_form_of_code
from processors.routing.buckets import bucket_of
from processors.stores.addresses import MysqlAddress
from processors.stores.migrations import NARROW, Migration, read_migrations
from processors.stores.mysql import Session
from processors.stores.proven_journal import columns_that_differ, select_lane_rows
from processors.stores.rows import JournalRow
from processors.stores.rules_rows import insert_rules
from processors.stores.shard_reader import open_reader
from processors.stores.sql_text import hex_literal, row_chunks
from processors.wire.results import Result, decode_result
from tests.integration.mysql_shard import RULES, SHARD, address_of, rows_of
from tests.properties.test_batch_cuts import run
from tests.properties.test_mixed_log import cuts_of, mixed_log
from tests.servers import Servers

OTHER_LANE_OFFSETS = 60  # the rows before are another lane's, so that there are two
_COLUMNS = (
    "slice, lane, lane_offset, lane_index, command_id, root, bucket, transaction_id, type, status, reason, address, "
    "currency, amount_minor, body_hash, source_partition, source_offset, lane_time_ms, version_us, rules_version, "
    "result_version, metadata, result"
)


@dataclass(slots=True)
class Before:
    """A database of the release before, and what its journal has: rows in order, each with what its result says."""

    address: MysqlAddress
    rows: list[tuple[JournalRow, Result]]


def apply_file(session: Session, migration: Migration, *, times: int = 1, noted: bool = True) -> None:
    """Run a file of the schema, and note it as ``balance migrate`` does."""
    for statement in migration.statements * times:
        session.execute(statement, migration.name)
    session.execute(
        "CREATE TABLE IF NOT EXISTS migration (number INT UNSIGNED NOT NULL PRIMARY KEY, name VARBINARY(64) NOT NULL, "
        "digest BINARY(32) NOT NULL) ENGINE = InnoDB",
        "the table of migrations",
    )
    if noted:
        note = f"({migration.number}, '{migration.name}', {hex_literal(migration.digest)})"
        session.execute(f"INSERT INTO migration VALUES {note}", "noting it")


def make_before(servers: Servers, fresh_database: Callable[[], str], *, records: int) -> Before:
    """Return a database whose journal has what was decided of the first records of a mixed log."""
    address = address_of(servers, fresh_database())
    session = Session(address, lane=False)
    for migration in takewhile(lambda each: each.number < NARROW, read_migrations()):
        apply_file(session, migration)
    session.execute(
        "INSERT INTO shard (shard, lanes, results_partitions, created_at_ms, home) VALUES ('s1', 4, 4, 0, 1)", "a shard"
    )
    for lane in range(SHARD.lanes):
        session.execute(insert_rules(lane, {0: RULES}, since_time_ms=0), "its rules")
    rows = list(_decided(records))
    for number in sorted({row.slice for row, _ in rows}):
        part = f"PARTITION p{number} VALUES IN ({number})"
        session.execute(f"ALTER TABLE journal ADD PARTITION ({part})", "a slice")
    for _, text in row_chunks(rows, _wide_row):
        session.execute(f"INSERT INTO journal ({_COLUMNS}) VALUES {text}", "its journal")
    session.close()
    return Before(address=address, rows=rows)


def _decided(records: int) -> Iterator[tuple[JournalRow, Result]]:
    tables = run(mixed_log(1)[:records], cuts_of(1, 400), book_accounts_max=100, ahead_from=50).tables
    for number in sorted(tables.journal):
        for _, row in sorted(tables.journal[number].items()):
            row.lane = 1 if row.lane_offset < OTHER_LANE_OFFSETS else 0
            yield row, decode_result(row.result)


def _wide_row(decided: tuple[JournalRow, Result]) -> str:
    row, result = decided
    texts = [each.encode() for each in (result.type, result.status, result.reason, _address(result), _currency(result))]
    bucket = bucket_of(row.root) if row.root else 0
    return (
        f"({row.slice},{row.lane},{row.lane_offset},{row.lane_index},{hex_literal(row.command_id)},"
        f"{hex_literal(row.root.encode())},{bucket},{hex_literal(result.transaction_id)},"
        f"{','.join(map(hex_literal, texts))},{result.amount_minor},{hex_literal(result.body_hash)},"
        f"{result.ingress_partition},{result.ingress_offset},{result.lane_time_ms},{result.version_us},"
        f"{result.rules_version},1,{hex_literal(result.metadata)},{hex_literal(row.result)})"
    )


def _address(result: Result) -> str:
    return result.address if chain(result.address) else ""


def _currency(result: Result) -> str:
    return result.currency if has_form_of_code(result.currency) else ""


def assert_brought_over(before: Before) -> None:
    """Compare every row, column, result and step, by each way in which they are looked for."""
    assert rows_of(before.address, "SHOW TABLES LIKE 'journal_before'") == []
    session, reader = Session(before.address, lane=False), open_reader(before.address)
    numbers = reader.slices()
    for lane in (0, 1):
        wanted = sorted(
            (each for each in before.rows if each[0].lane == lane),
            key=lambda each: (each[0].lane_offset, each[0].lane_index),
        )
        found = select_lane_rows(session, lane, 0, 1 << 40, numbers)
        assert [each.row for each in found] == [row for row, _ in wanted]
        differ = [columns_that_differ(each, result) for each, (_, result) in zip(found, wanted, strict=True)]
        assert differ == [["lane"] if lane else []] * len(wanted)
    session.close()
    keys = {
        (row.root, row.command_id): row.result for row, _ in before.rows if slice_of_id(row.command_id) == row.slice
    }
    assert reader.decided(list(keys)) == keys
    assert any(result.transaction_id != row.command_id for row, result in before.rows), "nothing goes on with another's"
    steps: dict[bytes, set[bytes]] = {}
    for row, result in before.rows:
        for id_ in {result.transaction_id, row.command_id}:
            steps.setdefault(id_, set()).add(row.result)
    for id_, results in steps.items():
        assert {row.result for row in reader.transaction(id_)} == results
    reader.close()
