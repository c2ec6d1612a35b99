"""A service with two shards, each on a MySQL server of its own."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from processors.ops.setting_up import initialize
from tests.end_to_end.conftest import STOP_DEADLINE_S, Running, balance, start, started, take_ticks
from tests.servers import Place, SecondMysql
from tests.waiting import eventually

HOUR_MS = 3_600_000
LANES = {"s1": 4, "s2": 2}


@pytest.fixture(scope="module")
def both(fresh_two_shards: Callable[..., Place]) -> Iterator[Running]:
    """Return a service whose second shard has two lanes."""
    yield from started(fresh_two_shards(BALANCE_SHARDS__S2__LANES="2", BALANCE_EXPIRER__TICK_MS="1000"))


@contextmanager
def worker(place: Place, shard: str) -> Iterator[subprocess.Popen[str]]:
    """Run one shard's worker."""
    process = start(place, "shard", "run", "--shard", shard)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_DEADLINE_S)


def test_the_sample_day_is_clean_on_two_shards(fresh_two_shards: Callable[..., Place]) -> None:
    process = start(fresh_two_shards(), "demo", "--actions", "200", "--keep")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err + out
    assert "clean: every command answered as it must be, and no cent is missing or on its way" in out
    assert {"shard s1", "shard s2", "all shards"} <= {line.strip() for line in out.splitlines()}
    assert re.search(r"-\w+ moved from s1 to s2 in the middle of the day", out)
    assert re.search(r"@moved of all shards comes to zero, but for moves under way +\d+ +proven", out)


def test_every_process_of_each_shard_runs_and_its_lanes_are_shown_with_what_waits(both: Running) -> None:
    def lanes_that_moved() -> set[tuple[str, int]]:
        found = both.balance("status", "--json").json
        return {(lane["shard"], lane["lane"]) for lane in found["lanes"] if lane["next_offset"] > 0}

    every = {(shard, lane) for shard, lanes in LANES.items() for lane in range(lanes)}
    eventually(lambda: lanes_that_moved() == every, "each expirer ticks, each worker decides")
    found = both.balance("status", "--json").json
    assert {each["name"] for each in found["processes"]} >= {
        f"{kind}-{shard}" for kind in ("shard", "expirer", "remover", "auditor") for shard in LANES
    }
    assert {(lane["shard"], lane["lane"]) for lane in found["lanes"]} == every
    assert all(lane["undecided"] is not None for lane in found["lanes"])
    assert [each["shard"] for each in found["shards"]] == ["s1", "s2"]
    assert {"MySQL of s1", "MySQL of s2"} <= {each["server"] for each in found["servers"]}


def test_shards_are_listed_and_shown(both: Running) -> None:
    listed = both.balance("shard", "list", "--json")
    assert listed.status == 0
    assert [(each["shard"], each["home"], each["lanes"], each["state"]) for each in listed.json] == [
        ("s1", True, 4, ""),
        ("s2", False, 2, ""),
    ]
    shown = both.balance("shard", "show", "s2")
    assert shown.status == 0
    assert "balance.shard.s2" in shown.out
    assert "next" in shown.out
    assert both.balance("shard", "show", "s9").status == 3
    assert both.balance("shard", "add", "s2").status == 0
    assert "is there already" in both.balance("shard", "add", "s2").out
    said = both.balance("shard", "add", "s3")
    assert said.status == 2
    assert "[shards.s3]" in said.err


@pytest.mark.rule("I6")
def test_a_change_of_the_rules_goes_to_every_lane_of_every_shard(both: Running) -> None:
    set_ = both.balance("rules", "set", "--longest-hold", "29d", "--json")
    assert (set_.status, set_.json) == (
        0,
        {"done": {"s1": dict.fromkeys("0123", 2), "s2": dict.fromkeys("01", 2)}, "left": {}},
    )
    assert both.balance("rules", "set", "--longest-hold", "28d", "--shard", "s2").status == 0
    shown = both.balance("rules", "show", "--json").json
    assert {shard: {rules["longest_hold_ms"] for rules in lanes.values()} for shard, lanes in shown.items()} == {
        "s1": {29 * 24 * HOUR_MS},
        "s2": {28 * 24 * HOUR_MS},
    }
    assert both.balance("key", "add", "k2").status == 0
    announced = both.balance("key", "announce", "--json")
    assert (announced.status, announced.json["left"]) == (0, {})
    for key in both.balance("key", "list", "--json").json["keys"]:
        assert (key["s1"], key["s2"]) == ("counts", "counts")


