"""What is written about the ledger is true of it."""

from __future__ import annotations

import re
from pathlib import Path

from processors.ledger.outcomes import Reason
from processors.wire.causes import Cause

ROOT = Path(__file__).parents[3]


def paragraphs(page: str) -> dict[str, str]:
    """Return what is said below each heading that is a reason's name."""
    parts = re.split(r"^### ([A-Z_]+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in_table(page: str) -> list[str]:
    return re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)


def test_the_page_on_rejections_names_each_reason_once_in_its_order_then_each_dead_letters_cause() -> None:
    page = (ROOT / "docs" / "rejections.md").read_text(encoding="utf-8")
    rejections, dead_letters = page.split("## Dead letters")

    told = paragraphs(rejections)
    assert list(told) == [reason for reason in Reason if reason is not Reason.NONE]
    assert [f"docs/rejections.md#{name.lower()}" for name in told] == [Reason[name].paragraph for name in told]
    assert not [name for name, text in told.items() if "**Next:** " not in text]
    assert sorted(names_in_table(dead_letters)) == sorted(Cause)
