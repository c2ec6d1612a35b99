"""The two figures everything is held against: the bare INSERT of the same rows, and one transaction a payment."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

import MySQLdb

from processors.stores.addresses import MysqlAddress
from processors.stores.journal_sql import JOURNAL_COLUMNS

BATCH = 4_000
ROW_LOCK_THREADS = 8


def raw_insert_rows_per_s(address: MysqlAddress, rows_max: int = 100_000) -> int:
    """Insert the journal's rows, without results and steps, into an empty table of its shape, 4,000 a commit, durably.

    The statements' text is made beforehand: this is what the server alone can take from one connection.
    """
    connection = connect(address)
    connection.query("DROP TABLE IF EXISTS journal_raw")
    connection.query("CREATE TABLE journal_raw LIKE journal")
    connection.query(f"SELECT {JOURNAL_COLUMNS} FROM journal ORDER BY slice, lane, lane_offset LIMIT {rows_max}")
    rows = connection.store_result().fetch_row(maxrows=0)
    connection.query("COMMIT")
    statements = [
        f"INSERT INTO journal_raw ({JOURNAL_COLUMNS}) VALUES "
        + ",".join(f"({','.join(_literal(value) for value in row)})" for row in rows[start : start + BATCH])
        for start in range(0, len(rows), BATCH)
    ]
    began_s = time.monotonic()
    for statement in statements:
        connection.query("BEGIN")
        connection.query(statement)
        connection.query("COMMIT")
    elapsed_s = time.monotonic() - began_s
    connection.query("DROP TABLE journal_raw")
    connection.close()
    return int(len(rows) / elapsed_s)


def connect(address: MysqlAddress) -> Any:
    """Open a plain connection, with the server's own durable settings."""
    connection = MySQLdb.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
        use_unicode=False,
        autocommit=False,
    )
    connection.query("SET SESSION transaction_isolation = 'READ-COMMITTED'")
    return connection


def _literal(value: Any) -> str:
    return f"X'{value.hex()}'" if isinstance(value, bytes) else str(int(value))


def row_lock_payments_per_s(address: MysqlAddress, seconds: float = 8.0) -> int:
    """Pay as one would write it first: lock the row, insert, update, commit; 8 threads on one partner."""
    setup = connect(address)
    setup.query("DROP TABLE IF EXISTS plain_payment")
    setup.query("DROP TABLE IF EXISTS plain_account")
    setup.query("CREATE TABLE plain_account (id INT PRIMARY KEY, balance BIGINT NOT NULL)")
    setup.query(
        "CREATE TABLE plain_payment (id BINARY(16) PRIMARY KEY, account INT NOT NULL, amount BIGINT NOT NULL, "
        "balance BIGINT NOT NULL, metadata VARBINARY(4096) NOT NULL, created DATETIME(6) NOT NULL)"
    )
    setup.query("INSERT INTO plain_account VALUES (1, 1000000000000)")
    setup.query("COMMIT")
    counts = [0] * ROW_LOCK_THREADS
    ends_s = time.monotonic() + seconds

    def pay(number: int) -> None:
        connection = connect(address)
        while time.monotonic() < ends_s:
            connection.query("BEGIN")
            connection.query("SELECT balance FROM plain_account WHERE id = 1 FOR UPDATE")
            balance = int(connection.store_result().fetch_row()[0][0]) - 1
            connection.query(
                f"INSERT INTO plain_payment VALUES (X'{secrets.token_hex(16)}', 1, 1, {balance}, '', NOW(6))"
            )
            connection.query(f"UPDATE plain_account SET balance = {balance} WHERE id = 1")
            connection.query("COMMIT")
            counts[number] += 1
        connection.close()

    threads = [threading.Thread(target=pay, args=(number,)) for number in range(ROW_LOCK_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    setup.query("DROP TABLE plain_payment")
    setup.query("DROP TABLE plain_account")
    setup.close()
    return int(sum(counts) / seconds)
