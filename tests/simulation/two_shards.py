"""Two shards in memory, a lane each, step by step; the test is the router."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from processors.ids import make_command_id, root_of, slice_of
from processors.lane.committing import Committer
from processors.lane.deciding import Decider
from processors.lane.handing_over import cut
from processors.lane.lane import Lane, LaneParts
from processors.lane.moving import Mover
from processors.lane.parts import Parts
from processors.lane.placements import Placements
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes
from processors.ledger.commands import (
    Command,
    CommandType,
    MoveAhead,
    MovePartner,
    OpenAccount,
    Pay,
    SendAgain,
    Tick,
    TopUp,
)
from processors.ledger.outcomes import Status
from processors.ledger.rules import Rules
from processors.ops.moving import Ahead
from processors.routing.buckets import placement_key_of
from processors.stores.rows import PlacementRow, PlacementState, rows_of
from processors.streams.consumer import AssignmentEvents
from processors.wire.admission import Gate, admit
from processors.wire.commands import encode_command
from processors.wire.markers import marker_id
from processors.wire.packed_rows import compress_rows
from processors.wire.records import Headers, OutRecord, Record
from processors.wire.results import LaneIdentity, Result, decode_result
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.signature import SIGNATURE_HEADER, sign
from tests.simulation.fakes.broker import Broker, record_of
from tests.simulation.fakes.clock import START_MS, Clock
from tests.simulation.fakes.consumers import FakeLaneLog, FakeShardConsumer
from tests.simulation.fakes.crash_points import CrashPoints, NoCrashes
from tests.simulation.fakes.database import Database
from tests.simulation.fakes.frozen_rows import fake_courier
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.producers import FakeProducer, FakePublisher, Membership
from tests.simulation.fakes.tables import Tables
from tests.simulation.workload import KEYRING

COMMANDS = "balance.commands"
REPLAYED_TOGETHER = 7  # other batches than those of the lane
HOME = placement_key_of("acme")
TWIN = "twin-74441"  # in the same bucket
AS_IF_SEALED = PlacementRow(placement_key="", generation=0, state=PlacementState.SEALED)


class Shard:
    """One lane of a shard; ``begin_again`` is another process that takes it over."""

    def __init__(
        self,
        shard: str,
        clock: Clock,
        broker: Broker,
        *,
        home: bool,
        lane: Callable[[LaneParts], Lane] = Lane,
        store: type[FakeLaneStore] = FakeLaneStore,
    ) -> None:
        self.make_lane, self.make_store = lane, store
        self.shard, self.topic, self.broker, self.clock = shard, f"balance.shard.{shard}", broker, clock
        broker.make_topic(self.topic, 1)
        self.database = Database(clock, Rules(version=1))
        self.database.home = home
        for number in range(slice_of(START_MS) - 8, slice_of(START_MS) + 12):
            self.database.tables.journal[number] = {}
        self.begin_again()

    def begin_again(self) -> None:
        """Take the lane over, as another process."""
        self.start(NoCrashes())
        self.lane.assign()

    def start(self, crash_points: CrashPoints) -> None:
        """Have another process there, which has not taken the lane over yet."""
        events = AssignmentEvents(assigned=lambda _: None, revoked=lambda _: None, started=lambda _: None)
        consumer = FakeShardConsumer(
            self.broker, self.topic, f"workers-{self.shard}", "worker", events=events, crash_points=crash_points
        )
        consumer.poll(1, 0)  # joins
        self.consumer = consumer
        membership = Membership(group=consumer.group, member=lambda: consumer.member)
        topic_id = self.broker.topic(self.topic).topic_id
        self.parts = LaneParts(
            context=LaneContext(
                identity=LaneIdentity(shard=self.shard, incarnation=topic_id, lane=0),
                lanes=1,
                results_topic="balance.results",
                results_partitions=1,
                dead_letters_topic="balance.dead-letters",
                commands_topic=COMMANDS,
                commands_partitions=1,
            ),
            make_gate=lambda: Gate(keyring=KEYRING, lane=0, lanes=1),
            store=self.make_store(self.database, 0, crash_points),
            log=FakeLaneLog(self.broker, consumer, self.topic, 0, crash_points=crash_points),
            make_publisher=lambda: FakePublisher(self.broker, f"{self.shard}.0", self.topic, membership, crash_points),
            make_sender=lambda: FakeProducer(self.broker, crash_points),
            clock_ms=self.clock.read,
            book_accounts_max=10,
            courier=fake_courier(self.shard, self.database, 0, self.broker, crash_points),
            observe_published=lambda _records, _stamped_ms: None,
        )
        self.lane = self.make_lane(self.parts)

    def serve(self, *, publish: bool = True) -> None:
        """Take everything there is, and bring it to its end."""
        records, _ = self.consumer.poll(100, 0)
        waiting: list[Record] = records.get(0, [])
        while waiting or not self.lane.idle:
            waiting = waiting[self.lane.turn(waiting) :]
            while self.lane.awaits_publication and self.lane.publishing.step():
                pass
        while publish and self.lane.publishing.step():
            pass

    def tick(self) -> None:
        """Move the lane's time on, and unpark what waits."""
        self.broker.write(OutRecord(self.topic, 0, None, encode_command(Tick()), []))

    def replayed(self, mover: type[Mover] = Mover, parts: type[Parts] = Parts) -> Tables:
        """Return the tables of an empty database after the whole log was decided into it, in batches of its own."""
        database = Database(self.clock, Rules(version=1), home=self.database.home)
        database.tables.journal.update({number: {} for number in self.database.tables.journal})
        log, context = self.broker.log(self.topic, 0), self.parts.context
        store = FakeLaneStore(database, 0, NoCrashes())
        state = store.take_over(context.identity.incarnation)
        times = LaneTimes({}, {}, next_offset=0, let_pass_below=log.next_offset)
        gate = Gate(keyring=KEYRING, lane=0, lanes=1)
        committer = Committer(
            store,
            Decider(context, state, times),
            state,
            admit=lambda record, rules: admit(record, rules, gate),
            admit_parked=lambda record, rules: admit(record, rules, gate),
            book_accounts_max=10,
            publishes=False,
            seals_show_published=not self.broker.group(f"workers-{self.shard}").offsets,
            on_committed=lambda _batch: None,
        )
        committer._mover.__class__ = mover
        committer._mover._parts.__class__ = parts
        entries, _ = log.read(0, log.next_offset)
        records = [record_of(log, entry) for entry in entries]
        while records or not committer.idle:
            taken = committer.advance(records[:REPLAYED_TOGETHER], published=(0, 0), check=lambda: None)
            records = records[taken:]
        return database.tables

    def delete_what_left(self, *, unpublished: bool = False) -> None:
        """Delete frozen rows that the target has, and whose seal is published, as the remover does (M7, L4).

        With ``unpublished`` it does not wait for that: a mutation, which `test_moves_restored` must find.
        """
        tables = self.database.tables
        border = tables.border_below_published(0)
        for place, row in tables.placements.items():
            if row.state is PlacementState.LEFT and (unpublished or row.since_offset <= border):
                tables.delete_rows_of(rows_of(row.placement_key, tables.placements_of(0), but_ahead=True))
                tables.placements[place] = replace(row, state=PlacementState.AWAY)

    @property
    def states(self) -> dict[str, tuple[PlacementState, int, int]]:
        """Return by placement key its state, generation and how many records wait."""
        rows = self.database.tables.placements.items()
        return {key: (row.state, row.generation, row.parked) for (_, key), row in rows}


