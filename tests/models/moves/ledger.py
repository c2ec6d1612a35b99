"""What a command does to a partner's rows in the model: as little as shows that rows were lost, doubled or stale."""

from __future__ import annotations

from collections.abc import Iterable

from tests.models.moves.values import Rows, Status, Wish

# Lane time counts three hours of the day: all ids are of the first, holds expire in the second, and in the third
# every id is older than the window, if the shard's rules say nothing else.
EXPIRY = 1
LAST_HOUR = 2


def decide(
    rows: Rows, wish: Wish, *, now: int, window: int, shard: int, without: frozenset[str]
) -> tuple[Rows, Status]:
    """Return the rows after a command, and its answer."""
    if wish.kind == "recall":
        return _recalled(rows, wish, without)
    if now >= window or rows.has_forgotten:
        return rows, "too old"
    if any(name == wish.name for name, _ in rows.ids):
        return rows, "duplicate"
    decided = rows._replace(sequence=rows.sequence + 1, ids=(*rows.ids, (wish.name, shard)))
    match wish.kind:
        case "hold":
            return decided._replace(holds=(*rows.holds, wish.name)), "accepted"
        case "capture":
            return _captured(decided, wish, now)
        case "refund":
            return _refunded(decided, wish, shard, without)
        case _:
            return decided, "accepted"


def _captured(rows: Rows, wish: Wish, now: int) -> tuple[Rows, Status]:
    if wish.of not in rows.holds or now >= EXPIRY:
        return rows, "rejected"
    return rows._replace(holds=without_name(rows.holds, wish.of)), "accepted"


def _refunded(rows: Rows, wish: Wish, shard: int, without: frozenset[str]) -> tuple[Rows, Status]:
    decided_by = dict(rows.ids).get(wish.of)
    if wish.of in rows.refunded:
        return rows, "rejected"
    if decided_by == shard:
        return rows._replace(refunded=(*rows.refunded, wish.of)), "accepted"
    if decided_by is None or "H4 elsewhere" in without:
        return rows, "unknown original"
    return rows._replace(open_refunds=(*rows.open_refunds, (wish.name, wish.of))), "open"


def _recalled(rows: Rows, wish: Wish, without: frozenset[str]) -> tuple[Rows, Status]:
    """End an open refund; without the open row nothing happens (I7)."""
    original = dict(rows.open_refunds).get(wish.of)
    if original is None:
        return (rows._replace(sequence=rows.sequence + 1), "rejected") if "I7" in without else (rows, "silent")
    ended = rows._replace(
        sequence=rows.sequence + 1,
        open_refunds=tuple(row for row in rows.open_refunds if row[0] != wish.of),
    )
    if not wish.is_found:
        return ended, "unknown original"
    if original in rows.refunded:
        return ended, "rejected"
    return ended._replace(refunded=(*rows.refunded, original)), "completed"


def expire(rows: Rows, hold: str) -> Rows:
    """Return the rows after a hold has expired."""
    return rows._replace(sequence=rows.sequence + 1, holds=without_name(rows.holds, hold))


def forget(rows: Rows, now: int, window: int) -> Rows:
    """Drop the ids that have left the window: no decision looks at them any more."""
    return rows._replace(ids=(), has_forgotten=True) if now >= window else rows


def without_name(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return the names without one."""
    return tuple(each for each in names if each != name)


def parts_of(rows: Rows, parts: int, *, shard: int, without: frozenset[str]) -> list[Rows]:
    """Return what the parts of a hand-off carry, without the last, which has no rows.

    Of two, the second has the refunds and what was forgotten.
    """
    rows = _without_tables(rows, shard, without)
    if parts == 1:
        return [rows]
    return [Rows(sequence=rows.sequence, holds=rows.holds, ids=rows.ids), rows._replace(sequence=0, holds=(), ids=())]


def _without_tables(rows: Rows, shard: int, without: frozenset[str]) -> Rows:
    """Return the rows without the tables that a mutation forgets in the hand-off (M6)."""
    own_ids = tuple(each for each in rows.ids if each[1] == shard)
    ids = own_ids if "M6 ids of others" in without else rows.ids
    return Rows(
        sequence=rows.sequence,
        holds=() if "M6 holds" in without else rows.holds,
        ids=() if "M6 ids" in without else ids,
        refunded=() if "M6 refunded" in without else rows.refunded,
        open_refunds=() if "M6 open refunds" in without else rows.open_refunds,
        has_forgotten=rows.has_forgotten and "M6 window" not in without,
    )


def put_together(parts: Iterable[Rows]) -> Rows:
    """Return the rows that parts of a hand-off make."""
    whole = Rows()
    for rows in parts:
        whole = Rows(
            sequence=whole.sequence + rows.sequence,
            holds=whole.holds + rows.holds,
            ids=whole.ids + rows.ids,
            refunded=whole.refunded + rows.refunded,
            open_refunds=whole.open_refunds + rows.open_refunds,
            has_forgotten=whole.has_forgotten or rows.has_forgotten,
        )
    return whole
