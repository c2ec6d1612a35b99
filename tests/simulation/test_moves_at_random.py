"""A partner moves to and fro between shards whose workers crash anywhere; a run on one shard alone says what is right.

The test is the router, which forwards each record once, in order (R6, R7). Whatever crashes in a lane, its store, its
producers or on its way to the other shard is drawn from the seed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from processors.faults import Fault, LaneStopped
from processors.ledger.commands import (
    AccountStatus,
    CaptureHold,
    Command,
    CommandType,
    OpenAccount,
    Pay,
    PlaceHold,
    Refund,
    TopUp,
    Transfer,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.outcomes import Contra, Status
from processors.ledger.tables import HOLDS, ROOT_TABLES, AnyTable
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.commands import type_of_payload
from processors.wire.records import OutRecord
from processors.wire.results import Result
from tests.simulation.fakes.crash_points import Crash
from tests.simulation.fakes.frozen_rows import FrozenElsewhere, courier_of
from tests.simulation.fakes.tables import Tables
from tests.simulation.move_mutations import MOVE_MUTATIONS, NOTHING, MoveMutation
from tests.simulation.two_shards import COMMANDS, HOME, TWIN, Shard, TwoShards

SEEDS = range(100)
ROOTS = ("acme", TWIN)
NAMES = ("s1", "s2", "s3")  # of shards: two of them in every other run
ENDS = {CommandType.TRANSFER_COMPLETED, CommandType.TRANSFER_RETURN}
SEEDS_TO_FIND_A_MUTATION = 400
ROUNDS_MAX = 400
DAY_MS = 86_400_000
SPAN_MS_MAX = 2_000
AHEAD_MS = 20_000
# What a run at random finds: something is not as it must be, or a lane finds that itself. Anything else is a mistake of
# the test's own.
FINDINGS = (AssertionError, LaneStopped)


class RandomCrashes:
    """A process that crashes, or gets no answer, with some probability at each point; once it did, it does nothing."""

    def __init__(self, rng: Random, every: int) -> None:
        self._rng = rng
        self._every = every
        self.has_crashed = False

    def point(self, where: str) -> None:  # noqa: ARG002 - the same odds everywhere
        self.has_crashed = self.has_crashed or self._rng.randrange(self._every) == 0
        if self.has_crashed:
            raise Crash

    def fails(self, where: str) -> bool:
        self.point(where)
        return self._rng.randrange(self._every) == 0

    def choose(self, ways: int) -> int:
        return self._rng.randrange(ways)


class RandomRun:
    """One seed's run."""

    def __init__(self, seed: int, mutation: MoveMutation = NOTHING) -> None:
        self.rng = Random(seed)
        self.shards = TwoShards(lane=mutation.lane, store=mutation.store, names=NAMES[: 2 + seed % 2])
        self.model = TwoShards()
        self.sent: list[Command] = []
        self.moves = 0.15
        self.repeats = 0.15
        self.late = 0.1
        self.removes = 0.2
        self.ask = self.forward
        self.every = self.rng.choice((30, 100, 300))
        self.assigned = dict.fromkeys(self.shards.of, False)
        self.crashed = dict.fromkeys(self.shards.of, True)

    def forward(self) -> None:
        """Have the partner ask for something, or for something again; or move him."""
        if self.rng.random() < self.moves:
            key = self.rng.choice(("acme", HOME))
            others = [name for name in self.shards.of if name != self.shards.owner_of(key)[0]]
            self.shards.move(self.rng.choice(others), key=key)
            return
        command = self.rng.choice(self.sent) if self.sent and self.rng.random() < self.repeats else self._command()
        self.sent.append(command)
        self.shards.send(command)
        self.model.send(command)

    def ask_or_transfer(self) -> None:
        """Have a partner send money, or ask for something else."""
        if self.rng.random() < 0.5:
            self.transfer()
        else:
            self.forward()

    def _command(self) -> Command:
        command_id, rng = self.model.new_id(), self.rng
        address = rng.choice(("acme", "acme:vn", "acme:vn:shop", TWIN, f"{TWIN}:vn"))
        account: Any = {"command_id": command_id, "address": address, "currency": "USD"}
        known = [each.command_id for each in self.sent] or [command_id]
        amount = rng.randrange(1, 50)
        match rng.randrange(9):
            case 0:
                return OpenAccount(**account)
            case 1 | 2:
                return TopUp(**account, amount_minor=amount * 10)
            case 3 | 4:
                return Pay(**account, amount_minor=amount)
            case 5:
                return PlaceHold(**account, amount_minor=amount, expires_in_ms=DAY_MS)
            case 6:
                return CaptureHold(**account, hold_id=rng.choice(known), final=rng.random() < 0.5, amount_minor=1)
            case 7:
                paid = [(each.address, each.command_id) for each in self.sent if isinstance(each, Pay)]
                account["address"], original_id = rng.choice(paid or [(address, command_id)])
                return Refund(**account, original_id=original_id, amount_minor=rng.randrange(1, 9))
            case _:
                status = rng.choice((None, AccountStatus.FROZEN, AccountStatus.ACTIVE))
                void = VoidHold(**account, hold_id=rng.choice(known))
                return rng.choice((void, UpdateAccount(**account, status=status, overdraft_limit=amount)))

    def transfer(self) -> None:
        """Have one partner send the other some money, in these shards alone."""
        sender, receiver = self.rng.sample(ROOTS, 2)
        self.shards.send(
            Transfer(
                command_id=self.model.new_id(),
                address=sender,
                currency="USD",
                to_address=receiver,
                amount_minor=self.rng.randrange(1, 50),
            )
        )

    def step(self, shard: Shard) -> None:
        """Have a shard's worker take what there is, until it crashes or a server fails it."""
        try:
            if self.crashed[shard.shard]:
                shard.start(RandomCrashes(self.rng, self.every))
                self.crashed[shard.shard] = False
            if not self.assigned[shard.shard]:
                shard.lane.assign()
                self.assigned[shard.shard] = True
            shard.serve(publish=self.rng.random() < 0.7)
        except Crash:
            self._settle(shard)
            self.crashed[shard.shard] = True
            self.assigned[shard.shard] = False
        except Fault:
            self._settle(shard)
            self.assigned[shard.shard] = False

    def _settle(self, shard: Shard) -> None:
        """Have the servers end what a worker left open: carried out, or given up."""
        for session in shard.database.holders():
            shard.database.settle(session, commit=self.rng.random() < 0.5)
        while self.shards.broker.late:
            self.shards.broker.deliver_late(0)

    def run(self) -> None:
        """Forward some dozen records while both workers crash; then let them come to the end."""
        for _ in range(self.rng.randrange(10, 60)):
            for _ in range(self.rng.randrange(4)):
                self.ask()
            self.shards.forward_legs()
            shard = self.rng.choice(list(self.shards.of.values()))
            self.pass_time()
            if self.rng.random() < 0.3:
                shard.tick()
            if self.rng.random() < self.removes:
                self.remove(shard)
            if self.rng.random() < self.late:
                self.come_again(shard)
            self.step(shard)
        for shard in self.shards.of.values():
            self._settle(shard)
            shard.begin_again()
        for _ in range(ROUNDS_MAX):
            self.shards.serve(rounds=1)
            if self._is_at_rest():
                break
            self.help_on()
        self.model.serve()

    def pass_time(self) -> None:
        """Have time go on, and another broker lead, whose clock is another: below I2's minute."""
        span_ms = self.rng.randrange(SPAN_MS_MAX)
        for clock in (self.shards.clock, self.model.clock):
            clock.advance(span_ms)
        self.shards.clock.broker_ahead_ms = self.rng.choice((0, 0, AHEAD_MS))

    def remove(self, shard: Shard) -> None:
        """Have a shard's remover delete what moved partners left."""
        shard.delete_what_left()

    def help_on(self) -> None:
        """Do what an operator does where moves do not end by themselves: nothing is needed."""

    def come_again(self, shard: Shard) -> None:
        """Have a part or a receipt come again, from a worker that does not know that it was replaced."""
        carried = [entry for entry in self.shards.broker.log(shard.topic, 0).entries if is_carried(entry.value)]
        if carried:
            entry = self.rng.choice(carried)
            self.shards.broker.write(OutRecord(shard.topic, 0, None, entry.value or b"", entry.headers))

    def _is_at_rest(self) -> bool:
        rows = [row for shard in self.shards.of.values() for row in shard.database.tables.placements.values()]
        moving = {PlacementState.SEALED, PlacementState.ARRIVING}
        is_moving = any(row.parked or row.state in moving for row in rows)
        has_legs = self.shards.legs_read < len(self.shards.broker.log(COMMANDS, 0).entries)
        return not is_moving and not has_legs and self._has_nothing_open()

    def _has_nothing_open(self) -> bool:
        """Say whether every transfer has ended, where it is its sender's and not frozen."""
        for root in ROOTS:
            tables = self.shards.of[self.shards.owner_of(root)[0]].database.tables
            if any(key[0] == root for key in tables.open_transfers):
                return False
        return True


