"""The checker: what must hold at every commit of MySQL, at every Kafka transaction, and at the end of a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from processors.faults import LaneStopped
from processors.lane.standing import LaneContext
from processors.ledger.addresses import at_levels, level_of
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Reason
from processors.ledger.rules import Rules
from processors.stores.rows import BatchWrite
from processors.wire.dead_letters import decode_dead_letter
from processors.wire.positions import decode_metadata
from processors.wire.records import Record
from processors.wire.results import Result, decode_result
from tests.simulation.deployment import EVERY_KEY, OTHER_GATE, SETTINGS
from tests.simulation.fakes.broker import Broker, KafkaTransaction, PartitionLog, record_of
from tests.simulation.fakes.database import Database
from tests.simulation.lane_model import LaneModel
from tests.simulation.transfers_checker import Violation, check_transfers, demand

AnswerKey = tuple[int, int, int]  # lane, offset, place among the record's answers


class Checker:
    """Compares everything that becomes durable or visible with the models of the lanes (``lane_model``)."""

    def __init__(
        self, broker: Broker, database: Database, topic: str, contexts: list[LaneContext], rules: Rules
    ) -> None:
        self.models = [LaneModel(context, rules, EVERY_KEY, SETTINGS) for context in contexts]
        self.lost: dict[tuple[int, int], Record] = {}  # records that a log no longer has, as they were
        self.log_ends: dict[int, int] = {}  # lane -> where its first log ended, once another took its place
        self.results: list[Result] = []  # every visible one, in order
        self.repeatable: set[AnswerKey] = set()  # what may become visible once more (L4: the group offset was lost)
        self.published = [0 for _ in contexts]  # P as committed last
        self.clocks_ahead_ms = 0  # how far the worst worker's clock is
        self._logs: list[PartitionLog] = list(broker.topic(topic).partitions)
        self._broker = broker
        self._clock = broker.clock
        self._database = database
        self._contexts = contexts
        self._answer_topics = {contexts[0].results_topic, contexts[0].dead_letters_topic}
        self._durable = [0 for _ in contexts]  # the furthest commit ever; a restored database stands below
        self._visible: Counter[AnswerKey] = Counter()
        self._complete = [0 for _ in contexts]  # below it, every answer is visible
        self._places: dict[tuple[str, bytes], AnswerKey] = {}
        database.on_commit = self.batch_committed
        broker.on_visible = self.transaction_committed

    # ------------------------------------------------------------------ the model

    def decide_up_to(self, lane: int, offset: int) -> None:
        """Have the model decide what a lane says it decided."""
        model = self.models[lane]
        model.hear(self._written(lane))
        while model.next_offset < offset:
            record = self._record(lane, model.next_offset)
            demand(record is not None, f"lane {lane} decided up to {offset}, its log has no {model.next_offset}")
            assert record is not None
            try:
                answers = model.decide(record)
            except LaneStopped as stop:
                raise Violation(f"lane {lane} decided offset {record.offset}, which must stop it: {stop}") from stop
            for place, answer in enumerate(answers):
                self._places[answer.topic, answer.value] = (lane, record.offset, place)

    def rules_at_end(self, lane: int) -> Rules:
        """Return the rules that are in force behind a lane's log as it is now."""
        model = self.models[lane]
        model.hear(self._written(lane))
        return model.heard_rules

    def _written(self, lane: int) -> Iterator[Record]:
        """Yield the records that stand in a lane's log now, from the first that was not decided."""
        log, end = self._logs[lane], self.log_ends.get(lane)
        for entry in log.entries:
            if entry.offset >= self.models[lane].next_offset and (end is None or entry.offset < end):
                yield record_of(log, entry)

    def _record(self, lane: int, offset: int) -> Record | None:
        if (lane, offset) in self.lost:
            return self.lost[lane, offset]
        if offset >= self.log_ends.get(lane, offset + 1):
            return None
        log = self._logs[lane]
        if not log.start_offset <= offset < log.next_offset:
            return None
        entries, _ = log.read(offset, 1)
        return record_of(log, entries[0]) if entries[0].offset == offset else None

    # ------------------------------------------------------------------ at every commit

    def batch_committed(self, lane: int, write: BatchWrite) -> None:
        progress = write.progress
        offset = progress.at.next_offset
        self.decide_up_to(lane, offset)
        self._durable[lane] = max(self._durable[lane], offset)
        state = self.models[lane].states[offset]
        demand(progress.at == state.at, f"lane {lane} stands at {progress.at}, a straight run at {state.at}")
        demand(progress.version_us == state.version_us, f"lane {lane} at {offset}: another version than a straight run")
        demand(
            progress.at.lane_time_ms
            <= self._clock.now_ms + self._contexts[lane].clock_ahead_max_ms + self.clocks_ahead_ms,
            f"lane {lane} decided records of {progress.at.lane_time_ms} at {self._clock.now_ms}",
        )
        demand(
            progress.published_offset <= self.complete(lane),
            f"lane {lane}: published_offset {progress.published_offset}, visible up to {self.complete(lane)}",
        )
        self.trial_balance()

    def trial_balance(self) -> None:
        tables = self._database.tables
        sums: defaultdict[tuple[int, str], int] = defaultdict(int)
        for account in tables.accounts.values():
            sums[level_of(account.address), account.currency] += account.balance
        for (_, (level, _, currency)), balance in tables.system.items():
            sums[level, currency] += balance
        demand(not any(sums.values()), f"trial balance {dict(sums)}")

    # ------------------------------------------------------------------ at every visible transaction

    def transaction_committed(self, transaction: KafkaTransaction) -> None:
        positions = {place[1]: (offset, metadata) for _, place, offset, metadata in transaction.offsets}
        for lane, (offset, _) in positions.items():
            demand(offset <= self._durable[lane], f"lane {lane}: P is {offset}, committed up to {self._durable[lane]}")
        for log, entry in transaction.entries:
            if log.topic not in self._answer_topics:  # a gateway's own transaction
                continue
            assert entry.value is not None
            self._became_visible(log, entry.key, entry.value, entry.headers)
        for lane, (offset, metadata) in positions.items():
            self._position_moved(lane, offset, metadata)

    def _became_visible(
        self, log: PartitionLog, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]
    ) -> None:
        place = self._places.get((log.topic, value))
        demand(place is not None, f"{log.topic} got a record that the model does not have: {_told(value)}")
        assert place is not None
        lane, offset, index = place
        answer = self.models[lane].answers[offset][index]
        demand(
            (answer.partition, answer.key, answer.headers) == (log.number, key, headers),
            f"the answer to lane {lane} offset {offset} has another partition, key or headers",
        )
        demand(offset < self._durable[lane], f"lane {lane} offset {offset} was published and never committed")
        self._visible[place] += 1
        if self._visible[place] > 1:
            demand(place in self.repeatable, f"the answer to lane {lane} offset {offset} is visible twice")
            self.repeatable.discard(place)
        elif log.topic == self._contexts[lane].results_topic:
            self.results.append(decode_result(value))

    def _position_moved(self, lane: int, offset: int, metadata: str) -> None:
        position = decode_metadata(offset, metadata)
        demand(position is not None, f"lane {lane}: metadata {metadata!r} is not ours")
        assert position is not None
        demand(
            position.at.digest == self.models[lane].states[offset].at.digest,
            f"lane {lane} published up to {offset} with another digest",
        )
        demand(offset >= self.published[lane], f"lane {lane}: P went back from {self.published[lane]} to {offset}")
        self.published[lane] = offset
        self.repeatable = {key for key in self.repeatable if key[0] != lane or key[1] >= offset}
        demand(self.complete(lane) >= offset, f"lane {lane}: P is {offset}, visible only up to {self.complete(lane)}")

    def complete(self, lane: int) -> int:
        """Return the offset below which every answer of a lane is visible."""
        answers, offset = self.models[lane].answers, self._complete[lane]
        while offset in answers and all(self._visible[lane, offset, index] for index in range(len(answers[offset]))):
            offset += 1
        self._complete[lane] = offset
        return offset

    def position_lost(self, lane: int) -> None:
        """Allow what was published since the border below ``published_offset`` to be visible again, as it was (L4)."""
        since = self._database.tables.border_below_published(lane)
        self.published[lane] = min(self.published[lane], since)
        self.repeatable.update(key for key in self._visible if key[0] == lane and key[1] >= since)

    # ------------------------------------------------------------------ at the end

    def finish(self, commands_topic: str, *, is_whole: Callable[[int], bool]) -> None:
        """Check the end state; ``is_whole`` says of a lane whether all of its log had to be decided."""
        lanes = range(len(self._logs))
        progress = self._database.tables.progress
        for lane, log in enumerate(self._logs):
            if is_whole(lane):
                demand(progress[lane].at.next_offset == log.next_offset, f"lane {lane} stands at {progress[lane]}")
                demand(self.complete(lane) == log.next_offset, f"lane {lane}: visible up to {self.complete(lane)}")
        if all(self.models[lane].next_offset == progress[lane].at.next_offset for lane in lanes):
            self._compare_tables()
        if all(is_whole(lane) for lane in lanes):
            self._check_nothing_is_lost(commands_topic)
            check_transfers(self.results, self._database.tables, self._dead_letters())
        for lane in lanes:
            self._check_replay(lane)
        self._check_holds()
        self._check_identities()
        self._check_statements()
        self._check_recalls()

    def _check_nothing_is_lost(self, commands_topic: str) -> None:
        """Every record of the ingress came to a lane, which answered it (``complete``), or is a dead letter."""
        met = {place for model in self.models for place in model.met}
        for entry in self._broker.log(self._contexts[0].dead_letters_topic, 0).entries:
            if entry.transaction is None and entry.value is not None:
                letter = decode_dead_letter(entry.value)
                met.add((letter.partition, letter.offset))
        for log in self._broker.topic(commands_topic).partitions:
            for entry in log.read(0, 1 << 30)[0]:
                demand((log.number, entry.offset) in met, f"ingress {log.number} offset {entry.offset} is lost")

    def _dead_letters(self) -> list[bytes]:
        """Return the payloads of all that no lane took for a command."""
        entries = self._broker.log(self._contexts[0].dead_letters_topic, 0).entries
        return [decode_dead_letter(entry.value).payload for entry in entries if entry.value is not None]

    def _compare_tables(self) -> None:
        tables = self._database.tables
        for name in ("accounts", "holds", "open_refunds", "open_transfers", "lane_times", "rules"):
            wanted: dict[Any, Any] = {}
            for model in self.models:
                wanted.update(getattr(model.tables, name))
            found = getattr(tables, name)
            if name == "rules":
                found = {key: row for key, row in found.items() if row[0]}
            if name == "holds":  # the remover takes those that expired (H2)
                wanted = {key: row for key, row in wanted.items() if row.remaining_minor or key in found}
            demand(found == wanted, f"table {name} is {found}, the model's {wanted}")
        for lane, model in enumerate(self.models):
            demand(tables.ingress[lane] == model.tables.ingress.get(lane, {}), f"ingress positions of lane {lane}")
        system = {key: balance for model in self.models for key, balance in model.tables.system.items()}
        demand(tables.system == system, "system accounts are not those of the model")
        refunded = {key: row for model in self.models for key, row in model.tables.refunded.items()}
        for key, row in tables.refunded.items():  # the remover takes old ones (H3)
            demand(refunded[key] == row, f"refunded {key}")

    def _check_replay(self, lane: int) -> None:
        """A replay decides the same (I2, I6), though it knows from its first record on all that the log ever said.

        Its keys file and its registry ids are others: what the log does not name counts for nothing.
        """
        live = self.models[lane]
        live.hear(self._written(lane))
        if not live.control_records:
            return
        replay = LaneModel(self._contexts[lane], live.rules, OTHER_GATE.keyring, OTHER_GATE.confluent)
        replay.hear(live.control_records)
        for record in live.met_records.values():
            replay.decide(record)
            state, again = live.states[replay.next_offset], replay.states[replay.next_offset]
            demand(
                (state.at.digest, state.at.lane_time_ms) == (again.at.digest, again.at.lane_time_ms),
                f"lane {lane} offset {record.offset}: a replay decides otherwise",
            )

    def _check_holds(self) -> None:
        tables = self._database.tables
        held: Counter[tuple[str, str]] = Counter()
        for hold in tables.holds.values():
            for address in at_levels(hold.address, hold.levels):
                held[address, hold.currency] += hold.remaining_minor
        for key, account in tables.accounts.items():
            demand(account.held == held[key], f"{key} has {account.held} held, its open holds {held[key]}")

    def _check_identities(self) -> None:
        """Each command decided at most once (I1), each result under an id of its own (A1), versions rising (A2)."""
        decided = Counter((result.root, result.command_id) for result in self.results if result.journalled)
        demand(not decided or max(decided.values()) == 1, f"decided twice: {decided.most_common(1)}")
        ids = Counter((result.lane, result.lane_offset, result.lane_index) for result in self.results)
        demand(not ids or max(ids.values()) == 1, f"two results of one id: {ids.most_common(1)}")
        versions: dict[int, int] = {}
        for result in sorted(self.results, key=lambda each: (each.lane, each.lane_offset, each.lane_index)):
            if result.journalled:
                demand(result.version_us > versions.get(result.lane, 0), f"version of offset {result.lane_offset}")
                versions[result.lane] = result.version_us

    def _check_statements(self) -> None:
        """Every account's changes, as published: a gapless sequence, and balances that follow from one another."""
        known: dict[tuple[str, str], tuple[int, int, int]] = {}
        for result in sorted(self.results, key=lambda each: (each.lane, each.lane_offset, each.lane_index)):
            if not result.journalled:
                continue
            for posting in result.postings:
                if not (posting.balance_change or posting.held_change):
                    continue
                key = (posting.address, result.currency)
                sequence, balance, held = known.get(key, (0, 0, 0))
                after = (sequence + 1, balance + posting.balance_change, held + posting.held_change)
                demand((posting.sequence, posting.balance, posting.held) == after, f"statement of {key} at {sequence}")
                known[key] = after

    def _check_recalls(self) -> None:
        """No refund ends for want of an original that was decided before it (H4)."""
        decided = {(result.root, result.command_id): result.lane_offset for result in self.results if result.journalled}
        for result in self.results:
            if result.type is CommandType.RECALL_ORIGINAL and result.reason is Reason.UNKNOWN_ORIGINAL:
                refund, original = (
                    decided[result.root, result.transaction_id], decided.get((result.root, result.related_id))
                )  # fmt: skip
                demand(
                    original is None or original > refund,
                    f"lane {result.lane} offset {result.lane_offset}: the original is at {original}",
                )


def _told(value: bytes) -> str:
    try:
        result = decode_result(value)
    except Exception:  # noqa: BLE001 - a dead letter
        return value[:80].hex()
    return f"lane {result.lane} offset {result.lane_offset} {result.type} {result.status} {result.reason}"
