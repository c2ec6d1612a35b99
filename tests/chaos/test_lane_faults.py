"""What a running shard meets besides a crash: lost replies, pauses, rebalances, restored databases, tampered logs."""

from __future__ import annotations

import json
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.ledger.commands import Adjust, Direction, Pay
from processors.lookup.times import show_time
from processors.ops import addresses, assembly
from processors.routing.buckets import partition_of
from processors.stores.mysql import Session
from processors.streams.group_look import look_at_group
from processors.streams.topics import shard_group, shard_topic
from processors.wire.causes import Cause
from processors.wire.commands import encode_command
from processors.wire.dead_letters import decode_dead_letter
from processors.wire.results import decode_result
from processors.wire.signature import SIGNATURE_HEADER, add_key, dump_keyring, load_keyring, sign
from tests.chaos.kept_aside import kept_aside
from tests.chaos.lanes import DEADLINE_S, SHARD, Shard, Worker, new_id
from tests.chaos.mysql_proxy import AtCommit, MysqlProxy
from tests.end_to_end.conftest import balance
from tests.servers import Place
from tests.waiting import eventually

SESSION_S = 6  # P4


@pytest.fixture
def make_shard(fresh_place: Callable[..., Place]) -> Callable[[int], Shard]:
    def make(lanes: int) -> Shard:
        return Shard(fresh_place(BALANCE_TOPICS__LANES=str(lanes), BALANCE_TOPICS__COMMANDS_PARTITIONS=str(lanes)))

    return make


def roots_of(shard: Shard, lane: int, count: int = 1) -> list[str]:
    names = (f"r{number}" for number in range(10_000))
    return [name for name in names if partition_of(name, shard.lanes) == lane][:count]


# ------------------------------------------------------------------ COMMIT


@pytest.mark.rule("L6")
@pytest.mark.parametrize("action", [AtCommit.LOSE_REPLY, AtCommit.CUT_BEFORE])
def test_a_commit_whose_reply_is_lost_is_asked_about_and_not_repeated(
    make_shard: Callable[[int], Shard], action: AtCommit
) -> None:
    shard = make_shard(1)
    mysql = shard.settings.shards[SHARD]
    with MysqlProxy(mysql.host, mysql.port) as proxy, shard.worker(BALANCE_SHARDS__S1__PORT=str(proxy.port)):
        shard.write_day("before", payments=50)
        shard.await_decided()
        for day in range(3):
            proxy.arm(action, behind=b"UPDATE progress SET next_offset")  # else it may be one that only read
            shard.write_day(f"day-{day}", payments=50)
            assert proxy.met.wait(DEADLINE_S)
            shard.await_decided()
    shard.assert_exactly_once()


# ------------------------------------------------------------------ owners


@pytest.mark.rule("L1")
@pytest.mark.rule("L5")
@pytest.mark.rule("L12")
def test_a_worker_that_was_paused_and_wakes_changes_nothing_and_publishes_nothing(
    make_shard: Callable[[int], Shard],
) -> None:
    shard = make_shard(1)
    shard.write_day("before", payments=50)
    with shard.worker("w0", BALANCE_WORKER__BATCH_COMMANDS_MAX="20") as sleeper:
        shard.await_decided()
        begun = shard.positions()[0]
        shard.write_day("meanwhile", payments=20_000)
        eventually(lambda: shard.positions()[0].at.next_offset > begun.at.next_offset, "it is amid its work")
        sleeper.signal(signal.SIGSTOP)
        paused = shard.positions()[0]
        assert paused.owner_epoch == begun.owner_epoch
        assert paused.at.next_offset < shard.topics.end(shard_topic(SHARD), 0)
        with shard.worker("w1"):
            shard.await_decided()
            taken, seen = shard.positions()[0], shard.results()
            assert taken.owner_epoch > paused.owner_epoch
            sleeper.signal(signal.SIGCONT)
            time.sleep(SESSION_S + 4)  # longer than it needs to learn that it lost its lane, were it to do anything
            assert shard.positions()[0] == taken
            assert shard.results() == seen
    shard.assert_exactly_once()


