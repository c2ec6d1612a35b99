"""Parts of a hand-off that are not taken: of other rows than those that came, or of none that are understood (M4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from processors.faults import UnknownOutcome
from processors.lane.decided import Decided
from processors.lane.lane import Lane
from processors.ledger.commands import CommandType, HandOff, OpenAccount
from processors.ledger.outcomes import Status
from processors.stores.rows import PlacementState
from processors.wire.commands import decode_command, encode_command
from processors.wire.packed_rows import compress_rows, frame, pack_row_of_ids
from processors.wire.records import OutRecord
from tests.simulation.fakes.frozen_rows import CourierOfSmallParts, FrozenElsewhere, courier_of
from tests.simulation.fakes.tables import ROW_IDS_MAX
from tests.simulation.two_shards import TwoShards, outcomes


@pytest.mark.rule("M2")
@pytest.mark.rule("M4")
@pytest.mark.rule("M8")
def test_parts_that_do_not_follow_on_those_that_came_are_thrown_away_until_they_are_sent_again(
    shards: TwoShards,
) -> None:
    for number in range(8):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"acme:shop-{number}", currency="USD"))
    shards.move("s2")
    shards.pay(20)
    shards.of["s1"].serve(publish=False)
    send_other_parts(shards)
    shards.of["s2"].serve()
    arriving = shards.of["s2"].states

    shards.serve()

    thrown_away = shards.of["s2"].states
    assert (arriving, thrown_away) == (
        {"acme": (PlacementState.ARRIVING, 1, 1)},
        {"acme": (PlacementState.LEFT, 0, 1)},
    )
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]
    assert outcomes(shards)[-1][0] is CommandType.MOVE_PARTNER
    shards.of["s2"].delete_what_left()
    assert not shards.of["s2"].database.tables.accounts
    shards.send_again()
    shards.send_again()
    shards.serve()
    assert outcomes(shards)[-1] == (CommandType.PAY, Status.ACCEPTED, 980)
    assert shards.of["s1"].states == {"acme": (PlacementState.LEFT, 1, 0)}
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]


def parts_of(shards: TwoShards, lacks: int = 0) -> list[OutRecord]:
    """Return the parts of acme's hand-off, as a database would send them that lacks some of the first rows."""
    tables = shards.of["s1"].database.tables
    sealed = tables.placements[0, "acme"]
    rows = list(tables.frozen(0, sealed))
    frozen = FrozenElsewhere(rows[lacks:], sealed)
    return [each for each in courier_of("s1", frozen, shards.broker).records(sealed) if each is not None]


def send_other_parts(shards: TwoShards) -> None:
    """Have the first parts of acme's hand-off come as a database would send them that lacks a row."""
    for record in parts_of(shards, lacks=1)[:2]:
        shards.broker.write(record)


@pytest.mark.rule("M4")
def test_a_late_last_part_of_what_was_thrown_away_raises_no_second_alarm(shards: TwoShards) -> None:
    for number in range(8):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"acme:shop-{number}", currency="USD"))
    shards.move("s2")
    shards.of["s1"].serve(publish=False)
    send_other_parts(shards)
    parts = parts_of(shards)
    for record in [*parts[1:], parts[0], parts[-1]]:  # what came is thrown away; then a part comes again, and the last
        shards.broker.write(record)

    with capture_logs() as logged:
        shards.of["s2"].serve()
        assert shards.of["s2"].states == {"acme": (PlacementState.ARRIVING, 1, 0)}
        shards.serve()

    alarms = [entry["detail"] for entry in logged if entry["event"] == "move_needs_a_look"]
    assert ["all of it is thrown away" in alarm for alarm in alarms] == [True]
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}


@pytest.mark.rule("M4")
@pytest.mark.rule("L6")
def test_what_is_thrown_away_is_told_though_its_commit_was_not_answered(shards: TwoShards) -> None:
    for number in range(8):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"acme:shop-{number}", currency="USD"))
    shards.move("s2")
    shards.of["s1"].serve(publish=False)
    send_other_parts(shards)
    target = shards.of["s2"]
    target.serve()
    for record in parts_of(shards)[2:]:
        shards.broker.write(record)

    with capture_logs() as logged:
        crash_points = target.parts.store.crash_points  # type: ignore[attr-defined]
        crash_points.failures["store.finish"] = 1  # carried out, and not answered
        with pytest.raises(UnknownOutcome):
            target.serve()
        target.begin_again()
        target.serve()

    alarms = [entry["detail"] for entry in logged if entry["event"] == "move_needs_a_look"]
    assert ["was thrown away" in alarm for alarm in alarms] == [True]
    assert target.states == {"acme": (PlacementState.LEFT, 0, 0)}
    shards.send_again()
    shards.serve()
    with capture_logs() as logged:
        target.begin_again()
        target.serve()
    assert target.states == {"acme": (PlacementState.OWNED, 1, 0)}
    assert not [entry for entry in logged if entry["event"] == "move_needs_a_look"]


