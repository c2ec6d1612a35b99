"""The router at the marker of a move: what it writes, waits for, sends and commits, step by step (R3 to R6, R8)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from processors.faults import Misconfigured, Unavailable
from processors.metrics import ROUTER_MARKERS
from processors.routing.buckets import placement_key_of
from processors.wire.directory import PlacementRecord
from processors.wire.records import OutRecord
from processors.wire.route import RouteKind
from processors.wire.signature import KeyRing
from processors.workers.router import FRESH_S, IN_FLIGHT_RECORDS_MAX
from tests.markers import marker_of
from tests.unit.router_fakes import KEYRING, KNOWN, METADATA, PARTITIONS, ROOTS, RouterFakes, noted, route_of

ACME = ROOTS.index("acme")
OTHER = 1 - ACME
STRANGER = KeyRing(signing="zz", keys={"zz": bytes(32)})
FORGER = replace(KEYRING, keys={"k1": b"f" * 32})


def marker(
    generation: int = 1, source: str = "s1", target: str = "s2", *, key: str = "acme", keyring: KeyRing = KEYRING
) -> OutRecord:
    return marker_of(key, generation, source, target, keyring=keyring, topic="p.in", partitions=PARTITIONS)


def placed(generation: int = 1, shard: str = "s2", *, since: int, key: str = "acme") -> PlacementRecord:
    return PlacementRecord(unit=key, generation=generation, shard=shard, ingress_partition=ACME, since=since)


def two_shards() -> RouterFakes:
    fakes = RouterFakes(lanes_of={"s1": 2, "s2": 2}, records_max=10)
    fakes.lanes.silent = False
    return fakes


def went(fakes: RouterFakes) -> list[tuple[str, RouteKind, int, str, int]]:
    """Return what went to lanes: shard, kind, ingress offset, placement key and its generation."""
    found = []
    for record in fakes.lanes.sent:
        if record.topic.startswith("p.balance.shard."):
            route = route_of(record)
            shard = record.topic.removeprefix("p.balance.shard.")
            found.append((shard, route.kind, route.ingress_offset, route.placement_key, route.generation))
    return found


@pytest.mark.rule("R4")
def test_the_placement_is_acknowledged_before_move_out_and_what_comes_after_goes_to_the_target() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.arrive(ACME, 0)
    fakes.arrive_as(marker(), 1)
    fakes.arrive(ACME, 2)

    router.step()

    home = placement_key_of("acme")
    assert went(fakes) == [
        ("s1", RouteKind.COMMAND, 0, home, 0),
        ("s1", RouteKind.MOVE_OUT, 1, home, 0),
        ("s2", RouteKind.COMMAND, 2, "acme", 1),
    ]
    topics = [record.topic for record in fakes.lanes.sent]
    assert topics.index("p.balance.directory") == 1  # acknowledged by then, as ``write`` promises
    assert noted(fakes) == [placed(since=1)]
    assert set(fakes.lanes.told) == {0, 2, 3}  # nothing else was waited for


@pytest.mark.rule("R4")
@pytest.mark.rule("R6")
def test_without_the_placements_acknowledgement_there_is_no_move_out_and_no_commit_past_the_marker() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.arrive(ACME, 0)
    fakes.arrive_as(marker(), 1)
    fakes.arrive(ACME, 2)
    fakes.lanes.silent = True

    with pytest.raises(Unavailable):
        router.step()

    assert [kind for _, kind, *_ in went(fakes)] == [RouteKind.COMMAND]
    fakes.lanes.silent = False
    router.finish()
    assert fakes.ingress.commits == [({ACME: 1}, METADATA + "3 moves=0")]


@pytest.mark.rule("R4")
def test_a_marker_does_not_wait_for_what_is_on_its_way_beside_it() -> None:
    fakes = RouterFakes(lanes_of={"s1": 2, "s2": 2}, records_max=IN_FLIGHT_RECORDS_MAX)
    router = fakes.router()
    fakes.lanes.silent = False
    fakes.arrive(ACME, *range(IN_FLIGHT_RECORDS_MAX - 2))
    fakes.arrive_as(marker(), IN_FLIGHT_RECORDS_MAX - 2)
    fakes.arrive(ACME, IN_FLIGHT_RECORDS_MAX - 1)
    router.step()

    assert router.step() == 0  # as many are on their way as there may be
    assert len(fakes.lanes.told) == IN_FLIGHT_RECORDS_MAX
    assert went(fakes)[-2:] == [
        ("s1", RouteKind.MOVE_OUT, IN_FLIGHT_RECORDS_MAX - 2, placement_key_of("acme"), 0),
        ("s2", RouteKind.COMMAND, IN_FLIGHT_RECORDS_MAX - 1, "acme", 1),
    ]


@pytest.mark.rule("R8")
def test_a_commit_tells_how_many_moves_of_its_partition_it_was_routed_by() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.arrive_as(marker(), 0)
    fakes.arrive_as(marker(2, "s2", "s1"), 1)
    fakes.arrive(OTHER, 0)
    router.step()
    router.finish()

    assert fakes.ingress.kept == {ACME: (2, METADATA + "3 moves=2"), OTHER: (1, METADATA + "3 moves=0")}

    lost = RouterFakes(lanes_of={"s1": 2, "s2": 2}, end_offset=90)  # others' records have made it longer since
    lost.ingress.kept = fakes.ingress.kept
    lost.directory.add(placement_key="acme", generation=1, shard="s2", ingress_partition=ACME, since=0)
    with pytest.raises(Misconfigured, match=r"with 2 moves .* with 1: placements are lost"):
        lost.router().step()


@pytest.mark.rule("R3")
def test_a_refused_marker_writes_nothing_and_is_answered_by_the_owner() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.arrive_as(marker(5), 0)
    with capture_logs() as logs:
        router.step()

    assert went(fakes) == [("s1", RouteKind.MOVE_REFUSED, 0, placement_key_of("acme"), 0)]
    assert noted(fakes) == []
    (line,) = [line for line in logs if line["event"] == "marker_refused"]
    assert (line["key"], line["partition"], line["offset"]) == ("acme", ACME, 0)
    assert line["why"] == "it begins generation 5 of acme, and the next one is 1"


@pytest.mark.rule("R5")
def test_a_marker_whose_placement_is_there_sends_move_out_again_and_writes_no_placement() -> None:
    fakes = two_shards()
    fakes.directory.add(placement_key="acme", generation=1, shard="s2", ingress_partition=ACME, since=0)
    router = fakes.router()
    fakes.arrive_as(marker(), 0)
    router.step()

    assert went(fakes) == [("s1", RouteKind.MOVE_OUT, 0, placement_key_of("acme"), 0)]
    assert noted(fakes) == []


def test_a_bucket_moves_with_the_roots_that_nobody_placed() -> None:
    fakes = two_shards()
    router = fakes.router()
    bucket = placement_key_of("acme")
    fakes.arrive_as(marker(key=bucket), 0)
    fakes.arrive(ACME, 1)
    fakes.arrive_as(marker(1, "s2", "s1"), 2)  # the root leaves it
    fakes.arrive_as(marker(2, "s2", "s1", key=bucket), 3)
    fakes.arrive_as(marker(3, "s1", "s2", key=bucket), 4)
    fakes.arrive(ACME, 5)
    router.step()

    assert went(fakes) == [
        ("s1", RouteKind.MOVE_OUT, 0, bucket, 0),
        ("s2", RouteKind.COMMAND, 1, bucket, 1),
        ("s2", RouteKind.MOVE_OUT, 2, bucket, 1),
        ("s2", RouteKind.MOVE_OUT, 3, bucket, 1),
        ("s1", RouteKind.MOVE_OUT, 4, bucket, 2),
        ("s1", RouteKind.COMMAND, 5, "acme", 1),
    ]


@pytest.mark.rule("R3")
def test_a_target_that_came_into_the_directory_since_it_was_read_counts() -> None:
    fakes = RouterFakes(lanes_of={"s1": 2}, records_max=10)
    fakes.lanes.silent = False
    router = fakes.router()
    fakes.arrive_as(marker(), 0)
    fakes.arrive(ACME, 1)
    fakes.ingress.poll(0, 0.0)  # the assignment, with its read
    fakes.lanes_of = {"s1": 2, "s2": 4}
    fakes.now_s += FRESH_S
    router.step()

    assert [(shard, kind) for shard, kind, *_ in went(fakes)] == [
        ("s1", RouteKind.MOVE_OUT),
        ("s2", RouteKind.COMMAND),
    ]
    assert fakes.reads == 2


@pytest.mark.rule("R3")
@pytest.mark.parametrize("sent", [marker(target="s9"), marker(keyring=FORGER), marker(keyring=STRANGER)])
def test_whoever_sends_markers_has_the_directory_read_twice_a_second_at_most(sent: OutRecord) -> None:
    fakes = two_shards()
    router = fakes.router()
    for step in range(5):
        fakes.arrive_as(sent, 2 * step)
        fakes.arrive_as(marker(target="s9"), 2 * step + 1)
        router.step()
        fakes.now_s += FRESH_S / 2

    assert fakes.reads == 3  # at the assignment, and then every other time


@pytest.mark.rule("R3")
def test_a_marker_whose_own_words_are_not_so_has_nobody_look() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.ingress.poll(0, 0.0)
    fakes.now_s += FRESH_S
    fakes.arrive_as(marker(5, target="s9"), 0)
    router.step()

    assert (went(fakes)[0][1], fakes.reads) == (RouteKind.MOVE_REFUSED, 1)


@pytest.mark.rule("R3")
def test_a_key_that_the_directory_does_not_have_is_refused_and_stops_nobody() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.arrive_as(marker(keyring=STRANGER), 0)
    fakes.arrive(ACME, 1)
    router.step()

    assert [(shard, kind) for shard, kind, *_ in went(fakes)] == [
        ("s1", RouteKind.MOVE_REFUSED),
        ("s1", RouteKind.COMMAND),
    ]


@pytest.mark.rule("R3")
def test_a_key_that_has_ended_meanwhile_is_refused_by_a_router_that_runs_on() -> None:
    fakes = two_shards()
    router = fakes.router()
    fakes.ingress.poll(0, 0.0)
    fakes.keys["k1"] = replace(KNOWN, ended_from_ms=1_000)
    fakes.now_s += FRESH_S
    fakes.arrive_as(marker(), 0)
    router.step()

    assert went(fakes)[0][1] is RouteKind.MOVE_REFUSED
    assert noted(fakes) == []


@pytest.mark.rule("R3")
def test_a_key_of_the_directory_that_the_keys_file_lacks_stops_the_router_before_anything_is_said_of_the_marker() -> (
    None
):
    fakes = two_shards()
    fakes.keys["zz"] = KNOWN
    router = fakes.router()
    fakes.arrive_as(marker(keyring=STRANGER), 0)

    with pytest.raises(Misconfigured, match="key zz, which the directory has"):
        router.step()

    assert (went(fakes), noted(fakes), fakes.ingress.commits) == ([], [], [])


def test_markers_are_counted_by_what_became_of_them() -> None:
    def counts() -> list[float]:
        return [ROUTER_MARKERS.labels(each)._value.get() for each in ("accepted", "met_again", "refused")]

    before = counts()
    fakes = two_shards()
    fakes.directory.add(placement_key="acme", generation=1, shard="s2", ingress_partition=ACME, since=0)
    router = fakes.router()
    for offset, sent in enumerate([marker(), marker(), marker(2, "s2", "s1"), marker(), marker(9)]):
        fakes.arrive_as(sent, offset)
    router.step()

    assert [after - was for after, was in zip(counts(), before, strict=True)] == [1, 1, 3]
