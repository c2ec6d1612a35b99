"""Carries a sealed placement key to another shard's lane, in parts, and a receipt back (M3, M7, P2, P3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from processors.faults import Retryable
from processors.lane.decided import HandedOver, Receipt
from processors.lane.placements import chain_rows, digest_so_far
from processors.ledger.commands import HandOff, Installed, LacksAhead
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.commands import encode_command, first_release
from processors.wire.packed_rows import PART_BYTES_MAX, compress_rows, frame
from processors.wire.records import OutRecord

PART_ROWS_MAX = 500
# What is sent together, and acknowledged before the next is sent: so many bytes, some 2,000 rows, so that the target
# stores them while the next are read; of placement keys that have next to nothing so many records.
ROUND_BYTES = 48 * 1024
ROUND_RECORDS_MAX = 20


class FrozenRows(Protocol):
    """A lane's frozen rows (``stores.frozen_rows.FrozenRowsReader``)."""

    def placement(self, placement_key: str) -> PlacementRow | None:
        """Return what the database has of a placement key now."""

    def read(self, sealed: PlacementRow) -> Iterator[bytes | None]:
        """Yield the rows that move with it, packed, in an order that is the same each time; None: it took a while."""

    def close(self) -> None:
        """Give the connection back."""


class Courier(Protocol):
    """What takes to other shards what a batch hands over."""

    def records(self, handed_over: HandedOver) -> Iterator[OutRecord | None]:
        """Yield the records that carry it, in order; None where reading takes long, so that progress is seen."""

    def close(self) -> None:
        """Let go of what it is connected to."""


class LaneCourier:
    """Carries for one lane. For one thread at a time."""

    part_rows_max = PART_ROWS_MAX

    def __init__(
        self,
        shard: str,
        rows: FrozenRows,
        address_of: Callable[[str, str], tuple[str, int]],
    ) -> None:
        """Nothing is connected before something is to be carried.

        Args:
            shard: The lane's own.
            rows: The lane's.
            address_of: Returns the whole topic and the partition of a placement key in a shard.
        """
        self._shard = shard
        self._rows = rows
        self._address_of = address_of

    def records(self, handed_over: HandedOver) -> Iterator[OutRecord | None]:
        """Yield the record of a receipt, or those of the parts of a hand-off; None where reading takes long.

        Raises:
            Fault: A server's: what arrived will arrive again, and is dropped there (M4).
        """
        key = handed_over.placement_key
        if isinstance(handed_over, Receipt):
            topic, partition = self._address_of(handed_over.shard, key)
            kind = LacksAhead if handed_over.lacks_ahead else Installed
            yield OutRecord(topic, partition, None, encode_command(kind(key, handed_over.generation)), [])
        elif self._is_sealed(handed_over):
            topic, partition = self._address_of(handed_over.other_shard, key)
            for part in self._parts(handed_over):
                yield None if part is None else OutRecord(topic, partition, None, _encoded(part), [])

    def close(self) -> None:
        """Let go of the connection."""
        self._rows.close()

    def _is_sealed(self, sealed: PlacementRow) -> bool:
        """Say whether a placement key is still sealed as it was; else the target has it, and needs no more (M7).

        Raises:
            Retryable: The database knows of no such seal: a replica took over without it, or a backup came back. What
                is published past a seal is sent by nobody; whoever takes the lane over decides the seal again (L1, P3).
        """
        row = self._rows.placement(sealed.placement_key)
        if row is None or row.generation < sealed.generation:
            raise Retryable(
                f"the database has no seal of {sealed.placement_key} at generation {sealed.generation} any more"
            )
        return row.is_at(PlacementState.SEALED, sealed.generation)

    def _parts(self, sealed: PlacementRow) -> Iterator[HandOff | None]:
        """Yield a hand-off's parts: at least one of rows, which may be empty; then the last, without any."""
        number = sealed.parts  # those that went ahead
        for piece in cut(self._rows.read(sealed), rows_max=self.part_rows_max, digest=sealed.digest):
            if piece is None:
                yield None
                continue
            yield self._part(sealed, number, piece)
            number += 1

    def _part(self, sealed: PlacementRow, number: int, piece: Piece) -> HandOff:
        return HandOff(
            placement_key=sealed.placement_key,
            generation=sealed.generation,
            source=self._shard,
            number=number,
            is_last=piece.is_last,
            rows=compress_rows(piece.rows),
            digest=piece.digest,
            lane_time_ms=sealed.since_time_ms,
            version_us=sealed.version_us,
            ids_since_ms=sealed.sealed_ids_since_ms,
            refunds_since_ms=sealed.sealed_refunds_since_ms,
            ahead_parts=sealed.parts,
        )


def _encoded(part: HandOff) -> bytes:
    """Encode a part so that every lane reads it whose rules know what it says."""
    return encode_command(part, release=first_release(part))


def rounds(records: Iterable[OutRecord | None]) -> Iterator[list[OutRecord]]:
    """Yield records as they are sent together; what waits, perhaps nothing, where reading takes long.

    A hand-off from a busy lane takes minutes, and a publish thread that does not move for long is given up.
    """
    waiting: list[OutRecord] = []
    size = 0
    for record in records:
        if record is not None:
            waiting.append(record)
            size += len(record.value)
        if record is None or size >= ROUND_BYTES or len(waiting) == ROUND_RECORDS_MAX:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


@dataclass(frozen=True, slots=True)
class Piece:
    """What one part has: framed rows, and the digest over all before them. The last has none. Positional: many."""

    rows: bytes
    digest: bytes
    is_last: bool = False


def cut(
    rows: Iterable[bytes | None], *, rows_max: int = PART_ROWS_MAX, digest: bytes = bytes(32)
) -> Iterator[Piece | None]:
    """Yield rows put together in parts, at least one; then the last, whose digest is over all rows (M8).

    None where the rows have None: it took a while. ``digest`` is over the rows that went ahead (M6).

    A part ends at ``rows_max`` rows or ``PART_BYTES_MAX``, even within a row: a row of the window's ids may be
    larger than a record, since a result quotes what its command said.
    """
    so_far = digest
    waiting, count, is_first = b"", 0, True
    for row in rows:
        if row is None:
            yield None
            continue
        before, digest, framed = digest, chain_rows(digest, [row]), frame(row)
        waiting += framed
        count += 1
        while len(waiting) > PART_BYTES_MAX or count >= rows_max:
            yield Piece(waiting[:PART_BYTES_MAX], so_far)
            waiting, count, is_first = waiting[PART_BYTES_MAX:], 0, False
            sent = framed[: len(framed) - len(waiting)]  # what is left is of this row alone
            so_far = digest_so_far(before, sent) if waiting else digest
    if waiting or is_first:
        yield Piece(waiting, so_far)
    yield Piece(b"", digest, is_last=True)
