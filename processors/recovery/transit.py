"""Proves that ``@transit`` is the money of transfers that is on its way, over all shards together (T5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from processors.faults import Undecodable
from processors.ids import id_text, root_of
from processors.ledger.outcomes import Status
from processors.ledger.rows import DecisionKey, OpenTransfer, TransactionKey
from processors.ledger.transfers import credit_id
from processors.recovery.checks import Check
from processors.stores.archive_reader import StepKey
from processors.wire.results import decision_of

NAME = "@transit of all shards is what open transfers took and nobody has yet"


class TransitBooks(Protocol):
    """A shard's database as of one moment (``stores.shard_reader.open_snapshot``)."""

    def transit(self) -> dict[str, int]:
        """Return currency -> ``@transit``, over all lanes and levels."""

    def owned_transfers(self) -> Iterator[tuple[TransactionKey, OpenTransfer]]:
        """Yield the open transfers of partners who live here."""

    def decided(self, keys: Collection[DecisionKey]) -> dict[DecisionKey, bytes]:
        """Return the results of some ids, those that the journal has."""


class ArchivedSteps(Protocol):
    """The archive (``stores.archive_reader``)."""

    def steps_at(self, keys: Collection[StepKey]) -> dict[StepKey, bytes | Undecodable]:
        """Return the results of some steps; of one that is there and cannot be read, why. What is not there, is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """An open transfer. ``is_credited``: the receiver has the money, and the sender is to hear of it."""

    transfer_id: bytes
    address: str
    to_address: str
    currency: str
    amount_minor: int
    is_credited: bool


def money_in_transit(
    shards: Iterable[TransitBooks], archive: Callable[[], ArchivedSteps] | None = None
) -> tuple[Check, list[InFlight]]:
    """Compare ``@transit`` with the open transfers whose credit nobody took yet, and name these.

    Args:
        shards: All of them. Each is read as of one moment; several are read one after the other, so while transfers go
            on between them, or a sender moves, they may differ.
        archive: Called where no journal has a credit: after the window that may have left it, while its end is lost
            (A6, A8). None: it is not asked, and such a transfer is believed to be on its way.

    Returns:
        What was proven, counted in open transfers; and each that is open, in the order of its id.

    Raises:
        Undecodable: A credit is in the archive and cannot be read.
        Fault: A server's.
    """
    books = list(shards)
    rows = {key: row for each in books for key, row in each.owned_transfers()}
    credits_of = {key: (root_of(row.to_address), credit_id(*key)) for key, row in rows.items()}
    decided: dict[DecisionKey, bytes] = {}
    for each in books:
        decided |= each.decided(list(credits_of.values()))
    gone = [(transfer_id, credit) for (_, transfer_id), credit in credits_of.items() if credit not in decided]
    if gone and archive is not None:
        decided |= _archived(archive(), gone)
    taken = {key for key, result in decided.items() if decision_of(result).status is Status.ACCEPTED}
    open_ = [
        InFlight(
            transfer_id=transfer_id,
            address=row.address,
            to_address=row.to_address,
            currency=row.currency,
            amount_minor=row.amount_minor,
            is_credited=credits_of[root, transfer_id] in taken,
        )
        for (root, transfer_id), row in rows.items()
    ]
    return _compared(books, open_), sorted(open_, key=lambda each: each.transfer_id)


def _archived(archive: ArchivedSteps, credits_: Collection[tuple[bytes, DecisionKey]]) -> dict[DecisionKey, bytes]:
    """Return the results of some transfers' credits that are archived, each named with its transfer."""
    keys = {StepKey(transfer_id, root, credit): (root, credit) for transfer_id, (root, credit) in credits_}
    found: dict[DecisionKey, bytes] = {}
    for key, result in archive.steps_at(list(keys)).items():
        if isinstance(result, Undecodable):
            raise result
        found[keys[key]] = result
    return found


def _compared(books: Iterable[TransitBooks], open_: list[InFlight]) -> Check:
    """Hold the sums against each other, currency by currency."""
    transit, on_the_way = Counter[str](), Counter[str]()
    for each in books:
        transit.update(each.transit())
    for transfer in open_:
        if not transfer.is_credited:
            on_the_way[transfer.currency] += transfer.amount_minor
    details = tuple(
        f"{currency}: @transit is {transit[currency]}, on the way are {on_the_way[currency]}"
        for currency in sorted({*transit, *on_the_way})
        if transit[currency] != on_the_way[currency]
    )
    return Check(name=NAME, counted=len(open_), wrong=len(details), details=details)


def told(transfer: InFlight, amount: str) -> str:
    """Say in one line what is open; ``amount`` is its amount for people."""
    where = "has arrived, its end is on its way" if transfer.is_credited else "is on its way"
    return f"{id_text(transfer.transfer_id)}: {amount} from {transfer.address} to {transfer.to_address} {where}"
