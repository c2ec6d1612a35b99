"""What a hand-off is cut into, and what its rows come to."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence

import pytest

from processors.faults import Undecodable
from processors.lane.handing_over import (
    PART_ROWS_MAX,
    ROUND_BYTES,
    ROUND_RECORDS_MAX,
    LaneCourier,
    Piece,
    cut,
    rounds,
)
from processors.lane.placements import chain_rows, digest_so_far
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.commands import PAYLOAD_BYTES_MAX
from processors.wire.packed_rows import PART_BYTES_MAX, compress_rows, expand_rows, split_frames
from processors.wire.records import OutRecord

SMALL = [b"row %d" % number for number in range(3 * PART_ROWS_MAX)]
LARGE = [bytes(PART_BYTES_MAX + number) for number in range(3)]


@pytest.mark.rule("M3")
@pytest.mark.rule("M8")
@pytest.mark.parametrize("rows", [[], SMALL[:1], SMALL, LARGE, [*LARGE, *SMALL]], ids=len)
def test_a_hand_off_has_all_rows_and_their_digest_however_it_is_cut(rows: list[bytes]) -> None:
    with_pauses = [each for row in rows for each in (row, None)]
    parts = [part for part in cut(with_pauses) if part is not None]

    found: list[bytes] = []
    rest = b""
    for part in parts:
        assert part.digest == digest_so_far(chain_rows(bytes(32), found), rest)
        whole, rest = split_frames(rest + part.rows)
        found += whole
    assert (found, rest) == (rows, b"")
    assert parts[-1] == Piece(b"", chain_rows(bytes(32), rows), is_last=True)
    assert [part.is_last for part in parts[:-1]] == [False] * (len(parts) - 1)
    assert all(len(part.rows) <= PART_BYTES_MAX for part in parts)


@pytest.mark.rule("P3")
def test_a_hand_off_that_takes_long_to_read_shows_that_it_goes_on() -> None:
    """A publish thread that does not move for long is given up, and would begin with the same rows again."""
    sealed = GivenRows.sealed
    courier = LaneCourier("s1", GivenRows([None, None, None, b"row"]), lambda _shard, _key: ("balance.shard.s2", 0))

    steps = list(rounds(courier.records(sealed)))

    assert [len(records) for records in steps] == [0, 0, 0, 2]


def out(size: int) -> OutRecord:
    return OutRecord("balance.shard.s2", 0, None, bytes(size), [])


@pytest.mark.rule("P3")
@pytest.mark.parametrize(
    ("sizes", "sent"),
    [
        ([ROUND_BYTES // 4] * 9, [4, 4, 1]),
        ([1] * (2 * ROUND_RECORDS_MAX + 1), [ROUND_RECORDS_MAX, ROUND_RECORDS_MAX, 1]),
        ([2 * ROUND_BYTES, 1], [1, 1]),
        ([], []),
    ],
)
def test_what_is_sent_together_is_bounded_so_that_the_target_begins_early(sizes: list[int], sent: list[int]) -> None:
    assert [len(records) for records in rounds(map(out, sizes))] == sent


@pytest.mark.rule("W4")
@pytest.mark.parametrize("rows", [b"", b"acme" * 1_000, random.Random(1).randbytes(PART_BYTES_MAX)], ids=len)
def test_a_parts_rows_come_back_as_they_were_and_fit_into_a_record_however_little_they_shrink(rows: bytes) -> None:
    compressed = compress_rows(rows)

    assert expand_rows(compressed) == rows
    assert len(compressed) < PAYLOAD_BYTES_MAX - 4 * 1024


@pytest.mark.rule("M4")
@pytest.mark.parametrize(
    "compressed",
    [
        b"",
        b"no zlib",
        compress_rows(b"acme")[:-1],
        compress_rows(b"acme") + b"!",
        zlib.compress(bytes(PART_BYTES_MAX + 1)),
        zlib.compress(bytes(32 * 1024 * 1024)),
    ],
    ids=["nothing", "something else", "cut off", "more behind", "a byte too many", "32 MiB of zeros"],
)
def test_what_no_source_compressed_is_refused_before_it_takes_memory(compressed: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(Undecodable):
        expand_rows(compressed)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * PART_BYTES_MAX


class GivenRows:
    """Frozen rows of a key that is sealed; None where a look brought none."""

    sealed = PlacementRow(placement_key="acme", generation=1, state=PlacementState.SEALED, other_shard="s2")

    def __init__(self, rows: Sequence[bytes | None]) -> None:
        self._rows = rows

    def placement(self, placement_key: str) -> PlacementRow | None:  # noqa: ARG002 - the real one's signature
        return self.sealed

    def read(self, sealed: PlacementRow) -> Iterator[bytes | None]:  # noqa: ARG002
        yield from self._rows

    def close(self) -> None:
        """There is nothing to give back."""
