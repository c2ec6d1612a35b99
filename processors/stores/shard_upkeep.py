"""What is done to a shard beside its lanes' own writes: to findings, slices, old rows and stopped lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from processors.faults import Retryable, UnknownOutcome
from processors.ids import SLICES_MAX, id_time_ms, lowest_id
from processors.ledger.rules import Rules
from processors.ledger.tables import HOLDS, MOVED_IDS, OPEN_TRANSFERS, REFUNDED, AnyTable
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Reconnecting, Session
from processors.stores.partitions import Room, drop_slice, ensure_slices, make_room, slices_needed
from processors.stores.placement_sql import (
    delete_rows,
    is_owned,
    is_owned_or_ahead,
    select_roots_placed,
    select_sealed_ids_since_ms,
)
from processors.stores.rows import PlacementState, rows_of
from processors.stores.rules_rows import select_rules
from processors.stores.sql_text import cut_literal, delete_by_keys, hex_literal, text_literal
from processors.wire.packed_ids import SLOT_MS

# Rows a DELETE takes at once: some milliseconds of locks.
DELETE_ROWS = 2_000
SUBJECT_BYTES_MAX = 255
DETAIL_BYTES_MAX = 2_000
FINDINGS_MAX = 1_000  # shown at once
LEFT_KEYS_MAX = 1_000  # looked at in one step of the remover: a minute's moves, and ten times that


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be; ``resolved_at_ms`` is None until someone has looked."""

    id: int
    kind: str
    subject: str
    detail: str
    raised_at_ms: int
    resolved_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftKey:
    """A placement key that another shard has, or of which an arrival was thrown away; with its generation here."""

    lane: int
    placement_key: str
    generation: int


