"""What a command's answer says to people, and to the program that ran it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from processors.ledger.commands import CommandType, Direction
from processors.ledger.outcomes import Reason, RefusedBy, Status
from processors.ops.cli.asking import show_result
from processors.ops.command_text import command_from_json
from processors.ops.exits import exit_status
from processors.ops.result_text import dead_letter_as_json, headline, result_as_json, show_id, with_amounts
from processors.wire.commands import encode_command
from processors.wire.dead_letters import DeadLetter
from processors.wire.results import Result, ResultPointer, decode_result
from tests.unit.wire.build import answered, outcome, pay

EXIT = {"ACCEPTED": 0, "OPEN": 0, "COMPLETED": 0, "REJECTED": 1, "RETURNED": 1, "UNKNOWN": 3}


@pytest.mark.parametrize("status", list(Status))
def test_each_status_has_its_exit_status(status: Status) -> None:
    assert exit_status(status) == EXIT[status]


def refusal(reason: Reason, available_minor: int = 9_000, missing_minor: int = 0) -> Result:
    cause = RefusedBy("acme", available_minor, missing_minor)
    refused = outcome(status=Status.REJECTED, reason=reason, postings=(), refused_by=cause)
    return decode_result(answered(pay(), refused))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (refusal(Reason.INSUFFICIENT_FUNDS, 9_000, 1), "(acme has 90.00 USD, 0.01 USD missing)"),
        (refusal(Reason.UNKNOWN_ACCOUNT, 0), "(acme has no account in USD)"),
        (refusal(Reason.ACCOUNT_FROZEN), "(acme says no, with 90.00 USD available)"),
    ],
    ids=str,
)
def test_a_refusal_names_the_account_that_is_its_cause(result: Result, words: str) -> None:
    assert words in headline(result)


def test_a_refusal_names_the_paragraph_that_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(refusal(Reason.INSUFFICIENT_FUNDS, 9_000, 1), as_json=False)
    assert "docs/rejections.md#insufficient_funds" in capsys.readouterr().out

    show_result(decode_result(answered(pay(), outcome())), as_json=False)
    assert "rejections" not in capsys.readouterr().out


def test_balances_of_an_answer_that_is_given_again_are_told_to_be_old(capsys: pytest.CaptureFixture[str]) -> None:
    first = decode_result(answered(pay(), outcome()))
    old = f"those of when it was first decided; `balance balance {first.address} {first.currency}` reads today's"

    show_result(replace(first, duplicate_of=ResultPointer(1, 0)), as_json=False)
    assert old in capsys.readouterr().out

    show_result(first, as_json=False)
    assert "first decided" not in capsys.readouterr().out


def test_a_refused_expiry_is_told_with_the_longest_hold(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(refusal(Reason.INVALID_EXPIRY), as_json=False)
    told = capsys.readouterr().out

    assert "a hold lasts 1ms to 30d, unless the rules say otherwise (`balance rules show`)" in told
    assert "docs/rejections.md#invalid_expiry" in told


def test_a_refusals_cause_and_paragraph_are_told_to_programs() -> None:
    told = result_as_json(refusal(Reason.INSUFFICIENT_FUNDS, 9_000, 1))

    assert told["refused_by"] == {"address": "acme", "available_minor": 9_000, "missing_minor": 1}
    assert told["see"] == "docs/rejections.md#insufficient_funds"


def test_minor_amounts_come_as_text_too_which_no_reader_of_json_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    large = replace(decode_result(answered(pay(), outcome())), amount_minor=99079191802152157)

    show_result(large, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert told["amount_minor_text"] == "99079191802152157"
    (level,) = told["postings"]
    amounts = [name for name in level if name.endswith("_minor")]
    assert len(amounts) == 6
    assert {level[f"{name}_text"] for name in amounts} == {str(level[name]) for name in amounts}


def test_a_partners_own_metadata_is_shown_as_it_is() -> None:
    assert with_amounts({"metadata": {"fee_minor": 5}}) == {"metadata": {"fee_minor": 5}}


def test_an_amount_is_told_to_programs_as_number_digits_and_decimal_in_its_own_currency() -> None:
    told = with_amounts(
        {"currency": "KWD", "postings": [{"held_minor": -5}], "other": {"currency": "JPY", "a_minor": 5}}
    )

    assert told["postings"] == [{"held_minor": -5, "held_minor_text": "-5", "held": "-0.005"}]
    assert told["other"] == {"currency": "JPY", "a_minor": 5, "a_minor_text": "5", "a": "5"}
    assert with_amounts({"a_minor": 5}) == {"a_minor": 5, "a_minor_text": "5"}  # whose currency nobody knows


def test_an_adjustments_line_has_its_direction_and_why() -> None:
    result = replace(
        decode_result(answered(pay(), outcome())),
        type=CommandType.ADJUST,
        direction=Direction.DEBIT,
        explanation="again",
    )

    assert "ADJUST DEBIT  " in headline(result)
    assert "because: again" in headline(result)


def test_a_dead_letter_that_is_a_command_is_told_as_it_could_be_sent() -> None:
    payload = encode_command(pay())
    letter = DeadLetter(
        cause="WRONG_PARTITION", detail="", topic="balance.commands", partition=0, offset=1, timestamp_ms=1,
        ingress_epoch=0, ingress_partition=0, ingress_offset=1, key=b"acme", key_size=4, payload=payload,
        payload_size=len(payload), payload_sha256=bytes(32),
    )  # fmt: skip

    told = dead_letter_as_json(letter, "0/1")["command"]
    assert command_from_json(told, lambda: bytes(16)) == pay()
    cut = replace(letter, payload=payload[:-1])
    assert dead_letter_as_json(cut, "0/1")["command"] is None
    garbage = replace(letter, payload=b"no command", payload_size=10)
    assert dead_letter_as_json(garbage, "0/1")["command"] is None


def test_the_end_of_a_transfer_is_told_with_both_accounts_and_the_id_that_the_transfer_was_sent_under() -> None:
    sent = replace(
        decode_result(answered(pay(), outcome())),
        type=CommandType.TRANSFER,
        to_address="globex",
        transaction_id=bytes(15) + b"1",
    )
    end = replace(sent, type=CommandType.TRANSFER_COMPLETED, status=Status.COMPLETED, command_id=bytes(15) + b"2")

    assert f"  {sent.address} to globex  " in headline(sent)
    assert f"  {sent.address} from globex  " in headline(replace(sent, type=CommandType.TRANSFER_CREDIT))
    assert headline(end).endswith(f"  {show_id(end.transaction_id)}")
    assert headline(replace(sent, type=CommandType.CAPTURE_HOLD)).endswith(f"  {show_id(sent.command_id)}")
