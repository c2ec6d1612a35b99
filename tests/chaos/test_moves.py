"""Partners move between two shards on real servers while they are paid, and all is as if they had not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from subprocess import Popen

import pytest

from processors.faults import Misconfigured
from processors.ledger.commands import CommandType, Pay
from processors.ledger.outcomes import Reason, Status
from processors.ops import keys
from processors.ops.moving import PlannedMove, plan_move, plan_return, refuse_unready
from processors.ops.probing import await_vouched
from processors.ops.stages import Stage
from processors.ops.status import read_status
from processors.wire.causes import Cause
from processors.wire.signature import KeyRing
from tests.chaos.lanes import new_id
from tests.chaos.load import ByTheClock, Load, Pace
from tests.chaos.test_transfers import opened
from tests.chaos.two_shards import SHARDS, TwoShardService
from tests.end_to_end.conftest import start
from tests.servers import Place

MOVES = 10
PER_S = 2_000
EVERY_S = 0.05
# Batches, a second's, between two moves; and five seconds' until a move is made. A machine that takes longer for one
# has so much to answer and no more, however slow it is.
BETWEEN = round(1 / EVERY_S)
AHEAD = round(5 / EVERY_S)
MOVED = ("acme", "acme:vn", "acme:vn:shop-17")
OTHERS = ("other-1", "other-2")
HALF_A_MINUTE_MS = 30_000
WATCH = ("partner", "move", "acme", "--to", "s2", "--watch", "--within", "120")


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))
    yield made
    made.close()


@pytest.mark.rule("R4")
@pytest.mark.rule("M1")
@pytest.mark.rule("M2")
@pytest.mark.rule("M4")
@pytest.mark.rule("M5")
@pytest.mark.rule("M6")
@pytest.mark.rule("M8")
@pytest.mark.rule("P3")
def test_ten_moves_there_and_back_under_load_change_nothing_of_what_a_partner_is_told(service: TwoShardService) -> None:
    pace, meanwhile = ByTheClock(EVERY_S, AHEAD), []
    with service.processes():
        with heavy_load(service, pace) as load:
            load.await_batches(BETWEEN)
            for _ in range(MOVES):
                pace.go_on()
                before, began_s = load.batches, time.monotonic()
                service.move("acme")
                meanwhile.append((load.batches - before, round(time.monotonic() - began_s, 1)))
                pace.go_on()
                load.await_batches(BETWEEN)
        written_s = time.monotonic()
        service.await_answers()
    print(  # noqa: T201 - how hard it was
        f"\n{MOVES} moves under {load.told}; all answered {time.monotonic() - written_s:.1f} s after the last; batches "
        f"and seconds of each move: {meanwhile}"
    )
    assert all(batches for batches, _ in meanwhile)
    service.assert_as_if_nothing_had_moved()
    service.assert_nothing_in_between()
    assert_refunds_moved_while_open(service, "acme")


def heavy_load(service: TwoShardService, pace: Pace) -> Load:
    """Return the load of ten moves: of the partner who moves, and of some who stay."""
    return Load(
        service,
        1,
        (*MOVED * 3, *OTHERS),
        commands=round(PER_S * EVERY_S),
        pace=pace,
        batches_max=2 * MOVES * AHEAD,
        old_refunds=True,
    )


def assert_refunds_moved_while_open(service: TwoShardService, root: str) -> None:
    """Prove that refunds were pending before a partner's first move, and that all of them are where he is now."""
    results = service.results()[root]
    first = next(place for place, result in enumerate(results) if result.type is CommandType.MOVE_PARTNER)
    pending = [result.status is Status.OPEN and result.duplicate_of is None for result in results]
    assert any(pending[:first])
    open_ids = {result.command_id for result, is_pending in zip(results, pending, strict=True) if is_pending}
    reader = service.readers[service.owner(root).shard]
    assert {id_ for (of_root, id_), _ in reader.open_refunds() if of_root == root} == open_ids


@pytest.mark.rule("M10")
@pytest.mark.rule("M1")
def test_a_move_to_a_shard_that_goes_down_waits_for_it_and_is_then_turned_back(service: TwoShardService) -> None:
    away = service.processes("shard-s2", "expirer-s2")
    with service.processes("router", "shard-s1", "expirer-s1"), ExitStack() as running:
        with Load(service, 2, MOVED, commands=20) as load:
            load.await_batches(5)
            placed = service.send_marker("acme")
            service.flush()
            service.await_stage(placed, Stage.SEALED)

            with pytest.raises(Misconfigured, match="acme is on its way from s1 to s2: its rows are frozen in s1"):
                plan_move(service.settings, "acme", "s1")
            again = plan_move(service.settings, "acme", "s2")
            assert isinstance(again, PlannedMove)
            assert again.under_way
            (shown,) = read_status(service.settings).moves or []
            assert (shown.placement_key, shown.source, shown.target, shown.stage) == ("acme", "s1", "s2", Stage.SEALED)
            assert abs(shown.begun_ms - time.time_ns() // 1_000_000) < HALF_A_MINUTE_MS

            with start(service.place, *WATCH) as watching:
                stages = stages_shown(watching)
                assert next(stages) == "SEALED: its rows are frozen in s1, which hands them over; its commands wait"
                running.enter_context(away)
                service.await_moved(placed)
                assert [*stages][-1] == "SETTLED: s2 owns it, and nothing waits"
            assert watching.returncode == 0
            assert read_status(service.settings).moves == []
            back = plan_return(service.settings, "acme")
            assert isinstance(back, PlannedMove)
            assert (back.target, back.generation, back.under_way) == ("s1", 2, False)
            refuse_unready(back)
            service.move("acme")
        service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_nothing_in_between()


def stages_shown(watching: Popen[str]) -> Iterator[str]:
    """Yield each stage that somebody who watches a move is shown, as it is, until the command ends."""
    assert watching.stderr is not None
    return (line.rstrip() for line in watching.stderr if line.startswith(tuple(f"{stage}:" for stage in Stage)))


@pytest.mark.rule("R3")
def test_a_marker_that_does_not_count_moves_nobody_and_its_reason_is_told(service: TwoShardService) -> None:
    ring = keys.keyring(service.settings)
    forger = KeyRing(signing=ring.signing, keys={ring.signing: bytes(32)})
    with service.processes():
        service.send(opened("acme", 1_000))
        await_vouched(service.settings, SHARDS)
        service.send_as_marker("acme", 1, "s1", "s2", forger)
        service.send_as_marker("acme", 7, "s1", "s2", ring)
        service.send_as_marker("acme", 1, "s2", "s1", ring)
        service.send([Pay(command_id=new_id(), address="acme", currency="USD", amount_minor=100)])
        service.await_answers()

    told = [(each.shard, each.type, each.status, each.reason) for each in service.results()["acme"][2:]]
    refused = ("s1", CommandType.MOVE_PARTNER, Status.REJECTED, Reason.MOVE_REFUSED)
    assert told == [refused, refused, ("s1", CommandType.PAY, Status.ACCEPTED, Reason.NONE)]
    assert [(each["key"], each["why"]) for each in service.of["router"].logged("marker_refused")] == [
        ("acme", f"its signature with key {ring.signing} is wrong"),
        ("acme", "it begins generation 7 of acme, and the next one is 1"),
        ("acme", "acme is on s1, not on s2"),
    ]
    assert (service.owner("acme").shard, service.owner("acme").generation) == ("s1", 0)
    assert [service.rows_of_key(shard) for shard in SHARDS] == [{}, {}]
    service.assert_as_if_nothing_had_moved((b"acme", Cause.BAD_SIGNATURE))
