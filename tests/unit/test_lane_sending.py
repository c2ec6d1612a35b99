"""What a lane sends by itself is acknowledged before the transaction that goes past its cause (P2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from processors.faults import Unavailable
from processors.lane.decided import HandedOver
from processors.lane.publishing import Committed, PublishStage
from processors.lane.sending import LaneSender
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.positions import GroupPosition, LanePoint
from processors.wire.records import OutRecord

pytestmark = pytest.mark.rule("P2")


def position(offset: int) -> GroupPosition:
    at = LanePoint(next_offset=offset, lane_time_ms=0, digest=b"", leader_epoch=0)
    return GroupPosition(topic_id=bytes(16), lane=0, at=at)


def record(name: str) -> OutRecord:
    return OutRecord("topic", 0, b"acme", name.encode(), [])


@dataclass(slots=True)
class Wire:
    """What reached the brokers, in order; the sender fails where it is told to."""

    seen: list[str] = field(default_factory=list)
    made: int = 0
    queued: list[str] = field(default_factory=list)
    fails: bool = False

    def make_sender(self) -> Wire:
        self.made += 1
        return self

    def send(self, record: OutRecord) -> None:
        self.queued.append(record.value.decode())

    def flush(self, deadline_s: float) -> None:
        assert deadline_s > 0
        if self.fails:
            raise Unavailable("not acknowledged")
        self.seen += [f"acknowledged {each}" for each in self.queued]
        self.queued.clear()

    def open(self) -> None:
        """Fence nobody."""

    def publish(self, records: list[OutRecord], position: GroupPosition) -> None:
        results = " ".join(record.value.decode() for record in records)
        self.seen.append(f"published {results} to {position.at.next_offset}")

    def close(self) -> None:
        self.seen.append("closed")


class TwoPackages:
    """A courier that carries everything in two records, and takes a while between them."""

    def records(self, handed_over: HandedOver) -> Iterator[OutRecord | None]:
        yield record(f"{handed_over.placement_key} 1")
        yield None
        yield record(f"{handed_over.placement_key} 2")

    def close(self) -> None:
        pass


def committed(offset: int, *sends: str) -> Committed:
    return Committed([record(f"result-{offset}")], position(offset), sends=[record(name) for name in sends])


def stage_of(wire: Wire) -> PublishStage:
    return PublishStage(
        wire, LaneSender(wire.make_sender), position(0), lambda _records, _stamped_ms: None, TwoPackages()
    )


@pytest.mark.rule("P3")
def test_a_seal_is_handed_over_after_all_results_before_it_and_published_alone() -> None:
    wire = Wire()
    stage = stage_of(wire)
    sealed = PlacementRow(placement_key="acme", generation=1, state=PlacementState.SEALED)
    stage.offer(committed(5))
    stage.offer(Committed([record("seal")], position(6), handed_over=[sealed]))
    stage.offer(committed(7))

    while stage.step():
        pass

    assert wire.seen == [
        "published result-5 to 5",
        "acknowledged acme 1",
        "acknowledged acme 2",
        "published seal to 6",
        "published result-7 to 7",
    ]


def test_what_is_sent_is_acknowledged_before_its_causes_are_published_and_in_their_order() -> None:
    wire = Wire()
    stage = stage_of(wire)
    for batch in (committed(5, "a", "b"), committed(6), committed(9, "c")):
        stage.offer(batch)

    assert stage.step()
    assert wire.seen == [
        "acknowledged a",
        "acknowledged b",
        "acknowledged c",
        "published result-5 result-6 result-9 to 9",
    ]


def test_nothing_is_published_where_something_is_not_acknowledged() -> None:
    wire = Wire(fails=True)
    stage = stage_of(wire)
    stage.offer(committed(5, "a"))

    with pytest.raises(Unavailable):
        stage.step()
    assert wire.seen == []
    assert stage.published == (0, 0)


def test_a_lane_that_sends_nothing_makes_no_producer() -> None:
    wire = Wire()
    sender = LaneSender(wire.make_sender)
    stage = PublishStage(wire, sender, position(0), lambda _records, _stamped_ms: None, TwoPackages())
    stage.offer(committed(5))
    stage.step()
    assert wire.made == 0

    for offset in (6, 7):
        stage.offer(committed(offset, "a"))
        stage.step()
    assert wire.made == 1
    sender.close()
    assert wire.seen[-1] == "closed"


def test_a_lane_that_will_send_soon_has_its_producer_connect_meanwhile() -> None:
    wire = Wire()
    stage = stage_of(wire)
    stage.offer(Committed([record("part")], position(5), sends_soon=True))

    stage.step()

    assert wire.made == 1
    assert wire.seen == ["published part to 5"]


@pytest.mark.rule("P3")
def test_a_producer_connects_while_the_first_rows_are_read() -> None:
    wire, sealed = Wire(), PlacementRow(placement_key="acme", generation=1, state=PlacementState.SEALED)
    made_before: list[int] = []

    class Slow(TwoPackages):
        def records(self, handed_over: HandedOver) -> Iterator[OutRecord | None]:
            made_before.append(wire.made)
            yield from super().records(handed_over)

    stage = PublishStage(wire, LaneSender(wire.make_sender), position(0), lambda _records, _stamped_ms: None, Slow())
    stage.offer(Committed([record("seal")], position(6), handed_over=[sealed]))

    stage.step()

    assert made_before == [1]
