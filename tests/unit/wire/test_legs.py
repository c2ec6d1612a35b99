from __future__ import annotations

from typing import Any

import pytest

from processors.ids import id_text, slice_of_id, uuid7_time_ms
from processors.ledger.commands import (
    CommandType,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
)
from processors.ledger.outcomes import Reason, Status
from processors.ledger.transfers import credit_id, end_id
from processors.wire.commands import decode_command, encode_command
from processors.wire.legs import leg_again, leg_of
from processors.wire.result_format import Result, ResultPointer, decode_result, write_result

TRANSFER_ID = bytes.fromhex("01970000000070008000000000000001")


def result(kind: CommandType, status: Status, **wishes: Any) -> bytes:
    """Return a result of a transfer of 12.50 from ``acme:vn`` to ``beta``, or of its credit."""
    given: dict[str, Any] = {
        "incarnation": bytes(16), "shard": "s1", "lane": 0, "lane_offset": 7, "lane_index": 0, "lane_time_ms": 1,
        "version_us": 1, "rules_version": 1, "reason": Reason.NONE, "root": "acme", "command_id": TRANSFER_ID,
        "transaction_id": TRANSFER_ID, "body_hash": bytes(16), "address": "acme:vn", "currency": "USD",
        "amount_minor": 1250, "to_address": "beta", "metadata": b'{"order":7}', **wishes,
    }  # fmt: skip
    return write_result(Result(type=kind, status=status, **given))


def credited(status: Status = Status.ACCEPTED, **wishes: Any) -> bytes:
    given: dict[str, Any] = {
        "root": "beta", "command_id": credit_id("acme", TRANSFER_ID), "address": "beta", "to_address": "acme:vn",
    }  # fmt: skip
    return result(CommandType.TRANSFER_CREDIT, status, **{**given, **wishes})


@pytest.mark.rule("T1")
def test_an_open_transfer_sends_its_credit() -> None:
    assert leg_of(result(CommandType.TRANSFER, Status.OPEN)) == TransferCredit(
        command_id=credit_id("acme", TRANSFER_ID),
        address="beta",
        currency="USD",
        from_address="acme:vn",
        transfer_id=TRANSFER_ID,
        amount_minor=1250,
        metadata=b'{"order":7}',
    )


@pytest.mark.rule("T2")
def test_a_credit_that_was_taken_completes_the_transfer_and_one_that_was_refused_sends_it_back() -> None:
    ends: dict[str, Any] = {"address": "acme:vn", "currency": "USD", "to_address": "beta", "transfer_id": TRANSFER_ID}

    assert leg_of(credited()) == TransferCompleted(command_id=end_id("TRANSFER_COMPLETED", "acme", TRANSFER_ID), **ends)
    for journalled in (True, False):
        refused = credited(Status.REJECTED, reason=Reason.ACCOUNT_CLOSED, journalled=journalled)
        assert leg_of(refused) == TransferReturn(
            command_id=end_id("TRANSFER_RETURN", "acme", TRANSFER_ID), reason="ACCOUNT_CLOSED", **ends
        )


@pytest.mark.rule("T1")
def test_a_repetition_sends_nothing_nor_does_any_other_result() -> None:
    nothing = [
        result(CommandType.TRANSFER, Status.OPEN, duplicate_of=ResultPointer(7, 0), journalled=False),
        result(CommandType.TRANSFER, Status.ACCEPTED, to_address="acme:us"),
        result(CommandType.TRANSFER, Status.REJECTED, reason=Reason.INSUFFICIENT_FUNDS),
        result(CommandType.REFUND, Status.OPEN),
        result(CommandType.TRANSFER_COMPLETED, Status.COMPLETED),
        result(CommandType.TRANSFER_RETURN, Status.RETURNED),
    ]
    assert [leg_of(each) for each in nothing] == [None] * len(nothing)


@pytest.mark.rule("T5")
def test_the_leg_that_is_sent_again_is_the_one_that_the_last_step_sent() -> None:
    opened = decode_result(result(CommandType.TRANSFER, Status.OPEN))
    others = [
        decode_result(
            result(CommandType.TRANSFER, Status.OPEN, root="globex", address="globex")
        ),  # of the same id (I1)
        decode_result(credited(command_id=credit_id("globex", TRANSFER_ID), to_address="globex")),
        decode_result(credited(duplicate_of=ResultPointer(7, 0), journalled=False)),
    ]
    taken, refused = (decode_result(credited(status)) for status in (Status.ACCEPTED, Status.REJECTED))

    def again(*steps: Result) -> object:
        return type(leg_again("acme", TRANSFER_ID, [*others, *steps]))

    assert leg_again("acme", TRANSFER_ID, [*others, opened]) == leg_of(result(CommandType.TRANSFER, Status.OPEN))
    assert (again(opened, taken), again(opened, refused)) == (TransferCompleted, TransferReturn)
    assert leg_again("acme", TRANSFER_ID, others) is None


@pytest.mark.rule("T5")
def test_a_legs_id_follows_from_the_senders_root_and_the_transfer() -> None:
    senders, transfers = ("acme", "beta"), (TRANSFER_ID, bytes([*TRANSFER_ID[:15], 2]))
    ids = [
        id_
        for sender in senders
        for transfer in transfers
        for id_ in (
            credit_id(sender, transfer),
            end_id("TRANSFER_COMPLETED", sender, transfer),
            end_id("TRANSFER_RETURN", sender, transfer),
        )
    ]

    assert len(set(ids)) == 12
    assert id_text(ids[0]) == "01970000-0000-8101-a697-bf83f7119dd6"


@pytest.mark.rule("T5")
def test_a_credits_id_has_the_transfers_time_and_is_no_partners() -> None:
    id_ = credit_id("acme", TRANSFER_ID)

    assert slice_of_id(id_) == slice_of_id(TRANSFER_ID)
    assert id_[:6] == TRANSFER_ID[:6]
    assert uuid7_time_ms(id_) is None


def test_the_largest_transfer_fits_its_credit() -> None:
    """Every transfer whose TRANSFER fits a record has a credit that does."""
    to_address = ":".join(["b" * 31] * 8)
    largest = {"address": ":".join(["a" * 31] * 8), "to_address": to_address, "metadata": b"m" * 4096}
    leg = leg_of(result(CommandType.TRANSFER, Status.OPEN, **largest))

    assert leg is not None
    assert decode_command(encode_command(leg)) == leg
