"""A partner moves between two shards while he is paid, step by step (R4, M1 to M7, P3)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from processors.faults import Retryable
from processors.lane.decided import Decided
from processors.lane.lane import Lane
from processors.lane.moving import PARTS_TOGETHER
from processors.lane.placements import in_turn
from processors.ledger.commands import CommandType, OpenAccount, TopUp
from processors.ledger.outcomes import Status
from processors.ledger.rows import SystemKey
from processors.ledger.tables import MOVING_TABLES
from processors.stores.rows import PlacementRow, PlacementState, Progress, RowsOf
from processors.wire.records import OutRecord, Record
from tests.simulation.fakes.frozen_rows import CourierOfSmallParts
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.tables import ROW_IDS_MAX
from tests.simulation.move_mutations import NOTHING, SlowMover
from tests.simulation.two_shards import HOME, TWIN, TwoShards, outcomes


@pytest.mark.rule("M2")
@pytest.mark.rule("M4")
@pytest.mark.rule("M5")
def test_a_partner_is_paid_before_during_and_after_his_move(shards: TwoShards) -> None:
    shards.pay(10)
    shards.move("s2")
    shards.pay(20)
    shards.of["s2"].serve()
    assert shards.of["s2"].states == {"acme": (PlacementState.AWAY, 0, 1)}
    shards.pay(30)

    shards.serve()

    assert outcomes(shards)[2:] == [
        (CommandType.PAY, Status.ACCEPTED, 990),
        (CommandType.MOVE_PARTNER, Status.ACCEPTED, 0),
        (CommandType.PAY, Status.ACCEPTED, 970),
        (CommandType.PAY, Status.ACCEPTED, 940),
    ]
    assert [result.shard for result in shards.results()[2:]] == ["s1", "s1", "s2", "s2"]
    assert shards.of["s1"].states == {"acme": (PlacementState.LEFT, 1, 0)}
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]
    assert shards.dead_letters() == 0


@pytest.mark.rule("M6")
@pytest.mark.rule("I3")
def test_a_repeated_command_is_answered_as_it_was_wherever_its_partner_is(shards: TwoShards) -> None:
    first = shards.pay(10)
    shards.move("s2")
    shards.send(first)
    shards.serve()
    shards.move("s1")
    shards.send(first)

    shards.serve()

    pays = [result for result in shards.results() if result.type is CommandType.PAY]
    assert [(pay.shard, pay.duplicate_of is not None, pay.postings[0].balance) for pay in pays] == [
        ("s1", False, 990),
        ("s2", True, 990),
        ("s1", True, 990),
    ]


@pytest.mark.rule("M1")
@pytest.mark.rule("M5")
@pytest.mark.rule("M7")
@pytest.mark.rule("P3")
def test_moves_that_follow_each_other_at_once_are_made_one_after_the_other(shards: TwoShards) -> None:
    for number in range(1, 6):
        shards.move("s2" if number % 2 else "s1")
        shards.pay(number)

    shards.serve(rounds=20)

    pays = [result for result in shards.results() if result.type is CommandType.PAY]
    assert [pay.postings[0].balance for pay in pays] == [999, 997, 994, 990, 985]
    assert [pay.postings[0].sequence for pay in pays] == [2, 3, 4, 5, 6]
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 5, 0)}
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]
    assert shards.dead_letters() == 0


def move_in_parts(shards: TwoShards) -> None:
    """Move the partner with so many rows that their parts are some batches."""
    shards.open(1_000)
    for _ in range(2 * CourierOfSmallParts.part_rows_max * ROW_IDS_MAX * PARTS_TOGETHER):
        shards.pay(1)
    shards.move("s2")
    shards.of["s1"].serve()
    shards.of["s2"].serve()


class NotingLane(Lane):
    """Says of each batch how many records it had decided beyond it when it was committed."""

    def assign(self) -> None:
        self.ahead: list[int] = []
        super().assign()

    def _committed(self, batch: Decided) -> None:
        self.ahead.append(self._decider.standing.next_offset - batch.position.at.next_offset)
        super()._committed(batch)


@pytest.mark.rule("M4")
def test_parts_of_a_hand_off_are_decided_while_those_before_them_are_being_written() -> None:
    shards = TwoShards(lane=NotingLane)
    move_in_parts(shards)

    lane = shards.of["s2"].lane
    assert isinstance(lane, NotingLane)
    first, *between, last_but_one, last = lane.ahead
    assert between
    assert all(between), f"{lane.ahead}: nothing was decided until the parts before were written"
    assert (first, last_but_one, last) == (0, 0, 0)  # what begins and ends it has nothing on its way before it
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}


@pytest.mark.rule("M1")
@pytest.mark.rule("M4")
def test_what_is_parked_between_parts_is_decided_with_them_and_makes_nobody_wait() -> None:
    """He who moves goes on paying: were each of his commands a batch, he would wait for as many commits."""
    source, meets = TwoShards(), TwoShards(lane=NotingLane)
    move_in_parts(source)
    parts = [entry.value for entry in source.broker.log("balance.shard.s2", 0).entries if entry.value and not entry.key]
    target = meets.of["s2"]
    target.serve()
    meets.placed["acme"] = ("s2", 1)
    paid = []
    for number, part in enumerate(parts):
        if number % 3 == 1:
            paid += [meets.pay(1), meets.pay(1)]
        meets.broker.write(OutRecord(target.topic, 0, None, part, []))
    assert isinstance(target.lane, NotingLane)
    target.lane.ahead.clear()

    for _ in range(4):
        target.serve()

    first, *between, last_but_one, last = target.lane.ahead
    assert (first, last_but_one, last) == (0, 0, 0)
    assert all(between)
    assert len(target.lane.ahead) <= 3 + len(parts) // PARTS_TOGETHER < len(paid)
    assert meets.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}
    answered = [result.command_id for result in meets.results() if result.type is CommandType.PAY]
    assert answered == [each.command_id for each in paid]


class SlowStore(FakeLaneStore):
    """Has nothing written before somebody waits for it."""

    def is_written(self) -> bool:
        return False


class WaitingLane(Lane):
    """Says after each turn whether parts are being written; leaves what it writes under way at each turn's end."""

    def assign(self) -> None:
        self._parts = replace(self._parts, ahead_from=1)
        self.waits: list[bool] = []
        super().assign()

    def turn(self, records: list[Record]) -> int:
        taken = super().turn(records)
        self.waits.append(self.writes_parts)
        return taken


