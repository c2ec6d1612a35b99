"""Router, workers and removers killed at each stage of a move: it ends by itself, as if nothing had been.

A move is kept in a stage by a process that does nothing meanwhile: that which the next stage needs.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from processors.ledger.commands import OpenAccount, Pay
from processors.ops.stages import STAGES, Stage
from processors.routing.buckets import partition_of
from processors.routing.directory import Placement
from processors.stores.rows import PlacementRow, PlacementState
from processors.streams.group_look import committed_positions
from processors.streams.topics import COMMANDS_TOPIC, ROUTER_GROUP
from tests.chaos.lanes import new_id
from tests.chaos.load import BATCHES_MAX, PAUSE_S, Load
from tests.chaos.two_shards import KINDS, MOVED_S, SETTLE_S, SHARDS, TwoShardService
from tests.servers import Place
from tests.waiting import eventually

ROOT = "acme"
MOVED = (ROOT, "acme:vn", "acme:vn:shop-17")
VICTIMS = ("router", "source's shard", "target's shard", "source's remover", "target's remover")
SHOPS = 6_000  # accounts, of which the remover deletes a third in a transaction
REMOVER_MS = 200
PARKED = 4_200  # more than the record that completes a hand-off unparks
RANDOM_S = float(os.environ.get("MOVES_FOR_S", "20"))  # five minutes by hand
TIMEOUT_S = 600  # every test's: for all but the stretch
KILL_EVERY_S = 3.0
COMMIT_S = 0.5  # what a worker that is stopped had sent to its database is done there by then
# Moves that wait for each other. While a worker is killed every few seconds, and starts again, one takes five seconds
# (at load average 20: 24 of 32 waited after 45 s). Afterwards each takes at most three, and all must be made within
# half of the time in which every command must be answered.
MOVE_S_MAX = 3.0
PENDING_MAX = int(SETTLE_S / 2 / MOVE_S_MAX)


@pytest.fixture(scope="module")
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    """A service that runs, with a partner whose hand-off has many parts."""
    pace = {"BALANCE_EXPIRER__TICK_MS": "500", "BALANCE_REMOVER__INTERVAL_MS": str(REMOVER_MS)}
    made = TwoShardService(fresh_two_shards(**pace))
    try:
        with made.processes():
            with Load(made, 1, MOVED, commands=500) as load:
                load.await_batches(15)
            made.await_answers()
            yield made
    finally:
        made.close()


@pytest.mark.rule("R5")
@pytest.mark.rule("L4")
@pytest.mark.rule("M4")
@pytest.mark.rule("P3")
@pytest.mark.parametrize("stage", list(STAGES))
def test_whoever_is_killed_at_a_stage_of_a_move_it_ends_by_itself(service: TwoShardService, stage: Stage) -> None:
    with Load(service, len(stage), (*MOVED, "other-1"), commands=20):
        for victim in VICTIMS:
            with kept_in(service, stage) as placed:
                assert owners(service) == STAGES[stage].owners
                service.assert_books_balance()
                killed = service.of[process_of(victim, placed)]
                killed.kill()
                killed.start()
            service.await_moved(placed)
    service.await_answers()
    service.assert_as_if_nothing_had_moved()
    service.assert_books_balance()
    service.assert_nothing_in_between()
    service.assert_nothing_is_left()


@pytest.mark.rule("M7")
def test_whoever_is_killed_while_frozen_rows_are_deleted_the_rest_is_deleted_and_nothing_else(
    service: TwoShardService,
) -> None:
    source = service.owner(ROOT).shard
    remover = service.of[f"remover-{source}"]
    frozen = f"SELECT COUNT(*) FROM account WHERE address LIKE '{ROOT}:shop-%'"
    service.send(
        [OpenAccount(command_id=new_id(), address=f"{ROOT}:shop-{each}", currency="USD") for each in range(SHOPS)]
    )
    service.await_answers()
    remover.signal(signal.SIGSTOP)
    placed = service.send_marker(ROOT)
    service.flush()
    service.await_moved(placed)
    eventually(lambda: service.rows_of_key(source)[ROOT].state is PlacementState.LEFT, "the receipt is there", MOVED_S)
    before = service.ask(source, frozen)[0][0]

    remover.signal(signal.SIGCONT)
    eventually(lambda: service.ask(source, frozen)[0][0] < before, "some frozen rows are deleted", MOVED_S)
    remover.kill()
    left = service.ask(source, frozen)[0][0]
    remover.start()

    assert before == SHOPS
    print(f"killed with {left} of {before} frozen rows left")  # noqa: T201 - how far it had come
    service.move(ROOT)  # back, over what is left
    service.await_answers()
    service.assert_as_if_nothing_had_moved()
    service.assert_nothing_in_between()
    service.assert_nothing_is_left()


def process_of(party: str, placed: Placement) -> str:
    """Return the name of the process that is a move's router, or its source's or target's worker or remover."""
    if party == "router":
        return "router"
    source = next(shard for shard in SHARDS if shard != placed.shard)
    side, kind = party.split("'s ")
    return f"{kind}-{placed.shard if side == 'target' else source}"


