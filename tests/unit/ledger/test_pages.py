"""What is written about the ledger is true of it."""

from __future__ import annotations

import re
from pathlib import Path

from processors.ledger.outcomes import Reason

ROOT = Path(__file__).parents[3]


def test_the_page_on_rejections_names_each_reason_once_in_its_order() -> None:
    page = (ROOT / "docs" / "rejections.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE) == [
        reason for reason in Reason if reason is not Reason.NONE
    ]
