"""The nemesis: whoever disrupts a run from outside, and once in a while damages a log."""

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
from processors.routing.buckets import partition_of
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from tests.simulation.fakes.broker import PartitionLog, record_of
from tests.simulation.fakes.tables import Tables
from tests.simulation.outside_actors import write_to_lane
from tests.simulation.run_options import HOUR_MS, Disruption, LogDamage
from tests.simulation.worker_process import Actor
from tests.simulation.workload import FORGERS_KEYRING, KEYRING

if TYPE_CHECKING:
    from tests.simulation.environment import Environment

BACKUPS_MAX = 4


class Nemesis(Actor):
    """Disrupts the run now and then, with the disruptions of its options."""

    def __init__(self, environment: Environment) -> None:
        super().__init__("nemesis", None)
        self._environment = environment
        self._backups: list[Tables] = []
        self._rewritten_from = -1
        self._rules_version = environment.options.rules.version

    def ready(self) -> bool:
        return not self._environment.healed

    def step(self) -> None:
        environment, rng = self._environment, self._environment.rng
        if rng.random() < 0.1 and not environment.stop_codes:
            self._backups = [*self._backups[-BACKUPS_MAX + 1 :], environment.database.tables.backup()]
        if rng.random() < 0.3:
            environment.clock.broker_ahead_ms = 0
        if environment.options.disruptions and rng.random() < 6 / environment.options.disruptions_every:
            disruption = rng.choice(environment.options.disruptions)
            if environment.stop_codes and not self._may_follow_log_damage(disruption):
                return
            environment.note(f"disruption: {disruption}")
            _DISRUPTIONS[disruption](self)

    def _may_follow_log_damage(self, disruption: Disruption) -> bool:
        """Say whether lanes can still tell: a log that was rewritten is like any other to who forgot what it was."""
        environment = self._environment
        if disruption is Disruption.RESTORE:
            # What was rewritten must have been published from, at least in part.
            return environment.options.log_damage in (LogDamage.GAP, LogDamage.REWRITTEN, LogDamage.TRIMMED) and all(
                self._position_is_ours(lane) and environment.checker.published[lane] > self._rewritten_from
                for lane in environment.stop_codes
            )
        return disruption not in (Disruption.LOSE_GROUP_OFFSET, Disruption.MOVE_GROUP_OFFSET)

    # ------------------------------------------------------------------ disruptions

    def _kill(self) -> None:
        environment = self._environment
        process = environment.rng.choice(environment.processes)
        if process.alive:
            environment.note(f"{process.name} is killed")
            environment.kill(process)

    def _rebalance(self) -> None:
        environment = self._environment
        environment.broker.group(environment.rng.choice((environment.shard_group, environment.router_group))).rebalance(
            shift=1
        )

    def _election(self) -> None:
        environment = self._environment
        topic = environment.rng.choice(
            (environment.shard_topic, environment.shard_topic, environment.commands_topic, environment.results_topic)
        )
        environment.rng.choice(environment.broker.topic(topic).partitions).elect()

    def _restore(self) -> None:
        environment = self._environment
        if environment.options.replays and not environment.stop_codes and environment.rng.random() < 0.5:
            self._replay()
            return
        if not self._backups:
            return
        # Later backups are of a past that is no more: what was published since may have been cut into other batches.
        del self._backups[environment.rng.randrange(len(self._backups)) + 1 :]
        self._put_in_place(self._backups[-1])

    def _put_in_place(self, tables: Tables) -> None:
        environment = self._environment
        environment.database.restore(tables)
        environment.keep_slices()
        for lane in range(environment.options.lanes):
            if not self._position_is_ours(lane):
                environment.checker.position_lost(lane)

    def _replay(self) -> None:
        """Replace the database by one that was replayed from the topic: cut into other batches, nothing published."""
        environment = self._environment
        if len(environment.database.tables.progress) < environment.options.lanes:
            return
        if any(
            environment.broker.log(environment.shard_topic, lane).start_offset
            for lane in range(environment.options.lanes)
        ):
            return  # a replay reads the topic from its first record on
        environment.note("the database is replaced by a replay")
        tables = Tables()
        for lane, model in enumerate(environment.checker.models):
            for each in fields(Tables):
                if each.name not in ("journal", "batch_digests"):
                    getattr(tables, each.name).update(getattr(model.tables, each.name))
            for number, rows in model.tables.journal.items():
                tables.journal.setdefault(number, {}).update(rows)
            borders = model.tables.batch_digests.items()
            kept = {
                key: border for key, border in borders if environment.rng.random() < 0.2 or key[1] == model.next_offset
            }
            tables.batch_digests.update(kept)
            tables.progress[lane] = model.states[model.next_offset]
            tables.ingress.setdefault(lane, {})
            tables.rules[lane, model.rules.version] = (0, model.rules)
        for number in range(min(environment.database.tables.journal), max(environment.database.tables.journal) + 1):
            tables.journal.setdefault(number, {})
        self._backups = []
        self._put_in_place(tables)

    def _position_is_ours(self, lane: int) -> bool:
        environment = self._environment
        offset, metadata = environment.broker.group(environment.shard_group).offsets.get(
            (environment.shard_topic, lane), (-1, "")
        )
        return offset == environment.checker.published[lane] and metadata.startswith("b1 offset=")

    def _set_position(self, lane: int, position: tuple[int, str] | None) -> None:
        environment = self._environment
        offsets = environment.broker.group(environment.shard_group).offsets
        offsets.pop((environment.shard_topic, lane), None)
        if position is not None:
            offsets[environment.shard_topic, lane] = position
        environment.checker.position_lost(lane)

    def _lose_group_offset(self) -> None:
        self._set_position(self._environment.rng.randrange(self._environment.options.lanes), None)

    def _move_group_offset(self) -> None:
        environment, rng = self._environment, self._environment.rng
        lane = rng.randrange(environment.options.lanes)
        offsets = environment.broker.group(environment.shard_group).offsets
        metadata = [metadata for _, metadata in offsets.values()]
        end = environment.broker.log(environment.shard_topic, lane).next_offset
        offset = rng.choice((0, end, rng.randrange(end + 1)))
        if any(f" offset={offset} " in each for each in metadata):  # as if it had not been moved at all
            return
        self._set_position(lane, (offset, rng.choice(["", "their tool", *metadata])))

    def _rewind_router(self) -> None:
        environment = self._environment
        for process in environment.processes:
            if process.name.startswith("router") and process.alive:
                environment.kill(process)
        group = environment.broker.group(environment.router_group)
        for place, (offset, _) in group.offsets.items():
            if environment.rng.random() < 0.7:
                group.offsets[place] = (environment.rng.randrange(offset + 1), "")

    def _set_rules(self) -> None:
        """Change the rules in every lane; now and then the same record comes twice, or with a gap in its versions."""
        environment, rng = self._environment, self._environment.rng
        self._rules_version += rng.choice((1, 1, 1, 0, 2))
        refund_period_ms = rng.choice((6, 24, 180 * 24)) * HOUR_MS
        command = SetRules(
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
        for lane in range(environment.options.lanes):
            release = environment.checker.rules_at_end(lane).release
            payload = encode_command(replace(command, release=release), release=release)
            write_to_lane(environment, lane, payload, keyring=KEYRING)

    def _broker_clock(self) -> None:
        environment = self._environment
        environment.clock.broker_ahead_ms = environment.rng.choice((-5_000, 5_000, 50_000, 120_000, 3 * HOUR_MS))

    def _time_passes(self) -> None:
        environment, rng = self._environment, self._environment.rng
        environment.clock.advance(
            rng.choice((rng.randrange(600_000), rng.randrange(2 * HOUR_MS), rng.randrange(9 * HOUR_MS)))
        )
        environment.keep_slices()

    def _foreign_writer(self) -> None:
        environment, rng = self._environment, self._environment.rng
        basics: dict[str, Any] = {"command_id": rng.randbytes(16), "address": "acme", "currency": "USD"}
        lane = partition_of("acme", environment.options.lanes)
        holds = [key for key in environment.database.tables.holds if key[0] == "acme"]
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
        write_to_lane(environment, lane, payload, key=b"acme", keyring=keyring)

    def _retention(self) -> None:
        environment = self._environment
        for lane in range(environment.options.lanes):
            needed = min(
                tables.border_below_published(lane) for tables in (environment.database.tables, *self._backups)
            )
            log = environment.broker.log(environment.shard_topic, lane)
            self._keep_for_the_model(lane, log, 0, needed)
            log.trim(needed)

    # ------------------------------------------------------------------ damage to a log

    def damage_log(self, damage: LogDamage) -> None:
        """Damage a log, so that at least one lane must stop."""
        self._environment.note(f"log damage: {damage}")
        _LOG_DAMAGES[damage](self)

    def _keep_for_the_model(self, lane: int, log: PartitionLog, from_offset: int, to_offset: int) -> None:
        for entry in log.entries:
            if from_offset <= entry.offset < to_offset:
                self._environment.checker.lost.setdefault((lane, entry.offset), record_of(log, entry))

    def _gap(self) -> None:
        """Lose a record that nobody has read."""
        environment = self._environment
        lane = environment.rng.randrange(environment.options.lanes)
        log = environment.broker.log(environment.shard_topic, lane)
        write_to_lane(environment, lane, encode_command(Tick()))
        log.lose(log.next_offset - 1)
        environment.stop_codes[lane] = {StopCode.LOG_GAP}

    def _trimmed(self) -> None:
        environment = self._environment
        lane = environment.rng.randrange(environment.options.lanes)
        log = environment.broker.log(environment.shard_topic, lane)
        write_to_lane(environment, lane, encode_command(Tick()))
        self._keep_for_the_model(lane, log, 0, log.next_offset - 1)
        log.trim(log.next_offset)
        # A lane that had read up to the last record before meets the gap; one that had not cannot even ask.
        environment.stop_codes[lane] = {StopCode.LOG_TRUNCATED, StopCode.LOG_GAP}

    def _rewritten(self) -> None:
        environment, rng = self._environment, self._environment.rng
        lanes = [lane for lane, progress in environment.database.tables.progress.items() if progress.at.next_offset]
        if not lanes:
            return
        lane = rng.choice(lanes)
        log = environment.broker.log(environment.shard_topic, lane)
        self._keep_for_the_model(lane, log, 0, log.next_offset)
        environment.checker.log_ends[lane] = end = log.next_offset
        self._rewritten_from = rng.randrange(environment.database.tables.progress[lane].at.next_offset)
        log.lose_from(self._rewritten_from)
        for _ in range(rng.choice((0, end - log.next_offset, end - log.next_offset + 5))):
            write_to_lane(environment, lane, encode_command(Tick()))
        environment.stop_codes[lane] = {StopCode.LOG_TRUNCATED, StopCode.LOG_REWRITTEN, StopCode.LOG_GAP}

    def _recreated(self) -> None:
        environment, rng = self._environment, self._environment.rng
        if len(environment.database.tables.progress) < environment.options.lanes:
            return
        ends = {log.number: log.next_offset for log in environment.broker.topic(environment.shard_topic).partitions}
        environment.broker.make_topic(environment.shard_topic, environment.options.lanes)
        for lane, end in ends.items():
            environment.checker.log_ends[lane] = end
            for _ in range(rng.choice((0, end, end + 5))):
                write_to_lane(environment, lane, encode_command(Tick()))
            environment.stop_codes[lane] = {StopCode.TOPIC_CHANGED, StopCode.LOG_TRUNCATED}

    def _producer_time(self) -> None:
        environment = self._environment
        environment.broker.topic(environment.shard_topic).append_time = False
        for lane in range(environment.options.lanes):
            write_to_lane(environment, lane, encode_command(Tick()))
            environment.stop_codes[lane] = {StopCode.TIMESTAMP_TYPE}

    def _ingress_went_back(self) -> None:
        """Lose forwarded records of the ingress, and have the router begin again where the log goes on."""
        environment, rng = self._environment, self._environment.rng
        group = environment.broker.group(environment.router_group)
        places = [place for place, (offset, _) in group.offsets.items() if offset > 0]
        if not places:
            return
        place = rng.choice(places)
        log = environment.broker.log(*place)
        offset = group.offsets[place][0]
        forwarded = [entry for entry in log.entries if entry.offset < offset and not entry.control]
        if not forwarded:
            return
        last = forwarded[-1]
        root = (last.key or b"").decode("ascii", "replace")
        if last.transaction is not None or not is_root(root) or not last.value:
            return
        for process in environment.processes:
            if process.name.startswith("router") and process.alive:
                environment.kill(process)
        log.lose_from(last.offset)
        question = GetBalance(command_id=bytes(16), address=root, currency="USD")
        environment.broker.write(OutRecord(place[0], place[1], last.key, encode_command(question), []))
        group.offsets[place] = (last.offset, "")
        if partition_of(root, environment.options.ingress_partitions) == place[1]:
            environment.may_stop = {StopCode.INGRESS_WENT_BACK}  # of other lanes, what was forwarded and not committed
            environment.stop_codes[partition_of(root, environment.options.lanes)] = {StopCode.INGRESS_WENT_BACK}


_DISRUPTIONS = {
    Disruption.KILL: Nemesis._kill,
    Disruption.REBALANCE: Nemesis._rebalance,
    Disruption.ELECTION: Nemesis._election,
    Disruption.RESTORE: Nemesis._restore,
    Disruption.LOSE_GROUP_OFFSET: Nemesis._lose_group_offset,
    Disruption.MOVE_GROUP_OFFSET: Nemesis._move_group_offset,
    Disruption.REWIND_ROUTER: Nemesis._rewind_router,
    Disruption.SET_RULES: Nemesis._set_rules,
    Disruption.BROKER_CLOCK: Nemesis._broker_clock,
    Disruption.TIME_PASSES: Nemesis._time_passes,
    Disruption.FOREIGN_WRITER: Nemesis._foreign_writer,
    Disruption.RETENTION: Nemesis._retention,
}

_LOG_DAMAGES = {
    LogDamage.GAP: Nemesis._gap,
    LogDamage.TRIMMED: Nemesis._trimmed,
    LogDamage.REWRITTEN: Nemesis._rewritten,
    LogDamage.RECREATED: Nemesis._recreated,
    LogDamage.PRODUCER_TIME: Nemesis._producer_time,
    LogDamage.INGRESS_WENT_BACK: Nemesis._ingress_went_back,
}