def is_carried(payload: bytes | None) -> bool:
    """Say whether a record is one that a shard, or an operator's tool, sends to another shard."""
    return type_of_payload(payload or b"") in {"HAND_OFF", "INSTALLED", "LACKS_AHEAD", "MOVE_AHEAD"}


def rows_of_root(table: AnyTable, tables: Tables, root: str) -> dict[Any, Any]:
    """Return a root's rows of a table; without the times of holds, which depend on when each was decided."""
    rows = {key: row for key, row in table.rows_in(tables).items() if table.root_of(key) == root}
    if table is not HOLDS:
        return rows
    return {key: None if row is None else replace(row, expires_at_ms=0) for key, row in rows.items()}


def assert_time_goes_on(results: list[Result]) -> None:
    """Prove that a partner's time never goes back, whoever decides, and that his rows' versions rise (M4, A2)."""
    times = [result.lane_time_ms for result in results]
    versions = [result.version_us for result in results if result.version_us]
    assert times == sorted(times)
    assert versions == sorted(set(versions))


def answered_once(results: list[Result]) -> list[Result]:
    """Drop what a consumer drops: what is not above the largest position he saw of a lane (A1)."""
    seen: dict[bytes, tuple[int, int]] = {}
    kept = []
    for result in results:
        place = (result.lane_offset, result.lane_index)
        if place > seen.get(result.incarnation, (-1, -1)):
            seen[result.incarnation] = place
            kept.append(result)
    return kept


