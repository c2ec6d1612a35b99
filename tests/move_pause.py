"""How long a move makes a partner wait, and others: told by their own commands, one every 20 ms of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from processors.client import Client
from processors.ledger.commands import Command, OpenAccount, Pay, PlaceHold, TopUp
from processors.wire.results import Result
from tests.bench.load import new_id

MOVED, OTHER = "acme", "other"  # in different lanes of four, on the same shard at first
ACCOUNTS = 1_000
HOLDS = 10_000
HOUR_MS = 3_600_000
STRETCH_S = 3.0  # of payments: a move begins after a quarter of them
EVERY_S = 0.02


@dataclass(slots=True)
class Waits:
    """How long each answer took, in ms, of the partner who moves and of another."""

    own_ms: list[float] = field(default_factory=list)
    others_ms: list[float] = field(default_factory=list)

    def add(self, more: Waits) -> None:
        """Add those of another stretch."""
        self.own_ms += more.own_ms
        self.others_ms += more.others_ms


def at(values_ms: list[float], percent: int) -> int:
    """Return a percentile of some durations, in whole ms."""
    ordered = sorted(values_ms)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)])


def what_moves() -> Iterator[Command]:
    """Yield what gives both partners an account, and the one who moves all that he has."""
    for root in (MOVED, OTHER):
        yield from _opening(root)
    for number in range(ACCOUNTS - 1):
        yield from _opening(_shop(number))
    for number in range(HOLDS):
        yield PlaceHold(
            command_id=new_id(), address=_shop(number), currency="USD", amount_minor=1, expires_in_ms=HOUR_MS
        )


def _shop(number: int) -> str:
    return f"{MOVED}:shop-{number % (ACCOUNTS - 1)}"


def _opening(address: str) -> list[Command]:
    return [
        OpenAccount(command_id=new_id(), address=address, currency="USD"),
        TopUp(command_id=new_id(), address=address, currency="USD", amount_minor=10_000_000),
    ]


def paid(client: Client, begin: Callable[[], object] = lambda: None) -> Waits:
    """Pay for a stretch, whatever the service does, and have something begin after a quarter of it."""
    waits = Waits()
    sent: list[Future[Result]] = []
    begun_s, rounds = time.monotonic(), round(STRETCH_S / EVERY_S)
    for number in range(rounds):
        sent += [_pay(client, MOVED, waits.own_ms), _pay(client, OTHER, waits.others_ms)]
        if number == rounds // 4:
            begin()
        time.sleep(max(0.0, begun_s + (number + 1) * EVERY_S - time.monotonic()))
    for each in sent:
        each.result()
    return waits


def _pay(client: Client, root: str, took_ms: list[float]) -> Future[Result]:
    begun_s = time.monotonic()
    future = client.submit(Pay(command_id=new_id(), address=root, currency="USD", amount_minor=1))
    future.add_done_callback(lambda _: took_ms.append((time.monotonic() - begun_s) * 1_000))
    return future
