"""The journal's partitions, one a slice in each of its tables: made ahead, dropped when proven in the archive (A7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from processors.faults import Misconfigured, Retryable
from processors.ids import SLICE_MS, SLICES_MAX, slice_of
from processors.ledger.rules import Rules
from processors.stores.mysql import LockWaitTimeout, Session
from processors.stores.sql_text import chunks

# How long DDL waits for the table at most, since every later statement on the table waits behind it.
DDL_LOCK_WAIT_S = 1
TRANSACTION_AGE_MAX_S = 1
# The pauses double from 50 ms, and are 13 s in all. Many batches of a lane end in that time; a transaction that lasts
# longer is none of ours.
ATTEMPTS_MAX = 9
FIRST_BACKOFF_S = 0.05
# A replay's target keeps every slice of its topic, since nothing is removed there: as many as MySQL allows in a table,
# the place keeper among them; 341 days of a shard topic.
TARGET_SLICES_MAX = 8_192
# In the order in which a slice is made. Rows come last and go first, and results go last: so whoever finds a row finds
# its result, or that the slice is gone.
TABLES = ("journal_chunk", "journal_step", "journal")
_PLACE_KEEPER = 0  # the partition that each table was made with


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many slices the journal has, and how many more it needs that do not fit, ``lacking`` (A7).

    ``made`` are those that were added just now.
    """

    made: list[int]
    slices: int
    lacking: int


def slices(session: Session) -> list[int]:
    """Return the slices whose rows are here, ascending; one that is half made or half dropped is not among them."""
    return sorted(slices_of(session, TABLES)["journal"])


def slices_with_any_table(session: Session) -> list[int]:
    """Return the slices of which any table has a partition, ascending."""
    return sorted(set().union(*slices_of(session, TABLES).values()))


def slices_of(session: Session, tables: Collection[str]) -> dict[str, set[int]]:
    """Return by table the slices of which it has a partition."""
    names = ", ".join(f"'{name}'" for name in tables)
    rows = session.query(
        "SELECT CAST(table_name AS BINARY), CAST(partition_description AS UNSIGNED) "
        "FROM information_schema.partitions WHERE table_schema = DATABASE() "
        f"AND table_name IN ({names}) AND partition_name IS NOT NULL",
        "reading the journal's partitions",
    )
    found: dict[str, set[int]] = {name: set() for name in tables}
    for name, number in rows:
        if int(number) != _PLACE_KEEPER:
            found[name.decode()].add(int(number))
    return found


def slices_needed(rules: Iterable[Rules], *, from_ms: int, to_ms: int) -> range:
    """Return the slices in which the ids may lie that lanes decide between two lane times.

    They begin a window before the first time (I3), and end twice the future limit after the last (I5, A7). The widest
    window and limit of all the rules count.
    """
    rules = list(rules)
    first = slice_of(max(from_ms - max(each.window_ms for each in rules), SLICE_MS))
    last = slice_of(to_ms + 2 * max(each.future_limit_ms for each in rules))
    return range(first, last + 1)


def ensure_slices(session: Session, needed: Collection[int], *, slices_max: int = SLICES_MAX) -> list[int]:
    """Make the partitions that are missing, all of them or none.

    Args:
        session: Without a transaction.
        needed: As ``slices_needed`` says, or those that are there already in a table of the release before.
        slices_max: What the journal may not reach: A7's limit, or ``TARGET_SLICES_MAX``.

    Returns:
        The slices made.

    Raises:
        Misconfigured: The journal would have ``slices_max`` partitions or more.
        Retryable: A table was in use each time; what it lacks is made the next time.
    """
    present = slices_with_any_table(session)
    missing = sorted(set(needed) - set(present))
    if len(present) + len(missing) >= slices_max:
        asked = "is the remover running, and" if slices_max == SLICES_MAX else "is"
        raise Misconfigured(
            f"{session.address}: the journal has {len(present)} slices and needs {len(missing)} more; {slices_max} are "
            f"too many: {asked} the window within reason?"
        )
    _add_slices(session, set(needed))
    return missing


def make_room(session: Session, needed: range, *, slices_max: int = SLICES_MAX) -> Room:
    """Make the partitions that are missing, as far as they fit.

    The earliest first, which a lane meets soonest.

    Args:
        session: Without a transaction.
        needed: As ``slices_needed`` says.
        slices_max: What the journal may not reach: A7's limit, or ``TARGET_SLICES_MAX``.

    Raises:
        Retryable: A table was in use each time; what it lacks is made the next time.
    """
    present = slices_with_any_table(session)
    missing = sorted(set(needed) - set(present))
    fitting = missing[: max(0, slices_max - 1 - len(present))]
    _add_slices(session, set(needed) & set(present) | set(fitting))
    return Room(made=fitting, slices=len(present) + len(fitting), lacking=len(missing) - len(fitting))


def _add_slices(session: Session, wanted: set[int]) -> None:
    """Add the partitions that tables lack, at most ``SLICES_MAX`` in one statement."""
    present = slices_of(session, TABLES)
    for name in TABLES:
        for some in chunks(sorted(wanted - present[name]), SLICES_MAX):  # 5 s of DDL, well below READ_TIMEOUT_S
            parts = ", ".join(f"PARTITION p{number} VALUES IN ({number})" for number in some)
            change_journal(session, f"ALTER TABLE {name} ADD PARTITION ({parts})", f"adding {len(some)} slices")


def drop_slice(session: Session, number: int) -> None:
    """Remove a slice with all its rows and results; without a trace where it is gone already.

    The caller has proven that nothing of it is needed any more (A6).

    Raises:
        Retryable: A table was in use each time; a slice of which something is left is there still, for the next time.
    """
    present = slices_of(session, TABLES)
    for name in reversed(TABLES):
        if number in present[name]:
            change_journal(session, f"ALTER TABLE {name} DROP PARTITION p{number}", f"dropping slice {number}")


def change_journal(session: Session, statement: str, what: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Run DDL on the journal, of partitions or of an index, so that it holds nobody up (A7).

    A DDL that waits for an old transaction makes every later statement on the table wait behind it. So it is only begun
    while no transaction is old, it waits for a second at most, and it is tried again after a pause.
    """
    session.execute(f"SET SESSION lock_wait_timeout = {DDL_LOCK_WAIT_S}", "setting the DDL's patience")
    backoff_s = FIRST_BACKOFF_S
    for _ in range(ATTEMPTS_MAX):
        if _changed(session, statement, what):
            return
        sleep(backoff_s)
        backoff_s *= 2
    raise Retryable(f"{session.address}: {what}: the journal was in use {ATTEMPTS_MAX} times")


def _changed(session: Session, statement: str, what: str) -> bool:
    if oldest_transaction_s(session) > TRANSACTION_AGE_MAX_S:
        return False
    try:
        session.execute(statement, what)
    except LockWaitTimeout:  # it leaves no transaction open: DDL has none
        return False
    return True


def oldest_transaction_s(session: Session) -> int:
    """Return the age in seconds of the oldest transaction in this database, 0 where there is none.

    Needs PROCESS, and SELECT on performance_schema. Other databases of the server never hold the journal.
    """
    ((age,),) = session.query(
        # trx_started is in the time zone of the server's machine, whatever the session's is
        "SELECT COALESCE(MAX(TIMESTAMPDIFF(SECOND, trx_started, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM'))), 0) "
        "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id IN "
        "(SELECT processlist_id FROM performance_schema.threads WHERE processlist_db = DATABASE())",
        "reading transactions' ages",
    )
    return int(age)
