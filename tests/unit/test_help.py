"""What the command line says of itself, and of amounts and metadata that are typed wrongly; no server is asked."""

from __future__ import annotations

import re

import pytest

from tests.command_line import every_command, said

WRONG_USAGE = 2
AMOUNT_COMMANDS = (
    ("topup", "acme"),
    ("collect", "acme"),
    ("pay", "acme"),
    ("hold", "acme"),
    ("capture", "acme", "018bcfe5-6800-7000-8000-000000000000"),
    ("refund", "acme", "018bcfe5-6800-7000-8000-000000000000"),
    ("transfer", "acme", "acme:vn"),
    ("adjust", "acme", "CREDIT", "--because", "why"),
)


@pytest.mark.parametrize("words", [words for words, _ in every_command()], ids=" ".join)
def test_help_names_what_belongs_there_in_words_of_the_field_and_no_types_of_a_program(words: tuple[str, ...]) -> None:
    status, page = said(*words, "--help")

    assert status == 0
    assert re.findall(r"<[^>]*>|list\[", page) == []


@pytest.mark.parametrize("words", AMOUNT_COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["12,50", "USD"], "'12,50 USD' has a comma after 12: write a point there, write it like 12.50 USD"),
        (["12.50"], "'12.50' names no currency: write it like 12.50 USD"),
        (["-5", "USD"], "'-5 USD' has the sign -: an amount has none"),
        (["-5 USD"], "'-5 USD' has the sign -: an amount has none"),
        (["--", "-5", "USD"], "'-5 USD' has the sign -: an amount has none"),
    ],
)
def test_an_amount_that_cannot_be_read_is_answered_with_what_is_wrong_and_what_to_write(
    words: tuple[str, ...], typed: list[str], sentence: str
) -> None:
    status, answer = said(*words, *typed)

    assert status == WRONG_USAGE
    assert sentence in answer


@pytest.mark.parametrize("typed", ["order-1", "{order: 1}", "[1]", '"order"', ""])
def test_metadata_that_is_no_object_is_answered_with_an_example_that_works(typed: str) -> None:
    status, answer = said("pay", "acme", "5 USD", "--metadata", typed)

    assert status == WRONG_USAGE
    assert "is no JSON object: write pairs of a text and a value in braces" in answer
    example = re.search(r"--metadata '(.*?)'", answer)
    assert example is not None
    status, answer = said("pay", "acme", "nothing", "--metadata", example[1])
    assert "JSON" not in answer
    assert "'nothing' is not an amount" in answer
