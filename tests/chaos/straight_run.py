"""A partner's log decided in one piece, on one shard, in memory: what his moves must not change."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from processors.ids import root_of
from processors.lane.placements import chain_rows
from processors.ledger.book import Book, Keys, Rows
from processors.ledger.command_types import OF_THE_SERVICE, TYPE_OF
from processors.ledger.commands import Command, CommandType, Control, ExpireHold, MovePartner
from processors.ledger.decide import Duplicate, decide
from processors.ledger.needs import collect_needs
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rows import Decision, Hold, TransactionKey
from processors.ledger.rules import Rules
from processors.ledger.tables import HOLDS, REFUNDED, ROOT_TABLES, AnyTable, RowChange
from processors.wire.commands import body_hash, decode_command
from processors.wire.packed_rows import pack_row
from processors.wire.records import Record
from processors.wire.results import Result

_COMPARED = tuple(field.name for field in fields(Outcome) if field.name not in ("policy", "account_status"))


class StraightRun:
    """One partner's book, and the results of what was decided in it."""

    def __init__(self, root: str, rules: Rules, records: list[Record]) -> None:
        """Begin with no rows; ``records`` are all of the partner's in the ingress, in order."""
        self._root = root
        self._commands = {record.offset: decode_command(record.value or b"") for record in records}
        self._book = Book(rules, {})
        self._first: dict[bytes, Result] = {}
        self._followed = self._lane_time_ms = self._version_us = 0

    def follow(self, results: list[Result]) -> None:
        """Decide the partner's records in the order of his results, each at its lane time, and compare the answers.

        Args:
            results: All of his results, in order; those of the service's own commands are among them. What was
                followed before is not decided again.
        """
        routed = [result.ingress_offset for result in results if result.ingress_offset >= 0]
        assert routed == list(self._commands), self._root
        for result in results[self._followed :]:
            assert result.lane_time_ms >= self._lane_time_ms, f"{self._root}: time goes back before {result}"
            self._lane_time_ms = result.lane_time_ms
            if result.journalled and result.duplicate_of is None:
                assert result.version_us > self._version_us, f"{self._root}: versions go back before {result}"  # A2
                self._version_us = result.version_us
            command = self._commands.get(result.ingress_offset) or _of_the_service(result)
            assert not isinstance(command, Control)
            self._compare(command, result)
        self._followed = len(results)

    def _compare(self, command: Command, result: Result) -> None:
        if isinstance(command, MovePartner):
            assert (result.type, result.root) == (CommandType.MOVE_PARTNER, self._root)
            assert (result.status, result.reason) in (
                (Status.ACCEPTED, Reason.NONE),
                (Status.REJECTED, Reason.MOVE_REFUSED),
            )
            return
        book, needs, hashed = self._book, Keys(), body_hash(command)
        collect_needs(command, self._root, needs)
        book.add(book.missing(needs), Rows())
        verdict = decide(book, command, root=self._root, body_hash=hashed, now_ms=result.lane_time_ms)
        assert verdict is not None, f"{self._root}: {result} came of nothing"
        if isinstance(verdict, Duplicate):
            first = self._first[command.command_id]
            assert result.duplicate_of is not None, f"{self._root}: decided twice: {result}"
            assert (result.postings, result.status) == (first.postings, first.status)
            return
        assert result.duplicate_of is None, f"{self._root}: {result} was never decided"
        for name in _COMPARED:
            assert getattr(result, name) == getattr(verdict, name), f"{self._root}: {name} of {result}: {verdict}"
        if verdict.journalled and type(command) not in OF_THE_SERVICE:
            self._first[command.command_id] = result
            book.decisions[self._root, command.command_id] = Decision(
                hashed,
                0,
                0,
                TYPE_OF[type(command)],
                verdict.status,
                command.address,
                command.currency,
                verdict.amount_minor,
                verdict.levels,
                b"",
            )

    def rows(self) -> dict[str, dict[Any, Any]]:
        """Return the partner's rows by table and key: all but the holds that are over."""
        return {table.name: self._rows(table) for table in ROOT_TABLES}

    def digest(self) -> bytes:
        """Return the digest of these rows: what a hand-off of them would come to, without any id (M8)."""
        packed = (
            pack_row(table, map(_as_stored, table.values_of(RowChange(key, row, None))))
            for table in ROOT_TABLES
            for key, row in sorted(self._rows(table).items())
        )
        return chain_rows(bytes(32), packed)

    def _rows(self, table: AnyTable) -> dict[Any, Any]:
        found = table.rows_in(self._book)
        return {key: row for key, row in found.items() if not (row is None or (table is HOLDS and _is_over(row)))}

    @property
    def refunded(self) -> list[TransactionKey]:
        """Return which payments and captures were given back in part or whole."""
        return [*self._rows(REFUNDED)]


def _is_over(hold: Hold) -> bool:
    return hold.remaining_minor == 0


def _as_stored(value: int | str | bytes) -> int | bytes:
    return value.encode() if isinstance(value, str) else value


def _of_the_service(result: Result) -> Command:
    assert result.type is CommandType.EXPIRE_HOLD, result
    assert root_of(result.address) == result.root
    return ExpireHold(
        command_id=result.command_id,
        address=result.address,
        currency=result.currency,
        hold_id=result.transaction_id,
    )
