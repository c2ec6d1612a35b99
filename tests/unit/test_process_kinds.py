"""The table of processes: how long each is silent on purpose, and its name."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from processors.faults import LaneStopped, StopCode
from processors.ops.health import HealthServer
from processors.ops.local_service import log_folder, pid_file, port_file, programs, troubles
from processors.ops.pid_files import note
from processors.ops.process_kinds import KINDS
from processors.ops.supervisor import ChildState, Condition
from processors.settings import load_settings
from processors.troubles import Troubles

# What an orchestrator is told: a process that hangs is found within this and SILENT_MAX_S.
RESTS_MS_MAX = 5_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["local", "production"])
def test_a_process_that_hangs_is_found_by_its_own_rests_not_by_anothers(kind: str, profile: str) -> None:
    assert KINDS[kind].rests_ms(load_settings(profile, environment={})) <= RESTS_MS_MAX


def test_only_who_rests_without_a_pulse_is_given_time_for_it() -> None:
    settings = load_settings(environment={}).changed(expirer={"tick_ms": 7_000}, sink={"batch_wait_ms": 9})

    given = {name: kind.rests_ms(settings) for name, kind in KINDS.items()}
    assert given == {"router": 0, "shard": 0, "expirer": 7_000, "sink": 9, "recaller": 0, "remover": 0, "auditor": 0}


def test_the_api_runs_beside_the_others_where_the_settings_say_so() -> None:
    names = [program.name for program in programs(load_settings(environment={}))]
    with_api = load_settings(environment={"BALANCE_API__ENABLED": "1"})

    assert [program.name for program in programs(with_api)] == [*names, "api"]
    assert programs(with_api)[-1].command[-4:-1] == ["api", "run", "--supervised"]


def test_what_processes_here_meet_is_asked_of_themselves(tmp_path: Path) -> None:
    """A stop that the database could not take, say: the database knows nothing of it."""
    settings = load_settings(environment={}).changed(stack={"directory": tmp_path})
    log_folder(settings).mkdir(parents=True)
    note(os.getpid(), pid_file(settings))
    silent, refused = (state(name) for name in ("router", "shard-s1"))
    (log_folder(settings) / f"{settings.instance}.states").write_text(json.dumps([asdict(silent), asdict(refused)]))
    met = Troubles()
    met.met("shard", LaneStopped(StopCode.LOG_GAP, "offset 4 (not stored yet)"), subject="s1 lane 0", loud=True)

    with HealthServer("127.0.0.1", 0, process="shard-s1", troubles=met) as server:
        port_file(settings, "shard-s1").write_text(str(server.port))
        found = troubles(settings)

    assert found["router"] == []
    assert [(each.subject, each.detail, each.loud) for each in found["shard-s1"]] == [
        ("s1 lane 0", "LOG_GAP: offset 4 (not stored yet)", True)
    ]


def state(name: str) -> ChildState:
    return ChildState(name=name, condition=Condition.RUNNING, restarts=0, failing=False, last_end="", log="")
