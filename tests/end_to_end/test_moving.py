"""Partners moved between two shards as an operator types it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from processors.ledger.commands import HandOff
from processors.ops import addresses
from processors.routing.buckets import partition_of, placement_key_of
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import shard_topic
from processors.wire.commands import encode_command
from processors.wire.packed_rows import compress_rows
from processors.wire.records import OutRecord
from tests.end_to_end.conftest import Running, balance, started
from tests.servers import Place
from tests.waiting import eventually

WRITE_S = 60.0


@pytest.fixture(scope="module")
def two(fresh_two_shards: Callable[..., Place]) -> Iterator[Running]:
    yield from started(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))


def open_partner(two: Running, root: str) -> None:
    assert two.balance("account", "open", root, "USD").status == 0
    assert two.balance("topup", root, "100.00", "USD").status == 0


@pytest.mark.rule("R3")
@pytest.mark.rule("M10")
def test_a_partner_moves_and_comes_back_and_pays_all_the_while(two: Running) -> None:
    open_partner(two, "acme")
    hold = two.balance("hold", "acme", "20.00", "USD", "--expires-in", "1h", "--json").json["command_id"]

    there = two.balance("partner", "move", "acme", "--to", "s2", "--watch", "--json")
    paid = two.balance("pay", "acme", "10.00", "USD", "--json")
    captured = two.balance("capture", "acme", hold, "5.00", "USD", "--json")
    back = two.balance("partner", "move", "acme", "--back")

    assert there.status == 0, there.err
    assert (there.json["generation"], there.json["stage"], there.json["source"]) == (1, "SETTLED", "s1")
    assert "s2 owns it, and nothing waits" in there.err
    assert (paid.json["shard"], captured.json["shard"], captured.json["status"]) == ("s2", "s2", "ACCEPTED")
    assert back.status == 0, back.err
    assert back.out == "acme is on s1 (generation 2)\n"
    read = two.balance("balance", "acme", "USD", "--json").json
    assert (read["shard"], read["postings"][0]["balance"], read["postings"][0]["held"]) == ("s1", "85.00", "0.00")
    assert_whole_history(two, "acme", hold)


def assert_whole_history(two: Running, root: str, hold: str) -> None:
    """Prove that what both shards decided of a partner is shown, in order."""
    rows = two.balance("statement", root, "USD", "--json").json["changes"]
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    steps = two.balance("tx", "get", hold, "--json").json["steps"]
    assert [(step["type"], step["shard"]) for step in steps] == [("PLACE_HOLD", "s1"), ("CAPTURE_HOLD", "s2")]


def test_a_dry_run_tells_what_would_move_and_changes_nothing(two: Running) -> None:
    open_partner(two, "globex")
    assert two.balance("hold", "globex", "20.00", "USD", "--expires-in", "1h").status == 0

    found = two.balance("partner", "move", "globex", "--to", "s2", "--dry-run", "--json").json

    assert (found["accounts"], found["holds"], found["ids"], found["other_rows"]) == (1, 1, 3, 0)
    assert (found["parts"], found["pause_ms"]) == (2, 162)  # 150 ms, and 6 for each part
    assert 300 < found["bytes"] < 3_000
    shown = two.balance("partner", "move", "globex", "--to", "s2", "--dry-run").out
    assert "globex from s1 to s2" in shown
    assert "about 0.2 s" in shown
    assert two.balance("balance", "globex", "USD", "--json").json["shard"] == "s1"


def test_a_partner_without_an_account_is_placed_by_a_move_that_carries_nothing(two: Running) -> None:
    placed = two.balance("partner", "place", "initech", "--shard", "s2")

    assert placed.status == 0, placed.err
    open_partner(two, "initech")
    assert two.balance("pay", "initech", "1.00", "USD", "--json").json["shard"] == "s2"


@pytest.mark.rule("R2")
def test_a_bucket_moves_with_every_partner_in_it_and_whoever_is_still_unknown(two: Running) -> None:
    open_partner(two, "hooli")
    bucket = placement_key_of("hooli")
    nobody = next(name for name in (f"nobody-{number}" for number in count()) if placement_key_of(name) == bucket)

    moved = two.balance("partner", "move", bucket, "--to", "s2")

    assert moved.status == 0, moved.err
    assert two.balance("pay", "hooli", "1.00", "USD", "--json").json["shard"] == "s2"
    unknown = two.balance("pay", nobody, "1.00", "USD", "--json")
    assert (unknown.status, unknown.json["reason"], unknown.json["shard"]) == (1, "UNKNOWN_ACCOUNT", "s2")
    assert two.balance("partner", "move", bucket, "--back").status == 0
    assert two.balance("pay", "hooli", "1.00", "USD", "--json").json["shard"] == "s1"


def test_a_move_to_where_the_partner_is_says_so_and_is_no_failure(two: Running) -> None:
    bucket = placement_key_of("stark")
    here = [
        two.balance("partner", *words)
        for words in (("move", "stark", "--to", "s1"), ("place", "stark", "--shard", "s1"))
    ]
    open_partner(two, "stark")
    assert two.balance("partner", "move", "stark", "--to", "s2").status == 0
    again, as_json = (two.balance("partner", "move", "stark", "--to", "s2", *more) for more in ((), ("--json",)))

    assert [(said.status, said.out) for said in here] == [
        (0, f"stark is on s1 already (with {bucket}): nothing was sent\n")
    ] * 2
    assert (again.status, again.out) == (0, "stark is on s2 already (generation 1): nothing was sent\n")
    assert (as_json.status, as_json.json["stage"], as_json.json["generation"]) == (0, "SETTLED", 1)
    assert two.balance("partner", "show", "stark", "--json").json["now"]["generation"] == 1


def test_a_move_that_is_not_waited_for_is_told_with_its_id_and_how_to_watch_it(two: Running) -> None:
    open_partner(two, "wayne")

    begun = two.balance("partner", "move", "wayne", "--to", "s2", "--no-wait")
    watched = two.balance("partner", "move", "wayne", "--to", "s2", "--watch", "--json")

    assert begun.status == 0, begun.err
    assert begun.out.startswith("wayne is on its way from s1 to s2: generation 1, command ")
    assert "`balance partner move wayne --to s2 --watch`" in begun.err
    assert (watched.status, watched.json["stage"]) == (0, "SETTLED")
    assert two.balance("tx", "get", begun.out.split()[-1]).status == 0


@pytest.mark.rule("M4")
def test_rows_that_came_otherwise_are_thrown_away_and_sent_again(two: Running) -> None:
    open_partner(two, "tyrell")
    send_other_part(two, "tyrell")

    eventually(lambda: is_told_to_send_again(two, "tyrell"), "what to do is told")
    again = two.balance("partner", "move", "tyrell", "--send-again", "--watch", "--json")

    assert again.status == 0, again.err
    assert again.json["stage"] == "SETTLED"
    assert two.balance("pay", "tyrell", "1.00", "USD", "--json").json["shard"] == "s2"
    assert two.balance("balance", "tyrell", "USD", "--json").json["postings"][0]["balance"] == "99.00"
    repeated = two.balance("partner", "move", "tyrell", "--send-again")
    assert repeated.status != 0
    assert "there is nothing to send again" in " ".join(repeated.err.split())


def is_told_to_send_again(two: Running, root: str) -> bool:
    """Move a partner, and say whether it has come so far in time that it is told what to do about his rows."""
    stuck = two.balance("partner", "move", root, "--to", "s2", "--within", "5")
    assert stuck.status == 3
    return f"`balance partner move {root} --send-again`" in " ".join(stuck.err.split())


def send_other_part(two: Running, root: str) -> None:
    """Have a part come of a root that it has no row of: as from a database that was restored since."""
    settings = two.place.settings
    address = addresses.kafka_address(settings)
    part = HandOff(placement_key=root, generation=1, source="s1", number=0, is_last=False, rows=compress_rows(b""))
    lane = partition_of(root, settings.lanes_of("s2"))
    topic = address.topic_prefix + shard_topic("s2")
    producer = IdempotentProducer(address)
    producer.write(OutRecord(topic, lane, None, encode_command(part), []), WRITE_S)
    producer.close()


@pytest.mark.rule("W3")
def test_buckets_of_every_ingress_partition_move(two: Running) -> None:
    for number in range(two.place.settings.topics.commands_partitions):
        moved = two.balance("partner", "move", f"bucket:{number}", "--to", "s2")
        assert (moved.status, moved.out) == (0, f"bucket:{number} is on s2 (generation 1)\n"), moved.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("move", "umbrella", "--to", "s9"), "there is no shard s9; there are s1, s2"),
        (("move", "umbrella", "--back"), "umbrella never moved by itself: say where it is to go, with --to"),
        (("move", "umbrella", "--send-again"), "umbrella has no move whose rows are frozen in one shard"),
        (("place", "umbrella", "--shard", "s2"), "umbrella has accounts on s1: move him"),
    ],
)
def test_a_move_that_cannot_be_is_refused_with_the_reason(two: Running, words: tuple[str, ...], why: str) -> None:
    two.balance("account", "open", "umbrella", "USD")

    said = two.balance("partner", *words)

    assert said.status == 3
    assert why in " ".join(said.err.split())


@pytest.mark.rule("M10")
def test_no_marker_is_sent_towards_a_shard_whose_worker_is_away(fresh_two_shards: Callable[..., Place]) -> None:
    place = fresh_two_shards()
    assert balance(place, "init").status == 0

    said = balance(place, "partner", "move", "acme", "--to", "s2")

    assert said.status == 3
    assert "of s2 did not take a TICK within 10 s: is a worker of s2 running?" in " ".join(said.err.split())
