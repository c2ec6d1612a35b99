"""The tables that hold a partner's state, each described once.

The book, a lane's statements, the reader of a shard and the simulation's database all go by these descriptions. So does
what hands a partner over to another shard: all that goes along with a root is in ``MOVING_TABLES`` (M6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from processors.ids import root_of
from processors.ledger.rows import (
    Account,
    AccountKey,
    DecisionKey,
    Hold,
    MovedId,
    OpenRefund,
    OpenTransfer,
    Refunded,
    TransactionKey,
)

K = TypeVar("K")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, eq=False)
class Table(Generic[K, R]):
    """A table of a shard's database, and how its rows are kept.

    Attributes:
        name: In the database.
        plural: The attribute of ``Keys``, ``Rows`` and ``Book`` that has its keys or rows.
        key: The primary key's columns, with their types; a key is a tuple of their values, in this order.
        row: The class of its rows: a dataclass whose fields are the other columns, by name and in order. Where a row
            knows its own key, the key's columns are its first fields.
        changing: The columns that an UPDATE sets; empty where a row is never changed, only deleted.
        sequence: The column that rises with each change, which an UPDATE must find as it was before; or None.
        ends: Whether a lane deletes its rows.
        has_lane: Whether the table has the row's lane as well.
        stays: Whether the book keeps its rows from one batch to the next, and lets go of the least recently used.
    """

    name: str
    plural: str
    key: Mapping[str, type]
    row: type[R]
    changing: tuple[str, ...]
    sequence: str | None = None
    ends: bool = False
    has_lane: bool = False
    stays: bool = False

    @cached_property
    def columns(self) -> dict[str, type]:
        """Return the type of each column, the key's first, as rows are read and written."""
        types = get_type_hints(self.row)
        names = [field.name for field in fields(self.row)]  # type: ignore[arg-type]
        return {**self.key, **{name: types[name] for name in names if name not in self.key}}

    @cached_property
    def _row_knows_its_key(self) -> bool:
        return self.key.keys() <= {field.name for field in fields(self.row)}  # type: ignore[arg-type]

    def root_of(self, key: Any) -> str:
        """Return the root to which a row belongs: a key begins with it, or with an address of it."""
        return root_of(key[0])

    @cached_property
    def _rest(self) -> Callable[[object], tuple[Any, ...]]:
        return _getter(list(self.columns)[len(self.key) :])

    @cached_property
    def _changing(self) -> Callable[[object], tuple[Any, ...]]:
        return _getter(self.changing)

    def values_of(self, change: RowChange) -> list[Any]:
        """Return a row's values in the order of ``columns``."""
        return [*change.key, *self._rest(change.row)]

    def changing_values_of(self, change: RowChange) -> list[Any]:
        """Return the values of a row's key, then those that an UPDATE sets."""
        return [*change.key, *self._changing(change.row)]

    def made_of(self, values: list[Any]) -> tuple[K, R]:
        """Return the key and the row that have these values, in the order of ``columns``."""
        key: Any = tuple(values[: len(self.key)])
        return key, self.row(*(values if self._row_knows_its_key else values[len(self.key) :]))

    def keys_in(self, keys: Any) -> dict[K, None]:
        """Return the table's keys in a ``book.Keys``."""
        found: dict[K, None] = getattr(keys, self.plural)
        return found

    def rows_in(self, holder: Any) -> dict[K, R | None]:
        """Return the table's rows in a ``book.Rows`` or a ``book.Book``."""
        found: dict[K, R | None] = getattr(holder, self.plural)
        return found


def _getter(names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    """Return what gets a row's attributes, some times as quickly as asking for each by name."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda row: tuple(getattr(row, name) for name in names)


class RowChange(NamedTuple):
    """A row as it is to be stored; None: to be deleted.

    ``before`` is the ``sequence`` of the row that is stored now, 0 in a table without one; None where no row is stored.
    """

    key: Any
    row: Any
    before: int | None


AnyTable = Table[Any, Any]

ACCOUNTS: Table[AccountKey, Account] = Table(
    name="account",
    plural="accounts",
    key={"address": str, "currency": str},
    row=Account,
    changing=(
        "balance",
        "held",
        "overdraft_limit",
        "policy",
        "status",
        "sequence",
        "open_count",
        "metadata",
        "in_transit_minor",
    ),
    sequence="sequence",
    stays=True,
)
_TRANSACTION: dict[str, type] = {"root": str, "transaction_id": bytes}
HOLDS: Table[TransactionKey, Hold] = Table(
    name="hold",
    plural="holds",
    key=_TRANSACTION,
    row=Hold,
    changing=("remaining_minor",),
    ends=True,
    has_lane=True,  # for the expirer, which asks lane by lane (H2)
)
OPEN_REFUNDS: Table[TransactionKey, OpenRefund] = Table(
    name="open_refund", plural="open_refunds", key=_TRANSACTION, row=OpenRefund, changing=(), ends=True
)
OPEN_TRANSFERS: Table[TransactionKey, OpenTransfer] = Table(
    name="open_transfer", plural="open_transfers", key=_TRANSACTION, row=OpenTransfer, changing=(), ends=True
)
REFUNDED: Table[TransactionKey, Refunded] = Table(
    name="refunded", plural="refunded", key=_TRANSACTION, row=Refunded, changing=("amount_minor", "refunded_minor")
)

# In the order in which a lane locks and writes them.
ROOT_TABLES: tuple[AnyTable, ...] = (ACCOUNTS, HOLDS, OPEN_REFUNDS, OPEN_TRANSFERS, REFUNDED)

# Read as decisions, and written by a hand-off only; in the database a row has some (``stores.moved_ids``).
MOVED_IDS: Table[DecisionKey, MovedId] = Table(
    name="moved_id",
    plural="moved_ids",
    key={"root": str, "command_id": bytes},
    row=MovedId,
    changing=(),
)
# In the order in which a hand-off has them.
MOVING_TABLES: tuple[AnyTable, ...] = (*ROOT_TABLES, MOVED_IDS)
