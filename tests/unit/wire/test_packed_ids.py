"""Rows of a hand-off that have many ids: the same each time, whole, and refused where they are none."""

from __future__ import annotations

from itertools import groupby
from random import Random

import pytest

from processors.faults import Undecodable
from processors.ids import make_command_id
from processors.ledger.tables import MOVED_IDS
from processors.wire.avro import long_bytes, sized_bytes
from processors.wire.packed_ids import (
    GATHERED_IDS_MAX,
    ROW_BYTES_MAX,
    ROW_IDS_MAX,
    SLOT_MS,
    IdOf,
    framed_ids,
    gathered,
    packed_in_rows,
    slot_of,
)
from processors.wire.packed_rows import frame, pack_row_of_ids, unpack_row

BEGAN_MS = 1_700_000_000_000 // SLOT_MS * SLOT_MS
OF_IDS = long_bytes(6)
ID = bytes(16)


def some_ids(count: int, seed: int = 1) -> list[IdOf]:
    rng = Random(seed)
    return [
        IdOf(
            rng.choice([b"acme", b"globex"]),
            make_command_id(BEGAN_MS + rng.randrange(3 * SLOT_MS), rng.randbytes(10)),
            rng.randbytes(rng.choice([0, 20, 300, ROW_BYTES_MAX + 1] if number % 500 == 0 else [20, 90])),
        )
        for number in range(count)
    ]


def ids_of(packed: bytes) -> list[IdOf]:
    table, (root, first, last, framed) = unpack_row(packed)
    found = framed_ids(framed)
    assert (table, first, last) == (MOVED_IDS, found[0][0], found[-1][0])
    return [IdOf(root.encode(), *each) for each in found]


@pytest.mark.rule("M6")
def test_rows_have_all_ids_those_of_a_root_and_a_minute_together_in_their_order() -> None:
    ids = some_ids(4_000)
    rows = [ids_of(row) for row in packed_in_rows(ids)]

    assert [each for row in rows for each in row] == sorted(ids)
    for row in rows:
        assert len({(each.root, slot_of(each.id_)) for each in row}) == 1
        assert len(row) <= ROW_IDS_MAX
        assert len(row) == 1 or sum(len(each.result) for each in row) <= ROW_BYTES_MAX
    minutes = [key for key, _ in groupby(rows, key=lambda row: (row[0].root, slot_of(row[0].id_)))]
    assert len(minutes) == 6
    assert len(rows) < len(ids) / 50  # and they are full


@pytest.mark.rule("M3")
def test_where_rows_end_depends_on_the_ids_and_not_on_how_they_were_read() -> None:
    ids: list[IdOf | None] = [*some_ids(2 * GATHERED_IDS_MAX + 100)]
    at_once = list(gathered(ids))
    for number in range(0, len(ids), 700):
        ids.insert(number, None)

    in_pages = list(gathered(ids))

    assert [row for row in in_pages if row is not None] == at_once
    assert in_pages.count(None) == ids.count(None)
    assert in_pages[0] is None
    assert sorted(each for row in at_once if row is not None for each in ids_of(row)) == sorted(filter(None, ids))


@pytest.mark.rule("I6")
def test_a_row_of_one_id_as_earlier_checkouts_packed_it_is_read() -> None:
    packed = long_bytes(5) + sized_bytes(b"acme") + sized_bytes(ID) + sized_bytes(b"result")

    assert unpack_row(packed) == unpack_row(pack_row_of_ids(b"acme", [(ID, b"result")]))


@pytest.mark.rule("M4")
@pytest.mark.parametrize(
    "framed",
    [b"", frame(ID)[:-1], frame(ID) + b"\0", frame(ID[:-1]), frame(ID) + frame(b"")],
    ids=["empty", "cut off", "more behind", "short id", "an empty one"],
)
def test_a_row_that_has_no_whole_ids_is_none(framed: bytes) -> None:
    with pytest.raises(Undecodable, match="no row"):
        unpack_row(OF_IDS + sized_bytes(b"acme") + sized_bytes(framed))
