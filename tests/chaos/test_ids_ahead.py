"""Ids go ahead of a move on real servers, of a partner who has many and is paid; and what may stop them (M6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from processors.client import Client, ClientConfig
from processors.faults import Misconfigured
from processors.ledger.commands import Command, HandOff, OpenAccount, Pay, TopUp
from processors.ledger.outcomes import Status
from processors.ops import keys
from processors.ops.going_ahead import go_ahead
from processors.ops.moving import PlannedMove, lane_of, plan_move
from processors.ops.probing import await_vouched
from processors.routing.directory import Placement
from processors.streams.topics import shard_topic
from processors.wire.commands import decode_command
from tests.chaos.lanes import new_id
from tests.chaos.load import Load
from tests.chaos.two_shards import SHARDS, TwoShardService
from tests.end_to_end.conftest import balance
from tests.servers import Place

ROOT = "acme"
LOADED = (ROOT, "acme:vn")
PAID = 12_000  # ids of some three megabytes: most go ahead
DEADLINE_MS = 120_000
PARTS_BEFORE_TROUBLE = 3


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))
    yield made
    made.close()


@pytest.fixture
def client(service: TwoShardService) -> Iterator[Client]:
    ring = keys.keyring(service.settings)
    with Client(ClientConfig(kafka=service.address, keyring=ring, deadline_ms=DEADLINE_MS)) as client:
        yield client


def pay_often(service: TwoShardService) -> list[Command]:
    """Have a partner pay many times, and return the first of his payments, to be repeated."""
    pays: list[Command] = [
        Pay(command_id=new_id(), address=ROOT, currency="USD", amount_minor=1 + number % 7) for number in range(PAID)
    ]
    service.send(
        [
            OpenAccount(command_id=new_id(), address=ROOT, currency="USD"),
            TopUp(command_id=new_id(), address=ROOT, currency="USD", amount_minor=10 * PAID),
            *pays,
        ]
    )
    service.await_answers()
    return pays[:20]


def planned(service: TwoShardService, to: str) -> PlannedMove:
    await_vouched(service.settings, SHARDS)
    found = plan_move(service.settings, ROOT, to)
    assert isinstance(found, PlannedMove)
    return found


def finish(service: TwoShardService, client: Client, move: PlannedMove) -> None:
    """Have a move made, and wait until it is over."""
    result = client.send_marker(move.marker, partitions=move.settings.topics.commands_partitions)
    assert result.status is Status.ACCEPTED
    service.await_moved(Placement(placement_key=ROOT, generation=move.generation, shard=move.target))


def parts_of(service: TwoShardService, move: PlannedMove) -> list[HandOff]:
    """Return the parts of a move's hand-off, as they lie in the target's topic."""
    records = service.records(shard_topic(move.target), lane_of(service.settings, move.target, ROOT))
    commands = [decode_command(record.value) for record in records if record.value]
    return [
        each
        for each in commands
        if isinstance(each, HandOff) and (each.placement_key, each.generation) == (ROOT, move.generation)
    ]


def nothing(_round: int, _parts: int) -> None:
    """Tell nobody."""


@pytest.mark.rule("M6")
@pytest.mark.rule("M8")
def test_the_ids_of_a_partner_who_has_many_are_there_before_he_moves(service: TwoShardService, client: Client) -> None:
    with service.processes():
        old = pay_often(service)
        with Load(service, 7, LOADED) as load:
            load.await_batches(3)
            there = go_ahead(planned(service, "s2"), client, tell=nothing)
            load.await_batches(3)
            finish(service, client, there)
            service.send(old)
            service.await_answers()
            back = go_ahead(planned(service, "s1"), client, tell=nothing)
            finish(service, client, back)
            service.send(old)
        service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_nothing_in_between()

    for move in (there, back):
        parts = parts_of(service, move)
        assert [part.number for part in parts] == list(range(move.ahead.parts, move.ahead.parts + len(parts)))
        assert len(parts) < move.ahead.parts
    repeated = {command.command_id for command in old}
    answers = [(each.shard, each.duplicate_of) for each in service.results()[ROOT] if each.command_id in repeated]
    assert len(answers) == 3 * len(old)
    assert [shard for shard, of_first in answers if of_first is not None] == ["s2"] * len(old) + ["s1"] * len(old)


@pytest.mark.rule("M6")
@pytest.mark.parametrize("name", ["shard-s1", "shard-s2"])
def test_ids_go_ahead_although_a_worker_is_killed_meanwhile(
    service: TwoShardService, client: Client, name: str
) -> None:
    def kill(_round: int, parts: int) -> None:
        if parts == PARTS_BEFORE_TROUBLE:
            service.of[name].kill()
            service.of[name].start()

    with service.processes():
        pay_often(service)
        with Load(service, 8, LOADED) as load:
            load.await_batches(3)
            move = go_ahead(planned(service, "s2"), client, tell=kill)
            finish(service, client, move)
        service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_nothing_in_between()
    assert move.ahead.parts > PARTS_BEFORE_TROUBLE
    assert len(parts_of(service, move)) < move.ahead.parts


@pytest.mark.rule("M6")
def test_a_move_whose_marker_no_router_has_met_is_given_again_and_nothing_that_went_ahead_is_lost(
    service: TwoShardService,
) -> None:
    to_s2 = ("partner", "move", ROOT, "--to", "s2")
    with service.processes():
        pay_often(service)
        move = planned(service, "s2")
        service.of["router"].kill()

        first = balance(service.place, *to_s2, "--within", "20")
        assert (first.status, "the marker was sent and has no answer yet" in first.err) == (3, True), first.err
        again = balance(service.place, *to_s2, "--within", "2")
        assert (again.status, "was asked for before" in again.err) == (3, True), again.err
        assert "It waits for the router" in again.err
        service.of["router"].start()
        there = balance(service.place, *to_s2)

        # It finds the move under way, or over.
        moved, over = "(generation 1)\n", "already (generation 1): nothing was sent\n"
        assert (there.status, there.out.removeprefix(f"{ROOT} is on s2 ") in (moved, over)) == (0, True), there
    assert min(part.number for part in parts_of(service, move)) > PARTS_BEFORE_TROUBLE


@pytest.mark.rule("M6")
def test_where_many_ids_are_left_after_the_last_round_the_partner_moves_only_if_that_is_wished(
    service: TwoShardService, client: Client
) -> None:
    with service.processes():
        pay_often(service)
        move = planned(service, "s2")

        with pytest.raises(Misconfigured, match="after 0 rounds s1 still decides more ids of acme than 1,024 KiB"):
            go_ahead(move, client, tell=nothing, rounds_max=0)
        left = go_ahead(move, client, tell=nothing, rounds_max=0, any_pause=True)

        assert left.ahead.parts == 0
        finish(service, client, left)


class ToolEndedError(Exception):
    """The tool that sends ids ahead was ended."""


@pytest.mark.rule("M6")
def test_where_another_tool_has_sent_other_ids_ahead_all_are_handed_over(
    service: TwoShardService, client: Client
) -> None:
    def end(_round: int, parts: int) -> None:
        if parts == PARTS_BEFORE_TROUBLE:
            raise ToolEndedError

    with service.processes():
        old = pay_often(service)
        first = go_ahead(planned(service, "s2"), client, tell=nothing)
        with pytest.raises(ToolEndedError):
            go_ahead(planned(service, "s2"), client, tell=end)
        finish(service, client, first)
        service.send(old)
        service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_nothing_in_between()
    numbers = [part.number for part in parts_of(service, first)]
    assert numbers[0] == first.ahead.parts > PARTS_BEFORE_TROUBLE
    assert 0 in numbers
    assert [each.duplicate_of is not None for each in service.results()[ROOT][-len(old) :]] == [True] * len(old)