class ShardUpkeep:
    """What other processes than a lane's owner may change. For one thread."""

    def __init__(self, address: MysqlAddress) -> None:
        """Nothing is connected yet."""
        self._connection = Reconnecting(address)
        self._holding = Reconnecting(address, lane=True)

    def close(self) -> None:
        """Give the connections back."""
        self._connection.close()
        self._holding.close()

    def _execute(self, sql: str, what: str) -> int:
        return self._connection.ask(lambda session: session.execute(sql, what))

    # ------------------------------------------------------------------ slices

    def ensure_slices(
        self, rules: Rules | None = None, *, from_ms: int, to_ms: int, slices_max: int = SLICES_MAX
    ) -> list[int]:
        """Make the journal's partitions for lane times from ``from_ms`` to ``to_ms``, and return those made (A7).

        Args:
            rules: Whose window and future limit count beside the shard's own; for rules that are about to be set.
            from_ms: The earliest lane time to come: now, or a topic's first record for a replay.
            to_ms: The latest one known: now.
            slices_max: A7's limit, or ``TARGET_SLICES_MAX``.

        Raises:
            Misconfigured: The limit would be passed.
            Retryable: The journal was in use each time.
        """

        def ensure(session: Session) -> list[int]:
            known = [*_known_rules(session), *([rules] if rules else [])]
            return ensure_slices(session, slices_needed(known, from_ms=from_ms, to_ms=to_ms), slices_max=slices_max)

        return self._connection.ask(ensure)

    def make_room(self, *, from_ms: int, to_ms: int) -> Room:
        """Make the journal's partitions for lane times from ``from_ms`` to ``to_ms``, as far as they fit (A7).

        Raises:
            Retryable: The journal was in use each time.
        """
        return self._connection.ask(
            lambda session: make_room(session, slices_needed(_known_rules(session), from_ms=from_ms, to_ms=to_ms))
        )

    def drop_slice(self, number: int) -> None:
        """Remove a slice, which the caller has proven to be archived (A6); without effect where it is gone.

        Raises:
            Retryable: The journal was in use each time; nothing was changed.
        """
        self._connection.ask(lambda session: drop_slice(session, number))

    # ------------------------------------------------------------------ old rows

    def delete_old_digests(self, lane: int, *, before_ms: int) -> int:
        """Delete some of a lane's batch digests with a lane time before ``before_ms``, and return how many (L13).

        The digests of what may not be published yet stay, and so does the last border before them, where a new owner
        starts (L4). The caller repeats this until fewer than ``DELETE_ROWS`` were deleted.
        """
        return self._execute(
            "DELETE FROM batch_digest "
            f"WHERE lane = {lane} AND lane_time_ms < {before_ms} "
            # A table of its own: MySQL reads none that it changes.
            f"AND next_offset < (SELECT last.next_offset FROM ({_published_border(lane)}) AS last) "
            f"ORDER BY next_offset LIMIT {DELETE_ROWS}",
            "deleting old batch digests",
        )

    def delete_old_refunded(self, *, before_ms: int) -> int:
        """Delete some rows of ``refunded`` whose original's id is older than ``before_ms``, and return how many (H3).

        The caller computes ``before_ms`` from the lanes' times, the refund period and the window, and repeats this
        until fewer than ``DELETE_ROWS`` were found. Those of partners who are not owned here stay (M2).
        """
        return self._delete_owned(REFUNDED, f"t.transaction_id < {hex_literal(lowest_id(before_ms))}", "transaction_id")

    def delete_expired_holds(self, lane: int, *, before_ms: int) -> int:
        """Delete some of a lane's holds that were freed at an expiry before ``before_ms``, and return how many (H2).

        The caller computes ``before_ms`` from the lanes' times and the window, and repeats this until fewer than
        ``DELETE_ROWS`` were found. Those of partners who are not owned here stay (M2).
        """
        where = f"t.lane = {lane} AND t.is_open = 0 AND t.expires_at_ms < {before_ms}"
        return self._delete_owned(HOLDS, where, "expires_at_ms")

    def delete_old_moved_ids(self, *, before_ms: int) -> int:
        """Delete some rows of ids that other shards decided, of minutes before ``before_ms``'s; return how many (M6).

        The caller computes ``before_ms`` from the lanes' times and the window: no lane looks for such an id any more.
        He repeats this until fewer than ``DELETE_ROWS`` were found. Those that are frozen or arriving stay (M2); those
        that came ahead of a move do not, so that nothing is left of one that was never made.
        """
        return self._delete(MOVED_IDS, f"t.minute < {before_ms // SLOT_MS} AND {is_owned_or_ahead('t')}", "minute")

    def _delete_owned(self, table: AnyTable, where: str, order: str) -> int:
        """Delete some rows of partners who are owned here, and return how many there were."""
        return self._delete(table, f"{where} AND {is_owned(table, 't')}", order)

    def _delete(self, table: AnyTable, where: str, order: str) -> int:
        """Delete some rows, and return how many there were.

        They are found without a lock, and deleted lane by lane where the condition holds still.
        """
        key = ", ".join(f"t.{column}" for column in table.key)
        found = self._connection.ask(
            lambda session: session.query(
                f"SELECT t.bucket & (SELECT lanes - 1 FROM shard), {key} FROM {table.name} AS t WHERE {where} "
                f"ORDER BY t.{order} LIMIT {DELETE_ROWS}",
                f"looking for old rows of {table.name}",
            )
        )
        by_lane: dict[int, list[str]] = {}
        for lane, *values in found:
            by_lane.setdefault(lane, []).append(f"ROW({','.join(map(hex_literal, values))})")
        for lane, keys in by_lane.items():
            sql = delete_by_keys(table.name, [*table.key], ",".join(keys), where=where)
            self._holding_up(lane, partial(Session.execute, sql=sql, what=f"deleting old rows of {table.name}"))
        return len(found)

    def open_transfers(self) -> tuple[int, int | None]:
        """Return how many transfers of partners who live here have not ended, and the time of the oldest's id, in ms.

        The time is None where there is none. A partner's who is on his way to another shard are not among them.
        """
        ((count, oldest),) = self._connection.ask(
            lambda session: session.query(
                f"SELECT COUNT(*), MIN(transaction_id) FROM {OPEN_TRANSFERS.name} "
                f"WHERE {is_owned(OPEN_TRANSFERS, OPEN_TRANSFERS.name)}",
                "looking for open transfers",
            )
        )
        return count, None if oldest is None else id_time_ms(oldest)

    def oldest_seal_ms(self) -> int | None:
        """Return since when a placement key has been on its way to another shard, the oldest, in ms; None: none is."""
        ((oldest_ms,),) = self._connection.ask(
            lambda session: session.query(
                f"SELECT MIN(since_time_ms) FROM placement WHERE state = '{PlacementState.SEALED}'",
                "looking for moves under way",
            )
        )
        return None if oldest_ms is None else int(oldest_ms)

    # ------------------------------------------------------------------ what moves leave behind

    def sealed_ids_since_ms(self) -> list[int]:
        """Return from which id time on, in ms, sealed placement keys have ids to hand over: the lowest, if any (M3)."""
        return self._connection.ask(select_sealed_ids_since_ms)

    def left_keys(self) -> list[LeftKey]:
        """Return the placement keys whose rows here may be deleted.

        Another shard has said that it has them (M7), or an arrival of theirs was thrown away here (M4).
        """
        rows = self._connection.ask(
            lambda session: session.query(
                "SELECT lane, placement_key, generation FROM placement "
                f"WHERE state = '{PlacementState.LEFT}' ORDER BY lane, placement_key LIMIT {LEFT_KEYS_MAX}",
                "looking for placement keys that have left",
            )
        )
        return [LeftKey(lane=lane, placement_key=key.decode(), generation=number) for lane, key, number in rows]

    def delete_left_rows(self, left: LeftKey) -> int:
        """Delete some of the frozen rows of a placement key that has left, and return how many (M7).

        Nothing before P has passed the seal: until then a new owner answers again from before it, by the ids that came
        along. A database that went back, and lost the group's offset, has the receipt in its log already (L4).

        Where nothing is left of them, the key is AWAY. The lane's owner may go on to hold it for LEFT, and even store
        that again: both say that the key is elsewhere, and a later look finds no rows once more. Where the key has come
        back, or the lane has heard of a later move, nothing is deleted. The caller repeats this until fewer than
        ``DELETE_ROWS`` were deleted.
        """
        return self._holding_up(left.lane, partial(_delete_left_rows, left=left))

    def delete_published_parked(self, lane: int) -> int:
        """Delete some records that were parked, and whose answers are published; return how many (L4).

        A new owner answers again from the last batch border up to P on, and needs each record that was parked or
        unparked from there on. The caller repeats this until fewer than ``DELETE_ROWS`` were deleted.
        """
        return self._execute(
            f"DELETE FROM parked WHERE lane = {lane} AND unparked_offset < ({_published_border(lane)}) "
            f"ORDER BY unparked_offset LIMIT {DELETE_ROWS}",
            "deleting parked records",
        )

    def _holding_up(self, lane: int, change: Callable[[Session], int]) -> int:
        """Change rows of a lane in a transaction that begins as the lane's own do, so that it commits none meanwhile.

        No placement key is sealed then, none begins to arrive, and no owner takes over. The lane waits for some
        milliseconds; if this process is held up, for as long as for an owner that fell silent (L7).

        Raises:
            Retryable: Also where nobody knows whether it was committed: what is left is found again.
        """

        def question(session: Session) -> int:
            session.begin()
            session.query(f"SELECT next_offset FROM progress WHERE lane = {lane} FOR UPDATE", "holding a lane up")
            changed = change(session)
            session.commit()
            return changed

        try:
            return self._holding.ask(question)
        except UnknownOutcome as unknown:
            raise Retryable(str(unknown)) from unknown

    # ------------------------------------------------------------------ findings

    def raise_finding(self, kind: str, subject: str, detail: str, *, now_ms: int) -> None:
        """Raise a finding, or raise it again with what is seen now; one row a subject."""
        self._execute(
            "INSERT INTO finding (kind, subject, detail, raised_at_ms) "
            f"VALUES ({text_literal(kind)}, {cut_literal(subject, SUBJECT_BYTES_MAX)}, "
            f"{cut_literal(detail, DETAIL_BYTES_MAX)}, {now_ms}) AS new "
            "ON DUPLICATE KEY UPDATE detail = new.detail, "
            "raised_at_ms = IF(finding.resolved_at_ms IS NULL, finding.raised_at_ms, new.raised_at_ms), "
            "resolved_at_ms = NULL",
            "raising a finding",
        )

    def resolve_finding(self, kind: str, subject: str, *, now_ms: int) -> bool:
        """Say that a finding is no longer so; False where none was open."""
        resolved = self._execute(
            f"UPDATE finding SET resolved_at_ms = {now_ms} WHERE kind = {text_literal(kind)} "
            f"AND subject = {cut_literal(subject, SUBJECT_BYTES_MAX)} AND resolved_at_ms IS NULL",
            "resolving a finding",
        )
        return resolved == 1

    def findings(self, *, resolved: bool = False) -> list[Finding]:
        """Return the open findings, or the resolved ones, the newest first."""
        rows = self._connection.ask(
            lambda session: session.query(
                "SELECT id, kind, subject, detail, raised_at_ms, resolved_at_ms FROM finding "
                f"WHERE resolved_at_ms IS {'NOT ' if resolved else ''}NULL ORDER BY id DESC LIMIT {FINDINGS_MAX}",
                "reading findings",
            )
        )
        return [
            Finding(
                id=id_,
                kind=kind.decode(),
                subject=subject.decode(),
                detail=detail.decode(),
                raised_at_ms=raised_at_ms,
                resolved_at_ms=resolved_at_ms,
            )
            for id_, kind, subject, detail, raised_at_ms, resolved_at_ms in rows
        ]

    # ------------------------------------------------------------------ lanes

    def clear_stop(self, lane: int) -> bool:
        """Let a stopped lane go on, as an operator wants it; False where it was not stopped."""
        cleared = self._execute(
            "UPDATE progress SET stop_code = NULL, stop_detail = NULL, stopped_at_ms = NULL "
            f"WHERE lane = {lane} AND stop_code IS NOT NULL",
            "clearing a stop",
        )
        return cleared == 1


