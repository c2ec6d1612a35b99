"""Where a lane's batches are cut shows nowhere: not in an answer, not in a row, not in the digest (L9, L13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.ids import derived_id, slice_of
from processors.lane.committing import Committer
from processors.lane.deciding import Decider
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes
from processors.ledger.commands import ControlType, ExpireHold, PlaceHold, SetRules, Tick
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules
from processors.routing.buckets import placement_key_of
from processors.wire.admission import Gate, admit
from processors.wire.commands import decode_command, encode_command, type_of_payload
from processors.wire.records import OutRecord, Record
from processors.wire.results import LaneIdentity
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.signature import SIGNATURE_HEADER, sign
from tests.simulation.fakes.clock import START_MS, Clock
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.database import Database
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.tables import Tables
from tests.simulation.workload import KEYRING, Workload

TOPIC_ID = bytes(16)
HOUR_MS = 3_600_000
GATE = Gate(keyring=KEYRING, lane=0, lanes=1)
RULES = Rules(version=1, release=1, result_version=1, window_ms=HOUR_MS, refund_period_ms=6 * HOUR_MS)
RECORDS = 70
CONTEXT = LaneContext(
    identity=LaneIdentity(shard="s1", incarnation=TOPIC_ID, lane=0),
    lanes=1,
    results_topic="results",
    results_partitions=2,
    dead_letters_topic="dead-letters",
    commands_topic="commands",
    commands_partitions=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of a log leaves: every answer in order, and the shard's rows."""

    answers: list[OutRecord]
    tables: Tables


def log_of(seed: int, size: int = RECORDS, *, roots: int = 2) -> list[Record]:
    """Return a lane's log as a seed tells it: some partners' commands, good and bad, and what the service adds."""
    rng = Random(seed)
    workload = Workload(rng, roots)
    now_ms, records = START_MS, list[Record]()
    for offset in range(size):
        now_ms += rng.choice((0, 1, 700, 5_000, 5_000, 40 * 60_000))
        way = rng.random()
        if way < 0.06:
            records.append(_straight(offset, now_ms, Tick()))
        elif way < 0.09:
            records.append(_straight(offset, now_ms, _rules(rng, 2 + sum(_is_rules(record) for record in records))))
        elif way < 0.16:
            records.append(_expiry(offset, now_ms, rng, records))
        else:
            operation = workload.next_operation(now_ms)
            source = offset if rng.random() < 0.93 else rng.randrange(offset + 1)  # L10: now and then a redelivery
            route = Route(RouteKind.COMMAND, 1, 0, source, 0, now_ms, placement_key_of("acme"), 0)
            headers = [*operation.headers, (ROUTE_HEADER, encode_route(route))]
            records.append(Record("shard", 0, offset, 0, now_ms, True, operation.key, operation.value, headers))
    return records


def _straight(offset: int, now_ms: int, command: Tick | SetRules | ExpireHold, key: bytes | None = None) -> Record:
    payload = encode_command(command, release=RULES.release)  # what a later one writes is none here, to begin with
    headers = [(SIGNATURE_HEADER, sign(KEYRING, key, payload))]
    return Record("shard", 0, offset, 0, now_ms, True, key, payload, headers)


def _rules(rng: Random, version: int) -> SetRules:
    return SetRules(
        command_id=bytes(16), version=version, release=RULES_RELEASE, window_ms=rng.choice((1, 3)) * HOUR_MS,
        skew_ms=60_000,
        future_limit_ms=HOUR_MS, refund_period_ms=6 * HOUR_MS, longest_hold_ms=40 * HOUR_MS,
        result_version=RESULT_VERSION,
    )  # fmt: skip


def _is_rules(record: Record) -> bool:
    return record.value is not None and type_of_payload(record.value) == ControlType.SET_RULES


def _expiry(offset: int, now_ms: int, rng: Random, records: Sequence[Record]) -> Record:
    """Ask for a hold to be expired, overdue or not."""
    prefix = encode_command(PlaceHold(command_id=bytes(16), address="", currency="", amount_minor=0, expires_in_ms=0))
    placed = [record for record in records if record.value is not None and record.value[:10] == prefix[:10]]
    if not placed:
        return _straight(offset, now_ms, Tick())
    record = rng.choice(placed)
    hold = decode_command(record.value or b"")
    assert isinstance(hold, PlaceHold)
    expire = ExpireHold(
        command_id=derived_id("EXPIRE_HOLD", hold.command_id),
        address=hold.address,
        currency=hold.currency,
        hold_id=hold.command_id,
    )
    return _straight(offset, now_ms, expire, record.key)


def run(records: list[Record], cuts: Sequence[int], *, book_accounts_max: int, ahead_from: int) -> Outcome:
    """Decide and commit a log in batches of these sizes, the last of them again and again."""
    clock = Clock()
    database = Database(clock, RULES)
    for number in range(slice_of(START_MS) - 100, slice_of(START_MS) + 400):
        database.tables.journal[number] = {}
    store = FakeLaneStore(database, 0, NoCrashes())
    state = store.take_over(TOPIC_ID)
    decider = Decider(CONTEXT, state, LaneTimes({}, {}, next_offset=0, let_pass_below=1 << 62))
    answers: list[OutRecord] = []
    committer = Committer(
        store,
        decider,
        state,
        admit=lambda record, rules: admit(record, rules, GATE),
        admit_parked=lambda record, rules: admit(record, rules, GATE),
        book_accounts_max=book_accounts_max,
        ahead_from=ahead_from,
        on_committed=lambda decided: answers.extend(decided.out),
    )
    waiting, sizes = list(records), list(cuts)
    while waiting or not committer.idle:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        taken = committer.advance(waiting[:size], published=(0, 0), check=lambda: None)
        waiting = waiting[taken:]
    return Outcome(answers=answers, tables=database.tables)


@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=RECORDS),
    book_accounts_max=st.sampled_from((1, 3, 100)),
    ahead_from=st.sampled_from((1, 4, 100)),
)
@settings(max_examples=80)
@pytest.mark.rule("L9")
@pytest.mark.rule("L13")
def test_batches_cut_anywhere_give_the_same_answers_rows_and_digest(
    seed: int, cuts: list[int], book_accounts_max: int, ahead_from: int
) -> None:
    records = log_of(seed)

    one_by_one = run(records, [1], book_accounts_max=0, ahead_from=2)
    cut = run(records, cuts, book_accounts_max=book_accounts_max, ahead_from=ahead_from)

    assert cut.answers == one_by_one.answers
    assert cut.tables.progress == one_by_one.tables.progress
    for table in ("accounts", "holds", "open_refunds", "refunded", "system", "journal", "rules", "ingress"):
        assert getattr(cut.tables, table) == getattr(one_by_one.tables, table), table