def told(result: Result) -> tuple[object, ...]:
    """Return what a result says, wherever and when it was decided."""
    of_first = result.duplicate_of is not None
    return result.command_id, result.type, result.status, result.reason, result.postings, of_first, result.amount_minor


def check(seed: int, mutation: MoveMutation = NOTHING, *, make: type[RandomRun] = RandomRun) -> None:
    """Run one seed, and compare it with the run on one shard."""
    run = make(seed, mutation)
    run.run()

    shards, model = run.shards, run.model
    assert shards.dead_letters() == 0
    results = [each for each in answered_once(shards.results()) if each.type is not CommandType.MOVE_PARTNER]
    for root in ROOTS:
        expected = [told(result) for result in model.results() if result.root == root]
        assert [told(result) for result in results if result.root == root] == expected
        assert_time_goes_on([result for result in results if result.root == root])
        owner, other = shards.of[shards.owner_of(root)[0]].database.tables, model.of["s1"].database.tables
        for table in ROOT_TABLES:
            assert rows_of_root(table, owner, root) == rows_of_root(table, other, root), table.name
    assert {shards.trial_balance(shard) for shard in shards.of} == {0}
    for shard in shards.of.values():
        live, replayed = shard.database.tables, shard.replayed(mutation.mover, mutation.parts)
        assert replayed.progress[0].at.digest == live.progress[0].at.digest
        assert {key: row.generation for key, row in replayed.placements.items()} == {
            key: row.generation for key, row in live.placements.items()
        }
        assert replayed.system == live.system


@pytest.mark.rule("M1")
@pytest.mark.rule("M4")
@pytest.mark.rule("M5")
@pytest.mark.rule("M6")
@pytest.mark.rule("M8")
@pytest.mark.rule("P3")
@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_moves_is_answered_as_if_he_had_stayed(seed: int) -> None:
    check(seed)