class TwoShards:
    """The shards, and the partner's log as a router would forward it."""

    def __init__(
        self,
        *,
        lane: Callable[[LaneParts], Lane] = Lane,
        store: type[FakeLaneStore] = FakeLaneStore,
        names: Sequence[str] = ("s1", "s2"),
    ) -> None:
        self.clock = Clock()
        self.broker = Broker(self.clock)
        for topic in (COMMANDS, "balance.results", "balance.dead-letters"):
            self.broker.make_topic(topic, 1)
        self.of = {
            name: Shard(name, self.clock, self.broker, home=name == "s1", lane=lane, store=store) for name in names
        }
        self.offset = 0
        self.count = 0
        self.legs_read = 0
        self.placed = {HOME: ("s1", 0)}  # placement key -> shard and generation
        self.ahead: dict[tuple[str, int, str], Ahead] = {}  # by placement key, generation that will begin, and target

    def new_id(self) -> bytes:
        self.count += 1
        return make_command_id(self.clock.now_ms, self.count.to_bytes(10, "big"))

    def owner_of(self, root: str) -> tuple[str, str, int]:
        """Return a root's shard, and the placement key and generation by which it is there."""
        key = root if root in self.placed else HOME
        shard, generation = self.placed[key]
        return shard, key, generation

    def send(self, command: Command) -> Command:
        """Route a command to its partner's shard."""
        self.forward(root_of(command.address), encode_command(command), [])
        return command

    def forward(self, root: str, payload: bytes, headers: Headers) -> None:
        """Route a record to its partner's shard."""
        shard, key, generation = self.owner_of(root)
        self._forward(shard, Route(RouteKind.COMMAND, 1, 0, -1, 0, 0, key, generation), root, payload, headers)

    def _forward(self, shard: str, route: Route, record_key: str, payload: bytes, headers: Headers) -> None:
        """Write a record as the router does: with its next offset."""
        self.offset += 1
        route = replace(route, ingress_offset=self.offset, broker_time_ms=self.clock.now_ms)
        routed = [*headers, (ROUTE_HEADER, encode_route(route))]
        self.broker.write(OutRecord(f"balance.shard.{shard}", 0, record_key.encode(), payload, routed))

    def forward_legs(self) -> None:
        """Route what the lanes themselves have sent since the last time: the legs of transfers."""
        entries = self.broker.log(COMMANDS, 0).entries[self.legs_read :]
        self.legs_read += len(entries)
        for entry in entries:
            assert entry.key
            assert entry.value
            self.forward(entry.key.decode(), entry.value, entry.headers)

    def open(self, balance_minor: int) -> None:
        """Open an account of acme's, with some money."""
        self.send(OpenAccount(command_id=self.new_id(), address="acme", currency="USD"))
        self.send(TopUp(command_id=self.new_id(), address="acme", currency="USD", amount_minor=balance_minor))

    def pay(self, amount_minor: int, address: str = "acme") -> Command:
        """Have acme pay, or another."""
        return self.send(Pay(command_id=self.new_id(), address=address, currency="USD", amount_minor=amount_minor))

    def go_ahead(self, to: str, key: str = "acme") -> None:
        """Have an operator's tool send what the owner has decided and not sent before, ahead of a move to a shard."""
        shard, owned_by, generation = self.owner_of(key)
        begins = generation + 1 if owned_by == key else 1
        tables = self.of[shard].database.tables
        row = tables.placements.get((0, owned_by))
        if not (generation == 0 if row is None else row.is_at(PlacementState.OWNED, generation)):
            return  # it has not arrived yet: the tool refuses that
        here = Placements(tables.placements_of(0), home=shard == "s1").here_from(key)
        before = self.ahead.get((key, begins, to), Ahead())
        if before.from_offset != here:
            before = Ahead(from_offset=here)
        now = replace(
            AS_IF_SEALED,
            placement_key=key,
            since_offset=tables.progress[0].at.next_offset,
            sealed_from_offset=here,
            ahead_offset=before.offset,
        )
        number, digest = before.parts, before.digest
        for piece in cut(tables.ids(0, now), rows_max=3, digest=digest):
            assert piece is not None
            digest = piece.digest
            if piece.is_last:
                break
            part = MoveAhead(self.new_id(), key, begins, shard, number, compress_rows(piece.rows), digest)
            payload = encode_command(part)
            headers: Headers = [(SIGNATURE_HEADER, sign(KEYRING, None, payload))]
            self.broker.write(OutRecord(self.of[to].topic, 0, None, payload, headers))
            number += 1
        offset = max(before.offset, now.since_offset)  # of a database that went back
        self.ahead[key, begins, to] = replace(before, offset=offset, parts=number, digest=digest)

    def _gone_ahead(self, to: str, key: str, begins: int) -> Ahead:
        """Return what an operator's tool says of ids in a marker, once the target has them."""
        ahead = self.ahead.get((key, begins, to), Ahead())
        row = self.of[to].database.tables.placements.get((0, key))
        has = row is not None and (row.ahead_generation, row.parts, row.digest) == (begins, ahead.parts, ahead.digest)
        return ahead if has else Ahead()

    def move(self, to: str, key: str = "acme") -> None:
        """Have the router meet a placement key's marker: what comes next goes to the target."""
        shard, owned_by, generation = self.owner_of(key)
        begins = generation + 1 if owned_by == key else 1  # a root that leaves its bucket begins anew
        ahead = self._gone_ahead(to, key, begins)
        marker = MovePartner(
            command_id=marker_id(key, begins, shard, to),
            placement_key=key,
            generation=begins,
            source=shard,
            target=to,
            ahead_from_offset=ahead.from_offset,
            ahead_offset=ahead.offset,
            ahead_parts=ahead.parts,
            ahead_digest=ahead.digest if ahead.parts else b"",
        )
        route = Route(RouteKind.MOVE_OUT, 1, 0, -1, 0, 0, owned_by, generation)
        self._forward(shard, route, key, encode_command(marker), [])
        self.placed[key] = (to, begins)

    def send_again(self, key: str = "acme") -> None:
        """Have an operator ask every shard that sealed a placement key to send its parts again."""
        for shard in self.of.values():
            row = shard.database.tables.placements.get((0, key))
            if row is not None and row.state is PlacementState.SEALED:
                payload = encode_command(SendAgain(self.new_id(), key, row.generation))
                signature = sign(KEYRING, None, payload)
                self.broker.write(OutRecord(shard.topic, 0, None, payload, [(SIGNATURE_HEADER, signature)]))

    def serve(self, rounds: int = 4) -> None:
        """Have both shards take all there is, with a TICK each round."""
        for _ in range(rounds):
            self.forward_legs()
            for shard in self.of.values():
                shard.serve()
                shard.tick()

    def results(self) -> list[Result]:
        """Return every visible result that concerns a partner."""
        entries = self.broker.log("balance.results", 0).entries
        results = [decode_result(entry.value) for entry in entries if entry.value]
        return [result for result in results if result.root]

    def dead_letters(self) -> int:
        return len([entry for entry in self.broker.log("balance.dead-letters", 0).entries if entry.value])

    def trial_balance(self, shard: str) -> int:
        """Return what a shard's accounts that are its own, and its system accounts, come to: zero."""
        tables = self.of[shard].database.tables
        placements = Placements(tables.placements_of(0), home=shard == "s1")
        accounts = tables.accounts.values()
        own = sum(account.balance for account in accounts if placements.has(root_of(account.address)))
        return own + sum(tables.system.values())


def outcomes(shards: TwoShards) -> list[tuple[CommandType, Status, int]]:
    """Return type, status and balance of every result that concerns a partner."""
    results = shards.results()
    return [(each.type, each.status, each.postings[0].balance if each.postings else 0) for each in results]
