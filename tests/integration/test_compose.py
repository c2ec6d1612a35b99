"""docker-compose.yml as it is written: there is no Docker where these tests run, so nothing here is started.

Where there is one, CI has `docker compose config` read the file, too (`.ci/run`).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from processors.ops.process_kinds import KINDS
from tests.architecture.source_tree import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = ("kafka", "mysql", "mysql-2", "cassandra")
SECOND = {f"{kind}-s2": kind for kind, each in KINDS.items() if each.per_shard}  # the second shard's processes
LOOK_S_MIN = 5
# What starts a Java machine for one look: seconds of a core, again and again.
STARTS_JAVA = ("kafka-", "nodetool", "java")


def keys_of(service: str) -> list[str]:
    return [volume for volume in SERVICES[service].get("volumes", []) if volume.startswith("keys:")]


def test_every_server_and_every_process_is_there() -> None:
    assert set(SERVICES) == {*SERVERS, *KINDS, *SECOND, "init", "api"}


def test_the_api_is_there_for_who_asks_for_it_and_answers_on_this_machine_only() -> None:
    api, settings = SERVICES["api"], SERVICES["api"]["environment"]

    assert (api["profiles"], api["command"], api["network_mode"]) == (["api"], ["api", "run"], "host")
    assert "BALANCE_API__HOST" not in settings
    for name, server, port in (
        ("BALANCE_SHARDS__S1", "mysql", "3306"),
        ("BALANCE_SHARDS__S2", "mysql-2", "3306"),
        ("BALANCE_CASSANDRA", "cassandra", "9042"),
    ):
        assert f"127.0.0.1:{settings[f'{name}__PORT']}:{port}" in SERVICES[server]["ports"]
    assert settings["BALANCE_KAFKA__BOOTSTRAP_SERVERS"] in {
        port.rpartition(":")[0] for port in SERVICES["kafka"]["ports"]
    }


def test_the_image_is_built_once() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["init"]
    assert {SERVICES[kind]["image"] for kind in (*KINDS, *SECOND, "init")} == {"balance"}
    assert {SERVICES[kind]["pull_policy"] for kind in (*KINDS, *SECOND)} == {"never"}


@pytest.mark.parametrize("name", [*SERVERS, *KINDS, *SECOND])
def test_what_ends_is_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_keys_are_where_they_are_needed_and_written_by_init_alone() -> None:
    assert {name: keys_of(name) for name in SERVICES if keys_of(name)} == {
        "init": ["keys:/var/lib/balance"],
        "shard": ["keys:/var/lib/balance:ro"],
        "shard-s2": ["keys:/var/lib/balance:ro"],
        "router": ["keys:/var/lib/balance:ro"],
        "recaller": ["keys:/var/lib/balance:ro"],
    }


def test_binary_logs_expire() -> None:
    for name in ("mysql", "mysql-2"):
        assert any(option.startswith("--binlog-expire-logs-seconds=") for option in SERVICES[name]["command"])


def test_each_shard_has_a_server_and_a_database_of_its_own() -> None:
    settings = SERVICES["init"]["environment"]
    for shard, server in (("S1", "mysql"), ("S2", "mysql-2")):
        assert settings[f"BALANCE_SHARDS__{shard}__HOST"] == server
        assert SERVICES[server]["environment"]["MYSQL_DATABASE"] == f"balance_{shard.lower()}"
        assert [volume.partition(":")[0] for volume in SERVICES[server]["volumes"]][:1] == [server]


@pytest.mark.parametrize("name", [*SERVERS, *KINDS, *SECOND])
def test_a_look_at_health_starts_no_java(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert not [word for word in STARTS_JAVA if word in json.dumps(check["test"])]
    assert int(check["interval"].removesuffix("s")) >= LOOK_S_MIN


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_listens_on_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@pytest.mark.parametrize("kind", [*KINDS, *SECOND])
def test_a_process_waits_for_init_which_waits_for_the_servers(kind: str) -> None:
    run = [SECOND[kind], "run", "--shard", "s2"] if kind in SECOND else [kind, "run"]
    assert SERVICES[kind]["command"] == run
    assert SERVICES[kind]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    assert SERVICES["init"]["command"] == ["init"]
    assert set(SERVICES["init"]["depends_on"]) == set(SERVERS)


def test_cassandra_acknowledges_what_is_on_disk_there_and_in_the_native_stack() -> None:
    native = yaml.safe_load((ROOT / "config" / "stack" / "cassandra.yaml").read_text(encoding="utf-8"))

    assert native["commitlog_sync"] == "batch"
    assert "commitlog_sync: batch" in SERVICES["cassandra"]["entrypoint"][-1]
