"""A transaction of the SQL thread: whatever goes wrong in it is told to the lane's thread, which waits for it."""

from __future__ import annotations

from typing import cast

import pytest

from processors.faults import LaneStopped, Unavailable
from processors.stores.lane_thread import SqlTransaction
from processors.stores.mysql import Session
from processors.stores.rows import Progress
from processors.wire.positions import LANE_START


class BrokenSession:
    """Neither begins a transaction nor lets itself be given up."""

    def __init__(self, fault: Exception) -> None:
        self._fault = fault

    def begin(self) -> None:
        raise self._fault

    def abandon(self) -> None:
        raise MemoryError


@pytest.mark.parametrize(("fault", "told"), [(Unavailable("away"), Unavailable), (KeyError("a bug"), LaneStopped)])
def test_a_fault_is_told_though_the_connection_cannot_even_be_given_up(fault: Exception, told: type[Exception]) -> None:
    fence = Progress(
        lane=0, topic_id=bytes(16), owner_epoch=1, at=LANE_START, version_us=0, published_offset=0, published_time_ms=0
    )
    transaction = SqlTransaction(0, fence, [])

    transaction.run(cast("Session", BrokenSession(fault)))

    for waited_for in (transaction.loaded, transaction.done):
        assert isinstance(waited_for.exception(0), told)
