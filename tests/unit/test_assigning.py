"""Buckets are shared out some at a time, and whoever is stopped in the middle goes on to the same end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import replace
from random import Random

import pytest

from processors.faults import Unavailable
from processors.ledger.outcomes import Reason, Status
from processors.ops.assigning import IN_FLIGHT_OF_LANE, Assignment, Carried, carry_out, planned_of, read_owners
from processors.ops.moving import PlannedMove
from processors.routing.buckets import BUCKETS, bucket_of, partition_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.routing.shares import buckets_of_shares, read_shares
from processors.settings import Settings, load_settings
from processors.streams.directory import DirectoryContents
from processors.wire.directory import DirectoryHead
from processors.wire.results import Result
from tests.archived import a_result

SHARES = buckets_of_shares(read_shares("s1=0.999,s2=0.001"))  # 66 buckets move
MOVES = SHARES["s2"]
HANG_S = 10.0  # what took this long did not look at its limit


def settings_of_two() -> Settings:
    place = {"host": "127.0.0.1", "user": "u", "password": "p", "database": "d"}
    return load_settings(environment={}).changed(shards={"s2": place})


class World:
    """A directory whose placements arrive at their shards when the test says so; markers wait in its log until then."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = Random(seed)
        self.settings = settings_of_two()
        self.directory = Directory()
        self.directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)
        head = DirectoryHead(directory_id=bytes(16), ingress_topic_id=bytes(16), ingress_epoch=1)
        self.contents = DirectoryContents(head=head, directory=self.directory, shards={}, partitions={}, end_offset=0)
        self.log: list[tuple[PlannedMove, Future[Result]]] = []
        self.placed: set[tuple[str, int]] = set()  # placement keys with their generations
        self.settled: set[tuple[str, int]] = set()
        self.sent: Counter[str] = Counter()
        self.most_of_lane = 0
        self.works: Callable[[], bool] = lambda: True

    def owners(self) -> list[str]:
        return [owner.shard for owner in read_owners(self.settings, self.contents)]

    def plan(self) -> Assignment:
        return self.anew(planned_of(self.settings, self.contents, SHARES, self.settled_in))

    def settled_in(self, shard: str) -> set[tuple[str, int]]:
        assert shard in {"s1", "s2"}
        return self.settled

    # ---------------------------------------------------------------- as an Installation

    def anew(self, assignment: Assignment) -> Assignment:
        return planned_of(self.settings, self.contents, assignment.wanted, self.settled_in)

    def send(self, move: PlannedMove) -> Future[Result]:
        future: Future[Result] = Future()
        self.sent[move.placement_key] += 1
        self.log.append((move, future))
        return future

    def arrived(self, moves: Collection[PlannedMove]) -> set[str]:
        lanes = Counter(partition_of(each.placement_key, self.settings.lanes_of(each.source)) for each in moves)
        self.most_of_lane = max([self.most_of_lane, *lanes.values()])
        if not self.works():
            raise Unavailable("s2 does not answer")
        self.route()
        return {each.placement_key for each in moves if (each.placement_key, each.generation) in self.settled}

    # ---------------------------------------------------------------- what the service does

    def route(self) -> None:
        """Meet what is in the log, as a router does: a marker of another generation is refused."""
        for move, future in self.log:
            partition = bucket_of(move.placement_key) & (self.settings.topics.commands_partitions - 1)
            owner = self.directory.place(
                move.placement_key, ingress_partition=partition, ingress_offset=sum(self.sent.values())
            )
            if (owner.shard, owner.generation + 1) != (move.source, move.generation):
                future.set_result(a_result(status=Status.REJECTED, reason=Reason.MOVE_REFUSED))
                continue
            self.directory.add(
                placement_key=move.placement_key,
                generation=move.generation,
                shard=move.target,
                ingress_partition=partition,
                since=0,
            )
            self.placed.add((move.placement_key, move.generation))
            future.set_result(a_result())
        self.log.clear()
        self.settled.update(key for key in sorted(self.placed - self.settled) if self.rng.random() < 0.5)