@pytest.mark.rule("L12")
@pytest.mark.rule("P4")
def test_lanes_that_move_to_and_fro_under_load_decide_each_command_once(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(4)
    enough = threading.Event()

    def load() -> None:
        day = 0
        while not enough.wait(0.5):
            day += 1
            for lane in range(shard.lanes):
                shard.write_day(f"{roots_of(shard, lane)[0]}-{day}", payments=20)

    writer = threading.Thread(target=load, daemon=True)
    writer.start()
    with shard.worker("w0"):
        eventually(lambda: len(shard.positions()) == shard.lanes, "every lane has an owner")
        first = owner_epochs(shard)
        for turn in range(2):
            with worker_with_a_lane(shard, f"orderly-{turn}") as other:
                other.signal(signal.SIGTERM)
                assert other.wait() == 0, other.log
            with worker_with_a_lane(shard, f"killed-{turn}"):
                pass
        enough.set()
        writer.join()
        shard.await_decided()
        last = owner_epochs(shard)
        assert any(last[lane] >= first[lane] + 2 for lane in first), (first, last)  # to and fro
    shard.assert_exactly_once()


def owner_epochs(shard: Shard) -> dict[int, int]:
    return {lane: position.owner_epoch for lane, position in shard.positions().items()}


@contextmanager
def worker_with_a_lane(shard: Shard, instance: str) -> Iterator[Worker]:
    """Run a worker of a new instance, from when it was given a lane and lanes have other owners; killed at the end."""
    before = sum(owner_epochs(shard).values())
    group = f"{shard.address.topic_prefix}{shard_group(SHARD)}"
    admin = AdminClient(shard.address.options())

    def has_a_lane() -> bool:
        members = admin.describe_consumer_groups([group])[group].result(DEADLINE_S).members
        named = f"{instance}-{SHARD}"
        return any(each.assignment.topic_partitions for each in members if each.group_instance_id == named)

    with shard.worker(instance) as worker:
        eventually(has_a_lane, "it is given a lane", instead=lambda: worker.log)
        eventually(lambda: sum(owner_epochs(shard).values()) > before, "lanes moved", instead=lambda: worker.log)
        yield worker


# ------------------------------------------------------------------ repetitions


@pytest.mark.rule("L10")
def test_an_ingress_that_is_routed_again_from_its_beginning_meets_silence(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(1)
    payments = [Pay(command_id=new_id(), address="again", currency="USD", amount_minor=5) for _ in range(20)]
    shard.write_day("again", payments=5)
    with shard.worker():
        shard.write(payments)
        shard.await_decided()
        seen = shard.results()
        for offset, payment in enumerate(payments):
            shard.write_payload("again", encode_command(payment), ingress_offset=offset)
        shard.write_payload("again", b"no command at all", ingress_offset=3)
        shard.flush()
        shard.await_decided()
        assert shard.results() == seen
    shard.assert_exactly_once()


@pytest.mark.rule("I3")
def test_a_command_sent_ten_times_is_decided_once_and_answered_ten_times(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(1)
    shard.write_day("tenfold", payments=1)
    pay = Pay(command_id=new_id(), address="tenfold", currency="USD", amount_minor=5)
    with shard.worker():
        for _ in range(10):
            shard.write([pay])
            time.sleep(0.1)  # in batches of their own
        shard.await_decided()
    answers = [decode_result(value) for values in shard.results().values() for value in values]
    ours = [answer for answer in answers if answer.command_id == pay.command_id]
    assert [answer.journalled for answer in ours] == [True] + [False] * 9
    assert {(answer.status, answer.postings[0].balance) for answer in ours} == {
        (ours[0].status, ours[0].postings[0].balance)
    }
    shard.assert_exactly_once()


# ------------------------------------------------------------------ the group's offset


@pytest.mark.rule("L4")
@pytest.mark.parametrize("how", ["earliest", "latest", "expired"])
def test_a_group_offset_that_was_reset_is_noticed_and_not_believed(
    make_shard: Callable[[int], Shard], how: str
) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=50)
    with shard.worker():
        shard.await_decided()
    _reset_group(shard, how)
    shard.write_day("second", payments=50)
    with shard.worker():
        shard.await_decided()
    _assert_each_once_by_id(shard)


def _reset_group(shard: Shard, how: str) -> None:
    look = partial(look_at_group, shard.address, shard_group(SHARD), shard_topic(SHARD), [0])
    eventually(lambda: not look().members, "the static member is forgotten: offsets may be altered")
    admin = AdminClient(shard.address.options())
    group = f"{shard.address.topic_prefix}balance-shard-{SHARD}"
    if how == "expired":
        for done in admin.delete_consumer_groups([group]).values():
            done.result(30)
        return
    first, end = shard.topics.bounds(shard_topic(SHARD), 0)
    place = TopicPartition(shard.address.topic_prefix + shard_topic(SHARD), 0, first if how == "earliest" else end)
    for done in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])]).values():
        done.result(30)


