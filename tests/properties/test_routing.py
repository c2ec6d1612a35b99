"""Routing is a function of the log: killed at any point and begun anew, a router routes the same (R1 to R6).

So does another router that takes its partition over while the old one goes on. Each protection is taken out once, in a
class of its own, and the property must fail then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from processors.ledger.commands import MovePartner
from processors.streams.directory import DirectoryContents
from processors.streams.topics import DIRECTORY_TOPIC
from processors.wire.commands import decode_command
from processors.wire.directory import PlacementRecord, Vouched, encode_directory, place
from processors.wire.forwarding import RoutingContext, is_marker
from processors.wire.markers import AcceptedMarker, RefusedMarker
from processors.wire.records import OutRecord, Record
from processors.workers.router import Router
from tests.properties.routing_world import World

RUNS = 120
STEPS = 150
RUNS_WITHOUT_A_RULE = 100  # every third run goes wrong, or more
LATER = 1_000_000  # an offset behind everything


class WithoutR1(Router):
    """Keeps what it read of the directory at its first assignment."""

    def _read_directory(self) -> None:
        if self._contents is None:
            super()._read_directory()


class WithoutR3(Router):
    """Judges a marker by everything that the directory has, also of later offsets."""

    def _judged(self, record: Record) -> AcceptedMarker | RefusedMarker:
        judgement = super()._judged(replace(record, offset=LATER))
        if isinstance(judgement, RefusedMarker):
            return judgement
        return replace(judgement, placement=replace(judgement.placement, since=record.offset))


class WithoutR3Generation(Router):
    """Takes whatever generation a marker begins."""

    def _judged(self, record: Record) -> AcceptedMarker | RefusedMarker:
        judgement = super()._judged(record)
        if isinstance(judgement, AcceptedMarker) or "it begins generation" not in judgement.why:
            return judgement
        marker = decode_command(record.value or b"")
        assert isinstance(marker, MovePartner)
        placement = PlacementRecord(
            unit=marker.placement_key,
            generation=marker.generation,
            shard=marker.target,
            ingress_partition=record.partition,
            since=record.offset,
        )
        return AcceptedMarker(placement=placement, owner=judgement.owner, is_known=False)


class WithoutR3Stamps(Router):
    """Takes a key or shard as soon as it is in the directory."""

    def _context_of(self, contents: DirectoryContents) -> RoutingContext:
        context = super()._context_of(contents)
        keys = {name: replace(key, counts_from_ms=0) for name, key in context.vouched.keys.items()}
        return replace(context, vouched=Vouched(keys=keys, targets=dict.fromkeys(context.vouched.targets, 0)))


class WithoutR3Endings(Router):
    """Takes an end of a key for one of everything that the key ever signed."""

    def _context_of(self, contents: DirectoryContents) -> RoutingContext:
        context = super()._context_of(contents)
        keys = {
            name: key if key.ended_from_ms is None else replace(key, ended_from_ms=0)
            for name, key in context.vouched.keys.items()
        }
        return replace(context, vouched=replace(context.vouched, keys=keys))


class WithoutR3Fresh(Router):
    """Judges by the directory as it was read when partitions were assigned."""

    def _judged(self, record: Record) -> AcceptedMarker | RefusedMarker:
        self._read_s = self._parts.clock_s()
        return super()._judged(record)


class WithoutR4(Router):
    """Does not wait for a placement; the commit does."""

    counts = True

    def _write_placement(self, placement: PlacementRecord) -> None:
        assert self._contents is not None
        batch = self._in_flight[-1]
        batch.waiting += self.counts
        record = OutRecord(DIRECTORY_TOPIC, 0, placement.key, encode_directory(placement), [])
        self._parts.producer.send(record, batch.delivered if self.counts else None)
        place(self._contents.directory, placement)


class WithoutR5(Router):
    """Passes a marker over if its placement is there."""

    def _forward(self, records: list[Record]) -> None:
        for record in records:
            judgement = self._judged(record) if is_marker(record) else None
            if not (isinstance(judgement, AcceptedMarker) and judgement.is_known):
                super()._forward([record])


class WithoutR6(Router):
    """Commits what it has sent."""

    def _take_acknowledged(self) -> None:
        while self._in_flight:
            self._acknowledged.update(self._in_flight.popleft().next_offsets)


class WithoutR6Placements(WithoutR4):
    """Neither waits for a placement, nor does the commit."""

    counts = False


@pytest.mark.rule("R1")
@pytest.mark.rule("R3")
@pytest.mark.rule("R4")
@pytest.mark.rule("R5")
@pytest.mark.rule("R6")
@pytest.mark.parametrize("share", range(4))
def test_whatever_becomes_of_routers_each_lane_gets_what_a_plain_reading_of_the_log_says(share: int) -> None:
    for seed in range(share, RUNS, 4):
        World(Random(seed)).play(STEPS)


def troubles(router: type[Router], *, blind: bool, runs: int = RUNS_WITHOUT_A_RULE) -> Iterator[str]:
    """Yield what goes wrong in each run that does; ``blind``: though nobody looks at R4's order, nor at R8."""
    for seed in range(runs):
        try:
            World(Random(seed), router=router, blind=blind).play(STEPS)
        except AssertionError as trouble:
            yield str(trouble)


@pytest.mark.parametrize(
    "router",
    [
        pytest.param(WithoutR1, marks=pytest.mark.rule("R1")),
        pytest.param(WithoutR3, marks=pytest.mark.rule("R3")),
        pytest.param(WithoutR3Generation, marks=pytest.mark.rule("R3")),
        pytest.param(WithoutR3Stamps, marks=pytest.mark.rule("R3")),
        pytest.param(WithoutR3Endings, marks=pytest.mark.rule("R3")),
        pytest.param(WithoutR3Fresh, marks=pytest.mark.rule("R3")),
        pytest.param(WithoutR5, marks=pytest.mark.rule("R5")),
        pytest.param(WithoutR6, marks=pytest.mark.rule("R6")),
        pytest.param(WithoutR6Placements, marks=pytest.mark.rule("R6")),
    ],
)
def test_without_a_rule_something_is_lost_or_routed_otherwise(router: type[Router]) -> None:
    assert next(troubles(router, blind=True), None) is not None


@pytest.mark.rule("R4")
def test_without_the_wait_a_lane_has_records_that_the_directory_places_elsewhere_and_no_more_goes_wrong() -> None:
    assert any("not in the directory" in each for each in troubles(WithoutR4, blind=False))
    assert list(troubles(WithoutR4, blind=True, runs=30)) == []


@pytest.mark.rule("R8")
def test_a_router_that_knows_less_than_its_own_commit_says_does_not_start() -> None:
    assert any("placements are lost" in each for each in troubles(WithoutR1, blind=False))
