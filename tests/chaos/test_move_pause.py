"""How long a move makes a partner wait, told by his own commands: what is asked, by the speed that the machine has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from processors.client import Client, ClientConfig
from processors.ops.moving import PlannedMove, luggage, plan_move
from tests.chaos.two_shards import SHARDS, TwoShardService
from tests.move_pause import MOVED, Waits, at, paid, what_moves
from tests.servers import Place

MOVES = 6
# For 1,000 accounts and 10,000 open holds. The aim is a second, which twenty moves on two quiet cores keep at p99
# (docs/performance.md, compiled); the first of six finds everything cold.
PAUSE_MAX_MS = 2_000
# Where others are at work, a move is allowed as many times that as other things take: a loop that only counts, beyond
# its own processor time; and half of all answers without a move, beyond the 10 ms that they take on an idle machine,
# since they wait for the disks, too.
IDLE_P50_MS = 10
LOOP_S = 0.2


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards())
    with made.processes():
        made.send(list(what_moves()))
        made.await_answers()
        yield made
    made.close()


@pytest.mark.rule("M1")
def test_a_move_makes_its_partner_wait_for_a_moment(service: TwoShardService) -> None:
    pauses_ms, without, beside = [], Waits(), Waits()
    with Client(ClientConfig(kafka=service.address)) as client:
        paid(client)  # everything is warm
        there = next(shard for shard in SHARDS if shard != service.owner(MOVED).shard)
        planned = plan_move(service.settings, MOVED, there)
        assert isinstance(planned, PlannedMove)
        moved, slowness = luggage(planned), []
        for _ in range(MOVES):
            without.add(paid(client))
            slowness.append(times_slower())
            found = paid(client, lambda: service.send_marker(MOVED))
            pauses_ms.append(max(found.own_ms))
            beside.add(found)
            service.flush()
    slower = max(1.0, sum(slowness) / MOVES, at(without.own_ms + without.others_ms, 50) / IDLE_P50_MS)
    print(  # noqa: T201 - it is what the test is for
        f"\n{moved}\npauses {[round(each) for each in pauses_ms]} ms on a machine {slower:.1f} times slower than "
        f"an idle one; without a move p50 {at(without.own_ms, 50)} p99 {at(without.own_ms, 99)} ms; another's p99 "
        f"{at(without.others_ms, 99)} ms without and {at(beside.others_ms, 99)} ms with moves"
    )
    assert max(pauses_ms) <= PAUSE_MAX_MS * slower


def times_slower() -> float:
    """Return how many times longer a loop takes than on a machine that has nothing else to do."""
    began_s, began_cpu_s = time.monotonic(), time.thread_time()
    while time.thread_time() - began_cpu_s < LOOP_S:
        pass
    return (time.monotonic() - began_s) / LOOP_S