@pytest.mark.rule("M4")
@pytest.mark.parametrize("store", [SlowStore, FakeLaneStore])
def test_a_lane_says_that_it_writes_parts_while_it_does_and_at_no_other_time(store: type[FakeLaneStore]) -> None:
    shards = TwoShards(lane=WaitingLane, store=store)
    move_in_parts(shards)

    source, target = shards.of["s1"].lane, shards.of["s2"].lane
    assert isinstance(source, WaitingLane)
    assert isinstance(target, WaitingLane)
    assert not any(source.waits)
    assert any(target.waits) == (store is SlowStore)
    assert not target.waits[-1]


class CountingStore(FakeLaneStore):
    """Says how many frozen rows each transaction deleted."""

    deletions: ClassVar[list[int]] = []

    def delete_left(self, fence: Progress, rows: RowsOf, *, rows_max: int) -> int:
        self.deletions.append(super().delete_left(fence, rows, rows_max=rows_max))
        return self.deletions[-1]


@pytest.mark.rule("M7")
@pytest.mark.parametrize(
    ("left_with", "states"),
    [
        ("acme", {"acme": (PlacementState.OWNED, 2, 0)}),
        (HOME, {HOME: (PlacementState.LEFT, 1, 0), "acme": (PlacementState.OWNED, 1, 0)}),
    ],
    ids=["himself", "with his bucket"],
)
def test_who_comes_back_before_his_frozen_rows_are_gone_has_them_deleted_a_few_at_a_time(
    left_with: str, states: dict[str, tuple[PlacementState, int, int]]
) -> None:
    CountingStore.deletions.clear()
    shards = TwoShards(lane=NOTHING.lane, store=CountingStore)
    shards.open(1_000)
    shards.move("s2", key=left_with)
    shards.serve()
    frozen = shards.of["s1"].database.tables
    left = sum(len(table.rows_in(frozen)) for table in MOVING_TABLES)
    shards.move("s1")

    shards.serve()

    rows_max = SlowMover.cleared_rows_max
    assert CountingStore.deletions == [*[rows_max] * (left // rows_max), left % rows_max]
    assert shards.of["s1"].states == states
    shards.pay(10)
    shards.serve()
    assert outcomes(shards)[-1] == (CommandType.PAY, Status.ACCEPTED, 990)


@pytest.mark.rule("M5")
def test_a_long_backlog_of_one_key_does_not_keep_another_waiting() -> None:
    shards = TwoShards(lane=NOTHING.lane)
    shards.open(1_000)
    shards.send(OpenAccount(command_id=shards.new_id(), address=TWIN, currency="USD", overdraft_limit=100))
    shards.serve()
    for root in ("acme", TWIN):
        shards.move("s2", key=root)
    for root in ["acme"] * 5 + [TWIN] * 5:
        shards.pay(1, root)
    shards.of["s1"].serve()
    shards.of["s2"].serve()
    assert shards.of["s2"].states[TWIN] == (PlacementState.OWNED, 1, 5 - SlowMover.records_max)

    for _ in range(4):
        for _ in range(SlowMover.records_max):
            shards.pay(1)  # as many as a TICK unparks
        shards.of["s2"].tick()
        shards.of["s2"].serve()

    assert shards.of["s2"].states[TWIN] == (PlacementState.OWNED, 1, 0)


@pytest.mark.rule("M5")
def test_every_key_comes_first_now_and_then_wherever_ticks_stand() -> None:
    keys = [PlacementRow(placement_key=f"p{n}", generation=1, state=PlacementState.OWNED) for n in range(20)]

    every = {key.placement_key for key in keys}
    for stride in (1, 2, 20):
        assert {in_turn(keys, offset)[0].placement_key for offset in range(0, 200 * stride, stride)} == every
    assert {key.placement_key for key in in_turn(keys, 7)} == every
    assert in_turn([], 7) == []


@pytest.mark.rule("L4")
@pytest.mark.rule("P3")
def test_whatever_was_not_published_is_answered_again_with_the_hand_off(shards: TwoShards) -> None:
    shards.pay(10)
    shards.move("s2")
    shards.pay(20)
    shards.of["s1"].serve(publish=False)

    shards.of["s1"].begin_again()
    shards.serve()

    assert [status for _, status, _ in outcomes(shards)[2:]] == [Status.ACCEPTED] * 3
    assert outcomes(shards)[-1] == (CommandType.PAY, Status.ACCEPTED, 970)


@pytest.mark.rule("L4")
@pytest.mark.rule("M5")
def test_what_was_unparked_is_answered_again_in_its_order(shards: TwoShards) -> None:
    again = shards.pay(10)
    shards.move("s2")
    for amount_minor in (1, 2, 3):
        shards.pay(amount_minor)
    shards.send(again)
    shards.of["s1"].serve()
    shards.of["s2"].serve(publish=False)

    shards.of["s2"].begin_again()
    shards.serve()

    of_s2 = [result for result in shards.results() if result.shard == "s2"]
    assert [result.postings[0].balance for result in of_s2] == [989, 987, 984, 990]
    assert [result.lane_index for result in of_s2] == [1, 2, 3, 4]
    assert of_s2[-1].duplicate_of is not None


@pytest.mark.rule("M1")
def test_a_record_of_a_generation_that_was_here_is_a_dead_letter(shards: TwoShards) -> None:
    shards.move("s2")
    shards.serve()
    del shards.placed["acme"]

    shards.pay(1)
    shards.serve()

    assert shards.dead_letters() == 1
    assert [status for _, status, _ in outcomes(shards)[2:]] == [Status.ACCEPTED]


@pytest.mark.rule("M3")
@pytest.mark.rule("M4")
@pytest.mark.rule("M7")
@pytest.mark.rule("P2")
def test_parts_and_receipts_that_come_again_change_nothing(shards: TwoShards) -> None:
    shards.move("s2")
    shards.serve()
    shards.move("s1")
    shards.pay(10)
    shards.serve()
    before = {name: (shard.states, shard.database.tables.accounts) for name, shard in shards.of.items()}
    for name in shards.of:
        topic = f"balance.shard.{name}"
        for payload in [each.value for each in shards.broker.log(topic, 0).entries if not each.key and each.value]:
            shards.broker.write(OutRecord(topic, 0, None, payload, []))

    shards.serve()

    assert {name: (shard.states, shard.database.tables.accounts) for name, shard in shards.of.items()} == before
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]
    assert len([result for result in shards.results() if result.type is CommandType.PAY]) == 1


@pytest.mark.rule("M6")
def test_a_partner_who_comes_back_again_brings_each_id_once(shards: TwoShards) -> None:
    first = shards.pay(10)  # s1 decides it, and has it a second time once it has come back with its partner
    for number in range(1, 5):
        shards.move("s2" if number % 2 else "s1")
        shards.pay(number)
        shards.serve()
    shards.send(first)

    shards.serve()

    pays = [result for result in shards.results() if result.type is CommandType.PAY]
    assert [pay.postings[0].balance for pay in pays] == [990, 989, 987, 984, 980, 990]
    assert shards.of["s1"].states == {"acme": (PlacementState.OWNED, 4, 0)}


@pytest.mark.rule("M1")
@pytest.mark.rule("M6")
def test_a_partner_leaves_his_bucket_and_the_bucket_goes_without_him(shards: TwoShards) -> None:
    shards.send(OpenAccount(command_id=shards.new_id(), address=TWIN, currency="USD"))
    shards.move("s2")
    shards.move("s2", key=HOME)
    shards.move("s1")
    shards.pay(10)
    shards.send(TopUp(command_id=shards.new_id(), address=TWIN, currency="USD", amount_minor=7))

    shards.serve(rounds=8)

    assert shards.of["s1"].states == {"acme": (PlacementState.OWNED, 2, 0), HOME: (PlacementState.LEFT, 1, 0)}
    assert shards.of["s2"].states == {"acme": (PlacementState.LEFT, 2, 0), HOME: (PlacementState.OWNED, 1, 0)}
    assert (CommandType.PAY, Status.ACCEPTED, 990) in outcomes(shards)
    assert (CommandType.TOP_UP, Status.ACCEPTED, 7) in outcomes(shards)
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]


