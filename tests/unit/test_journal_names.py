from __future__ import annotations

import re

from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Reason, Status
from processors.stores.journal_names import REASON_NUMBERS, REASONS
from processors.stores.migrations import FOLDER


def test_every_reason_has_a_number_of_its_own() -> None:
    assert sorted(REASON_NUMBERS) == sorted(Reason)
    assert len(set(REASON_NUMBERS.values())) == len(REASONS)


def test_the_newest_view_names_them_in_the_order_of_their_numbers() -> None:
    views = [path.read_text() for path in sorted(FOLDER.glob("*.sql")) if "VIEW journal_text" in path.read_text()]
    named = {
        column: tuple(re.findall(r"'(\w+)'", names)) for column, names in re.findall(r"ELT\((\w+),([^)]+)\)", views[-1])
    }

    assert named == {"type": tuple(CommandType), "status": tuple(Status), "reason": REASONS}