def _published_border(lane: int) -> str:
    """Return the SELECT of the last batch border up to P, where a new owner of a lane begins to answer again (L4)."""
    return (
        f"SELECT COALESCE(MAX(next_offset), 0) AS next_offset FROM batch_digest WHERE lane = {lane} "
        f"AND next_offset <= (SELECT published_offset FROM progress WHERE lane = {lane})"
    )


def _delete_left_rows(session: Session, left: LeftKey) -> int:
    """Delete some rows of a placement key, once its seal is published; nothing changes the lane's keys meanwhile."""
    key = text_literal(left.placement_key)
    the_key = (
        f"lane = {left.lane} AND placement_key = {key} AND generation = {left.generation} "
        f"AND state = '{PlacementState.LEFT}' AND since_offset <= ({_published_border(left.lane)})"
    )
    if not session.query(f"SELECT 1 FROM placement WHERE {the_key}", "looking whether a key is still elsewhere"):
        return 0
    # Looked at here and not before: a root may have come back by itself (M7).
    rows = rows_of(left.placement_key, select_roots_placed(session, left.lane), but_ahead=True)
    deleted = delete_rows(session, rows, DELETE_ROWS)
    if deleted == DELETE_ROWS:
        return deleted
    session.execute(
        f"UPDATE placement SET state = '{PlacementState.AWAY}' WHERE {the_key}", "noting that a key is away"
    )
    return deleted


def _known_rules(session: Session) -> list[Rules]:
    return [each for of_lane in select_rules(session).values() for each in of_lane.values()]
