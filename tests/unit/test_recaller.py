"""Which results the recaller reads: told by their headers, as the lanes write them."""

from __future__ import annotations

import pytest

from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Status
from processors.wire.records import UNREADABLE_HEADERS
from processors.wire.results import result_headers
from processors.workers.recaller import is_wanted


@pytest.mark.rule("H4")
@pytest.mark.parametrize("type_", CommandType)
def test_only_answers_to_refunds_and_to_recalls_are_read(type_: CommandType) -> None:
    wanted = type_ in {CommandType.REFUND, CommandType.RECALL_ORIGINAL}

    assert all(is_wanted(result_headers(type_, status, "acme")) is wanted for status in Status)


def test_a_result_without_headers_or_with_anybodys_is_passed_over() -> None:
    assert not is_wanted([])
    assert not is_wanted(UNREADABLE_HEADERS)
    assert not is_wanted([("Type", b"REFUND"), ("root", b"REFUND")])
