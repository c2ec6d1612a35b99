"""What is done to a shard beside its lanes' own writes: to findings, slices, old rows and stopped lanes."""

from __future__ import annotations

from dataclasses import dataclass

from processors.ids import SLICES_MAX
from processors.ledger.rules import Rules
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Reconnecting, Session
from processors.stores.partitions import Room, drop_slice, ensure_slices, make_room, slices_needed
from processors.stores.rules_rows import select_rules
from processors.stores.sql_text import cut_literal, hex_literal, text_literal

# Rows a DELETE takes at once: some milliseconds of locks.
DELETE_ROWS = 2_000
SUBJECT_BYTES_MAX = 255
DETAIL_BYTES_MAX = 2_000
FINDINGS_MAX = 1_000  # shown at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be; ``resolved_at_ms`` is None until someone has looked."""

    id: int
    kind: str
    subject: str
    detail: str
    raised_at_ms: int
    resolved_at_ms: int | None


class ShardUpkeep:
    """What other processes than a lane's owner may change. For one thread."""

    def __init__(self, address: MysqlAddress) -> None:
        """Nothing is connected yet."""
        self._connection = Reconnecting(address)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

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
            "AND next_offset < (SELECT last.next_offset FROM ("  # a table of its own: MySQL reads none that it changes
            "SELECT COALESCE(MAX(next_offset), 0) AS next_offset FROM batch_digest "
            f"WHERE lane = {lane} AND next_offset <= (SELECT published_offset FROM progress WHERE lane = {lane})"
            ") AS last) "
            f"ORDER BY next_offset LIMIT {DELETE_ROWS}",
            "deleting old batch digests",
        )

    def delete_old_refunded(self, *, before_ms: int) -> int:
        """Delete some rows of ``refunded`` whose original's id is older than ``before_ms``, and return how many (H3).

        The caller computes ``before_ms`` from the lanes' times, the refund period and the window, and repeats this
        until fewer than ``DELETE_ROWS`` were deleted.
        """
        oldest = before_ms.to_bytes(6, "big") + bytes(10)  # of all ids with that time (RFC 9562)
        return self._execute(
            f"DELETE FROM refunded WHERE transaction_id < {hex_literal(oldest)} "
            f"ORDER BY transaction_id LIMIT {DELETE_ROWS}",
            "deleting old refunded originals",
        )

    def delete_expired_holds(self, lane: int, *, before_ms: int) -> int:
        """Delete some of a lane's holds that were freed at an expiry before ``before_ms``, and return how many (H2).

        The caller computes ``before_ms`` from the lanes' times and the window, and repeats this until fewer than
        ``DELETE_ROWS`` were deleted.
        """
        return self._execute(
            "DELETE FROM hold "
            f"WHERE lane = {lane} AND is_open = 0 AND expires_at_ms < {before_ms} "
            f"ORDER BY expires_at_ms LIMIT {DELETE_ROWS}",
            "deleting expired holds",
        )

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


def _known_rules(session: Session) -> list[Rules]:
    return [each for of_lane in select_rules(session).values() for each in of_lane.values()]