def _assert_each_once_by_id(shard: Shard) -> None:
    """The last batch may be there twice, byte for byte: a consumer drops it by its id (L4, A1)."""
    expected = shard.expected(0)
    for partition, values in shard.results().items():
        assert list(dict.fromkeys(values)) == expected.results.get(partition, [])
    assert shard.positions()[0].at.digest == expected.digest


# ------------------------------------------------------------------ the database


def _kept_aside(shard: Shard, fresh_database: Callable[[], str]) -> AbstractContextManager[Callable[[], None]]:
    return kept_aside(addresses.mysql_address(shard.settings, SHARD), fresh_database())


@pytest.mark.rule("L4")
@pytest.mark.rule("L13")
def test_a_database_restored_from_before_decides_again_and_publishes_nothing_twice(
    make_shard: Callable[[int], Shard], fresh_database: Callable[[], str]
) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=50)
    with shard.worker():
        shard.await_decided()
    with _kept_aside(shard, fresh_database) as restore:
        shard.write_day("second", payments=50)
        with shard.worker():
            shard.await_decided()
        restore()
    shard.write_day("third", payments=50)
    with shard.worker():
        shard.await_decided()
    shard.assert_exactly_once()


@pytest.mark.rule("I6")
@pytest.mark.rule("L4")
@pytest.mark.rule("W1")
def test_a_refused_adjustment_stays_refused_when_its_key_came_later_and_database_and_group_offset_are_lost(
    make_shard: Callable[[int], Shard], fresh_database: Callable[[], str]
) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=20)
    with shard.worker():
        shard.await_decided()
    file = shard.settings.keys_file
    newer = add_key(load_keyring(file.read_text()), "k2", secrets.token_bytes(32))
    with _kept_aside(shard, fresh_database) as restore:
        wish = Adjust(new_id(), "first", "USD", amount_minor=10_000, direction=Direction.CREDIT, explanation="mine")
        payload = encode_command(wish)
        signature = sign(replace(newer, signing="k2"), b"first", payload)
        shard.write_payload("first", payload, headers=[(SIGNATURE_HEADER, signature)])
        shard.flush()
        with shard.worker():
            shard.await_decided()
        restore()
    file.write_text(dump_keyring(newer))
    _reset_group(shard, "expired")
    with shard.worker():
        shard.await_decided()
        shard.write_day("second", payments=20)
        shard.await_decided()
    _assert_each_once_by_id(shard)
    letters = [decode_dead_letter(value).cause for value in set(shard.dead_letters())]
    assert letters.count(Cause.BAD_SIGNATURE) == 1
    answers = [decode_result(value) for values in shard.results().values() for value in values]
    assert not [answer for answer in answers if answer.command_id == wish.command_id]


