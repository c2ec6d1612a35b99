"""What a batch changes, as tests say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from processors.ledger.book import Changes
from processors.ledger.rows import Account, Hold, OpenRefund, Refunded, SystemKey, TransactionKey
from processors.ledger.tables import ACCOUNTS, HOLDS, OPEN_REFUNDS, REFUNDED, AnyTable, RowChange
from processors.stores.rows import JournalRow, NewJournalRow


def changes(
    *,
    opened: Iterable[Account] = (),
    accounts: Iterable[tuple[Account, int]] = (),
    holds: Iterable[tuple[TransactionKey, Hold | None, bool]] = (),
    open_refunds: Iterable[tuple[TransactionKey, OpenRefund | None, bool]] = (),
    refunded: Iterable[tuple[TransactionKey, Refunded, bool]] = (),
    system: dict[SystemKey, int] | None = None,
) -> Changes:
    """Return changes of some rows; a flag says that the row is stored already, a number is an account's sequence."""
    rows: dict[AnyTable, list[RowChange]] = {
        HOLDS: [RowChange(key, row, 0 if stored else None) for key, row, stored in holds],
        OPEN_REFUNDS: [RowChange(key, row, 0 if stored else None) for key, row, stored in open_refunds],
        REFUNDED: [RowChange(key, row, 0 if stored else None) for key, row, stored in refunded],
        ACCOUNTS: [
            *(RowChange((row.address, row.currency), row, None) for row in opened),
            *(RowChange((row.address, row.currency), row, before) for row, before in accounts),
        ],
    }
    return Changes(rows={table: some for table, some in rows.items() if some}, system=system or {})


def new_journal_row(**values: Any) -> NewJournalRow:
    """Return a row to be inserted, of all of its columns by name; lane 0 where none is named."""
    found = {field.name: values.pop(field.name) for field in fields(JournalRow) if field.name in values}
    return NewJournalRow(row=JournalRow(**{"lane": 0, **found}), **values)
