"""Fate: what happens to a run from outside, and what no lane may get over."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from processors.faults import StopCode
from processors.ledger.addresses import is_root
from processors.ledger.commands import (
    Adjust,
    Direction,
    ExpireHold,
    GetBalance,
    Pay,
    SetLaneTime,
    SetRules,
    Tick,
)
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE
from processors.routing.units import partition_of
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from tests.simulation.customers import FORGERS_KEYRING, KEYRING
from tests.simulation.fakes.broker import PartitionLog, record_of
from tests.simulation.fakes.tables import Tables
from tests.simulation.processes import Actor
from tests.simulation.surroundings import write_straight
from tests.simulation.weather import HOUR_MS, Disaster, Mishap

if TYPE_CHECKING:
    from tests.simulation.world import World

BACKUPS_MAX = 4


class Fate(Actor):
    """Has mishaps happen, and once in a while a disaster."""

    def __init__(self, world: World) -> None:
        super().__init__("fate", None)
        self._world = world
        self._backups: list[Tables] = []
        self._rewritten_from = -1
        self._rules_version = world.weather.rules.version

    def ready(self) -> bool:
        return not self._world.calm

    def step(self) -> None:
        world, rng = self._world, self._world.rng
        if rng.random() < 0.1 and not world.stop_codes:
            self._backups = [*self._backups[-BACKUPS_MAX + 1 :], world.database.tables.backup()]
        if rng.random() < 0.3:
            world.clock.broker_ahead_ms = 0
        if world.weather.mishaps and rng.random() < 6 / world.weather.mishaps_every:
            mishap = rng.choice(world.weather.mishaps)
            if world.stop_codes and not self._may_follow_a_disaster(mishap):
                return
            world.note(f"mishap: {mishap}")
            _MISHAPS[mishap](self)

    def _may_follow_a_disaster(self, mishap: Mishap) -> bool:
        """Say whether lanes can still tell: a log that was rewritten is like any other to who forgot what it was."""
        world = self._world
        if mishap is Mishap.RESTORE:
            # What was rewritten must have been published from, at least in part.
            return world.weather.disaster in (Disaster.GAP, Disaster.REWRITTEN, Disaster.TRIMMED) and all(
                self._position_is_ours(lane) and world.checks.published[lane] > self._rewritten_from
                for lane in world.stop_codes
            )
        return mishap not in (Mishap.LOSE_POSITION, Mishap.MOVE_POSITION)

    # ------------------------------------------------------------------ mishaps

    def _kill(self) -> None:
        world = self._world
        process = world.rng.choice(world.processes)
        if process.alive:
            world.note(f"{process.name} is killed")
            world.kill(process)

    def _shift(self) -> None:
        world = self._world
        world.broker.group(world.rng.choice((world.shard_group, world.router_group))).rebalance(shift=1)

    def _election(self) -> None:
        world = self._world
        topic = world.rng.choice((world.shard_topic, world.shard_topic, world.commands_topic, world.results_topic))
        world.rng.choice(world.broker.topic(topic).partitions).elect()

    def _restore(self) -> None:
        world = self._world
        if world.weather.replays and not world.stop_codes and world.rng.random() < 0.5:
            self._replay()
            return
        if not self._backups:
            return
        # Later backups are of a past that is no more: what was published since may have been cut into other batches.
        del self._backups[world.rng.randrange(len(self._backups)) + 1 :]
        self._put_in_place(self._backups[-1])

    def _put_in_place(self, tables: Tables) -> None:
        world = self._world
        world.database.restore(tables)
        world.keep_slices()
        for lane in range(world.weather.lanes):
            if not self._position_is_ours(lane):
                world.checks.position_lost(lane)

    def _replay(self) -> None:
        """Replace the database by one that was replayed from the topic: cut into other batches, nothing published."""
        world = self._world
        if len(world.database.tables.progress) < world.weather.lanes:
            return
        if any(world.broker.log(world.shard_topic, lane).start_offset for lane in range(world.weather.lanes)):
            return  # a replay reads the topic from its first record on
        world.note("the database is replaced by a replay")
        tables = Tables()
        for lane, straight in enumerate(world.checks.straight):
            for each in fields(Tables):
                if each.name not in ("journal", "batch_digests"):
                    getattr(tables, each.name).update(getattr(straight.tables, each.name))
            for number, rows in straight.tables.journal.items():
                tables.journal.setdefault(number, {}).update(rows)
            borders = straight.tables.batch_digests.items()
            kept = {
                key: border for key, border in borders if world.rng.random() < 0.2 or key[1] == straight.next_offset
            }
            tables.batch_digests.update(kept)
            tables.progress[lane] = straight.states[straight.next_offset]
            tables.ingress.setdefault(lane, {})
            tables.rules[lane, straight.rules.version] = (0, straight.rules)
        for number in range(min(world.database.tables.journal), max(world.database.tables.journal) + 1):
            tables.journal.setdefault(number, {})
        self._backups = []
        self._put_in_place(tables)

    def _position_is_ours(self, lane: int) -> bool:
        world = self._world
        offset, metadata = world.broker.group(world.shard_group).offsets.get((world.shard_topic, lane), (-1, ""))
        return offset == world.checks.published[lane] and metadata.startswith("b1 offset=")

    def _set_position(self, lane: int, position: tuple[int, str] | None) -> None:
        world = self._world
        offsets = world.broker.group(world.shard_group).offsets
        offsets.pop((world.shard_topic, lane), None)
        if position is not None:
            offsets[world.shard_topic, lane] = position
        world.checks.position_lost(lane)

    def _lose_position(self) -> None:
        self._set_position(self._world.rng.randrange(self._world.weather.lanes), None)

    def _move_position(self) -> None:
        world, rng = self._world, self._world.rng
        lane = rng.randrange(world.weather.lanes)
        offsets = world.broker.group(world.shard_group).offsets
        metadata = [metadata for _, metadata in offsets.values()]
        end = world.broker.log(world.shard_topic, lane).next_offset
        offset = rng.choice((0, end, rng.randrange(end + 1)))
        if any(f" offset={offset} " in each for each in metadata):  # as if it had not been moved at all
            return
        self._set_position(lane, (offset, rng.choice(["", "their tool", *metadata])))

    def _reroute(self) -> None:
        world = self._world
        for process in world.processes:
            if process.name.startswith("router") and process.alive:
                world.kill(process)
        group = world.broker.group(world.router_group)
        for place, (offset, _) in group.offsets.items():
            if world.rng.random() < 0.7:
                group.offsets[place] = (world.rng.randrange(offset + 1), "")

    def _set_rules(self) -> None:
        """Change the rules in every lane; now and then the same record comes twice, or with a gap in its versions."""
        world, rng = self._world, self._world.rng
        self._rules_version += rng.choice((1, 1, 1, 0, 2))
        refund_period_ms = rng.choice((6, 24, 180 * 24)) * HOUR_MS
        wish = SetRules(
            command_id=bytes(16),
            version=self._rules_version,
            release=RULES_RELEASE,
            window_ms=rng.choice((1, 2, 4, 6)) * HOUR_MS,
            skew_ms=rng.choice((0, 60_000, 300_000)),
            future_limit_ms=rng.choice((1, 24)) * HOUR_MS,
            refund_period_ms=refund_period_ms,
            longest_hold_ms=rng.choice((1, 720)) * HOUR_MS,
            result_version=RESULT_VERSION,
        )
        for lane in range(world.weather.lanes):
            release = world.checks.rules_at_end(lane).release
            payload = encode_command(replace(wish, release=release), release=release)
            write_straight(world, lane, payload, keyring=KEYRING)

    def _broker_clock(self) -> None:
        world = self._world
        world.clock.broker_ahead_ms = world.rng.choice((-5_000, 5_000, 50_000, 120_000, 3 * HOUR_MS))

    def _time_passes(self) -> None:
        world, rng = self._world, self._world.rng
        world.clock.advance(
            rng.choice((rng.randrange(600_000), rng.randrange(2 * HOUR_MS), rng.randrange(9 * HOUR_MS)))
        )
        world.keep_slices()

    def _stranger(self) -> None:
        world, rng = self._world, self._world.rng
        basics: dict[str, Any] = {"command_id": rng.randbytes(16), "address": "acme", "currency": "USD"}
        lane = partition_of("acme", world.weather.lanes)
        holds = [key for key in world.database.tables.holds if key[0] == "acme"]
        hold_id = rng.choice(holds)[1] if holds else bytes(16)
        adjust = Adjust(**basics, amount_minor=10**6, direction=Direction.CREDIT, explanation="mine")
        payload, keyring = rng.choice(
            (
                (encode_command(Pay(**basics, amount_minor=3)), None),
                (encode_command(GetBalance(**basics)), KEYRING),
                (encode_command(adjust), FORGERS_KEYRING),
                (encode_command(SetLaneTime(command_id=bytes(16), lane_offset=1 << 40, time_ms=1)), FORGERS_KEYRING),
                (encode_command(Tick()), None),
                (encode_command(ExpireHold(**basics, hold_id=hold_id)), None),
                (rng.randbytes(12), None),
            )
        )
        write_straight(world, lane, payload, key=b"acme", keyring=keyring)

    def _retention(self) -> None:
        world = self._world
        for lane in range(world.weather.lanes):
            needed = min(tables.border_below_published(lane) for tables in (world.database.tables, *self._backups))
            log = world.broker.log(world.shard_topic, lane)
            self._keep_for_checks(lane, log, 0, needed)
            log.trim(needed)

    # ------------------------------------------------------------------ disasters

    def strike(self, disaster: Disaster) -> None:
        """Do what at least one lane must not get over."""
        self._world.note(f"DISASTER: {disaster}")
        _DISASTERS[disaster](self)

    def _keep_for_checks(self, lane: int, log: PartitionLog, from_offset: int, to_offset: int) -> None:
        for entry in log.entries:
            if from_offset <= entry.offset < to_offset:
                self._world.checks.lost.setdefault((lane, entry.offset), record_of(log, entry))

    def _gap(self) -> None:
        """Lose a record that nobody has read."""
        world = self._world
        lane = world.rng.randrange(world.weather.lanes)
        log = world.broker.log(world.shard_topic, lane)
        write_straight(world, lane, encode_command(Tick()))
        log.lose(log.next_offset - 1)
        world.stop_codes[lane] = {StopCode.LOG_GAP}

    def _trimmed(self) -> None:
        world = self._world
        lane = world.rng.randrange(world.weather.lanes)
        log = world.broker.log(world.shard_topic, lane)
        write_straight(world, lane, encode_command(Tick()))
        self._keep_for_checks(lane, log, 0, log.next_offset - 1)
        log.trim(log.next_offset)
        # A lane that had read up to the last record before meets the gap; one that had not cannot even ask.
        world.stop_codes[lane] = {StopCode.LOG_TRUNCATED, StopCode.LOG_GAP}

    def _rewritten(self) -> None:
        world, rng = self._world, self._world.rng
        lanes = [lane for lane, progress in world.database.tables.progress.items() if progress.next_offset]
        if not lanes:
            return
        lane = rng.choice(lanes)
        log = world.broker.log(world.shard_topic, lane)
        self._keep_for_checks(lane, log, 0, log.next_offset)
        world.checks.log_ends[lane] = end = log.next_offset
        self._rewritten_from = rng.randrange(world.database.tables.progress[lane].next_offset)
        log.lose_from(self._rewritten_from)
        for _ in range(rng.choice((0, end - log.next_offset, end - log.next_offset + 5))):
            write_straight(world, lane, encode_command(Tick()))
        world.stop_codes[lane] = {StopCode.LOG_TRUNCATED, StopCode.LOG_REWRITTEN, StopCode.LOG_GAP}

    def _recreated(self) -> None:
        world, rng = self._world, self._world.rng
        if len(world.database.tables.progress) < world.weather.lanes:
            return
        ends = {log.number: log.next_offset for log in world.broker.topic(world.shard_topic).partitions}
        world.broker.make_topic(world.shard_topic, world.weather.lanes)
        for lane, end in ends.items():
            world.checks.log_ends[lane] = end
            for _ in range(rng.choice((0, end, end + 5))):
                write_straight(world, lane, encode_command(Tick()))
            world.stop_codes[lane] = {StopCode.TOPIC_CHANGED, StopCode.LOG_TRUNCATED}

    def _producer_time(self) -> None:
        world = self._world
        world.broker.topic(world.shard_topic).append_time = False
        for lane in range(world.weather.lanes):
            write_straight(world, lane, encode_command(Tick()))
            world.stop_codes[lane] = {StopCode.TIMESTAMP_TYPE}

    def _ingress_went_back(self) -> None:
        """Lose forwarded records of the ingress, and have the router begin again where the log goes on."""
        world, rng = self._world, self._world.rng
        group = world.broker.group(world.router_group)
        places = [place for place, (offset, _) in group.offsets.items() if offset > 0]
        if not places:
            return
        place = rng.choice(places)
        log = world.broker.log(*place)
        offset = group.offsets[place][0]
        forwarded = [entry for entry in log.entries if entry.offset < offset and not entry.control]
        if not forwarded:
            return
        last = forwarded[-1]
        root = (last.key or b"").decode("ascii", "replace")
        if last.transaction is not None or not is_root(root) or not last.value:
            return
        for process in world.processes:
            if process.name.startswith("router") and process.alive:
                world.kill(process)
        log.lose_from(last.offset)
        question = GetBalance(command_id=bytes(16), address=root, currency="USD")
        world.broker.write(OutRecord(place[0], place[1], last.key, encode_command(question), []))
        group.offsets[place] = (last.offset, "")
        if partition_of(root, world.weather.ingress_partitions) == place[1]:
            world.may_stop = {StopCode.INGRESS_WENT_BACK}  # of other lanes, what was forwarded and not committed
            world.stop_codes[partition_of(root, world.weather.lanes)] = {StopCode.INGRESS_WENT_BACK}


_MISHAPS = {
    Mishap.KILL: Fate._kill,
    Mishap.SHIFT: Fate._shift,
    Mishap.ELECTION: Fate._election,
    Mishap.RESTORE: Fate._restore,
    Mishap.LOSE_POSITION: Fate._lose_position,
    Mishap.MOVE_POSITION: Fate._move_position,
    Mishap.REROUTE: Fate._reroute,
    Mishap.SET_RULES: Fate._set_rules,
    Mishap.BROKER_CLOCK: Fate._broker_clock,
    Mishap.TIME_PASSES: Fate._time_passes,
    Mishap.STRANGER: Fate._stranger,
    Mishap.RETENTION: Fate._retention,
}

_DISASTERS = {
    Disaster.GAP: Fate._gap,
    Disaster.TRIMMED: Fate._trimmed,
    Disaster.REWRITTEN: Fate._rewritten,
    Disaster.RECREATED: Fate._recreated,
    Disaster.PRODUCER_TIME: Fate._producer_time,
    Disaster.INGRESS_WENT_BACK: Fate._ingress_went_back,
}