@pytest.mark.rule("L1")
def test_a_database_that_goes_back_under_a_running_worker_is_noticed(
    make_shard: Callable[[int], Shard], fresh_database: Callable[[], str]
) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=50)
    with shard.worker():
        shard.await_decided()
        with _kept_aside(shard, fresh_database) as restore:
            shard.write_day("second", payments=50)
            shard.await_decided()
            restore()
        shard.write_day("third", payments=50)
        shard.await_decided()
    shard.assert_exactly_once()


@pytest.mark.rule("L4")
def test_a_database_that_decides_otherwise_than_was_published_stops_before_it_publishes(
    make_shard: Callable[[int], Shard], fresh_database: Callable[[], str]
) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=50)
    with shard.worker():
        shard.await_decided()
    with _kept_aside(shard, fresh_database) as restore:
        shard.write_day("second", payments=50)
        shard.write([Pay(command_id=new_id(), address="first", currency="USD", amount_minor=1)])
        with shard.worker():
            shard.await_decided()
        restore()
        seen = shard.results()
        session = Session(addresses.mysql_address(shard.settings, SHARD), lane=False)
        session.execute("UPDATE account SET balance = balance + 1 WHERE address = X'6669727374'", "tampering")
        session.execute("DELETE FROM batch_digest", "tampering")
        session.commit()
        session.close()
    shard.write([Pay(command_id=new_id(), address="first", currency="USD", amount_minor=1)])
    with shard.worker() as worker:
        assert worker.wait() == 1, worker.log
    assert shard.stop_codes() == {0: "DIGEST_DIFFERS"}
    assert shard.results() == seen


# ------------------------------------------------------------------ the log


