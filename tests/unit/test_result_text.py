"""What a program that runs a command learns from its exit status alone."""

from __future__ import annotations

import pytest

from processors.ledger.outcomes import Status
from processors.ops.result_text import exit_status

EXIT = {"ACCEPTED": 0, "OPEN": 0, "COMPLETED": 0, "REJECTED": 1, "RETURNED": 1, "UNKNOWN": 3}


@pytest.mark.parametrize("status", list(Status))
def test_each_status_has_its_exit_status(status: Status) -> None:
    assert exit_status(status) == EXIT[status]
