"""A long log of everything that may stand in one is decided as it ever was: byte for byte, however it is cut.

The hashes below are over every published byte, every row, decision and position. They hold a faster way of deciding
against the one before it, and the compiled modules against the same source in plain Python (`make fast` runs both).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, replace
from random import Random

import pytest

from processors.ids import make_command_id
from processors.ledger.commands import (
    CaptureHold,
    Command,
    GetBalance,
    OpenAccount,
    Pay,
    PlaceHold,
    Refund,
    TopUp,
    Transfer,
)
from processors.routing.buckets import placement_key_of
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord, Record
from processors.wire.results import decode_result
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from tests.properties.test_batch_cuts import CONTEXT, Outcome, log_of, run
from tests.simulation.fakes.clock import START_MS
from tests.simulation.fakes.tables import Tables

RECORDS = 3_000
# By seed: the hash of the log, which changes with the workload that makes it, and of what deciding it says. The second
# changes with a rule, and with nothing else.
EXPECTED = {
    1: ("e4bfdf9240d65027f0eeb401f383d26f", "3abdeeb9e433a1d743a822bc14b5408d"),
    2: ("a2582dd0b9a9e0af8b007194d5cdbdfd", "c7add1559bbcb61c4048e51b92bffbaf"),
    3: ("c2a3bcd7ba0a0f689dbeafdf8f78fa55", "5410164f1327d988041dc1f81423d580"),
    4: ("3f2b51550c84c0a015f4428ae6efdcab", "e96d26322cde6f53af8f9b9f9d925e01"),
}


def mixed_log(seed: int) -> list[Record]:
    """Return a log of commands good and bad, with mutated bytes, strange headers and redeliveries among them.

    Half of it is a partner's who pays all day, and whose commands are mostly good; the rest is as ``log_of`` has it.
    """
    rng = Random(seed)
    payer, mixed = _Payer(rng), list[Record]()
    for record in log_of(seed, RECORDS // 2, roots=4):
        mixed.append(record)
        mixed.append(payer.next_record(record.timestamp_ms))
    placed = [replace(record, offset=offset) for offset, record in enumerate(mixed)]
    return [_spoilt(record, rng) if rng.random() < 0.05 else record for record in placed]


class _Payer:
    """A partner with three levels and enough money on them, by another ingress partition than the others."""

    _ADDRESSES = ("rich", "rich:vn", "rich:vn:shop")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._ingress_offset = 0
        self._sent: list[Command] = []
        self._opening = [
            kind(make_command_id(START_MS, rng.randbytes(10)), address, "USD", amount)
            for address in self._ADDRESSES
            for kind, amount in ((OpenAccount, 0), (TopUp, 50_000))
        ]

    def next_record(self, now_ms: int) -> Record:
        rng = self._rng
        command = self._opening.pop(0) if self._opening else self._next(now_ms)
        self._sent.append(command)
        is_redelivery = rng.random() < 0.04
        route = Route(RouteKind.COMMAND, 1, 1, self._ingress_offset, 0, now_ms, placement_key_of("rich"), 0)
        self._ingress_offset += not is_redelivery
        headers = [(ROUTE_HEADER, encode_route(route))]
        return Record("shard", 0, 0, 0, now_ms, True, b"rich", encode_command(command), headers)

    def _next(self, now_ms: int) -> Command:
        rng = self._rng
        id_ = make_command_id(now_ms, rng.randbytes(10))
        address, amount = rng.choice(self._ADDRESSES), rng.choice((1, 63, 64, 100, 1_234, 8_191, 8_192))
        recent = rng.choice(self._sent[-9:])
        match rng.randrange(20):
            case 0 | 1:
                return recent  # again
            case 2:
                return Pay(recent.command_id, address, "USD", 7)  # a reused id
            case 3 | 4 | 5:
                return TopUp(id_, rng.choice(self._ADDRESSES), "USD", 9_000, b'{"order": "7"}')
            case 6 | 7:
                return PlaceHold(id_, address, "USD", amount, rng.choice((1, 60_000, 3_600_000)))
            case 8 | 9:
                return CaptureHold(id_, recent.address, "USD", recent.command_id, rng.choice((None, 1, 64)))
            case 10:
                return Refund(id_, recent.address, "USD", recent.command_id, rng.choice((1, 63)))
            case 11:
                return GetBalance(id_, address, "USD")
            case 12:
                return Transfer(id_, address, "USD", rng.choice((*self._ADDRESSES, "acme")), amount)
            case _:
                return Pay(id_, address, "USD", amount, rng.choice((b"", b"", b'{"b": 2, "a": "1"}')))


def _spoilt(record: Record, rng: Random) -> Record:
    value, headers = record.value or b"", list(record.headers)
    match rng.randrange(7):
        case 0:  # one byte is another
            at = rng.randrange(len(value) or 1)
            return replace(record, value=value[:at] + rng.randbytes(1) + value[at + 1 :])
        case 1:
            return replace(record, value=value[: rng.randrange(len(value) or 1)])
        case 2:
            return replace(record, headers=[*headers, ("trace", b"7")])
        case 3:
            return replace(record, headers=headers + headers)
        case 4:
            return replace(record, headers=[(name, (header or b"")[:-1]) for name, header in headers])
        case 5:
            route = Route(RouteKind(rng.randrange(1, 5)), 1, 9, record.offset, 0, 0, "bucket:7", 0)
            return replace(record, headers=[(ROUTE_HEADER, encode_route(route))])
        case _:
            return replace(record, key=rng.choice((None, b"", b"acme", b"\xff", b"A", b"bucket:7")))


def cuts_of(seed: int, longest: int) -> list[int]:
    rng = Random(seed)
    return [rng.randrange(1, longest) for _ in range(RECORDS)]


def hash_of_log(records: Iterable[Record]) -> str:
    return _hash(repr(astuple(record)) for record in records)


def hash_of_outcome(outcome: Outcome) -> str:
    return _hash([*map(_told, outcome.answers), *_rows_of(outcome.tables)])


def _told(record: OutRecord) -> str:
    return repr((record.topic, record.partition, record.key, record.value, record.headers))


def _rows_of(tables: Tables) -> Iterable[str]:
    """Tell of every row, by values whose text does not depend on how their classes are made."""
    for number, rows in sorted(tables.journal.items()):
        for place, row in sorted(rows.items()):
            result = decode_result(row.result)
            ids = (row.command_id, result.transaction_id, result.body_hash)
            yield repr((number, place, row.root, *ids, row.result))
    for name in ("accounts", "holds", "open_refunds", "open_transfers", "refunded", "rules", "ingress", "parked"):
        yield from sorted(f"{name} {key} {_plain(row)}" for key, row in getattr(tables, name).items())
    yield from sorted(repr(item) for item in tables.system.items())
    yield repr(_plain(tables.progress[CONTEXT.lane]))


def _plain(row: object) -> object:
    return astuple(row) if hasattr(row, "__dataclass_fields__") else row  # type: ignore[call-overload]


def _hash(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()[:32]


@pytest.mark.rule("L9")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_mixed_log_is_decided_as_it_ever_was(seed: int) -> None:
    records = mixed_log(seed)

    decided = run(records, cuts_of(seed, 400), book_accounts_max=100, ahead_from=50)

    assert (hash_of_log(records), hash_of_outcome(decided)) == EXPECTED[seed]


@pytest.mark.rule("L9")
@pytest.mark.rule("L13")
@pytest.mark.parametrize("longest", [2, 9, 90, 3_000])
def test_a_mixed_log_is_decided_the_same_however_it_is_cut(longest: int) -> None:
    records = mixed_log(4)

    decided = run(records, cuts_of(longest, longest), book_accounts_max=3, ahead_from=20)

    assert (hash_of_log(records), hash_of_outcome(decided)) == EXPECTED[4]