@pytest.mark.rule("L2")
def test_a_gap_in_the_log_stops_its_lane_and_no_other(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(2)
    broken, sound = roots_of(shard, 0)[0], roots_of(shard, 1)[0]
    shard.write_day(broken, payments=5)
    with shard.worker() as worker:
        shard.await_decided()
        gap_at = _write_gap(shard, lane=0)
        shard.write_day(broken, payments=5)
        shard.write_day(sound, payments=30)
        eventually(lambda: shard.stop_codes() == {0: "LOG_GAP"}, "lane 0 is stopped")
        _, end = shard.topics.bounds(shard_topic(SHARD), 1)
        eventually(lambda: shard.positions()[1].at.next_offset == end, "lane 1 goes on")
        assert shard.positions()[0].at.next_offset == gap_at
        said = balance(shard.place, "status", "--json")
        assert said.status == 3
        (stopped,) = [lane for lane in said.json["lanes"] if lane["stop_code"]]
        assert (stopped["lane"], stopped["stop_code"]) == (0, "LOG_GAP")
        # The last before it, or the missing one.
        assert re.search(rf"\b({gap_at - 1}|{gap_at})\b", stopped["stop_detail"])
        assert f"lane 0 stopped at {show_time(stopped['stopped_at_ms'])}: LOG_GAP" in balance(shard.place, "status").out
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.rule("L2")
def test_a_process_with_no_lane_left_running_ends_with_a_failure(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(1)
    shard.write_day("only", payments=5)
    with shard.worker() as worker:
        shard.await_decided()
        _write_gap(shard, lane=0)
        shard.write_day("only", payments=5)
        assert worker.wait() == 1, worker.log
    assert shard.stop_codes() == {0: "LOG_GAP"}


def _write_gap(shard: Shard, lane: int) -> int:
    """Write an aborted transaction, whose record and marker no reader gets; return the offset that is missing."""
    _, end = shard.topics.bounds(shard_topic(SHARD), lane)
    producer = Producer(shard.address.options() | {"transactional.id": f"gap-{secrets.token_hex(4)}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(shard.address.topic_prefix + shard_topic(SHARD), b"lost", b"lost", lane)
    producer.flush(30)
    producer.abort_transaction(30)
    return end


@pytest.mark.rule("L3")
def test_a_topic_made_again_under_the_same_name_stops_the_lane(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=20)
    with shard.worker() as worker:
        shard.await_decided()
        _make_topic_again(shard)
        for day in range(4):
            shard.write_day(f"day-{day}", payments=20)
        assert worker.wait() == 1, worker.log
    assert shard.stop_codes() == {0: "TOPIC_CHANGED"}
    with shard.worker() as worker:  # and so it does when it is started again
        assert worker.wait() == 1, worker.log


def _make_topic_again(shard: Shard) -> None:
    admin = AdminClient(shard.address.options())
    name = shard.address.topic_prefix + shard_topic(SHARD)
    before = shard.topics.topic_id(shard_topic(SHARD))
    for done in admin.delete_topics([name], operation_timeout=30).values():
        done.result(30)
    eventually(lambda: name not in admin.list_topics(timeout=10).topics, "the topic is gone")
    shard.topics.create(assembly.topic_specs(shard.settings), replication_factor=1)
    assert shard.topics.topic_id(shard_topic(SHARD)) != before


# ------------------------------------------------------------------ the end


def test_sigterm_ends_a_worker_with_everything_decided_also_published(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(1)
    shard.write_day("busy", payments=3_000)
    with shard.worker(BALANCE_WORKER__STOP_DEADLINE_MS="100000") as worker:
        eventually(lambda: 0 in shard.positions() and shard.positions()[0].at.next_offset > 0, "it has begun")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log
    decided = shard.positions()[0].at.next_offset
    visible = sum(map(len, shard.results().values()))
    expected = shard.expected(0, [record for record in shard.records(0) if record.offset < decided])
    assert visible == sum(map(len, expected.results.values()))
    assert "error" not in [json.loads(line).get("level") for line in worker.log.splitlines() if line.startswith("{")]


@pytest.mark.rule("I6")
def test_rules_of_a_later_release_stop_every_lane_at_its_start(make_shard: Callable[[int], Shard]) -> None:
    shard = make_shard(1)
    shard.write_day("early", payments=5)
    session = Session(addresses.mysql_address(shard.settings, SHARD), lane=False)
    session.execute("UPDATE rules SET rules_release = rules_release + 1", "tampering")
    session.commit()
    session.close()
    with shard.worker() as worker:
        assert worker.wait() == 1, worker.log
    assert shard.stop_codes() == {0: "UNKNOWN_VERSION"}
    assert shard.results() == {0: [], 1: [], 2: [], 3: []}


@pytest.mark.rule("I6")
@pytest.mark.rule("W1")
def test_a_keys_file_without_an_announced_key_stops_the_lane_before_it_decides_until_it_has_the_key(
    make_shard: Callable[[int], Shard], tmp_path: Path
) -> None:
    shard = make_shard(1)
    shard.write_day("first", payments=5)
    file, theirs = shard.settings.keys_file, tmp_path / "keys.json"
    theirs.write_text(file.read_text())
    with shard.worker(BALANCE_KEYS_FILE=str(theirs)) as worker:
        shard.await_decided()
        before = shard.positions()[0]
        assert balance(shard.place, "key", "add", "k2").status == 0
        assert balance(shard.place, "key", "announce").status != 0
        assert worker.wait() == 1, worker.log  # it has no other lane
    assert shard.stop_codes() == {0: "KEY_MISSING"}
    after = shard.positions()[0]
    assert (after.at.next_offset, after.at.digest) == (before.at.next_offset, before.at.digest)
    theirs.write_text(file.read_text())
    balance(shard.place, "lane", "restart", "0")
    with shard.worker(BALANCE_KEYS_FILE=str(theirs)):
        shard.write_day("second", payments=5)
        shard.await_decided()
    assert shard.stop_codes() == {}
    shard.assert_exactly_once()
