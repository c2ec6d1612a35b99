"""How far each lane of a shard is proven: a row a lane, from which the next proof goes on.

A proof is of a range of offsets with the digest at its end, so that it can be held against the log: what was proven of
another log, or of rows that this database does not have, counts for nothing. Nor does a row that was changed by hand.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from processors.ledger.outcomes import Contra
from processors.ledger.rows import SystemKey
from processors.stores.mysql import Row, Session
from processors.stores.sql_text import hex_literal

GROUPS = 256  # of accounts, by the upper 8 bits of their buckets
_SUM = struct.Struct(">B32s")  # whether the sum is known, and it
_COLUMNS = (
    "lane, topic_id, first_offset, next_offset, digest, lane_time_ms, archived_offset, results_offset, "
    "results_time_ms, account_sums, system_sums, proven_at_ms"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneProof:
    """What is proven of a lane.

    Attributes:
        lane: Its number.
        topic_id: Of the shard's topic.
        first_offset: The rows from here on,
        next_offset: up to here are proven; a batch border.
        digest: The lane's there (L13).
        lane_time_ms: Its time there.
        archived_offset: The rows before it are proven to be in the archive, as far as they were covered.
        results_offset: The rows before it are proven to be on the results topic.
        results_time_ms: Lane time there.
        account_sums: Of each of ``GROUPS`` groups of accounts the sum that they must have there; None where it is not
            known, so that each account of the group must be proven by itself.
        system_sums: What the system accounts must be there, but for ``@moved``; None where it is not known.
        proven_at_ms: What was decided before is among these rows, by the clock of whoever proved it; 0: not said.
    """

    lane: int
    topic_id: bytes
    first_offset: int
    next_offset: int
    digest: bytes
    lane_time_ms: int
    archived_offset: int
    results_offset: int
    results_time_ms: int
    account_sums: tuple[int | None, ...]
    system_sums: dict[SystemKey, int] | None
    proven_at_ms: int


def select_proofs(session: Session) -> dict[int, LaneProof]:
    """Return the lanes' proofs; one whose checksum is another is left out."""
    rows = session.query(f"SELECT {_COLUMNS}, checksum FROM lane_proof ORDER BY lane", "reading proofs")
    return {row[0]: _proof_of(row[:-1]) for row in rows if _checksum(row[:-1]) == row[-1]}


def store_proof(session: Session, proof: LaneProof) -> None:
    """Keep a lane's proof in place of the one before."""
    values = (
        proof.lane,
        proof.topic_id,
        proof.first_offset,
        proof.next_offset,
        proof.digest,
        proof.lane_time_ms,
        proof.archived_offset,
        proof.results_offset,
        proof.results_time_ms,
        _pack_sums(proof.account_sums),
        _pack_system(proof.system_sums),
        proof.proven_at_ms,
    )
    literals = [hex_literal(each) if isinstance(each, bytes) else str(each) for each in (*values, _checksum(values))]
    session.execute(f"REPLACE INTO lane_proof ({_COLUMNS}, checksum) VALUES ({','.join(literals)})", "keeping a proof")
    session.commit()


def _proof_of(row: Row) -> LaneProof:
    return LaneProof(
        lane=row[0],
        topic_id=row[1],
        first_offset=row[2],
        next_offset=row[3],
        digest=row[4],
        lane_time_ms=row[5],
        archived_offset=row[6],
        results_offset=row[7],
        results_time_ms=row[8],
        account_sums=tuple(
            int.from_bytes(total, "big") if known else None for known, total in _SUM.iter_unpack(row[9])
        ),
        system_sums=_unpack_system(row[10]),
        proven_at_ms=row[11],
    )


def _checksum(values: Row) -> bytes:
    return hashlib.sha256(repr([bytes(each) if isinstance(each, bytes) else each for each in values]).encode()).digest()


def _pack_sums(sums: tuple[int | None, ...]) -> bytes:
    return b"".join(_SUM.pack(each is not None, (each or 0).to_bytes(32, "big")) for each in sums)


def _pack_system(sums: dict[SystemKey, int] | None) -> bytes:
    if sums is None:
        return b""
    rows = (f"{level} {name.value} {currency} {balance}" for (level, name, currency), balance in sorted(sums.items()))
    return ("\n".join(["known", *rows])).encode()


def _unpack_system(packed: bytes) -> dict[SystemKey, int] | None:
    if not packed:
        return None
    rows = (line.split(" ") for line in packed.decode().split("\n")[1:])
    return {(int(level), Contra(name), currency): int(balance) for level, name, currency, balance in rows}
