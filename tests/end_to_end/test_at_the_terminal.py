"""What an operator sees at the terminal: a payment's whole story, long lists, commands out of a pipe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from tests.end_to_end.conftest import Running


def test_a_payment_is_looked_up_with_its_refunds_balances_and_metadata(running: Running, partner: str) -> None:
    paid = running.balance("pay", partner, "10 USD", "--metadata", '{"order": 17}', "--json").json["command_id"]
    assert running.balance("refund", partner, paid, "4 USD").status == 0
    shown = running.balance("tx", "get", paid).out
    assert 'metadata: {"order":17}' in shown
    assert "refunded: 4.00 USD of 10.00 USD, 6.00 USD left" in shown
    assert re.search(rf"{partner} +-10.00 +90.00", shown)
    (back,) = running.balance("tx", "get", paid, "--json").json["refunded"]
    assert (back["refunded"], back["left_minor"], back["left"]) == ("4.00", 600, "6.00")


def test_a_list_that_is_cut_says_of_how_many_and_how_to_go_on(running: Running, partner: str) -> None:
    first = running.balance("account", "list", partner, "--limit", "1", "--json")
    assert [account["address"] for account in first.json_lines] == [partner]
    assert first.err.strip() == f"1 of 2 accounts; go on with --after {partner}"

    rest = running.balance("account", "list", partner, "--limit", "1", "--after", partner, "--json")
    assert ([account["address"] for account in rest.json_lines], rest.err) == ([f"{partner}:vn"], "")


def test_commands_come_from_standard_input_as_from_a_file(running: Running, partner: str) -> None:
    lines = "".join(
        json.dumps({"type": "PAY", "address": partner, "amount": f"{amount}.00 USD"}) + "\n" for amount in (1, 2, 1000)
    )
    ran = subprocess.run(
        [sys.executable, "-m", "processors.ops.cli", "send", "-"],
        env={**os.environ, **running.place.environment},
        input=lines, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert [json.loads(line)["status"] for line in ran.stdout.splitlines()] == ["ACCEPTED", "ACCEPTED", "REJECTED"]
