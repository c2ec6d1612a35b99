"""The rows a lane decides on: what was loaded from its shard, and what was decided since (L9).

The one mutable thing in the core. A key that maps to None is known to be absent; a key that is not there was not
loaded, and asking for it is a bug.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from processors.ledger.rows import (
    Account,
    AccountKey,
    Decision,
    DecisionKey,
    Hold,
    OpenRefund,
    Refunded,
    SystemKey,
    TransactionKey,
)
from processors.ledger.rules import Rules


@dataclass(slots=True)
class Keys:
    """Which rows are meant: what a batch needs, or what it changed. Insertion-ordered sets, so that runs repeat."""

    accounts: dict[AccountKey, None] = field(default_factory=dict)
    holds: dict[TransactionKey, None] = field(default_factory=dict)
    open_refunds: dict[TransactionKey, None] = field(default_factory=dict)
    refunded: dict[TransactionKey, None] = field(default_factory=dict)
    decisions: dict[DecisionKey, None] = field(default_factory=dict)
    system: dict[SystemKey, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.accounts or self.holds or self.open_refunds or self.refunded or self.decisions or self.system)


@dataclass(slots=True)
class Rows:
    """Rows found for some ``Keys``; a key that was asked for and is not here is absent."""

    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    holds: dict[TransactionKey, Hold] = field(default_factory=dict)
    open_refunds: dict[TransactionKey, OpenRefund] = field(default_factory=dict)
    refunded: dict[TransactionKey, Refunded] = field(default_factory=dict)
    decisions: dict[DecisionKey, Decision] = field(default_factory=dict)


class Book:
    """A lane's rows in memory, and which of them were changed since ``take_changes``.

    ``stored`` names the rows that the shard has, or will have once the batches decided so far are committed; for
    accounts with the sequence of that row. ``accounts`` are in the order of their last use. An ``OrderedDict``, since a
    plain one steps over the gaps that the accounts before have left each time it is asked for its first.
    """

    __slots__ = (
        "accounts",
        "changed",
        "decisions",
        "holds",
        "open_refunds",
        "refunded",
        "rules",
        "stored_accounts",
        "stored_holds",
        "stored_open_refunds",
        "stored_refunded",
        "system",
    )

    def __init__(self, rules: Rules, system: dict[SystemKey, int]) -> None:
        """Begin with no partner's rows; the lane's system accounts are few and are all held, always."""
        self.rules = rules
        self.system = dict(system)
        self.accounts: OrderedDict[AccountKey, Account | None] = OrderedDict()
        self.holds: dict[TransactionKey, Hold | None] = {}
        self.open_refunds: dict[TransactionKey, OpenRefund | None] = {}
        self.refunded: dict[TransactionKey, Refunded | None] = {}
        self.decisions: dict[DecisionKey, Decision | None] = {}
        self.changed = Keys()
        self.stored_accounts: dict[AccountKey, int] = {}
        self.stored_holds: set[TransactionKey] = set()
        self.stored_open_refunds: set[TransactionKey] = set()
        self.stored_refunded: set[TransactionKey] = set()

    def missing(self, needed: Keys) -> Keys:
        """Return which of the needed rows must be loaded first, and mark the accounts needed as recently used."""
        accounts = self.accounts
        absent: dict[AccountKey, None] = {}
        for key in needed.accounts:
            if key in accounts:
                accounts.move_to_end(key)  # the last to leave the book
            else:
                absent[key] = None
        return Keys(
            accounts=absent,
            holds={key: None for key in needed.holds if key not in self.holds},
            open_refunds={key: None for key in needed.open_refunds if key not in self.open_refunds},
            refunded={key: None for key in needed.refunded if key not in self.refunded},
            decisions={key: None for key in needed.decisions if key not in self.decisions},
        )

    def add(self, asked: Keys, found: Rows) -> None:
        """Take in rows that were loaded for ``missing``'s answer; what was not found is known to be absent."""
        self.accounts.update((key, found.accounts.get(key)) for key in asked.accounts)
        self.holds.update((key, found.holds.get(key)) for key in asked.holds)
        self.open_refunds.update((key, found.open_refunds.get(key)) for key in asked.open_refunds)
        self.refunded.update((key, found.refunded.get(key)) for key in asked.refunded)
        self.decisions.update((key, found.decisions.get(key)) for key in asked.decisions)
        self.stored_accounts.update((key, account.sequence) for key, account in found.accounts.items())
        self.stored_holds.update(found.holds)
        self.stored_open_refunds.update(found.open_refunds)
        self.stored_refunded.update(found.refunded)

    def take_changes(self) -> Keys:
        """Return which rows were changed since the last call."""
        changed, self.changed = self.changed, Keys()
        return changed

    def forget(self, keep: Iterable[Keys], accounts_max: int) -> None:
        """Let go of rows that no batch in flight names, so that the book stays bounded.

        Args:
            keep: The needed keys of the batches that are not committed yet, and of the one being decided.
            accounts_max: Accounts above this number leave, the least recently used first.
        """
        kept = list(keep)
        self._forget_accounts(kept, len(self.accounts) - accounts_max)
        self.holds = {key: self.holds[key] for keys in kept for key in keys.holds if key in self.holds}
        self.open_refunds = {
            key: self.open_refunds[key] for keys in kept for key in keys.open_refunds if key in self.open_refunds
        }
        self.refunded = {key: self.refunded[key] for keys in kept for key in keys.refunded if key in self.refunded}
        self.decisions = {key: self.decisions[key] for keys in kept for key in keys.decisions if key in self.decisions}
        self.stored_holds.intersection_update(self.holds)
        self.stored_open_refunds.intersection_update(self.open_refunds)
        self.stored_refunded.intersection_update(self.refunded)

    def _forget_accounts(self, kept: list[Keys], excess: int) -> None:
        """Let go of ``excess`` accounts; looks at those and at what is in flight, however large the book is."""
        idle = (key for key in self.accounts if not any(key in keys.accounts for keys in kept))
        for key in list(islice(idle, max(excess, 0))):
            del self.accounts[key]
            self.stored_accounts.pop(key, None)