@pytest.mark.rule("I6")
def test_what_of_a_change_is_done_and_what_is_not_is_told_by_shard(fresh_two_shards: Callable[..., Place]) -> None:
    place = fresh_two_shards(BALANCE_SHARDS__S2__LANES="2")
    initialize(place.settings, lambda _line: None)
    change = ("rules", "set", "--longest-hold", "29d")
    with worker(place, "s1"):
        eventually(lambda: take_ticks(place, "s1"), "its worker runs")
        half = balance(place, *change, "--within", "20", "--json")
        assert half.status == 3
        assert half.json["done"] == {"s1": dict.fromkeys("0123", 2), "s2": {}}
        assert half.json["left"]["s2"]["lanes"] == [0, 1]
        assert "complete: s1; not complete: s2" in half.err
        with worker(place, "s2"):
            again = balance(place, *change, "--within", "60", "--json")
            assert (again.status, again.json["left"]) == (0, {})
    shown = balance(place, "rules", "show", "--json").json
    assert {rules["longest_hold_ms"] for lanes in shown.values() for rules in lanes.values()} == {29 * 24 * HOUR_MS}


def test_a_shard_of_the_directory_that_the_settings_lack_is_told(both: Running) -> None:
    without = {name: value for name, value in both.place.environment.items() if "SHARDS__S2" not in name}
    place = Place(environment=without, settings=both.place.settings)
    found = balance(place, "status", "--json")
    assert (found.status, found.json["unknown_shards"], found.json["good"]) == (3, ["s2"], False)
    listed = balance(place, "shard", "list", "--json")
    assert (listed.status, listed.json[1]["state"]) == (3, "not in the settings here")
    for said in (
        balance(place, "rules", "raise"),
        balance(place, "rules", "set", "--window", "7d"),
        balance(place, "key", "announce"),
        balance(place, "key", "retire", "first"),
        balance(place, "key", "end", "first"),
        balance(place, "verify", "--all-shards"),
    ):  # each would be of all shards, and would leave that one out
        assert (said.status, said.out) == (3, "")
        assert "the directory has s2, and the settings here do not" in said.err
    alone = balance(place, "verify", "--json")  # of the shard that is there, and of nothing between shards
    assert alone.status == 0
    assert not [check["name"] for check in alone.json if "of all shards" in check["name"]]


@pytest.mark.rule("R5")
def test_a_third_shard_is_added_by_its_address_while_the_service_runs_and_takes_a_partner(
    both: Running, second_mysql: SecondMysql, fresh_second_database: Callable[[], str]
) -> None:
    for arguments in (("account", "open", "acme", "USD"), ("topup", "acme", "10.00", "USD")):
        assert both.balance(*arguments).status == 0
    database = fresh_second_database()
    user = f"{second_mysql.user}:{quote(second_mysql.password, safe='')}"
    dsn = f"mysql://{user}@{second_mysql.host}:{second_mysql.port}/{database}"
    made = both.balance("shard", "add", "s3", "--dsn", dsn, "--lanes", "2")
    assert made.status == 0, made.err
    assert "[shards.s3]" in made.out
    assert f'database = "{database}"' in made.out
    assert second_mysql.password not in made.out + made.err
    assert [each["shard"] for each in both.balance("shard", "list", "--json").json] == ["s1", "s2", "s3"]

    environment = {**both.place.environment, **second_mysql.environment("s3", database)}
    three = Place(environment=environment, settings=both.place.settings)
    with worker(three, "s3"):
        eventually(lambda: take_ticks(three, "s3"), "its worker runs")
        moved = balance(three, "partner", "move", "acme", "--to", "s3", "--json")
        assert moved.status == 0, moved.err
        paid = balance(three, "pay", "acme", "4.00", "USD", "--json")
    assert (paid.status, paid.json["shard"]) == (0, "s3")
    assert [posting["balance_minor"] for posting in paid.json["postings"]] == [600]
