"""Buckets shared out between two shards as an operator types it, while the e-wallets in them pay."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from random import Random
from typing import Self

import pytest

from processors.client import Client, ClientConfig
from processors.ledger.commands import OpenAccount, Pay, TopUp
from processors.ledger.outcomes import Status
from processors.ops import addresses
from processors.routing.buckets import BUCKETS, bucket_of
from processors.wire.results import Result
from tests.end_to_end.conftest import Running, balance, start, started, take_ticks
from tests.servers import Place
from tests.waiting import eventually

HALF_PERCENT = "s1=0.995,s2=0.005"  # 328 buckets, those of the highest numbers
MOVING = 328
WALLETS = 40
PUT_IN = 1_000_000
END_S = 240.0


@pytest.fixture(scope="module")
def two(fresh_two_shards: Callable[..., Place]) -> Iterator[Running]:
    yield from started(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))


def wallets() -> tuple[list[str], list[str]]:
    """Return e-wallets in buckets that will move, and as many in others."""
    names = [f"wallet-{number}" for number in islice(count(), 40_000)]
    moving = [name for name in names if bucket_of(name) >= BUCKETS - MOVING]
    staying = [name for name in names if bucket_of(name) < BUCKETS - MOVING]
    return moving[:WALLETS], staying[:WALLETS]


class Payments:
    """Payments of e-wallets at random, one after the other, from ``with`` to its end; each is answered."""

    def __init__(self, two: Running, roots: list[str]) -> None:
        self.results: list[Result] = []
        self._client = Client(ClientConfig(kafka=addresses.kafka_address(two.place.settings), deadline_ms=60_000))
        self._roots = roots
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        for root in self._roots:
            opened = OpenAccount(command_id=self._client.new_id(), address=root, currency="USD")
            assert self._client.send(opened).status is Status.ACCEPTED
            put_in = TopUp(command_id=self._client.new_id(), address=root, currency="USD", amount_minor=PUT_IN)
            assert self._client.send(put_in).status is Status.ACCEPTED
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(END_S)
        self._client.close()
        assert not self._thread.is_alive()

    def _pay(self, root: str, amount_minor: int) -> Pay:
        return Pay(command_id=self._client.new_id(), address=root, currency="USD", amount_minor=amount_minor)

    def _run(self) -> None:
        rng = Random(1)
        while not self._stopping.is_set():
            paid = [
                self._client.submit(self._pay(root, rng.randrange(1, 9))) for root in rng.choices(self._roots, k=20)
            ]
            self.results += [each.result(END_S) for each in paid]


@pytest.mark.rule("R3")
@pytest.mark.rule("M1")
@pytest.mark.rule("M6")
def test_an_assignment_killed_under_payments_goes_on_to_the_same_end_and_loses_no_cent(two: Running) -> None:
    moving, staying = wallets()
    assign = ("bucket", "assign", "--share", HALF_PERCENT)
    planned = two.balance(*assign, "--dry-run", "--json").json
    assert (planned["wanted"], planned["owned"]) == ({"s1": BUCKETS - MOVING, "s2": MOVING}, {"s1": BUCKETS})
    assert [(each["source"], each["target"], each["buckets"]) for each in planned["moves"]] == [("s1", "s2", MOVING)]
    assert two.balance("bucket", "list", "--json").json == {"s1": BUCKETS}

    with Payments(two, moving + staying) as payments:
        killed = start(two.place, *assign, "--yes")
        eventually(lambda: len(two.balance("bucket", "list", "--json").json) == 2, "some have moved")
        killed.kill()
        killed.communicate()
        begun = two.balance("bucket", "list", "--json").json["s2"]
        went_on = two.balance(*assign, "--yes", "--json")

    assert 0 < begun < MOVING
    assert went_on.status == 0, went_on.err
    assert went_on.json["owned"]["s2"] + sum(each["buckets"] for each in went_on.json["moves"]) == MOVING
    assert (went_on.json["left"], went_on.json["still_under_way"], went_on.json["why"]) == (0, [], "")
    assert two.balance("bucket", "list", "--json").json == {"s1": BUCKETS - MOVING, "s2": MOVING}
    assert "each shard has its share" in two.balance(*assign, "--yes").out
    assert_paid(two, payments.results, moving, staying)
    proven = two.balance("verify", "--all-shards")
    assert proven.status == 0, proven.out


def assert_paid(two: Running, results: list[Result], moving: list[str], staying: list[str]) -> None:
    """Prove that each payment was taken once, and that who moved is paid by the other shard from then on."""
    assert {result.status for result in results} == {Status.ACCEPTED}
    for root, shard in ((moving[0], "s2"), (moving[-1], "s2"), (staying[0], "s1")):
        read = two.balance("balance", root, "USD", "--json").json
        spent = sum(result.amount_minor for result in results if result.root == root)
        assert (read["shard"], read["postings"][0]["balance_minor"]) == (shard, PUT_IN - spent)
        assert two.balance("bucket", "show", str(bucket_of(root)), "--json").json["now"]["shard"] == shard


@pytest.mark.parametrize(
    ("share", "status", "why"),
    [
        ("s1=0.5,s2=0.4", 2, "the shares come to 0.9"),
        ("s1=0.5,s9=0.5", 3, "there is no shard s9; there are s1, s2"),
        ("s2=1", 3, "s1 owns 65,2"),
    ],
)
def test_shares_that_cannot_be_met_are_refused_with_the_reason(two: Running, share: str, status: int, why: str) -> None:
    said = two.balance("bucket", "assign", "--share", share, "--yes")

    assert said.status == status
    assert why in " ".join(said.err.replace("│", " ").split())


def test_it_asks_before_it_acts_and_without_a_terminal_refuses(two: Running) -> None:
    said = two.balance("bucket", "assign", "--share", "s1=0.99,s2=0.01")

    assert said.status == 2
    assert "give --yes" in said.err
    assert "about" in said.err


@contextmanager
def process(place: Place, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run one process of a service; killed at the end where it still runs."""
    running = start(place, *words)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.rule("M1")
