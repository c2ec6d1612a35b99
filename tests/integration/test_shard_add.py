"""A further shard, on a MySQL server of its own: made whole, or refused with nothing written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from processors.faults import Misconfigured, Unavailable
from processors.ledger.rules import Rules
from processors.ops import addresses, assembly
from processors.ops.ruling import rules_by_lane
from processors.ops.setting_up import initialize, migrate_schemas
from processors.ops.sharding import add_shard
from processors.settings import Settings
from processors.stores.addresses import MysqlAddress
from processors.stores.databases import create_database, known_shard
from processors.stores.lane_store import MysqlLaneStore
from processors.stores.migrations import ShardRow, migrate
from processors.stores.mysql import Session
from processors.stores.rules_rows import insert_rules
from processors.streams.directory import read_directory
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.results import decision_of
from tests.integration.mysql_shard import RULES, clock_ms
from tests.kafka_log import KafkaLog
from tests.servers import Place, SecondMysql


def silent(_line: str) -> None:
    """Tell nobody."""


@pytest.fixture
def home(fresh_place: Callable[..., Place]) -> Settings:
    """Return the settings of an installation with one shard, s1."""
    settings = fresh_place().settings
    initialize(settings, silent)
    return settings


@pytest.fixture
def two(home: Settings, second_mysql: SecondMysql, fresh_second_database: Callable[[], str]) -> Settings:
    """Return its settings with a shard s2, which is not made yet."""
    return with_shard(home, second_mysql, fresh_second_database(), lanes=2)


def with_shard(settings: Settings, server: SecondMysql, database: str, **more: object) -> Settings:
    place = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    return settings.changed(shards={"s2": {**place, "database": database, **more}})


def of_second(settings: Settings) -> MysqlAddress:
    return addresses.mysql_address(settings, "s2")


def nothing_was_written(settings: Settings) -> bool:
    """Say whether no topic, and no shard of the directory, is there of s2."""
    address = addresses.kafka_address(settings)
    return not TopicAdmin(address).exists(shard_topic("s2")) and "s2" not in read_directory(address).shards


# ---------------------------------------------------------------------- made


def test_init_makes_every_shard_of_the_settings_and_the_first_is_home(
    fresh_two_shards: Callable[..., Place],
) -> None:
    settings = fresh_two_shards(BALANCE_SHARDS__S2__LANES="8").settings
    said: list[str] = []
    initialize(settings, said.append)

    rows = {shard: known_shard(addresses.mysql_address(settings, shard)) for shard in settings.shards}
    assert rows == {
        "s1": ShardRow(shard="s1", lanes=4, results_partitions=4, home=True),
        "s2": ShardRow(shard="s2", lanes=8, results_partitions=4, home=False),
    }
    address = addresses.kafka_address(settings)
    contents = read_directory(address)
    assert contents.directory.home_shard == "s1"
    assert {shard: contents.lanes_of(shard) for shard in contents.shards} == {"s1": 4, "s2": 8}
    assert TopicAdmin(address).partition_counts([shard_topic("s1"), shard_topic("s2")]) == {
        shard_topic("s1"): 4,
        shard_topic("s2"): 8,
    }
    again: list[str] = []
    initialize(settings, again.append)
    assert said
    assert again == []


def test_a_shard_is_added_to_an_installation_and_adding_it_again_changes_nothing(two: Settings) -> None:
    said: list[str] = []
    add_shard(two, "s2", said.append)

    assert known_shard(of_second(two)) == ShardRow(shard="s2", lanes=2, results_partitions=4, home=False)
    contents = read_directory(addresses.kafka_address(two))
    assert contents.shards["s2"].topic_id == TopicAdmin(addresses.kafka_address(two)).topic_id(shard_topic("s2"))
    assert contents.lanes_of("s2") == 2
    assert said[-1] == "the directory names shard s2"
    again: list[str] = []
    add_shard(two, "s2", again.append)
    assert again == []
    assert read_directory(addresses.kafka_address(two)).end_offset == contents.end_offset


@pytest.mark.rule("I6")
def test_a_further_shard_begins_with_the_rules_of_the_home_shards_log_and_this_release(two: Settings) -> None:
    (home_rules,) = set(rules_by_lane(two, "s1").values())
    changed = replace(home_rules, version=2, window_ms=7 * 3_600_000, window_floor_ms=5, skew_ms=1_000)
    write_rules(two, changed, lanes=range(4))

    add_shard(two.changed(rules={"skew_ms": 77_000}), "s2", silent)

    began = replace(changed, version=1, window_floor_ms=0)
    assert rules_by_lane(two, "s2") == dict.fromkeys(range(2), began)
    told = read_directory(addresses.kafka_address(two)).first_rules
    assert told == {"s1": home_rules, "s2": began}  # a lost database is rebuilt from logs alone


def test_no_shard_is_added_while_the_home_shards_lanes_have_different_rules(two: Settings) -> None:
    (home_rules,) = set(rules_by_lane(two, "s1").values())
    write_rules(two, replace(home_rules, version=2, skew_ms=1_000), lanes=range(3))

    with pytest.raises(Misconfigured, match="the lanes of home shard s1 have different rules"):
        add_shard(two, "s2", silent)
    assert "s2" not in read_directory(addresses.kafka_address(two)).shards


@pytest.mark.rule("I6")
def test_the_database_of_a_lost_shard_begins_with_the_rules_with_which_its_log_begins(two: Settings) -> None:
    add_shard(two, "s2", silent)
    began = read_directory(addresses.kafka_address(two)).first_rules
    write_rules(two, replace(began["s1"], version=2, skew_ms=1_000), lanes=range(4))
    later = two.changed(rules={"skew_ms": 77_000})  # what is in the settings now, or in force, is for others

    def add(settings: Settings, say: Callable[[str], None]) -> None:
        add_shard(settings, "s2", say)

    for lost, make_again in (("s2", add), ("s2", initialize), ("s1", initialize), ("s1", migrate_schemas)):
        drop_database(addresses.mysql_address(two, lost))
        make_again(later, silent)
        assert set(rules_by_lane(two, lost).values()) == {began[lost]}, lost


def drop_database(address: MysqlAddress) -> None:
    session = Session(replace(address, database="information_schema"), lane=False)
    session.execute(f"DROP DATABASE {address.database}", "losing a shard's database")
    session.close()


def write_rules(settings: Settings, rules: Rules, lanes: range) -> None:
    """Write a version of the rules of s1, as its lanes do once they have decided a SET_RULES."""
    session = Session(addresses.mysql_address(settings, "s1"), lane=False)
    for lane in lanes:
        session.execute(insert_rules(lane, {9: rules}, since_time_ms=0), "changing the rules")
    session.close()


def test_what_an_interrupted_run_made_is_gone_on_from(two: Settings) -> None:
    specs = [spec for spec in assembly.topic_specs(two) if spec.name == shard_topic("s2")]
    TopicAdmin(addresses.kafka_address(two)).create(specs, replication_factor=1)
    create_database(of_second(two))
    migrate(of_second(two), assembly.shard_row(two, "s2"), {0: RULES}, now_ms=clock_ms())

    said: list[str] = []
    add_shard(two, "s2", said.append)

    assert said == ["the directory names shard s2"]


def test_migrate_leaves_out_a_shard_that_was_not_added_yet(two: Settings) -> None:
    said: list[str] = []
    migrate_schemas(two, said.append)

    assert said == ["shard s2 is not made yet: `balance shard add s2`, or `balance init`, makes it"]
    assert nothing_was_written(two)


# ---------------------------------------------------------------------- refused


def test_a_server_that_is_not_reached_is_told_and_nothing_is_written(two: Settings) -> None:
    away = two.changed(shards={"s2": {"port": 9}})

    with pytest.raises(Unavailable, match="9"):
        add_shard(away, "s2", silent)
    assert nothing_was_written(two)


def test_the_database_of_another_shard_is_refused_and_nothing_is_written(two: Settings) -> None:
    other = ShardRow(shard="s7", lanes=2, results_partitions=4, home=False)
    create_database(of_second(two))
    migrate(of_second(two), other, {0: RULES}, now_ms=clock_ms())

    with pytest.raises(Misconfigured, match=r"holds shard s7 with 2 lanes .*; this would be shard s2 with 2 lanes"):
        add_shard(two, "s2", silent)
    assert nothing_was_written(two)


def test_counts_that_differ_from_the_databases_are_refused_and_nothing_is_written(two: Settings) -> None:
    other = ShardRow(shard="s2", lanes=16, results_partitions=4, home=False)
    create_database(of_second(two))
    migrate(of_second(two), other, {0: RULES}, now_ms=clock_ms())

    with pytest.raises(Misconfigured, match="holds shard s2 with 16 lanes"):
        add_shard(two, "s2", silent)
    assert nothing_was_written(two)


def test_counts_that_differ_from_the_directorys_are_refused(two: Settings) -> None:
    add_shard(two, "s2", silent)

    with pytest.raises(Misconfigured, match=r"shard s2 has 2 lanes, as the directory says, and shards\.s2\.lanes is 8"):
        add_shard(two.changed(shards={"s2": {"lanes": 8}}), "s2", silent)


def test_a_topic_that_was_made_again_is_refused(two: Settings) -> None:
    add_shard(two, "s2", silent)
    log = KafkaLog(addresses.kafka_address(two))
    log.drop(shard_topic("s2"))

    with pytest.raises(Misconfigured, match="there is no such topic now: it was deleted"):
        add_shard(two, "s2", silent)
    specs = [spec for spec in assembly.topic_specs(two) if spec.name == shard_topic("s2")]
    TopicAdmin(addresses.kafka_address(two)).create(specs, replication_factor=1)
    with pytest.raises(Misconfigured, match="it was made again, and what it held is gone"):
        add_shard(two, "s2", silent)


def test_a_topic_with_records_that_the_directory_does_not_know_is_refused(two: Settings) -> None:
    specs = [spec for spec in assembly.topic_specs(two) if spec.name == shard_topic("s2")]
    address = addresses.kafka_address(two)
    TopicAdmin(address).create(specs, replication_factor=1)
    KafkaLog(address).write(shard_topic("s2"), [b"x"], partition=1)

    with pytest.raises(Misconfigured, match="with records in it, which the directory does not know"):
        add_shard(two, "s2", silent)
    assert known_shard(of_second(two)) is None


def test_the_database_of_a_shard_of_another_installation_is_refused(two: Settings) -> None:
    create_database(of_second(two))
    migrate(of_second(two), assembly.shard_row(two, "s2"), {0: RULES}, now_ms=clock_ms())
    store = MysqlLaneStore(of_second(two), 0, decision_of=decision_of, clock_ms=clock_ms)
    store.take_over(b"another topic's ")
    store.close()

    with pytest.raises(Misconfigured, match="holds shard s2 of another topic"):
        add_shard(two, "s2", silent)
    assert nothing_was_written(two)


def test_a_bad_shard_keeps_init_from_making_anything(
    fresh_two_shards: Callable[..., Place],
) -> None:
    settings = fresh_two_shards().settings
    create_database(of_second(settings))
    other = ShardRow(shard="s7", lanes=4, results_partitions=4, home=True)
    migrate(of_second(settings), other, {0: RULES}, now_ms=clock_ms())

    with pytest.raises(Misconfigured, match="holds home shard s7"):
        initialize(settings, silent)
    assert not settings.keys_file.exists()
    assert not TopicAdmin(addresses.kafka_address(settings)).exists(shard_topic("s1"))


def test_the_home_shard_is_not_added(home: Settings) -> None:
    with pytest.raises(Misconfigured, match="s1 is the home shard"):
        add_shard(home, "s1", silent)
