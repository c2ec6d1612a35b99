"""A lane without servers: loads what each batch names, decides it, and keeps what the book says was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TypeVar

from processors.ids import derived_id, make_command_id, root_of
from processors.ledger.book import Book, Keys, Rows
from processors.ledger.command_types import SLICED_BY_LANE_TIME, TYPE_OF
from processors.ledger.commands import Command
from processors.ledger.decide import Verdict, decide
from processors.ledger.needs import collect_needs
from processors.ledger.outcomes import Outcome
from processors.ledger.rows import Decision, SystemKey
from processors.ledger.rules import Rules
from processors.ledger.tables import ROOT_TABLES, AnyTable

START_MS = 1_750_000_000_000
SECOND_MS = 1_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RULES = Rules(version=1)

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A record as a lane meets it. ``root`` is its key; that of the address where it is not said."""

    command: Command
    now_ms: int = START_MS
    root: str = ""

    @property
    def key(self) -> str:
        return self.root or root_of(self.command.address)


def body_hash(command: Command) -> bytes:
    """Hash what a command says, its id left out, as the wire does in its own way (I3)."""
    return hashlib.sha256(repr(replace(command, command_id=b"")).encode("utf-8", "surrogatepass")).digest()[:16]


class SerialLane:
    """The rows that a shard would have, and the book over them. Every batch is checked for what it said it changed."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.rows = Rows()
        self.system: dict[SystemKey, int] = {}
        self.book = Book(rules, {})
        self._next_offset = 0

    def send(self, command: Command, *, now_ms: int = START_MS, root: str = "") -> Verdict:
        """Decide one command as a batch of its own."""
        return self.batch([Sent(command=command, now_ms=now_ms, root=root)])[0]

    def batch(self, records: Sequence[Sent]) -> list[Verdict]:
        """Decide commands on one loading of rows, and keep what was changed."""
        needs = Keys()
        for record in records:
            collect_needs(record.command, record.key, needs)
        missing = self.book.missing(needs)
        self.book.add(missing, deepcopy(self.rows))
        answers = [self._decide(record) for record in records]
        self._keep()
        return answers

    def forget(self) -> None:
        """Let go of every row, as a new owner of the lane has none: the next batch reads them again."""
        self.book = Book(self.rules, self.system)

    def _decide(self, record: Sent) -> Verdict:
        command, root = record.command, record.key
        digest = body_hash(command)
        answer = decide(self.book, command, root=root, body_hash=digest, now_ms=record.now_ms)
        if isinstance(answer, Outcome) and answer.journalled:
            if TYPE_OF[type(command)] not in SLICED_BY_LANE_TIME:
                self._record(command, root, digest, answer)
            self._next_offset += 1
        return answer

    def _record(self, command: Command, root: str, digest: bytes, outcome: Outcome) -> None:
        decision = Decision(
            digest,
            self._next_offset,
            0,
            TYPE_OF[type(command)],
            outcome.status,
            command.address,
            command.currency,
            outcome.amount_minor,
            outcome.levels,
            repr(outcome).encode(),
        )
        self.book.decisions[root, command.command_id] = self.rows.decisions[root, command.command_id] = decision

    def _keep(self) -> None:
        """Take over the rows that the book says were changed, then prove that no other row was."""
        book, rows = self.book, self.rows
        changed = book.take_changes()
        for table, changes in changed.rows.items():
            kept = table.rows_in(rows)
            for key, row, before in changes:
                assert before == _sequence(table, kept.get(key)), f"{table.name} {key} is not what was stored"
                if row is None:
                    del kept[key]
                else:
                    kept[key] = deepcopy(row)
        self.system.update((key, book.system[key]) for key in changed.system)
        assert self.system == book.system
        for table in ROOT_TABLES:
            _check_kept(table.rows_in(rows), table.rows_in(book))


def _sequence(table: AnyTable, row: object) -> int | None:
    if row is None:
        return None
    return 0 if table.sequence is None else getattr(row, table.sequence)


def _check_kept(kept: dict[_K, _V], held: dict[_K, _V | None]) -> None:
    assert {key: kept.get(key) for key in held} == held, "a row was changed and not said to be"


class Ids:
    """Makes command ids that differ, at a given time."""

    def __init__(self) -> None:
        self._count = 0

    def at(self, time_ms: int = START_MS) -> bytes:
        self._count += 1
        return make_command_id(time_ms, self._count.to_bytes(10, "big"))


def expiry_id(hold_id: bytes) -> bytes:
    """Return the id under which the service expires a hold (I7)."""
    return derived_id("EXPIRE_HOLD", hold_id)


def recall_id(refund_id: bytes) -> bytes:
    """Return the id under which the service ends a refund (I7)."""
    return derived_id("RECALL_ORIGINAL", refund_id)
