"""What the command line refuses before it connects to anything: no server is needed, since none is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from processors.faults import Misconfigured
from processors.ledger.addresses import ADDRESS_FORM
from processors.ops.cli.main import app

WRONG_USAGE = 2
ID = "018bcfe5-6800-7000-8000-000000000000"
MALFORMED = ["acme/vn", "ACME", "shop@x.com", "a" * 65, "acme:" + "a" * 65, "acme::vn", ":".join("abcdefghi"), "đồng"]


def refused(*arguments: str) -> str:
    """Return, without line breaks and frames, what the command line says to wrong usage."""
    ran = CliRunner().invoke(app, arguments, env={"COLUMNS": "2000", "TERM": "dumb"})
    assert ran.exit_code == WRONG_USAGE, ran.output
    return " ".join(ran.output.split())


@pytest.mark.parametrize("address", ["acme/vn", "ACME"])
@pytest.mark.parametrize(
    "words",
    [
        ("pay", "{}", "5", "USD"),
        ("topup", "{}", "5 USD"),
        ("collect", "{}", "5 USD"),
        ("hold", "{}", "5 USD"),
        ("capture", "{}", ID, "USD"),
        ("void", "{}", ID, "USD"),
        ("refund", "{}", ID, "5 USD"),
        ("transfer", "{}", "acme", "5 USD"),
        ("transfer", "acme", "{}", "5 USD"),
        ("adjust", "{}", "CREDIT", "5 USD", "--because", "why"),
        ("balance", "{}", "USD"),
        ("account", "open", "{}", "USD"),
        ("account", "update", "{}", "USD", "--limit", "5"),
        ("account", "freeze", "{}", "USD"),
        ("account", "close", "{}", "USD", "--yes"),
    ],
    ids=" ".join,
)
def test_a_malformed_address_is_wrong_usage_and_the_allowed_form_is_told(words: tuple[str, ...], address: str) -> None:
    said = refused(*(word.format(address) for word in words))

    assert "is no address, since" in said
    assert ADDRESS_FORM in said


def sent(tmp_path: Path, **line: Any) -> str:
    file = tmp_path / "commands.jsonl"
    good = {"type": "PAY", "address": "acme", "amount": "1 USD"}
    bad = {"type": "PAY", "address": "acme", **line}
    file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n", encoding="utf-8")
    return refused("send", str(file))


@pytest.mark.parametrize("address", MALFORMED)
def test_a_file_with_a_malformed_address_is_refused_by_its_line(tmp_path: Path, address: str) -> None:
    said = sent(tmp_path, address=address, amount="1 USD")

    assert "line 2: address: " in said
    assert ADDRESS_FORM in said


@pytest.mark.parametrize("amount", [12.5, 1.99, True, "12.50", None])
def test_a_file_with_an_amount_that_is_no_int_is_refused_by_its_line(tmp_path: Path, amount: Any) -> None:
    said = sent(tmp_path, amount_minor=amount, currency="USD")

    assert f"line 2: amount_minor must be a whole number, not {json.dumps(amount)}" in said


def test_a_file_with_what_no_record_can_hold_is_refused_by_its_line(tmp_path: Path) -> None:
    assert "line 2: metadata['by'] is 0.5, a float" in sent(tmp_path, amount="1 USD", metadata={"by": 0.5})
    assert "line 2: OpenAccount.overdraft_limit is" in sent(
        tmp_path, type="OPEN_ACCOUNT", currency="USD", overdraft_limit=2**63
    )


def test_a_wrong_line_of_standard_input_is_named_by_its_number() -> None:
    lines = '{"type": "PAY", "address": "acme", "amount": "1 USD"}\n\n{"type": "PAY"}\n'
    ran = CliRunner().invoke(app, ["send", "-"], input=lines, env={"COLUMNS": "2000", "TERM": "dumb"})

    assert ran.exit_code == WRONG_USAGE
    assert "standard input, line 3: PAY needs address" in ran.output


def test_an_adjustment_without_the_keys_is_told_whence_they_come(tmp_path: Path) -> None:
    environment = {"BALANCE_KEYS_FILE": str(tmp_path / "keys.json")}
    ran = CliRunner().invoke(app, ["adjust", "acme", "CREDIT", "1 USD", "--because", "why"], env=environment)

    assert isinstance(ran.exception, Misconfigured)
    assert f"{tmp_path}/keys.json cannot be read" in str(ran.exception)
    assert "bring it from a machine that has it" in str(ran.exception)


def test_a_file_that_is_not_there_is_answered_with_what_may_be_named() -> None:
    assert "name one of JSON lines, or - for standard input" in refused("send", "nosuch.jsonl")