@pytest.mark.rule("M6")
def test_what_waits_for_a_root_alone_does_not_keep_its_rows_from_going_with_the_bucket(shards: TwoShards) -> None:
    """The bucket's rows are read after records of a root that has left it since, at the other shard, came back here."""
    shards.move("s2", key=HOME)
    shards.of["s1"].serve(publish=False)
    shards.move("s1")
    shards.pay(10)
    shards.of["s1"].serve(publish=False)
    assert shards.of["s1"].states["acme"] == (PlacementState.AWAY, 0, 1)

    shards.serve(rounds=8)

    assert outcomes(shards)[-1] == (CommandType.PAY, Status.ACCEPTED, 990)
    assert shards.of["s1"].states["acme"] == (PlacementState.OWNED, 1, 0)


@pytest.mark.rule("M4")
def test_parts_that_are_there_together_are_decided_in_a_few_batches(shards: TwoShards) -> None:
    for _ in range(2 * CourierOfSmallParts.part_rows_max * ROW_IDS_MAX * PARTS_TOGETHER):
        shards.pay(1)
    shards.move("s2")
    again = shards.pay(1_000)
    shards.of["s1"].serve()
    entries = shards.broker.log("balance.shard.s2", 0).entries
    parts = len([entry for entry in entries if entry.value and not entry.key])

    for _ in range(parts // 100 + 1):  # so many are read at once
        shards.of["s2"].serve()

    assert parts > 8
    borders = [offset for _, offset in shards.of["s2"].database.tables.batch_digests]
    assert len(borders) < parts
    (paid,) = [result for result in shards.results() if result.command_id == again.command_id]
    assert (paid.shard, paid.status) == ("s2", Status.REJECTED)
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}


