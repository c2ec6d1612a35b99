"""An operator's day at the terminal, on a running service: what each command says, and its exit status."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from processors.client import CommandIds
from processors.ids import id_text, make_command_id
from processors.ops import addresses
from processors.streams.topics import TopicAdmin, shard_topic
from tests.end_to_end.conftest import Running, balance
from tests.kafka_log import KafkaLog
from tests.waiting import eventually

HOUR_MS = 3_600_000
IDS = CommandIds()
STATUS_S = 20.0  # twice what it may take where a server is away
COMMANDS = [
    *("up", "demo", "router", "shard", "expirer", "sink", "recaller", "remover", "auditor", "stack", "init", "migrate"),
    *("account", "balance", "topup", "collect", "adjust", "pay", "hold", "capture", "void", "refund", "transfer"),
    *("send", "results", "dead-letters", "tx", "statement", "status", "lane"),
    *("rules", "key", "verify", "archive", "replay"),
]


def available(running: Running, address: str) -> dict[str, int]:
    answer = running.balance("balance", address, "USD", "--json").json
    return {posting["address"]: posting["available_minor"] for posting in answer["postings"]}


def test_a_payment_is_taken_on_every_level(running: Running, partner: str) -> None:
    said = running.balance("pay", f"{partner}:vn", "12.50", "USD", "--metadata", '{"order": 17}')
    assert said.status == 0
    assert said.out.startswith(f"ACCEPTED  PAY  {partner}:vn  12.50 USD")
    assert available(running, f"{partner}:vn") == {partner: 8750, f"{partner}:vn": 2750}


def test_the_archive_has_all_that_the_sink_has_passed(running: Running, partner: str) -> None:
    assert running.balance("pay", f"{partner}:vn", "1.00", "USD").status == 0
    said = running.balance("archive", "repair")
    assert (said.status, said.out.rstrip().endswith("the archive has them all")) == (0, True)
    assert running.balance("archive", "repair", "--write", "--json").json["left"] == 0


def test_a_rejection_is_exit_status_1_and_changes_nothing(running: Running, partner: str) -> None:
    said = running.balance("pay", f"{partner}:vn", "40.01 USD", "--json")
    assert (said.status, said.json["status"], said.json["reason"]) == (1, "REJECTED", "INSUFFICIENT_FUNDS")
    assert available(running, f"{partner}:vn") == {partner: 10000, f"{partner}:vn": 4000}


def test_the_same_id_again_is_answered_again_and_changes_nothing(running: Running, partner: str) -> None:
    again = ("pay", partner, "10.00", "USD", "--id", id_text(IDS.next()), "--json")
    first, second = running.balance(*again).json, running.balance(*again).json
    assert second.pop("duplicate")
    assert first["postings"] == second["postings"]
    assert available(running, partner) == {partner: 9000}


@pytest.mark.rule("T1")
@pytest.mark.rule("T2")
@pytest.mark.rule("T3")
def test_money_goes_to_another_partner_and_comes_back_from_nobody(running: Running) -> None:
    for arguments in (
        ("account", "open", "tr-x", "USD"),
        ("account", "open", "tr-y", "USD"),
        ("topup", "tr-x", "100.00", "USD"),
    ):
        assert running.balance(*arguments).status == 0

    sent = running.balance("transfer", "tr-x", "tr-y", "40.00", "USD", "--json")
    assert (sent.status, sent.json["type"], sent.json["status"]) == (0, "TRANSFER_COMPLETED", "COMPLETED")
    assert [posting["balance_minor"] for posting in sent.json["postings"]] == [6000]
    steps = running.balance("tx", "get", sent.json["transaction_id"], "--json").json["steps"]
    assert sorted((step["type"], step["status"]) for step in steps) == [
        ("TRANSFER", "OPEN"),
        ("TRANSFER_COMPLETED", "COMPLETED"),
        ("TRANSFER_CREDIT", "ACCEPTED"),
    ]
    (change,) = running.balance("statement", "tr-y", "USD", "--json").json["changes"]
    assert (change["type"], change["balance_change_minor"], change["balance_minor"]) == ("TRANSFER_CREDIT", 4000, 4000)
    back = running.balance("transfer", "tr-x", "tr-nobody", "5.00", "USD", "--json")
    assert (back.status, back.json["status"], back.json["reason"]) == (1, "RETURNED", "UNKNOWN_ACCOUNT")
    verified = running.balance("verify", "--all-shards")
    assert (verified.status, "@transit of all shards" in verified.out) == (0, True)


def test_an_id_older_than_the_window_is_unknown_and_exit_status_3(running: Running, partner: str) -> None:
    old = make_command_id(time.time_ns() // 1_000_000 - 7 * HOUR_MS, bytes(10))
    said = running.balance("pay", partner, "1 USD", "--id", id_text(old), "--json")
    assert (said.status, said.json["status"], said.json["reason"]) == (3, "UNKNOWN", "COMMAND_TOO_OLD")


@pytest.mark.parametrize(
    "arguments",
    [
        ("pay", "acme", "12.505", "USD"),
        ("pay", "acme", "12,50", "USD"),
        ("pay", "acme", "12.50", "XYZ"),
        ("pay", "acme", "12.50", "USD", "--id", "17"),
        ("pay", "acme", "12.50", "USD", "--metadata", "17"),
        ("hold", "acme", "12.50", "USD", "--expires-in", "soon"),
        ("pay",),
        ("fly",),
    ],
)
def test_wrong_usage_is_exit_status_2_and_sends_nothing(running: Running, arguments: tuple[str, ...]) -> None:
    said = running.balance(*arguments)
    assert said.status == 2
    assert said.out == ""
    assert "Error" in said.err


def test_a_hold_is_captured_in_parts_and_the_rest_released(running: Running, partner: str) -> None:
    placed = running.balance("hold", f"{partner}:vn", "30.00", "USD", "--expires-in", "1h", "--json").json
    hold_id = placed["transaction_id"]
    assert available(running, f"{partner}:vn") == {partner: 7000, f"{partner}:vn": 1000}
    part = running.balance("capture", f"{partner}:vn", hold_id, "5.00", "USD", "--keep-rest", "--json").json
    assert part["remaining_minor"] == 2500
    assert running.balance("capture", f"{partner}:vn", hold_id, "25.01", "USD").status == 1
    assert running.balance("capture", f"{partner}:vn", hold_id, "20.00", "USD").status == 0
    assert available(running, f"{partner}:vn") == {partner: 7500, f"{partner}:vn": 1500}
    assert running.balance("void", f"{partner}:vn", hold_id, "USD").status == 1


def test_a_hold_that_nobody_ends_expires(running: Running, partner: str) -> None:
    placed = running.balance("hold", partner, "30.00", "USD", "--expires-in", "1s", "--json").json
    eventually(
        lambda: len(running.balance("tx", "get", placed["command_id"], "--json").json["steps"]) == 2, "the hold expired"
    )
    found = running.balance("tx", "get", placed["command_id"], "--json").json
    assert [step["type"] for step in found["steps"]] == ["PLACE_HOLD", "EXPIRE_HOLD"]
    assert found["open"] == []
    assert available(running, partner) == {partner: 10000}


def test_a_refund_gives_back_no_more_than_was_paid(running: Running, partner: str) -> None:
    paid = running.balance("pay", f"{partner}:vn", "10.00", "USD", "--json").json["command_id"]
    assert running.balance("refund", f"{partner}:vn", paid, "4.00", "USD").status == 0
    said = running.balance("refund", f"{partner}:vn", paid, "6.01", "USD", "--json")
    assert (said.status, said.json["reason"]) == (1, "REFUND_ABOVE_ORIGINAL")
    assert available(running, f"{partner}:vn") == {partner: 9400, f"{partner}:vn": 3400}


def test_transfers_collections_and_adjustments_move_money(running: Running, partner: str) -> None:
    assert running.balance("transfer", partner, f"{partner}:vn", "15", "USD").status == 0
    assert running.balance("collect", partner, "1.00", "USD").status == 0
    adjusted = running.balance("adjust", partner, "debit", "0.50", "USD", "--because", "counted again")
    assert adjusted.status == 0
    assert re.search(r"ADJUST DEBIT  .*  because: counted again", adjusted.out)
    signing = next(key["id"] for key in running.balance("key", "list", "--json").json["keys"] if key["file"] == "signs")
    assert adjusted.err.strip() == f"signed with {signing}"
    assert available(running, f"{partner}:vn") == {partner: 8550, f"{partner}:vn": 5500}


def test_an_account_is_changed_frozen_and_closed(running: Running, partner: str) -> None:
    address = f"{partner}:pop-up"
    assert running.balance("account", "open", address, "JPY", "--limit", "500", "--policy", "checked").status == 0
    assert running.balance("account", "open", address, "JPY").status == 1
    updated = running.balance(
        "account", "update", address, "JPY", "--limit", "0 JPY", "--metadata", '{"a":1}', "--json"
    )
    assert updated.json["account_status"] == "ACTIVE"
    assert running.balance("account", "freeze", address, "JPY").status == 0
    assert running.balance("pay", address, "1", "JPY", "--json").json["reason"] == "ACCOUNT_FROZEN"
    assert running.balance("account", "close", address, "JPY").status == 0
    (shown,) = running.balance("account", "show", address, "--json").json_lines
    assert (shown["status"], shown["overdraft_limit_minor"], shown["metadata"]) == ("CLOSED", 0, {"a": 1})
    listed = [account["address"] for account in running.balance("account", "list", partner, "--json").json_lines]
    assert listed == [partner, address, f"{partner}:vn"]
    assert running.balance("account", "show", f"{partner}:nowhere").status == 1


def test_an_account_with_open_ones_below_it_is_closed_only_by_who_says_so(running: Running, partner: str) -> None:
    hub, shop = f"{partner}:hub", f"{partner}:hub:shop"
    for address in (hub, shop):
        assert running.balance("account", "open", address, "USD").status == 0

    for closing in (("close", hub, "USD"), ("update", hub, "USD", "--status", "closed")):
        said = running.balance("account", *closing)
        assert said.status == 2
        assert shop in said.err
        assert running.balance("account", "show", hub, "--json").json["status"] == "ACTIVE"
    assert running.balance("account", "close", hub, "USD", "--yes").status == 0
    assert running.balance("pay", shop, "1", "USD", "--json").json["reason"] == "ACCOUNT_CLOSED"
    assert running.balance("account", "close", shop, "USD").status == 0


def test_a_file_is_sent_and_answered_line_by_line(running: Running, partner: str, tmp_path: Path) -> None:
    file = tmp_path / "commands.jsonl"
    lines = [
        {"type": "PAY", "address": partner, "amount": "1.00 USD", "command_id": id_text(IDS.next())} for _ in range(20)
    ]
    lines.append({"type": "PAY", "address": partner, "amount": "1000.00 USD"})
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    said = running.balance("send", str(file))
    answers = said.json_lines
    assert said.status == 1  # the last one
    assert [answer["status"] for answer in answers] == ["ACCEPTED"] * 20 + ["REJECTED"]
    assert [answer["command_id"] for answer in answers[:20]] == [line["command_id"] for line in lines[:20]]
    assert all(answer.get("duplicate") for answer in running.balance("send", str(file), "--json").json_lines[:20])


def test_a_file_with_a_wrong_line_is_refused_before_anything_is_sent(
    running: Running, partner: str, tmp_path: Path
) -> None:
    file = tmp_path / "commands.jsonl"
    file.write_text(json.dumps({"type": "PAY", "address": partner, "amount": "1 USD"}) + '\n{"type": "FLY"}\n')
    said = running.balance("send", str(file))
    assert (said.status, said.out) == (2, "")
    assert "line 2" in said.err
    assert available(running, partner) == {partner: 10000}


def test_a_statement_has_every_change_archived_or_not(running: Running, partner: str) -> None:
    for _ in range(3):
        running.balance("pay", f"{partner}:vn", "1.00", "USD")
    rows = running.balance("statement", partner, "USD", "--json").json["changes"]
    assert [(row["sequence"], row["type"], row["balance_minor"]) for row in rows] == [
        (1, "TOP_UP", 10000),
        (2, "PAY", 9900),
        (3, "PAY", 9800),
        (4, "PAY", 9700),
    ]
    newest = running.balance("statement", partner, "USD", "--last", "2", "--json").json["changes"]
    assert [row["sequence"] for row in newest] == [3, 4]
    assert f"{partner} USD" in running.balance("statement", partner, "USD").out


@pytest.mark.rule("I4")
def test_an_id_that_nobody_knows_is_exit_status_1_only_once_no_lane_can_decide_it(running: Running) -> None:
    young = running.balance("tx", "get", id_text(IDS.next()))
    assert young.status == 3
    assert "send the same id again" in young.err

    old = running.balance("tx", "get", id_text(make_command_id(time.time_ns() // 1_000_000 - 7 * HOUR_MS, bytes(10))))
    assert old.status == 1
    assert "nobody knows" in old.err


def test_results_are_shown_by_partner_and_status(running: Running, partner: str) -> None:
    running.balance("pay", partner, "1000.00", "USD")
    said = running.balance("results", "--last", "1000", "--root", partner, "--status", "rejected", "--json")
    assert [(each["type"], each["reason"]) for each in said.json_lines] == [("PAY", "INSUFFICIENT_FUNDS")]


def test_the_latest_results_of_a_partner_are_his_however_many_others_came_since(running: Running, partner: str) -> None:
    for _ in range(5):
        running.balance("balance", "nobody", "USD")
    said = running.balance("results", "--last", "2", "--root", partner, "--json")
    assert [each["address"].split(":")[0] for each in said.json_lines] == [partner] * 2


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (("results", "--last", "3", "--root", "nosuch"), "`balance statement`"),
        (("account", "show", "nosuch"), "`balance account open nosuch USD`"),
        (("statement", "nosuch", "USD"), "`balance account list`"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_nothing_found_is_exit_status_1_and_says_where_to_look(
    running: Running, arguments: tuple[str, ...], next_step: str
) -> None:
    said = running.balance(*arguments)
    assert said.status == 1
    assert next_step in said.err


def test_a_statement_without_a_change_has_the_balance_and_of_an_unused_account_is_exit_status_1(
    running: Running, partner: str
) -> None:
    late = running.balance("statement", partner, "USD", "--since", "2999-01-31")
    assert (late.status, late.err) == (0, "")
    assert late.out.splitlines()[1:] == [f"{name} balance 100.00  held 0.00" for name in ("opening", "closing")]

    assert running.balance("account", "open", f"{partner}:new", "USD").status == 0
    unused = running.balance("statement", f"{partner}:new", "USD", "--json")
    assert (unused.status, unused.out) == (1, "")
    assert f"nothing has changed {partner}:new in USD yet" in unused.err


def test_a_record_that_is_no_command_is_a_dead_letter(running: Running) -> None:
    settings = running.place.settings
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    producer.produce(settings.kafka.topic_prefix + "balance.commands", b"no command", b"garbage")
    producer.flush(30)

    def letters() -> list[dict[str, str]]:
        return [
            each for each in running.balance("dead-letters", "list", "--json").json_lines if each["key"] == "garbage"
        ]

    eventually(lambda: bool(letters()), "a dead letter is listed")
    (letter,) = letters()
    assert (letter["cause"], letter["payload"]) == ("UNKNOWN_SCHEMA", "no command")
    assert running.balance("dead-letters", "show", letter["name"], "--json").json == letter
    assert running.balance("dead-letters", "show", "here").status == 2
    for name in ("0/999999", "9/0"):
        absent = running.balance("dead-letters", "show", name)
        assert absent.status == 1
        assert "`balance dead-letters list`" in absent.err


def test_rules_are_changed_in_every_lane_through_the_log(running: Running) -> None:
    before = running.balance("rules", "show", "--json").json["s1"]
    assert running.balance("rules", "set", "--longest-hold", "29d").status == 0
    after = running.balance("rules", "show", "--json").json["s1"]
    assert {lane: rules["longest_hold_ms"] for lane, rules in after.items()} == dict.fromkeys("0123", 29 * 24 * HOUR_MS)
    assert all(after[lane]["version"] == before[lane]["version"] + 1 for lane in before)
    assert "already" in running.balance("rules", "set", "--longest-hold", "29d").out
    assert running.balance("rules", "set", "--window", "100000d").status == 2
    assert running.balance("rules", "set").status == 2
    assert "already" in running.balance("rules", "raise").out  # a new shard begins at the newest release


@pytest.mark.rule("I6")
def test_a_window_is_shortened_only_by_who_says_that_he_means_it(running: Running) -> None:
    before = running.balance("rules", "show", "--json").json
    for shorter in (("--window", "5h"), ("--refund-period", "90d"), ("--window", "5h", "--refund-period", "200d")):
        said = running.balance("rules", "set", *shorter)
        assert said.status == 2
        assert "brings nothing back" in said.err
        assert "--yes" in said.err
    assert running.balance("rules", "show", "--json").json == before
    assert running.balance("rules", "set", "--window", "6h", "--refund-period", "180d").status == 0  # as they are
    assert running.balance("rules", "set", "--refund-period", "179d", "--yes").status == 0
    assert running.balance("rules", "set", "--refund-period", "180d").status == 0  # longer


@pytest.mark.rule("I2")
def test_lanes_that_met_producers_times_go_on_once_they_are_told_them(running: Running) -> None:
    log = KafkaLog(addresses.kafka_address(running.place.settings))
    topic = shard_topic("s1")
    log.alter(topic, "message.timestamp.type", "CreateTime")
    log.write(topic, [b"no command"] * 3, partition=3)
    log.alter(topic, "message.timestamp.type", "LogAppendTime")
    eventually(lambda: lanes(running)[3]["stop_code"] == "TIMESTAMP_TYPE", "lane 3 stops")

    now_ms, first = time.time_ns() // 1_000_000, lanes(running)[3]["next_offset"]
    for wrong in ("9-8", "1-1001", "x", "1-2-3", str(first + 1)):
        assert running.balance("lane", "release", "3", wrong, str(now_ms)).status == 2
    assert running.balance("lane", "release", "3", str(first), str(now_ms + HOUR_MS)).status == 2
    # The other lanes, too: ticks came to them meanwhile.
    for stopped in [each for each in lanes(running) if each["stop_code"]]:
        number, first = stopped["lane"], stopped["next_offset"]
        if number == 3:
            # All that a busy machine's expirer wrote before the topic was altered again, too.
            last = max(first + 9, TopicAdmin(log.address).end(topic, 3) - 1)
            said = running.balance("lane", "release", "3", f"{first}-{last}", str(now_ms), "--json")
            assert said.json == {"lane": 3, "first_offset": first, "last_offset": last, "time_ms": now_ms}
        else:
            said = running.balance("lane", "release", str(number), "--all", str(now_ms), "--json")
            assert said.json.items() >= {"lane": number, "first_offset": first, "time_ms": now_ms}.items()
    eventually(lambda: not any(each["stop_code"] for each in lanes(running)), "every lane goes on")
    assert running.balance("lane", "release", "3", "1", str(now_ms)).status == 2


@pytest.mark.rule("I2")
def test_a_word_that_was_not_enough_says_how_far_the_lane_went_and_all_of_them_are_found(running: Running) -> None:
    log = KafkaLog(addresses.kafka_address(running.place.settings))
    topic = shard_topic("s1")
    log.alter(topic, "message.timestamp.type", "CreateTime")
    log.write(topic, [b"no command"] * 3, partition=3)
    log.alter(topic, "message.timestamp.type", "LogAppendTime")
    eventually(lambda: lanes(running)[3]["stop_code"] == "TIMESTAMP_TYPE", "lane 3 stops")
    now_ms, first = time.time_ns() // 1_000_000, lanes(running)[3]["next_offset"]
    assert running.balance("lane", "release", "3", str(first)).status == 2
    assert running.balance("lane", "release", "3", str(first), str(now_ms), "--all", str(now_ms)).status == 2

    said = running.balance("lane", "release", "3", f"{first}-{first + 1}", str(now_ms))
    assert said.status == 3
    assert f"went past {first + 1}, stopped at {first + 2}: TIMESTAMP_TYPE" in said.err

    for stopped in [each for each in lanes(running) if each["stop_code"]]:
        said = running.balance("lane", "release", str(stopped["lane"]), "--all", str(now_ms))
        assert said.status == 0
    eventually(lambda: not any(each["stop_code"] for each in lanes(running)), "every lane goes on")


def lanes(running: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.balance("lane", "show", "--json").json
    return found


def test_a_lane_that_runs_needs_no_restart(running: Running) -> None:
    assert "was not stopped" in running.balance("lane", "restart", "0").out
    assert running.balance("lane", "restart", "4").status == 2
    assert [lane["stop_code"] for lane in running.balance("lane", "show", "--json").json] == [""] * 4


def test_status_says_that_all_is_well(running: Running, partner: str) -> None:
    eventually(lambda: running.balance("status", "--json").json["good"], "all is well")
    found = running.balance("status", "--json").json
    assert partner
    assert {lane["lane"] for lane in found["lanes"]} == {0, 1, 2, 3}
    assert [(each["server"], each["fault"]) for each in found["servers"]] == [
        ("Kafka", ""),
        ("MySQL of s1", ""),
        ("Cassandra", ""),
    ]
    assert "lanes" in running.balance("status").out


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("Kafka", {"BALANCE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}),
        ("MySQL of s1", {"BALANCE_SHARDS__S1__PORT": "1"}),
        ("Cassandra", {"BALANCE_CASSANDRA__PORT": "1"}),
    ],
)
def test_status_shows_what_it_can_where_a_server_is_away(
    running: Running, server: str, address: dict[str, str]
) -> None:
    place = replace(running.place, environment={**running.place.environment, **address})
    seen: list[tuple[float, dict[str, Any]]] = []

    def tells_of_it_alone() -> bool:
        began_s = time.monotonic()
        said = balance(place, "status", "--json")
        assert said.status == 3
        took_s, found = time.monotonic() - began_s, said.json
        faults = [each["server"] for each in found["servers"] if each["fault"]]
        assert server in faults
        seen[:] = [(took_s, found)]
        return faults == [server] and took_s < STATUS_S  # a busy machine's other servers may be late, too

    eventually(tells_of_it_alone, f"{server} alone is away, and that is told soon", instead=lambda: str(seen))
    found = seen[0][1]
    lanes, shards, waiting = found["lanes"], found["shards"], [each["waiting"] for each in found["sink"]]
    assert [each["undecided"] is None for each in lanes] == ([] if server == "MySQL of s1" else [server == "Kafka"] * 4)
    assert len(shards) == (server != "MySQL of s1")
    assert waiting.count(None) == (0 if server == "MySQL of s1" else 4)
    assert server in balance(place, "status").out


def test_verify_proves_the_books(running: Running, partner: str) -> None:
    assert partner
    said = running.balance("verify", "--json")
    assert said.status == 0
    assert len(said.json) == 12
    assert all(check["passed"] for check in said.json)


def test_the_shards_topic_leads_to_the_same_books_again(
    running: Running, partner: str, fresh_database: Callable[[], str]
) -> None:
    shard = running.place.settings.shards["s1"]
    into = f"mysql://{shard.host}:{shard.port}/{fresh_database()}"
    assert partner
    said = running.balance("replay", "shard", "s1", "--into", into, "--json")
    assert (said.status, said.json["equal"], said.json["difference"]) == (0, True, None)
    assert (said.json["not_compared"], len(said.json["compared"]) > len(said.json["offsets"])) == ([], True)
    assert running.balance("replay", "shard", "s1", "--into", "somewhere").status == 2


def test_operators_programs_get_json_too(running: Running) -> None:
    assert running.balance("init", "--json").json == {"done": []}
    assert running.balance("lane", "restart", "1", "--json").json == {
        "lane": 1,
        "was_stopped": False,
        "troubles": [],
    }
    assert running.balance("rules", "set", "--skew", "5m", "--json").json == {"done": {"s1": {}}, "left": {}}
    servers = {each["server"] for each in running.balance("stack", "status", "--json").json}
    assert servers - {"mysql-2"} == {"kafka", "mysql", "cassandra"}  # the second one while another test has it


def test_a_second_service_of_the_same_instance_is_refused(running: Running) -> None:
    said = running.balance("up")
    assert said.status == 3
    assert "runs already" in said.err


def test_every_command_explains_itself(running: Running) -> None:
    said = running.balance("--help")
    assert said.status == 0
    for command in COMMANDS:
        assert f" {command} " in said.out
        assert running.balance(command, "--help").status == 0