@pytest.mark.rule("M6")
@pytest.mark.rule("T2")
@pytest.mark.rule("T3")
@pytest.mark.rule("P2")
@pytest.mark.parametrize("seed", SEEDS)
def test_money_between_partners_who_move_arrives_once_or_comes_back(seed: int) -> None:
    run = RandomRun(seed)
    run.ask = run.ask_or_transfer
    for root in ROOTS:
        run.shards.send(OpenAccount(command_id=run.model.new_id(), address=root, currency="USD"))
        run.shards.send(TopUp(command_id=run.model.new_id(), address=root, currency="USD", amount_minor=1_000))
    run.run()

    shards = run.shards
    results = answered_once(shards.results())
    ends = Counter(each.transaction_id for each in results if each.type in ENDS)
    opened = [each.command_id for each in results if each.status is Status.OPEN and each.duplicate_of is None]
    assert {each: ends[each] for each in opened} == dict.fromkeys(opened, 1)
    tables = [shard.database.tables for shard in shards.of.values()]
    assert sum(balance for each in tables for (_, key), balance in each.system.items() if key[1] is Contra.TRANSIT) == 0
    assert {shards.trial_balance(shard) for shard in shards.of} == {0}
    for root in ROOTS:
        sequences = [
            posting.sequence
            for each in results
            for posting in each.postings
            if posting.address == root and each.duplicate_of is None and (posting.balance_change or posting.held_change)
        ]
        assert sequences == list(range(1, len(sequences) + 1))


class RunWithOtherParts(RandomRun):
    """Some parts come that were read from other rows, as from a restored source; an operator has them sent again."""

    def __init__(self, seed: int, mutation: MoveMutation = NOTHING) -> None:
        super().__init__(seed, mutation)
        self.late = 0.5

    def come_again(self, shard: Shard) -> None:
        super().come_again(shard)
        for row in shard.database.tables.placements.values():
            if row.state is PlacementState.SEALED:
                self._send_other_parts(shard, row)
        if self.rng.random() < 0.2:
            self.help_on()

    def _send_other_parts(self, shard: Shard, sealed: PlacementRow) -> None:
        """Send some parts, but not the last, of what another database has of a sealed placement key."""
        rows = list(shard.database.tables.frozen(0, sealed))
        if rows:
            del rows[self.rng.randrange(len(rows))]
        courier = courier_of(shard.shard, FrozenElsewhere(rows, sealed), self.shards.broker)
        records = [record for record in courier.records(sealed) if record is not None][:-1]
        for record in records[: self.rng.randrange(len(records) + 1)]:
            self.shards.broker.write(record)

    def help_on(self) -> None:
        for key in ("acme", HOME):
            self.shards.send_again(key)


@pytest.mark.rule("M4")
@pytest.mark.rule("M8")
@pytest.mark.parametrize("seed", SEEDS)
def test_parts_of_other_rows_are_thrown_away_until_they_are_sent_again(seed: int) -> None:
    check(seed, make=RunWithOtherParts)


class RunWithIdsAhead(RandomRun):
    """Before many a move ids go ahead, some of them for one that is never made, or from two tools at once."""

    def __init__(self, seed: int, mutation: MoveMutation = NOTHING) -> None:
        super().__init__(seed, mutation)
        self.moves = 0.1
        self.repeats = 0.4

    def forward(self) -> None:
        if self.rng.random() < 0.3:
            key = self.rng.choice(("acme", HOME))
            others = [name for name in self.shards.of if name != self.shards.owner_of(key)[0]]
            if self.rng.random() < 0.1:
                self.shards.ahead.clear()  # another tool, which knows of nothing that was sent before
            self.shards.go_ahead(self.rng.choice(others), key=key)
        super().forward()


@pytest.mark.rule("M6")
@pytest.mark.parametrize("seed", SEEDS)
def test_ids_that_went_ahead_count_as_if_they_had_come_with_the_move(seed: int) -> None:
    check(seed, make=RunWithIdsAhead)


def run_that_shows(mutation: MoveMutation) -> type[RandomRun]:
    """Return the runs in which a mutation can be seen."""
    if mutation.ids_ahead:
        return RunWithIdsAhead
    return RunWithOtherParts if mutation.other_parts else RandomRun


@pytest.mark.parametrize("name", MOVE_MUTATIONS)
def test_a_run_at_random_finds_what_a_broken_rule_does(name: str) -> None:
    make = run_that_shows(MOVE_MUTATIONS[name])
    for seed in range(SEEDS_TO_FIND_A_MUTATION):
        try:
            check(seed, MOVE_MUTATIONS[name], make=make)
        except FINDINGS:
            check(seed, make=make)  # it is the mutation that was found
            return
    pytest.fail(f"no seed of {SEEDS_TO_FIND_A_MUTATION} found {name}")
