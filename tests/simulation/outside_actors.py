"""Who acts on the service from outside without meaning harm: gateways, the servers themselves, supervisor, operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.faults import StopCode
from processors.ledger.addresses import is_root
from processors.ledger.commands import (
    SetLaneTime,
)
from processors.routing.buckets import partition_of
from processors.stores.mysql import WAIT_TIMEOUT_S
from processors.wire.commands import encode_command
from processors.wire.records import Headers, OutRecord
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign
from tests.simulation.run_options import Disruption
from tests.simulation.worker_process import Actor
from tests.simulation.workload import KEYRING, Operation

if TYPE_CHECKING:
    from tests.simulation.environment import Environment

SESSION_TIMEOUT_MS = 6_000
GATEWAY = "gateway"


class Gateways(Actor):
    """Write the workload's operations to the ingress, now and then within a transaction of their own (R7)."""

    def __init__(self, environment: Environment) -> None:
        super().__init__("gateways", None)
        self._environment = environment
        self._left = environment.options.operations
        self._epoch = environment.broker.open_transactional(GATEWAY)
        self._in_transaction = False

    def ready(self) -> bool:
        return self._left > 0

    def step(self) -> None:
        environment, rng = self._environment, self._environment.rng
        self._left -= 1
        if self._in_transaction and (rng.random() < 0.4 or not environment.broker.is_open(GATEWAY, self._epoch)):
            self._end()
        elif not self._in_transaction and rng.random() < 0.04:
            self._in_transaction = True
        self._send(environment.deployment.vary(environment.workload.next_operation(environment.clock.now_ms)))

    def finish(self) -> None:
        self._left = 0
        self._end()

    def _send(self, operation: Operation) -> None:
        environment = self._environment
        partitions = environment.options.ingress_partitions
        key = (operation.key or b"").decode("ascii", "replace")
        partition = partition_of(key, partitions) if is_root(key) and environment.rng.random() < 0.99 else 0
        transaction = environment.broker.begin(GATEWAY, self._epoch) if self._in_transaction else None
        value = operation.value
        record = OutRecord(environment.commands_topic, partition, operation.key, value or b"", operation.headers)
        entry = environment.broker.write(record, transaction)
        if value is None:
            entry.value = None

    def _end(self) -> None:
        if self._in_transaction:
            environment = self._environment
            if not environment.broker.is_open(GATEWAY, self._epoch):  # it took too long, and was aborted
                self._epoch = environment.broker.open_transactional(GATEWAY)
            environment.broker.end(GATEWAY, self._epoch, commit=environment.rng.random() < 0.7)
            self._in_transaction = False


class Background(Actor):
    """What servers do by themselves: sessions end, delayed requests arrive, partitions of the journal are made."""

    def __init__(self, environment: Environment) -> None:
        super().__init__("background", None)
        self._environment = environment

    def step(self) -> None:
        environment = self._environment
        environment.keep_slices()
        self._requests_arrive()
        self._connections_end()
        environment.broker.expire_transactions()
        running = {process.name for process in environment.processes if process.running}
        for group in environment.broker.groups():
            for member in list(group.members.values()):
                if member.instance in running:
                    member.seen_ms = environment.clock.now_ms
                elif environment.clock.now_ms - member.seen_ms > SESSION_TIMEOUT_MS:
                    environment.note(f"{member.instance} is expelled")
                    group.expel(member.instance)

    def _requests_arrive(self) -> None:
        environment = self._environment
        if environment.broker.late and environment.rng.random() < 0.3:
            environment.note("a delayed EndTxn arrives")
            environment.broker.deliver_late(environment.rng.randrange(len(environment.broker.late)))

    def _connections_end(self) -> None:
        environment = self._environment
        for session in environment.database.holders():
            if session.committing and environment.rng.random() < 0.3:
                commit = environment.rng.random() < 0.5
                environment.note(f"a COMMIT on the wire {'arrives' if commit else 'is lost'}")
                environment.database.settle(session, commit=commit)
            elif environment.clock.now_ms - session.used_ms > WAIT_TIMEOUT_S * 1000:
                environment.note("MySQL gives up a silent connection")
                environment.database.settle(session, commit=False)


class Supervisor(Actor):
    """Starts processes again."""

    def __init__(self, environment: Environment) -> None:
        super().__init__("supervisor", None)
        self._environment = environment

    def ready(self) -> bool:
        return any(not process.alive for process in self._environment.processes)

    def step(self) -> None:
        environment = self._environment
        for place, process in enumerate(environment.processes):
            if not process.alive and (environment.healed or environment.rng.random() < 0.3):
                again = environment.processes[place] = type(process)(environment, process.name)
                again.boot()
                environment.note(f"{process.name} starts again")