@contextmanager
def kept_in(service: TwoShardService, stage: Stage) -> Iterator[Placement]:
    """Begin a move and keep it in a stage until the block ends."""
    source = service.owner(ROOT).shard
    target = next(shard for shard in SHARDS if shard != source)
    frozen: list[str] = {
        Stage.ASKED: ["router"],
        Stage.PLACED: [f"shard-{source}"],
        Stage.SEALED: [f"shard-{target}"],
        Stage.ARRIVING: [],  # once it has begun
        Stage.MOVED: [f"expirer-{target}", f"shard-{target}", f"shard-{source}"],
        Stage.SETTLED: [],
    }[stage]
    for name in frozen:
        service.of[name].signal(signal.SIGSTOP)
    try:
        placed = service.send_marker(ROOT)
        if stage is Stage.ARRIVING:
            frozen = [f"shard-{target}"]
            while not is_frozen_while_arriving(service, placed):  # all was there before anybody looked: once more
                service.await_moved(placed)
                service.move(ROOT)
                placed = service.send_marker(ROOT)
        elif stage is Stage.MOVED:
            service.send(
                [Pay(command_id=new_id(), address=ROOT, currency="USD", amount_minor=1) for _ in range(PARKED)]
            )
            await_forwarded(service)  # before the rows, which the source's worker sends, so that all are parked
            service.of[f"shard-{source}"].signal(signal.SIGCONT)
            service.await_stage(placed, Stage.SEALED)
            service.of[f"shard-{target}"].signal(signal.SIGCONT)
        service.flush()
        service.await_stage(placed, stage)
        yield placed
    finally:
        for name in frozen:
            service.of[name].signal(signal.SIGCONT)


def is_frozen_while_arriving(service: TwoShardService, placed: Placement) -> bool:
    """Stop the target's worker once it has some parts, and say whether it has not all; else it goes on."""
    service.flush()
    worker = service.of[f"shard-{placed.shard}"]
    while True:
        row = service.rows_of_key(placed.shard).get(ROOT)
        if row is not None and row.generation >= placed.generation and row.state is not PlacementState.AWAY:
            break
    worker.signal(signal.SIGSTOP)
    time.sleep(COMMIT_S)
    if service.seen(placed).stage is Stage.ARRIVING:
        return True
    worker.signal(signal.SIGCONT)
    return False


def await_forwarded(service: TwoShardService) -> None:
    """Wait until the router has forwarded all that was sent of the partner."""
    service.flush()
    partition = partition_of(ROOT, service.settings.topics.commands_partitions)
    end = service.topics.end(COMMANDS_TOPIC, partition)
    committed = partial(committed_positions, service.address, ROUTER_GROUP, COMMANDS_TOPIC, [partition])
    eventually(lambda: committed().get(partition, (0, ""))[0] >= end, "all is forwarded")


def owners(service: TwoShardService) -> int:
    """Return how many shards decide the partner's commands."""

    def owns(shard: str, row: PlacementRow | None) -> bool:
        return shard == SHARDS[0] if row is None else row.state is PlacementState.OWNED

    return sum(owns(shard, service.rows_of_key(shard).get(ROOT)) for shard in SHARDS)


def reached(service: TwoShardService) -> int:
    """Return the last generation that a shard came to own; 0 where the partner never moved."""
    rows = [service.rows_of_key(shard).get(ROOT) for shard in SHARDS]
    owned = (PlacementState.OWNED, PlacementState.SEALED, PlacementState.LEFT)
    # What a shard has sealed it had: the generation before.
    had = (row.generation - (row.state is not PlacementState.OWNED) for row in rows if row and row.state in owned)
    return max(had, default=0)


@pytest.mark.timeout(TIMEOUT_S + RANDOM_S)
@pytest.mark.rule("M1")
@pytest.mark.rule("R3")
@pytest.mark.rule("R5")
def test_a_move_a_second_while_a_process_is_killed_every_three_loses_and_doubles_nothing(
    service: TwoShardService,
) -> None:
    chance, began_s = random.Random(10), time.monotonic()
    before, kills, placed = reached(service), 0, None
    kill_s, batches_max = began_s + KILL_EVERY_S, BATCHES_MAX + round(RANDOM_S / PAUSE_S)
    with Load(service, 77, (*MOVED, "other-1", "other-2"), commands=20, batches_max=batches_max) as load:
        while time.monotonic() < began_s + RANDOM_S:
            if placed is None or placed.generation - reached(service) < PENDING_MAX:
                placed = service.send_marker(ROOT)
            if time.monotonic() > kill_s:
                killed = service.of[chance.choice(KINDS)]
                killed.kill()
                killed.start()
                kills, kill_s = kills + 1, kill_s + KILL_EVERY_S
            time.sleep(1.0)
    assert placed is not None
    service.await_answers()
    print(  # noqa: T201 - how much of it there was
        f"\n{placed.generation - before} moves and {kills} kills under {load.told}; all answered after "
        f"{time.monotonic() - began_s:.0f} s"
    )
    service.assert_as_if_nothing_had_moved()
    service.assert_books_balance()
    service.assert_nothing_in_between()
    service.assert_nothing_is_left()
