"""Who sent it, and when: whether a command is new, known, or outside the time in which that can be told (I3 to I5)."""

from __future__ import annotations

from dataclasses import dataclass

from processors.ids import uuid7_time_ms
from processors.ledger.book import Book
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rows import Decision


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The command was decided before; it is answered with the first result's content, as a new result (I3)."""

    first: Decision


def identify(book: Book, *, root: str, command_id: bytes, body_hash: bytes, now_ms: int) -> Outcome | Duplicate | None:
    """Say what a command's id alone decides.

    Args:
        book: Holds the first decision of every id within the window, or knows that there is none.
        root: The record's key; the same id under another root is another command (I1).
        command_id: 16 bytes as they came.
        body_hash: Hash of the command's decoded fields, its id left out (I3).
        now_ms: Lane time, ms since the epoch.

    Returns:
        None where the command is new and to be decided. Else a ``Duplicate``; or an outcome with IMPLAUSIBLE_ID,
        COMMAND_TOO_OLD (status UNKNOWN) or COMMAND_ID_REUSED, which leave no journal row, or COMMAND_FROM_FUTURE,
        which leaves one in its own slice, so that a late copy is answered the same. All are functions of record, lane
        time and journal, so that they can be given again (L4).

    Source: rules I1, I3, I4, I5, I6.
    """
    rules = book.rules
    id_time_ms = uuid7_time_ms(command_id)
    if id_time_ms is None or id_time_ms > now_ms + rules.future_limit_ms:  # I5
        return Outcome(Status.REJECTED, Reason.IMPLAUSIBLE_ID, command_id, journalled=False)
    if id_time_ms < book.window_start_ms(root, now_ms):  # I4: no rejection, it may have been decided before
        return Outcome(Status.UNKNOWN, Reason.COMMAND_TOO_OLD, command_id, journalled=False)
    first = book.decisions[root, command_id]
    if first is not None:  # I3
        if first.body_hash == body_hash:
            return Duplicate(first)
        return Outcome(Status.REJECTED, Reason.COMMAND_ID_REUSED, command_id, journalled=False)
    if id_time_ms > now_ms + rules.skew_ms:  # I5
        return Outcome(Status.REJECTED, Reason.COMMAND_FROM_FUTURE, command_id)
    return None
