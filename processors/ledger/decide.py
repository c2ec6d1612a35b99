"""May this command happen, and what does it change? The one entry to the ledger core.

No I/O, no clock, no random number: the same book, command and lane time decide the same, anywhere (docs/design.md,
The core).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from processors.ledger.accounts import get_balance, open_account, update_account
from processors.ledger.book import Book
from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Command,
    ExpireHold,
    GetBalance,
    MovePartner,
    OpenAccount,
    Pay,
    PlaceHold,
    RecallOriginal,
    Refund,
    ServicesCommand,
    TopUp,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.holds import capture_hold, expire_hold, place_hold, void_hold
from processors.ledger.identity import Duplicate, identify
from processors.ledger.movements import adjust, collect, pay, top_up
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.recalls import recall_original
from processors.ledger.refunds import refund
from processors.ledger.rejections import rejected
from processors.ledger.transfers import transfer, transfer_completed, transfer_credit, transfer_return
from processors.ledger.validity import why_invalid

__all__ = ["Duplicate", "Verdict", "decide"]

Verdict = Outcome | Duplicate | None
"""What the ledger says of a command: its outcome, or that it was decided before, or that there is nothing to do."""

_C = TypeVar("_C", bound=Command)
_OfAnyTime = Callable[[Book, Command], Outcome]
_OfNow = Callable[[Book, Command, int], Outcome]
_WithoutIdCheck = Callable[[Book, Command, str, int], Outcome | None]


def decide(book: Book, command: Command, *, root: str, body_hash: bytes, now_ms: int) -> Verdict:
    """Decide one command of a lane, and make its changes in the book.

    The caller records the outcome: a journalled one as the id's first decision in ``book.decisions``, so that the next
    command of the same id finds it (L9).

    Args:
        book: Holds every row that ``needs.collect_needs`` names; a row that was not loaded is a bug (KeyError).
        command: Decoded, not judged.
        root: The record's key, under which its id is known (I1).
        body_hash: Hash of the command's decoded fields, its id left out (I3).
        now_ms: Lane time, ms since the epoch, UTC; never the wall clock, so that a replay decides the same.

    Returns:
        An outcome: accepted, open, completed, or refused with the first reason that applies, in the order of
        ``Reason``; a rejection leaves the book as it was, but for a recall's, which ends the refund (L11). Or a
        ``Duplicate``, to be answered as the first decision was. Or None: a service's own record that finds nothing
        to do (I7).

    Raises:
        LaneStopped: RECALLS_DISAGREE (H3); the book is unchanged.

    Source: docs/design.md, Money and The core; rules I1 to I7, L9, L11, H1 to H5.
    """
    kind = type(command)
    if kind in _WITHOUT_ID_CHECK:
        return _WITHOUT_ID_CHECK[kind](book, command, root, now_ms)
    known = identify(book, root=root, command_id=command.command_id, body_hash=body_hash, now_ms=now_ms)
    if known is not None:
        return known
    reason = why_invalid(command, root, book.rules)
    if reason is not None:
        assert not isinstance(command, ServicesCommand | MovePartner)
        return rejected(command, reason)
    if kind in _OF_ANY_TIME:
        return _OF_ANY_TIME[kind](book, command)
    return _OF_NOW[kind](book, command, now_ms)


def _of_any_time(kind: type[_C], rule: Callable[[Book, _C], Outcome]) -> tuple[type[object], _OfAnyTime]:
    """Pair a type with the rule of just that type: the tables are looked up by a command's own type."""
    return kind, cast("_OfAnyTime", rule)


def _of_now(kind: type[_C], rule: Callable[[Book, _C, int], Outcome]) -> tuple[type[object], _OfNow]:
    return kind, cast("_OfNow", rule)


def _without_id_check(
    kind: type[_C], rule: Callable[[Book, _C, str, int], Outcome | None]
) -> tuple[type[object], _WithoutIdCheck]:
    return kind, cast("_WithoutIdCheck", rule)


_OF_ANY_TIME = dict(
    (
        _of_any_time(OpenAccount, open_account),
        _of_any_time(UpdateAccount, update_account),
        _of_any_time(TopUp, top_up),
        _of_any_time(Collect, collect),
        _of_any_time(Adjust, adjust),
        _of_any_time(Pay, pay),
        _of_any_time(Transfer, transfer),
        _of_any_time(GetBalance, get_balance),
    )
)

_OF_NOW = dict(
    (
        _of_now(PlaceHold, place_hold),
        _of_now(CaptureHold, capture_hold),
        _of_now(VoidHold, void_hold),
        _of_now(Refund, refund),
    )
)


def _refuse_move(_book: Book, command: MovePartner, _root: str, _now_ms: int) -> Outcome:
    """Refuse a marker that the router did not find good (R3): without a row, since it may come as often as it likes."""
    return Outcome(Status.REJECTED, Reason.MOVE_REFUSED, command.command_id, journalled=False)


# Their ids are not looked up, and no window is theirs. The service's own act on an open row, and find nothing to do
# once it is not (I7); a credit acts on its own first decision (T2). A marker is refused whenever it comes here (R3).
_WITHOUT_ID_CHECK = dict(
    (
        _without_id_check(ExpireHold, expire_hold),
        _without_id_check(RecallOriginal, recall_original),
        _without_id_check(MovePartner, _refuse_move),
        _without_id_check(TransferCredit, transfer_credit),
        _without_id_check(TransferCompleted, transfer_completed),
        _without_id_check(TransferReturn, transfer_return),
    )
)