def borders_of(shards: TwoShards, shard: str) -> list[int]:
    return sorted(offset for _, offset in shards.of[shard].database.tables.batch_digests)


@pytest.mark.rule("P3")
@pytest.mark.rule("M4")
def test_moves_of_several_keys_that_are_there_together_are_decided_in_a_few_batches(shards: TwoShards) -> None:
    keys = [f"bucket:{number}" for number in range(PARTS_TOGETHER)]
    shards.placed |= dict.fromkeys(keys, ("s1", 0))
    shards.serve()
    first = shards.broker.log("balance.shard.s1", 0).next_offset
    for key in keys:
        shards.move("s2", key=key)

    for shard in ("s1", "s2", "s1"):  # sealed, installed, told
        shards.of[shard].serve()

    assert {shards.of["s2"].states[key] for key in keys} == {(PlacementState.OWNED, 1, 0)}
    assert {shards.of["s1"].states[key] for key in keys} == {(PlacementState.LEFT, 1, 0)}
    assert [border - first for border in borders_of(shards, "s1") if border > first] == [len(keys), 2 * len(keys)]
    moved = [result for result in shards.results() if result.type is CommandType.MOVE_PARTNER]
    assert [result.lane_offset - first for result in moved] == [*range(len(keys))]
    shards.of["s1"].begin_again()  # what was decided together is answered again record by record
    shards.serve()
    assert {shards.of["s2"].states[key] for key in keys} == {(PlacementState.OWNED, 1, 0)}


