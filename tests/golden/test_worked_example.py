"""The books in docs/accounting.md are what the ledger makes of the steps beside them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.golden.language import Story

PAGE = (Path(__file__).parents[2] / "docs" / "accounting.md").read_text(encoding="utf-8")
# Each step of the page's table, in the language of the scenarios.
STEPS = {
    "top up `acme` 100.00": "topup acme 100.00 -> accepted",
    "top up `acme:vn` 40.00": "topup acme:vn 40.00 -> accepted",
    "pay 12.50": "pay P1 acme:vn 12.50 -> accepted",
    "hold 20.00": "hold H1 acme:vn 20.00 for 15m -> accepted",
    "capture 5.00": "capture H1 5.00 -> accepted",
    "refund 2.50": "refund of P1 at acme:vn 2.50 -> accepted left 10.00",
    "collect 30.00": "collect acme:vn 30.00 -> accepted",
    "transfer 10.00": "transfer acme to acme:vn 10.00 -> accepted",
    "adjust + 1.00": "adjust credit acme 1.00 because bank fee paid twice -> accepted",
}


def table() -> list[list[str]]:
    """Return the cells of the table of books, its header first."""
    first_cells = "|".join(map(re.escape, ("step", *STEPS, "**at the end**")))
    lines = re.findall(rf"^\| (?:{first_cells}) \|.*$", PAGE, re.MULTILINE)
    return [[cell.strip().strip("*") for cell in line.split("|")[1:-1]] for line in lines]


def seen(place: str, amount: str) -> str:
    """Return the line that looks at an account, or at a system account of a level."""
    name, _, level = place.replace("`", "").partition(" ")
    return f"see {name} level {level} {amount}" if level else f"see {name} balance {amount}"


def test_the_books_on_the_page_are_the_ledgers_after_each_step() -> None:
    (_, *places), *rows = table()
    story = Story()
    story.tell("open acme USD -> accepted")
    story.tell("open acme:vn USD -> accepted")

    assert [row[0] for row in rows] == [*STEPS, "at the end"]
    standing: dict[str, str] = {}
    for step, *cells in rows:
        if step in STEPS:
            story.tell(STEPS[step])
        standing.update({place: cell for place, cell in zip(places, cells, strict=True) if cell})
        for place, amount in standing.items():
            story.tell(seen(place, amount.replace("−", "-")))  # noqa: RUF001 - the minus sign of the page
    assert set(standing) == set(places)
