"""What a part's rows are is fixed with the schema of the record that has them: else a replay would decide otherwise."""

from __future__ import annotations

from enum import Enum

import pytest

from processors.ledger.tables import MOVING_TABLES

# Of hand_off.v1, by table: the columns in their order, and the values of those that have a few.
ROWS = {
    "account": "address, currency, balance, held, overdraft_limit, policy=CHECKED|UNCHECKED, "
    "status=ACTIVE|FROZEN|CLOSED, sequence, open_count, metadata, in_transit_minor",
    "hold": "root, transaction_id, address, currency, amount_minor, remaining_minor, levels, expires_at_ms",
    "open_refund": "root, transaction_id, address, currency, original_id, amount_minor, levels",
    "open_transfer": "root, transaction_id, address, currency, to_address, amount_minor, levels",
    "refunded": "root, transaction_id, amount_minor, refunded_minor",
    "moved_id": "root, command_id, result",  # as checkouts before 0.1.0 packed them; now ``test_packed_ids``
}


@pytest.mark.rule("I6")
@pytest.mark.rule("M4")
def test_the_rows_of_a_part_are_those_of_its_schema_in_every_release() -> None:
    """Whoever changes them makes hand_off.v2, with the release since which lanes know it.

    A part that one release throws away and the next one takes leaves another journal: a replay, or a database that was
    restored, would never come to the digest that was published.
    """
    found = {
        table.name: ", ".join(
            f"{name}={'|'.join(type_)}" if issubclass(type_, Enum) else name for name, type_ in table.columns.items()
        )
        for table in MOVING_TABLES
    }

    assert found == ROWS
    assert [*found] == [*ROWS]
