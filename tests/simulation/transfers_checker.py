"""What must hold of transfers between trees at the end of a run: T1 to T5, as tests/models/transfers has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from processors.faults import Undecodable
from processors.ids import root_of
from processors.ledger.commands import CommandType, TransferCompleted, TransferCredit, TransferReturn
from processors.ledger.outcomes import Contra, Status
from processors.wire.commands import decode_command
from processors.wire.results import Result
from tests.simulation.fakes.tables import Tables

TransferKey = tuple[str, bytes]  # the sender's root, the transfer's id
Amounts = Counter[str]  # by currency


class Violation(BaseException):
    """An invariant does not hold."""


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


def check_transfers(results: Iterable[Result], tables: Tables, dead_letters: Iterable[bytes]) -> None:
    """Check that each transfer was credited once at most and ended once, and that no money is anywhere else.

    What is open still has a leg among the dead letters: a lane whose rules are of an earlier release took it for none.
    """
    decided = [result for result in results if result.journalled]
    credited = Counter(
        (root_of(result.to_address), result.transaction_id)
        for result in decided
        if result.type is CommandType.TRANSFER_CREDIT and result.status is Status.ACCEPTED
    )
    ended = Counter((result.root, result.transaction_id) for result in decided if result.type in _ENDS)
    returned = {(result.root, result.transaction_id) for result in decided if result.status is Status.RETURNED}
    sent = {(result.root, result.command_id) for result in decided if _is_open(result)}
    demand(max(credited.values(), default=1) == 1, f"credited twice: {credited.most_common(1)}")
    demand(max(ended.values(), default=1) == 1, f"ended twice: {ended.most_common(1)}")
    demand(not returned & credited.keys(), f"credited and returned: {returned & credited.keys()}")
    demand(credited.keys() <= sent, "credited and never sent")
    open_still = sent - ended.keys()
    demand(open_still == tables.open_transfers.keys(), f"open are {tables.open_transfers}, not {open_still}")
    lost = {(_sender(leg), leg.transfer_id) for leg in _legs(dead_letters)}
    demand(open_still <= lost, f"never ended: {open_still - lost}")
    on_the_way = Amounts()
    for key in open_still - credited.keys():
        row = tables.open_transfers[key]
        on_the_way[row.currency] += row.amount_minor
    demand(+_transit(tables) == +on_the_way, f"@transit is {_transit(tables)}, on the way is {on_the_way}")


_ENDS = (CommandType.TRANSFER_COMPLETED, CommandType.TRANSFER_RETURN)


def _is_open(result: Result) -> bool:
    return result.type is CommandType.TRANSFER and result.status is Status.OPEN


def _transit(tables: Tables) -> Amounts:
    found = Amounts()
    for (_, (_, contra, currency)), balance in tables.system.items():
        if contra is Contra.TRANSIT:
            found[currency] += balance
    return found


def _sender(leg: TransferCredit | TransferCompleted | TransferReturn) -> str:
    return root_of(leg.from_address if isinstance(leg, TransferCredit) else leg.address)


def _legs(dead_letters: Iterable[bytes]) -> Iterable[TransferCredit | TransferCompleted | TransferReturn]:
    for payload in dead_letters:
        try:
            command = decode_command(payload)
        except Undecodable:
            continue
        if isinstance(command, TransferCredit | TransferCompleted | TransferReturn):
            yield command
