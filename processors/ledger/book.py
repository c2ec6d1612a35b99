"""The rows a lane decides on: what was loaded from its shard, and what was decided since (L9).

The one mutable thing in the core. A key that maps to None is known to be absent; a key that is not there was not
loaded, and asking for it is a bug.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any

from processors.ledger.rows import (
    Account,
    AccountKey,
    Decision,
    DecisionKey,
    Hold,
    OpenRefund,
    OpenTransfer,
    Refunded,
    SystemKey,
    TransactionKey,
)
from processors.ledger.rules import Rules
from processors.ledger.tables import ACCOUNTS, ROOT_TABLES, AnyTable, K, R, RowChange, Table


@dataclass(slots=True)
class Keys:
    """Which rows are meant: what a batch needs, or what it changed. Insertion-ordered sets, so that runs repeat."""

    accounts: dict[AccountKey, None] = field(default_factory=dict)
    holds: dict[TransactionKey, None] = field(default_factory=dict)
    open_refunds: dict[TransactionKey, None] = field(default_factory=dict)
    open_transfers: dict[TransactionKey, None] = field(default_factory=dict)
    refunded: dict[TransactionKey, None] = field(default_factory=dict)
    decisions: dict[DecisionKey, None] = field(default_factory=dict)
    moved_ids: dict[DecisionKey, None] = field(default_factory=dict)  # of ``decisions``, which another shard may have
    system: dict[SystemKey, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


@dataclass(slots=True)
class Rows:
    """Rows found for some ``Keys``; a key that was asked for and is not here is absent."""

    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    holds: dict[TransactionKey, Hold] = field(default_factory=dict)
    open_refunds: dict[TransactionKey, OpenRefund] = field(default_factory=dict)
    open_transfers: dict[TransactionKey, OpenTransfer] = field(default_factory=dict)
    refunded: dict[TransactionKey, Refunded] = field(default_factory=dict)
    decisions: dict[DecisionKey, Decision] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What was changed, as absolute values: rows by table, and the balances of system accounts."""

    rows: dict[AnyTable, list[RowChange]] = field(default_factory=dict)
    system: dict[SystemKey, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSince:
    """Since which id time all of a root's ids, and all that was given back, are known, ms since the epoch (M6).

    The shard from which the root moved here may have forgotten more than this one's rules would.
    """

    ids_ms: int
    refunds_ms: int


# Accounts of so many groups are looked at together: a set for each of 65,536 would cost more than they do.
GROUPS_TOGETHER = 64


class Book:
    """A lane's rows in memory, and which of them were changed since ``take_changes``.

    ``stored`` names, by table, the rows that the shard has, or will have once the batches decided so far are committed,
    with their sequence. ``accounts`` are in the order of their last use. An ``OrderedDict``, since a plain one steps
    over the gaps that the accounts before have left each time it is asked for its first. There may be a hundred
    thousand of them: those of a group, whose roots move together, are found without a look at the others.
    """

    __slots__ = (
        "accounts",
        "changed",
        "decisions",
        "group_of",
        "grouped",
        "holds",
        "known_since",
        "open_refunds",
        "open_transfers",
        "refunded",
        "rules",
        "stored",
        "system",
    )

    def __init__(
        self, rules: Rules, system: dict[SystemKey, int], group_of: Callable[[str], int] = lambda _root: 0
    ) -> None:
        """Begin with no partner's rows; the lane's system accounts are few and are all held, always.

        Args:
            rules: Those in force.
            system: The lane's system accounts.
            group_of: Says of a root in which group it is, a number of at most 65,535; each time the same.
        """
        self.rules = rules
        self.group_of = group_of
        self.grouped: defaultdict[int, set[AccountKey]] = defaultdict(set)  # the keys of ``accounts``
        self.system = dict(system)
        self.accounts: OrderedDict[AccountKey, Account | None] = OrderedDict()
        self.holds: dict[TransactionKey, Hold | None] = {}
        self.open_refunds: dict[TransactionKey, OpenRefund | None] = {}
        self.open_transfers: dict[TransactionKey, OpenTransfer | None] = {}
        self.refunded: dict[TransactionKey, Refunded | None] = {}
        self.decisions: dict[DecisionKey, Decision | None] = {}
        self.changed = Keys()
        self.stored: dict[AnyTable, dict[Any, int]] = {table: {} for table in ROOT_TABLES}
        self.known_since: Callable[[str], KnownSince] | None = None  # None: no root came here from another shard

    def window_start_ms(self, root: str, now_ms: int) -> int:
        """Return the earliest id time that is within the window for a root, wherever it was decided (I3, M6)."""
        start_ms = self.rules.window_start_ms(now_ms)
        return start_ms if self.known_since is None else max(start_ms, self.known_since(root).ids_ms)

    def refund_start_ms(self, root: str, now_ms: int) -> int:
        """Return the earliest id time of an original that may be refunded, wherever it was decided (H3, M6)."""
        start_ms = self.rules.refund_start_ms(now_ms)
        return start_ms if self.known_since is None else max(start_ms, self.known_since(root).refunds_ms)

    def recall_start_ms(self, root: str, now_ms: int) -> int:
        """Return the earliest id time of originals whose ``refunded`` row is kept, here and elsewhere (H3, M6)."""
        start_ms = self.rules.recall_start_ms(now_ms)
        return start_ms if self.known_since is None else max(start_ms, self.known_since(root).refunds_ms)

    def missing(self, needed: Keys) -> Keys:
        """Return which of the needed rows must be loaded first, and mark the accounts needed as recently used."""
        found = Keys(decisions={key: None for key in needed.decisions if key not in self.decisions})
        found.moved_ids = {key: None for key in needed.moved_ids if key in found.decisions}
        for table in ROOT_TABLES:
            rows, absent = table.rows_in(self), table.keys_in(found)
            for key in table.keys_in(needed):
                if key not in rows:
                    absent[key] = None
                elif table.stays:
                    self.accounts.move_to_end(key)  # the last to leave the book
        return found

    def add(self, asked: Keys, found: Rows) -> None:
        """Take in rows that were loaded for ``missing``'s answer; what was not found is known to be absent."""
        self.decisions.update((key, found.decisions.get(key)) for key in asked.decisions)
        for table in ROOT_TABLES:
            loaded = table.rows_in(found)
            table.rows_in(self).update((key, loaded.get(key)) for key in table.keys_in(asked))
            self.stored[table].update((key, _sequence(table, row)) for key, row in loaded.items())
        grouped, group_of = self.grouped, self.group_of
        for key in asked.accounts:  # 0.5 us each; a call for each would take as long again
            grouped[group_of(key[0].partition(":")[0]) // GROUPS_TOGETHER].add(key)

    def forget_roots(self, group: int, is_meant: Callable[[str], bool]) -> None:
        """Let go of all that is known of some roots, and of what is known to be absent: their rows come or go (M2, M4).

        Args:
            group: In which all of them are.
            is_meant: Says it of a root. None of their rows is changed and not taken.
        """
        for table in ROOT_TABLES:
            rows = table.rows_in(self)
            known: Iterable[Any] = self.grouped.get(group // GROUPS_TOGETHER, ()) if table is ACCOUNTS else rows
            for key in [key for key in known if is_meant(table.root_of(key))]:
                assert key not in table.keys_in(self.changed), f"{table.name} {key} is changed and not taken"
                del rows[key]
                self.stored[table].pop(key, None)
                if table is ACCOUNTS:
                    self.grouped[group // GROUPS_TOGETHER].discard(key)
        self.decisions = {key: first for key, first in self.decisions.items() if not is_meant(key[0])}

    def take_changes(self) -> Changes:
        """Return what was changed since the last call, which from now on counts as stored."""
        changed, self.changed = self.changed, Keys()
        return Changes(
            rows={table: self._take_changes(table, table.keys_in(changed)) for table in ROOT_TABLES},
            system={key: self.system[key] for key in changed.system},
        )

    def _take_changes(self, table: Table[K, R], keys: Iterable[K]) -> list[RowChange]:
        rows, stored = table.rows_in(self), self.stored[table]
        changes = []
        for key in keys:
            row, before = rows[key], stored.get(key)
            assert row is not None or table.ends, f"{table.name} {key} has no row any more"
            if row is not None:
                stored[key] = _sequence(table, row)
            elif before is not None:
                del stored[key]
            else:
                continue  # a row that came and went was never stored
            changes.append(RowChange(key, row, before))
        return changes

    def forget(self, keep: Iterable[Keys], accounts_max: int) -> None:
        """Let go of rows that no batch in flight names, so that the book stays bounded.

        Args:
            keep: The needed keys of the batches that are not committed yet, and of the one being decided.
            accounts_max: Accounts above this number leave, the least recently used first.
        """
        kept = list(keep)
        self._forget_accounts(kept, len(self.accounts) - accounts_max)
        self.decisions = {key: self.decisions[key] for keys in kept for key in keys.decisions if key in self.decisions}
        for table in ROOT_TABLES:
            if table.stays:
                continue
            rows, stored = table.rows_in(self), self.stored[table]
            rest = {key: rows[key] for keys in kept for key in table.keys_in(keys) if key in rows}
            setattr(self, table.plural, rest)
            self.stored[table] = {key: stored[key] for key in rest if key in stored}

    def _forget_accounts(self, kept: list[Keys], excess: int) -> None:
        """Let go of ``excess`` accounts; looks at those and at what is in flight, however large the book is."""
        idle = (key for key in self.accounts if not any(key in keys.accounts for keys in kept))
        stored, grouped, group_of = self.stored[ACCOUNTS], self.grouped, self.group_of
        for key in list(islice(idle, max(excess, 0))):
            del self.accounts[key]
            stored.pop(key, None)
            grouped[group_of(key[0].partition(":")[0]) // GROUPS_TOGETHER].discard(key)


def _sequence(table: Table[K, R], row: R) -> int:
    """Return what tells a row from the same row before its last change, where the table has that."""
    sequence: int = 0 if table.sequence is None else getattr(row, table.sequence)
    return sequence