def test_a_target_that_goes_down_in_the_middle_ends_it_with_what_to_do_and_all_arrive_later(
    fresh_two_shards: Callable[..., Place],
) -> None:
    place = fresh_two_shards(BALANCE_LOG_LEVEL="warning")  # nobody reads what the processes say
    assert balance(place, "init").status == 0
    assign = ("bucket", "assign", "--share", HALF_PERCENT, "--yes", "--within")
    target = ("shard", "run", "--shard", "s2")
    with process(place, "router", "run"), process(place, "shard", "run", "--shard", "s1"):
        with process(place, *target) as goes_down:
            eventually(lambda: take_ticks(place, "s1", "s2"), "every lane decides")
            with process(place, *assign, "20") as assigning:
                eventually(lambda: balance(place, "bucket", "list", "--json").json.get("s2", 0) > 9, "some have moved")
                goes_down.kill()
                _, said = assigning.communicate(timeout=END_S)
        begun = balance(place, "bucket", "list", "--json").json["s2"]
        with process(place, *target):
            eventually(lambda: take_ticks(place, "s2"), "it is back")
            went_on = balance(place, *assign, "60")

    assert (assigning.returncode, begun < MOVING) == (3, True), said
    told = " ".join(said.split())
    assert "stopped: nothing has arrived for 20 s" in told
    assert "are under way" in told
    assert "run the same again: it goes on from here, and ends with the same assignment" in told
    assert went_on.status == 0, went_on.err
    assert balance(place, "bucket", "list", "--json").json == {"s1": BUCKETS - MOVING, "s2": MOVING}


@pytest.mark.rule("M10")
def test_nothing_moves_towards_a_shard_whose_worker_is_away(fresh_two_shards: Callable[..., Place]) -> None:
    place = fresh_two_shards()
    assert balance(place, "init").status == 0

    said = balance(place, "bucket", "assign", "--share", HALF_PERCENT, "--yes")

    assert said.status == 3
    assert "did not take a TICK within 10 s: is a worker of s" in " ".join(said.err.split())
    assert balance(place, "bucket", "list", "--json").json == {"s1": BUCKETS}
