"""Whose turn it is among open refunds, and from where they are read again (H4)."""

from __future__ import annotations

from typing import Any

import pytest

from processors.archive.open_refunds import FIRST_RESEND_S, OpenRefunds, WaitingRefund
from processors.stores.archive_rows import Covered

SHARD = bytes(16)


def an_open_refund(offset: int, root: str = "acme", **changed: Any) -> WaitingRefund:
    values: dict[str, Any] = {
        "partition": 0,
        "offset": offset,
        "incarnation": SHARD,
        "lane": 0,
        "lane_offset": offset,
        "lane_index": 0,
        "root": root,
        "address": root,
        "currency": "USD",
        "refund_id": offset.to_bytes(16, "big"),
        "original_id": bytes(16),
    }
    return WaitingRefund(**values | changed)


def known(*refunds: WaitingRefund, sent_max: int = 100) -> OpenRefunds:
    found = OpenRefunds(sent_max)
    for refund in refunds:
        found.add(refund)
    return found


def covered_to(offset: int) -> dict[bytes, dict[tuple[int, int], Covered]]:
    return {SHARD: {(0, 0): Covered(lane_offset=offset, lane_index=0, lane_time_ms=0, version_us=0)}}


@pytest.mark.rule("H4")
def test_one_of_each_partner_has_its_turn_before_another_of_the_same() -> None:
    many = [an_open_refund(number, "acme") for number in range(1_000)]
    few = [an_open_refund(1_000, "bolt"), an_open_refund(1_001, "coral"), an_open_refund(1_002, "bolt")]

    due = known(*many, *few).due(0.0, {})

    assert [(refund.root, refund.offset) for refund in due[:5]] == [
        ("acme", 0), ("bolt", 1_000), ("coral", 1_001), ("acme", 1), ("bolt", 1_002),
    ]  # fmt: skip
    assert len(due) == 1_003


@pytest.mark.rule("H4")
def test_one_that_waits_has_its_turn_less_often_and_at_once_when_coverage_has_come() -> None:
    refund = an_open_refund(7)
    refunds = known(refund)
    for now_s, first_not_due_s, due_s in ((0.0, 0.9, 1.0), (1.0, 2.9, 3.0), (3.0, 6.9, 7.0)):
        refunds.put_off(refund, now_s, 1.0, covered=False)
        assert refunds.due(first_not_due_s, covered_to(6)) == []
        assert refunds.due(due_s, covered_to(6)) == [refund]
    refunds.put_off(refund, 7.0, 1.0, covered=False)
    assert refunds.due(7.1, covered_to(7)) == [refund]
    refunds.put_off(refund, 7.1, 1.0, covered=True)  # what the archive has cannot be read
    assert refunds.due(7.2, covered_to(7)) == []


def test_positions_reach_to_the_oldest_that_waits_is_sent_or_found_no_room() -> None:
    first, second, third = (an_open_refund(number) for number in (3, 5, 9))
    refunds = known(first, second, third, an_open_refund(4, partition=1), sent_max=1)
    refunds.note_sent(first, 0.0)
    assert refunds.oldest() == {0: 3, 1: 4}
    refunds.note_sent(second, 0.0)  # takes the place of the first, which is read again
    refunds.end("acme", second.refund_id)
    refunds.end("acme", third.refund_id)
    assert refunds.oldest() == {0: 3, 1: 4}
    refunds.forget([0])
    assert refunds.oldest() == {1: 4}


def test_one_that_is_published_again_while_it_is_known_is_the_same() -> None:
    refund = an_open_refund(3)
    refunds = known(refund, an_open_refund(8, refund_id=refund.refund_id))
    assert refunds.oldest() == {0: 3}
    refunds.note_sent(refund, 0.0)
    refunds.add(an_open_refund(9, refund_id=refund.refund_id))
    assert (len(refunds), refunds.sent) == (0, 1)
    assert refunds.due(FIRST_RESEND_S - 1, {}) == []
    assert refunds.due(FIRST_RESEND_S, {}) == [refund]