def carried(world: World, *, within_s: float = 5.0, stop_after: int = BUCKETS) -> Carried:
    """Carry the plan out; as a kill does, stop after so many arrivals."""
    arrived = 0

    def tell(count: int) -> None:
        nonlocal arrived
        arrived += count
        if arrived >= stop_after:
            raise KeyboardInterrupt

    return carry_out(world.plan(), world, within_s=within_s, tell=tell)


def test_each_shard_gets_its_share_and_each_bucket_moves_once() -> None:
    world = World()

    done = carried(world)

    assert done == Carried(moved=MOVES, left=0, under_way=[])
    assert Counter(world.owners()) == Counter(SHARES)
    assert set(world.sent.values()) == {1}
    assert len(world.sent) == MOVES


def test_no_lane_has_more_moves_on_their_way_than_it_seals_while_one_looks() -> None:
    world = World()
    carried(world)
    assert world.most_of_lane == IN_FLIGHT_OF_LANE


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_point_and_run_again_it_ends_the_same(seed: int) -> None:
    whole, killed = World(), World(seed)
    carried(whole)

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            carried(killed, stop_after=killed.rng.randrange(1, 12))
    rest = carried(killed)

    assert rest.why == ""
    assert killed.owners() == whole.owners()
    assert len(killed.sent) == MOVES


def test_markers_that_no_router_had_met_before_the_kill_are_no_second_move() -> None:
    world = World()
    plan = world.plan()
    for move in plan.moves[:20]:
        world.send(move)  # and killed

    done = carry_out(plan, world, within_s=5.0, tell=lambda _arrived: None)

    assert (done.why, Counter(world.owners())) == ("", Counter(SHARES))
    generations = {owner.generation for owner in read_owners(world.settings, world.contents)}
    assert generations == {0, 1}


@pytest.mark.rule("M1")
def test_a_bucket_that_is_on_its_way_elsewhere_arrives_before_it_moves_on() -> None:
    world = World()
    first = world.plan().moves[0]
    other = replace(first, placement_key="bucket:0")  # not one of those that would move
    world.send(other)
    world.route()
    world.settled.clear()

    plan = world.plan()
    assert [move.placement_key for move in plan.under_way] == ["bucket:0"]
    assert "bucket:0" not in {move.placement_key for move in plan.moves}
    done = carried(world)

    assert done.why == ""
    assert Counter(world.owners()) == Counter(SHARES)


@pytest.mark.rule("M1")
def test_a_bucket_that_is_to_go_back_is_not_sent_before_it_has_arrived() -> None:
    world, home = World(), {"s1": BUCKETS, "s2": 0}
    world.send(replace(world.plan().moves[0], placement_key="bucket:0"))
    world.route()
    world.settled.clear()
    plan = planned_of(world.settings, world.contents, home, world.settled_in)

    done = carry_out(plan, world, within_s=5.0, tell=lambda _arrived: None)

    assert ([move.placement_key for move in plan.under_way], plan.moves) == (["bucket:0"], [])
    assert (done.moved, done.why, set(world.owners())) == (2, "", {"s1"})


def test_where_nothing_arrives_any_more_it_stops_and_says_what_is_under_way() -> None:
    world = World()
    world.works = lambda: False

    began_s = time.monotonic()
    done = carried(world, within_s=0.3)

    assert time.monotonic() - began_s < HANG_S
    lanes = world.settings.lanes_of("s1")
    assert (done.moved, done.why) == (0, "s2 does not answer")
    assert len(done.under_way) == lanes * IN_FLIGHT_OF_LANE
    assert done.left == MOVES - lanes * IN_FLIGHT_OF_LANE
    world.works = lambda: True
    assert carried(world).why == ""
    assert Counter(world.owners()) == Counter(SHARES)


def test_a_service_that_refuses_every_marker_is_not_asked_for_ever() -> None:
    world = World()

    def refuse() -> None:
        for _, future in world.log:
            future.set_result(a_result(status=Status.REJECTED, reason=Reason.MOVE_REFUSED))
        world.log.clear()

    world.route = refuse  # type: ignore[method-assign]

    done = carried(world)

    assert done.moved == 0
    assert "MOVE_REFUSED" in done.why
    assert sum(world.sent.values()) <= 3 * IN_FLIGHT_OF_LANE * world.settings.lanes_of("s1")
