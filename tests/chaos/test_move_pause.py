"""How long a move makes a partner wait, told by his own commands; printed, and held to a loose bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from processors.client import Client, ClientConfig
from processors.ledger.commands import Command, OpenAccount, Pay, PlaceHold, TopUp
from processors.ops.moving import PlannedMove, luggage, plan_move
from processors.wire.results import Result
from tests.chaos.lanes import HOUR_MS, new_id
from tests.chaos.two_shards import SHARDS, TwoShardService
from tests.servers import Place

ACCOUNTS = 1_000
HOLDS = 10_000
MOVES = 6
STRETCH_S = 4.0  # of payments around a move, and without one
EVERY_S = 0.02  # a payment of the partner who moves, and one of another
PAUSE_MAX_MS = 10_000  # in a test among others on a small machine; docs/performance.md has the figure


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards())
    with made.processes():
        made.send(opening("acme") + opening("other"))
        made.send([command for number in range(ACCOUNTS - 1) for command in opening(f"acme:shop-{number}")])
        made.send([hold(number) for number in range(HOLDS)])
        made.await_answers()
        yield made
    made.close()


def opening(address: str) -> list[Command]:
    return [
        OpenAccount(command_id=new_id(), address=address, currency="USD"),
        TopUp(command_id=new_id(), address=address, currency="USD", amount_minor=10_000_000),
    ]


def hold(number: int) -> Command:
    address = f"acme:shop-{number % (ACCOUNTS - 1)}"
    return PlaceHold(command_id=new_id(), address=address, currency="USD", amount_minor=1, expires_in_ms=HOUR_MS)


@pytest.mark.rule("M1")
def test_a_move_makes_its_partner_wait_for_a_moment_and_nobody_else(service: TwoShardService) -> None:
    with Client(ClientConfig(kafka=service.address)) as client:
        paid(client, lambda: None)  # everything is warm
        before, others_before = paid(client, lambda: None)
        there = next(shard for shard in SHARDS if shard != service.owner("acme").shard)
        planned = plan_move(service.settings, "acme", there)
        assert isinstance(planned, PlannedMove)
        moved = luggage(planned)
        pauses, others = [], []
        for _ in range(MOVES):
            own, other = paid(client, lambda: service.send_marker("acme"))
            pauses.append(own[-1])
            others += other
            service.flush()
    others.sort()
    print(  # noqa: T201 - it is what the test is for
        f"\n{moved}\npauses {[round(each) for each in pauses]} ms; without a move p50 {at(before, 50)} "
        f"p99 {at(before, 99)} ms; another's p99 {at(others_before, 99)} ms without and {at(others, 99)} ms with moves"
    )
    assert max(pauses) < PAUSE_MAX_MS


def at(sorted_ms: list[float], percent: int) -> int:
    return round(sorted_ms[len(sorted_ms) * percent // 100])


def paid(client: Client, begin: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Pay for a while, with a move that begins after a quarter; return how long each answer took, sorted, in ms."""
    took_ms: tuple[list[float], list[float]] = ([], [])
    sent: list[Future[Result]] = []
    begun_s, began = time.monotonic(), False
    for number in range(round(STRETCH_S / EVERY_S)):
        for root, took in zip(("acme", "other"), took_ms, strict=True):
            sent.append(pay(client, root, took))
        if not began and number * EVERY_S > STRETCH_S / 4:
            began = True
            begin()
        time.sleep(max(0.0, begun_s + number * EVERY_S - time.monotonic()))
    for each in sent:
        each.result()
    return sorted(took_ms[0]), sorted(took_ms[1])


def pay(client: Client, root: str, took_ms: list[float]) -> Future[Result]:
    begun_s = time.monotonic()
    future = client.submit(Pay(command_id=new_id(), address=root, currency="USD", amount_minor=1))
    future.add_done_callback(lambda _: took_ms.append((time.monotonic() - begun_s) * 1_000))
    return future