class Operator(Actor):
    """Tells the time of records that a broker stamped wrongly (I2): as the command line does, and also otherwise.

    The command line looks where a lane waits, and writes an override of that record and those after it some time later.
    Now and then a lane is only started again, which ends no wait, the override comes while the broker's clock is still
    wrong, or somebody writes an override that no lane waits for.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__("operator", None)
        self.told: set[tuple[int, int]] = set()  # lane and offset of overrides that were written with the clocks right
        self._environment = environment
        self._meant: list[tuple[int, int]] = []  # what the command line saw, and has not written yet

    def ready(self) -> bool:
        return Disruption.BROKER_CLOCK in self._environment.options.disruptions

    def step(self) -> None:
        environment, rng = self._environment, self._environment.rng
        if self._meant and rng.random() < 0.1:
            environment.clock.broker_ahead_ms = 0
            self._release(*self._meant.pop(rng.randrange(len(self._meant))))
        waiting = [
            lane for lane, (code, _) in environment.database.tables.stops.items() if code is StopCode.CLOCK_AHEAD
        ]  # fmt: skip
        if waiting:
            self._help(rng.choice(waiting))
        elif not environment.healed and not environment.options.worker_ahead_ms and rng.random() < 0.1:
            lane = rng.randrange(environment.options.lanes)
            if not self._is_of_the_first_release(lane):
                self._stray(lane)

    def _is_of_the_first_release(self, lane: int) -> bool:
        """Say whether it matters, under a lane's rules, when it looks, and an override is about one record."""
        known = self._environment.database.tables.rules_of(lane)
        return (list(known.values())[-1] if known else self._environment.options.rules).release == 1

    def _help_by_single_overrides(self, lane: int) -> None:
        """Tell records one by one, that at which the lane stands last, so that it meets none untold."""
        environment = self._environment
        environment.clock.broker_ahead_ms = 0
        now_ms, stopped_at = environment.clock.now_ms, environment.database.tables.progress[lane].at.next_offset
        if (lane, stopped_at) in self.told:
            return
        if self._is_passed(lane, stopped_at):
            environment.note(f"operator: lane {lane} is started again")
            del environment.database.tables.stops[lane]
            return
        log = environment.broker.log(environment.shard_topic, lane)
        ahead = [entry.offset for entry in log.entries if entry.timestamp_ms > now_ms + 60_000]
        for offset in [*(each for each in ahead if each > stopped_at and (lane, each) not in self.told), stopped_at]:
            self.told.add((lane, offset))
            command = SetLaneTime(command_id=bytes(16), lane_offset=offset, time_ms=now_ms)
            write_to_lane(environment, lane, encode_command(command, release=1), keyring=KEYRING)

    def _stray(self, lane: int) -> None:
        """Tell records that no lane waits for: decided ones, coming ones, and those that are ahead."""
        environment, rng = self._environment, self._environment.rng
        log = environment.broker.log(environment.shard_topic, lane)
        ahead = [entry.offset for entry in log.entries if entry.timestamp_ms > environment.clock.now_ms + 60_000]
        first = rng.choice(ahead[:3]) if ahead and rng.random() < 0.8 else rng.randrange(log.next_offset + 2)
        self._write(lane, first, first + rng.randrange(-1, 6))

    def _help(self, lane: int) -> None:
        environment, rng = self._environment, self._environment.rng
        if self._is_of_the_first_release(lane):
            self._help_by_single_overrides(lane)
            return
        if environment.healed or rng.random() < 0.7:
            environment.clock.broker_ahead_ms = 0
        stopped_at = environment.database.tables.progress[lane].at.next_offset
        if not environment.healed and rng.random() < 0.3:
            environment.note(f"operator: lane {lane} is started again")
            del environment.database.tables.stops[lane]
        elif not environment.healed and rng.random() < 0.7:
            self._meant.append((lane, stopped_at))
        elif (lane, stopped_at) not in self.told or self._is_passed(lane, stopped_at):
            self._release(lane, stopped_at)

    def _is_passed(self, lane: int, offset: int) -> bool:
        """Say whether a record's own stamp is over, so that an override may say that it is right."""
        environment = self._environment
        stamps = {
            entry.offset: entry.timestamp_ms for entry in environment.broker.log(environment.shard_topic, lane).entries
        }
        return stamps.get(offset, environment.clock.now_ms + 1) <= environment.clock.now_ms

    def _release(self, lane: int, stopped_at: int) -> None:
        """Tell the record at which the lane stands, those after it that are ahead, or any number of them."""
        environment, rng = self._environment, self._environment.rng
        if environment.clock.broker_ahead_ms == 0:
            self.told.add((lane, stopped_at))
        log = environment.broker.log(environment.shard_topic, lane)
        ahead = [entry.offset for entry in log.entries if entry.timestamp_ms > environment.clock.now_ms + 60_000]
        self._write(lane, stopped_at, rng.choice((stopped_at, stopped_at + 3, max([stopped_at, *ahead]), 1 << 40)))

    def _write(self, lane: int, first: int, last: int) -> None:
        environment = self._environment
        now_ms = environment.clock.now_ms
        environment.note(f"operator: lane {lane} offsets {first} to {last} were at {now_ms}")
        one = environment.rng.random() < 0.1  # by an older command line
        command = SetLaneTime(
            command_id=bytes(16), lane_offset=first, time_ms=now_ms, last_offset=None if one else last
        )  # fmt: skip
        payload = encode_command(command, release=1) if one else encode_command(command)
        write_to_lane(environment, lane, payload, keyring=KEYRING)


def write_to_lane(
    environment: Environment, lane: int, payload: bytes, *, key: bytes | None = None, keyring: KeyRing | None = None
) -> None:
    """Write to the shard's topic without the router."""
    headers: Headers = [] if keyring is None else [(SIGNATURE_HEADER, sign(keyring, key, payload))]
    environment.broker.write(OutRecord(environment.shard_topic, lane, key, payload, headers))
