"""Partners move between two shards on real servers while they are paid, and all is as if they had not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.chaos.two_shards import TwoShardService
from tests.chaos.whole_service import Load
from tests.servers import Place

MOVES = 10
MOVED = ("acme", "acme:vn", "acme:vn:shop-17")
OTHERS = ("other-1", "other-2")


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
@pytest.mark.rule("P3")
def test_ten_moves_there_and_back_under_load_change_nothing_of_what_a_partner_is_told(service: TwoShardService) -> None:
    with service.processes():
        with Load(service, 1, (*MOVED * 3, *OTHERS), commands=40) as load:
            load.await_batches(10)
            for _ in range(MOVES):
                service.move("acme")
                load.await_batches(5)
        service.await_answers()
    service.assert_as_if_nothing_had_moved()
    service.assert_nothing_in_between()
