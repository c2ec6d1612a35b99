"""What the remover may find wrong: each kind is an alarm, which a remover shows as 0 from its start on."""

from __future__ import annotations

from enum import StrEnum


class FindingKind(StrEnum):
    """Why a finding is raised. Names are the contract, new ones may come."""

    ARCHIVE_ROW_MISSING = "ARCHIVE_ROW_MISSING"  # no chunk of the archived journal has a row
    ARCHIVE_ROW_DIFFERS = "ARCHIVE_ROW_DIFFERS"
    ARCHIVE_STEP_MISSING = "ARCHIVE_STEP_MISSING"  # transaction_index lacks an id of it
    ARCHIVE_STEP_DIFFERS = "ARCHIVE_STEP_DIFFERS"
    ARCHIVE_CHANGE_MISSING = "ARCHIVE_CHANGE_MISSING"  # it is not in statement_chunk
    ARCHIVE_CHANGE_DIFFERS = "ARCHIVE_CHANGE_DIFFERS"
    ARCHIVE_UNREADABLE = "ARCHIVE_UNREADABLE"  # bytes that are none of ours
    JOURNAL_FILLS = "JOURNAL_FILLS"  # it nears the most slices that it may have (A7)