@pytest.mark.rule("M2")
@pytest.mark.rule("M4")
def test_who_goes_on_as_soon_as_he_has_come_takes_all_along() -> None:
    """His seal reads what he has: it is not decided in one batch with his arrival, whose rows are not stored yet."""
    shards = TwoShards(names=("s1", "s2", "s3"))
    shards.open(1_000)
    shards.move("s2")
    shards.of["s1"].serve()
    shards.move("s3")

    shards.of["s2"].serve()
    shards.serve(rounds=6)

    assert shards.of["s3"].states["acme"] == (PlacementState.OWNED, 2, 0)
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0, 0]
    shards.pay(10)
    shards.serve()
    assert outcomes(shards)[-1] == (CommandType.PAY, Status.ACCEPTED, 990)


class StoreThatCannotAddUp(FakeLaneStore):
    """Finds a bug where it reads what one placement key has."""

    def sums(self, rows: RowsOf) -> dict[SystemKey, int]:
        if rows.bucket == 1:
            raise AssertionError("reading a placement key's sums: MySQL error 1690")
        return super().sums(rows)


@pytest.mark.rule("L11")
def test_a_move_that_cannot_be_read_holds_up_none_before_it_in_its_batch() -> None:
    shards = TwoShards(store=StoreThatCannotAddUp)
    keys = [f"bucket:{number}" for number in range(3)]
    shards.placed |= dict.fromkeys(keys, ("s1", 0))
    for key in keys:
        shards.move("s2", key=key)
    source = shards.of["s1"]

    with pytest.raises(Retryable, match="cannot be decided; what precedes it comes first"):
        source.serve()
    source.lane.assign()
    with pytest.raises(AssertionError, match="1690"):
        source.serve()

    assert source.states == {"bucket:0": (PlacementState.SEALED, 1, 0)}