@pytest.mark.rule("M4")
@pytest.mark.rule("P3")
@pytest.mark.parametrize("publish", [True, False])
def test_parts_that_are_sent_again_are_sent_by_whoever_owns_the_lane_next(shards: TwoShards, *, publish: bool) -> None:
    topic = shards.broker.log("balance.shard.s2", 0)
    before = len(topic.entries)
    shards.move("s2")
    shards.of["s1"].serve()
    sent = len(topic.entries) - before

    shards.send_again()
    shards.of["s1"].serve(publish=publish)
    shards.of["s1"].begin_again()
    shards.of["s1"].serve()

    assert len(topic.entries) == before + 2 * sent
    shards.serve()
    shards.send_again()  # there is nothing to send any more
    shards.serve()
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}
    assert shards.dead_letters() == 0


@pytest.mark.rule("M4")
def test_a_last_part_with_others_behind_it_is_of_other_rows(shards: TwoShards) -> None:
    for number in range(8):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"acme:shop-{number}", currency="USD"))
    shards.move("s2")
    shards.of["s1"].serve(publish=False)
    for record in parts_of(shards)[:-1]:
        shards.broker.write(record)
    tables = shards.of["s1"].database.tables
    for key in [key for key in tables.accounts if key[0] > "acme:shop-1"]:
        del tables.accounts[key]

    shards.serve()

    assert shards.of["s2"].states == {"acme": (PlacementState.LEFT, 0, 0)}


AN_ID = pack_row_of_ids(b"acme", [(bytes(16), b"result")])


class AlarmedLane(Lane):
    """Keeps what an operator is told."""

    def assign(self) -> None:
        self.alarms: list[str] = []
        super().assign()

    def _committed(self, batch: Decided) -> None:
        self.alarms += batch.alarms
        super()._committed(batch)


@pytest.mark.rule("M4")
@pytest.mark.parametrize("number", [0, 1, 2], ids="part {}".format)
@pytest.mark.parametrize(
    "rows",
    [b"no zlib", *map(compress_rows, map(frame, [b"no row", b"\x01" + AN_ID[1:], AN_ID + b"!", b""]))],
    ids=["no rows", "no table's", "a negative table's", "longer", "empty"],
)
def test_a_part_that_this_release_does_not_understand_is_thrown_away_until_it_is_sent_again(
    rows: bytes, number: int
) -> None:
    """It stops no lane: neighbours go on, and so does the partner once the source sends what the target knows."""
    shards = TwoShards(lane=AlarmedLane)
    shards.open(1_000)
    for shop in range(8):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"acme:shop-{shop}", currency="USD"))
    shards.move("s2")
    shards.pay(20)
    shards.of["s1"].serve(publish=False)
    source, target = shards.of["s1"], shards.of["s2"]
    sealed = source.database.tables.placements[0, "acme"]
    frozen = FrozenElsewhere(list(source.database.tables.frozen(0, sealed)), sealed)
    records = [each for each in courier_of("s1", frozen, shards.broker).records(sealed) if each is not None]
    part = decode_command(records[number].value)
    assert isinstance(part, HandOff)
    records[number] = replace(records[number], value=encode_command(replace(part, rows=rows)))
    for record in records:
        shards.broker.write(record)

    target.serve()

    assert target.states == {"acme": (PlacementState.LEFT if number else PlacementState.AWAY, 0, 1)}
    assert shards.trial_balance("s2") == 0
    assert isinstance(target.lane, AlarmedLane)
    (alarm,) = target.lane.alarms
    assert f"the rows of part {number} of acme are none that this release understands" in alarm
    shards.serve()  # the source sends its parts: whole ones
    assert outcomes(shards)[-1] == (CommandType.PAY, Status.ACCEPTED, 980)
    assert target.states == {"acme": (PlacementState.OWNED, 1, 0)}


@pytest.mark.rule("M4")
@pytest.mark.rule("M7")
def test_what_is_thrown_away_with_the_parts_right_before_it_is_posted_back_whole() -> None:
    shards = TwoShards()
    shards.open(1_000)
    for _ in range(2 * CourierOfSmallParts.part_rows_max * ROW_IDS_MAX):
        shards.pay(1)
    shards.move("s2")
    shards.of["s1"].serve()
    entries = shards.broker.log("balance.shard.s2", 0).entries
    parts = [entry.value for entry in entries if entry.value][:3]
    of_other_rows = decode_command(parts[2])
    assert isinstance(of_other_rows, HandOff)
    parts[2] = encode_command(replace(of_other_rows, digest=bytes(32)))
    meets = TwoShards().of["s2"]
    for part in parts:
        meets.broker.write(OutRecord(meets.topic, 0, None, part, []))

    meets.serve()

    assert meets.states == {"acme": (PlacementState.LEFT, 0, 0)}
    assert sum(meets.database.tables.system.values()) == 0
