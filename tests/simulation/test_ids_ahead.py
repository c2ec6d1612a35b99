"""Ids that go ahead of a move, and what may come between (M6): step by step, where runs at random seldom come."""

from __future__ import annotations

import pytest

from processors.ledger.commands import HandOff, MoveAhead, OpenAccount, TopUp
from processors.ledger.outcomes import Status
from processors.stores.rows import PlacementState
from processors.wire.commands import decode_command
from processors.wire.records import OutRecord
from tests.simulation.fakes.broker import Entry
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.frozen_rows import fake_courier
from tests.simulation.move_mutations import NOTHING, MoveMutation, MoverThatBelievesAnyMarker
from tests.simulation.two_shards import HOME, TWIN, TwoShards

PAYS = 9  # in parts of three ids


def carried(shards: TwoShards, shard: str, kind: type[HandOff | MoveAhead]) -> list[Entry]:
    """Return the parts of a kind in a shard's topic."""
    entries = shards.broker.log(f"balance.shard.{shard}", 0).entries
    return [entry for entry in entries if entry.value and isinstance(decode_command(entry.value), kind)]


def number_of(entry: Entry) -> int:
    part = decode_command(entry.value or b"")
    assert isinstance(part, HandOff | MoveAhead)
    return part.number


def write_again(shards: TwoShards, shard: str, entry: Entry) -> None:
    shards.broker.write(OutRecord(f"balance.shard.{shard}", 0, None, entry.value or b"", entry.headers))


def assert_repeats_are_told(shards: TwoShards) -> None:
    """Prove that each payment was decided once, and that each repetition was told so."""
    paid = [each for each in shards.results() if each.type == "PAY"]
    first = {each.command_id for each in paid if each.duplicate_of is None}
    assert {each.status for each in paid} == {Status.ACCEPTED}
    assert sum(each.duplicate_of is None for each in paid) == len(first)
    assert any(each.duplicate_of is not None for each in paid)


def moved_elsewhere_meanwhile(mutation: MoveMutation) -> TwoShards:
    """Have ids go ahead, and the partner's bucket go away and come back before he moves."""
    shards = TwoShards(lane=mutation.lane, store=mutation.store, names=("s1", "s2", "s3"))
    shards.open(1_000)
    shards.pay(1)
    shards.serve()
    shards.go_ahead("s2")
    shards.serve()
    shards.move("s3", key=HOME)
    shards.serve()
    paid = shards.pay(100)
    shards.serve()
    shards.move("s1", key=HOME)
    shards.serve()
    shards.move("s2")
    shards.serve()
    shards.send(paid)
    shards.serve()
    return shards


@pytest.mark.rule("M6")
def test_what_went_ahead_in_an_earlier_stay_does_not_count() -> None:
    shards = moved_elsewhere_meanwhile(NOTHING)

    assert shards.of["s2"].states["acme"] == (PlacementState.OWNED, 1, 0)
    assert_repeats_are_told(shards)


def test_a_source_that_lets_any_stay_count_decides_a_payment_twice() -> None:
    shards = moved_elsewhere_meanwhile(MoveMutation(mover=MoverThatBelievesAnyMarker))

    with pytest.raises(AssertionError):
        assert_repeats_are_told(shards)


@pytest.mark.rule("M6")
@pytest.mark.rule("M7")
def test_ids_that_came_ahead_are_not_deleted_with_what_their_bucket_left(shards: TwoShards) -> None:
    for to in ("s2", "s1"):
        shards.move(to, key=HOME)
        shards.serve()
    assert shards.of["s2"].states[HOME][0] is PlacementState.LEFT
    paid = shards.pay(100)
    shards.serve()
    shards.go_ahead("s2")
    shards.serve()
    shards.of["s2"].delete_what_left()

    shards.move("s2")
    shards.serve()
    shards.send(paid)
    shards.serve()

    assert number_of(carried(shards, "s2", HandOff)[-2]) > 0
    assert_repeats_are_told(shards)


@pytest.mark.rule("M6")
def test_a_root_that_comes_to_a_sealed_bucket_does_not_hinder_it_from_sending_all() -> None:
    shards = TwoShards(names=("s1", "s2", "s3", "s4"))
    shards.open(1_000)
    shards.send(OpenAccount(command_id=shards.new_id(), address=TWIN, currency="USD"))
    shards.send(TopUp(command_id=shards.new_id(), address=TWIN, currency="USD", amount_minor=1_000))
    shards.serve()
    for to, key in (("s2", "acme"), ("s3", HOME)):
        shards.move(to, key=key)
        shards.serve()
    for _ in range(PAYS):
        shards.pay(1, TWIN)
    shards.serve()
    shards.go_ahead("s4", key=HOME)
    shards.serve()
    shards.move("s4", key=HOME)
    write_again(shards, "s4", carried(shards, "s4", MoveAhead)[0])  # another tool begins
    shards.of["s4"].serve()
    shards.move("s3", key="acme")
    shards.of["s2"].serve()

    shards.serve(rounds=12)

    assert shards.of["s4"].states[HOME][0] is PlacementState.OWNED


@pytest.mark.rule("M4")
@pytest.mark.rule("M6")
def test_a_late_part_behind_ids_that_were_lacking_throws_nothing_away(shards: TwoShards) -> None:
    for _ in range(PAYS):
        shards.pay(1)
    shards.serve()
    shards.go_ahead("s2")
    shards.serve()
    shards.move("s2")
    write_again(shards, "s2", carried(shards, "s2", MoveAhead)[0])  # another tool began anew before the seal's parts
    shards.of["s2"].serve()
    for shard in ("s1", "s2"):
        shards.of[shard].serve()  # it seals, and hands over the rest; it lacks what went ahead, and says so
    behind = carried(shards, "s2", HandOff)[0]
    number = number_of(behind)

    source = shards.of["s1"]
    source.serve(publish=False)
    sealed = source.database.tables.placements[0, "acme"]
    courier = fake_courier("s1", source.database, 0, shards.broker, NoCrashes())
    everything = [record for record in courier.records(sealed) if record is not None]
    for record in everything[:number]:
        shards.broker.write(record)
    write_again(shards, "s2", behind)  # from the worker before, which was held up
    for record in everything[number:]:
        shards.broker.write(record)
    shards.of["s2"].serve()

    assert shards.of["s2"].states["acme"] == (PlacementState.OWNED, 1, 0)
