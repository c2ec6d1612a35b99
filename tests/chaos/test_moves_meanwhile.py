"""What is open, and what comes, while a partner moves on real servers; and a source that comes back from a backup."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from processors.ids import derived_id, make_command_id
from processors.ledger.commands import (
    Command,
    CommandType,
    OpenAccount,
    Pay,
    PlaceHold,
    Recalled,
    RecallOriginal,
    Refund,
    TopUp,
    UpdateAccount,
)
from processors.ledger.outcomes import Reason, Status
from processors.ops import addresses
from processors.ops.stages import Stage
from tests.chaos.kept_aside import kept_aside
from tests.chaos.lanes import HOUR_MS, new_id
from tests.chaos.load import Load
from tests.chaos.two_shards import EXPIRED_S, TwoShardService
from tests.servers import Place
from tests.waiting import eventually

ROOT = "acme"
MOVED = (ROOT, "acme:vn", "acme:vn:shop-17")
HOLD_MS = 3_000
OLDER_THAN_THE_WINDOW_MS = 7 * HOUR_MS
PAID_BEFORE = 100


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))
    yield made
    made.close()


def pay(amount_minor: int) -> Pay:
    return Pay(command_id=new_id(), address=ROOT, currency="USD", amount_minor=amount_minor)


def recall_of(refund: Refund) -> RecallOriginal:
    """What a recaller that found the original sends."""
    return RecallOriginal(
        command_id=derived_id("RECALL_ORIGINAL", refund.command_id),
        address=ROOT,
        currency="USD",
        refund_id=refund.command_id,
        original_id=refund.original_id,
        recalled=Recalled.FOUND,
        original_type=CommandType.PAY.value,
        original_accepted=True,
        original_address=ROOT,
        original_currency="USD",
        original_amount_minor=100,
        original_levels=1,
    )


def expiries(service: TwoShardService) -> list[tuple[str, Status]]:
    """Return which shards let the partner's holds expire."""
    return [(each.shard, each.status) for each in service.results()[ROOT] if each.type is CommandType.EXPIRE_HOLD]


@pytest.mark.rule("H2")
@pytest.mark.rule("H4")
@pytest.mark.rule("M1")
@pytest.mark.rule("M6")
@pytest.mark.rule("M9")
def test_what_is_open_and_what_comes_while_a_partner_moves_is_decided_by_the_target_alone(
    service: TwoShardService,
) -> None:
    old_id = make_command_id(int(time.time() * 1_000) - OLDER_THAN_THE_WINDOW_MS, bytes(10))
    refund = Refund(command_id=new_id(), address=ROOT, currency="USD", original_id=old_id, amount_minor=25)
    hold = PlaceHold(command_id=new_id(), address=ROOT, currency="USD", amount_minor=40, expires_in_ms=HOLD_MS)
    before: list[Command] = [
        OpenAccount(command_id=new_id(), address=ROOT, currency="USD"),
        TopUp(command_id=new_id(), address=ROOT, currency="USD", amount_minor=1_000),
        pay(100),
        refund,
        hold,
    ]
    with service.processes():
        # It alone asks that a hold which is over expires: not while the source still owns it, however long that takes.
        service.of["expirer-s1"].signal(signal.SIGSTOP)
        service.send(before)
        service.await_answers()
        service.of["shard-s2"].signal(signal.SIGSTOP)
        placed = service.send_marker(ROOT)
        service.flush()
        service.await_stage(placed, Stage.SEALED)
        service.of["expirer-s1"].signal(signal.SIGCONT)
        time.sleep(1.5 * HOLD_MS / 1_000)  # the hold is over, and the source's expirer has looked
        limit = UpdateAccount(command_id=new_id(), address=ROOT, currency="USD", overdraft_limit=500)
        service.send([before[2], pay(1_200), limit, pay(1_200)])
        service.send_signed(recall_of(refund))
        service.of["shard-s2"].signal(signal.SIGCONT)
        service.await_moved(placed)
        service.await_answers()
        eventually(lambda: expiries(service), "the hold has expired", EXPIRED_S)
        service.assert_as_if_nothing_had_moved()

    results = service.results()[ROOT]
    ends = [index for index, result in enumerate(results) if result.type is CommandType.MOVE_PARTNER]
    assert len(ends) == 1
    told = [(each.shard, each.type, each.status, each.reason) for each in results[ends[0] + 1 :]]
    assert [each for each in told if each[1] is not CommandType.EXPIRE_HOLD] == [
        ("s2", CommandType.PAY, Status.ACCEPTED, Reason.NONE),
        ("s2", CommandType.PAY, Status.REJECTED, Reason.INSUFFICIENT_FUNDS),
        ("s2", CommandType.UPDATE_ACCOUNT, Status.ACCEPTED, Reason.NONE),
        ("s2", CommandType.PAY, Status.ACCEPTED, Reason.NONE),
        ("s2", CommandType.RECALL_ORIGINAL, Status.COMPLETED, Reason.NONE),
    ]
    assert expiries(service) == [("s2", Status.ACCEPTED)]
    assert results[ends[0] + 1].duplicate_of is not None


@pytest.mark.rule("L4")
@pytest.mark.rule("M3")
@pytest.mark.parametrize("reached", [Stage.SEALED, Stage.SETTLED])
def test_a_source_restored_from_before_its_seal_seals_again_and_its_partner_is_paid_on(
    service: TwoShardService, fresh_database: Callable[[], str], reached: Stage
) -> None:
    source = addresses.mysql_address(service.settings, "s1")
    with service.processes("router", "shard-s2", "expirer-s1", "expirer-s2"), ExitStack() as again:
        with Load(service, 3, (*MOVED, "other")):
            with service.processes("shard-s1"):
                eventually(lambda: len(service.results().get(ROOT, [])) > PAID_BEFORE, "the partner is paid")
            with kept_aside(source, fresh_database()) as restore:
                if reached is Stage.SEALED:
                    service.of["shard-s2"].signal(signal.SIGSTOP)
                placed = service.send_marker(ROOT)
                with service.processes("shard-s1"):
                    service.await_stage(placed, reached)
                restore()
            again.enter_context(service.processes("shard-s1"))
            service.of["shard-s2"].signal(signal.SIGCONT)
            service.await_moved(placed)
            service.move(ROOT)
        service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_books_balance()
        service.assert_nothing_in_between()
