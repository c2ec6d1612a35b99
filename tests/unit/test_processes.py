"""The table of processes: how long each is silent on purpose, and its name."""

from __future__ import annotations

import pytest

from processors.ops.processes import KINDS
from processors.settings import load_settings

# What an orchestrator is told: a process that hangs is found within this and SILENT_MAX_S.
RESTS_MS_MAX = 5_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["local", "production"])
def test_a_process_that_hangs_is_found_by_its_own_rests_not_by_anothers(kind: str, profile: str) -> None:
    assert KINDS[kind].rests_ms(load_settings(profile, environment={})) <= RESTS_MS_MAX


def test_only_who_rests_without_a_pulse_is_given_time_for_it() -> None:
    settings = load_settings(environment={}).changed(expirer={"tick_ms": 7_000}, sink={"batch_wait_ms": 9})

    given = {name: kind.rests_ms(settings) for name, kind in KINDS.items()}
    assert given == {"router": 0, "shard": 0, "expirer": 7_000, "sink": 9, "recaller": 0, "remover": 0}
