"""``python -m tests.bench.stages``: what a payment costs a lane's thread, stage by stage, without a server.

Records are admitted, their rows named, decided, and made SQL text, as ``lane.committing`` has it done. With ``--base
COMMIT`` that commit and this checkout are measured in turn. Microseconds of the thread's CPU a command, the median of
some rounds: they are worth comparing on a busy machine, too.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated

import typer

from processors.ids import make_command_id
from processors.lane.deciding import Decider
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes
from processors.ledger.book import Rows
from processors.ledger.commands import Command, OpenAccount, Pay, TopUp
from processors.ledger.rules import Rules
from processors.routing.buckets import placement_key_of
from processors.stores import lane_sql
from processors.stores.rows import LaneState, Progress
from processors.wire.admission import Gate, admit
from processors.wire.commands import encode_command
from processors.wire.positions import LanePoint
from processors.wire.records import Record
from processors.wire.results import LaneIdentity
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.signature import KeyRing

KINDS = ("hot", "many", "three")  # one partner; a thousand; a thousand, each paying on three levels
COMMANDS = 20_000
BATCH = 4_000
ROUNDS = 5
PARTNERS = 1_000
PLENTY = 10**15
KEYS_MAX = 2_000  # of a statement
BOOK_ACCOUNTS_MAX = 100_000
START_MS = 1_764_370_000_000
RECORDS_A_MS = 20
COLLECT_AFTER = (200_000, 20, 100)  # as the shard worker has it
ROOT = Path(__file__).parents[2]

Stages = dict[str, float]


class Log:
    """Makes a lane's records, one behind the other."""

    def __init__(self) -> None:
        self._offset = 0
        self._rng = Random(7)

    def openings(self, addresses: list[str]) -> list[Record]:
        """Return what makes accounts that can pay."""
        return [record for address in addresses for record in self._opening(address)]

    def _opening(self, address: str) -> Iterator[Record]:
        yield self._record(OpenAccount(self._id(), address, "USD"))
        yield self._record(TopUp(self._id(), address, "USD", PLENTY))

    def payments(self, addresses: list[str], count: int) -> list[Record]:
        """Return payments over some addresses in turn."""
        return [
            self._record(Pay(self._id(), addresses[number % len(addresses)], "USD", 1 + number % 100))
            for number in range(count)
        ]

    def _id(self) -> bytes:
        return make_command_id(START_MS + self._offset // RECORDS_A_MS, self._rng.randbytes(10))

    def _record(self, command: Command) -> Record:
        root, offset = command.address.partition(":")[0], self._offset
        self._offset += 1
        route = Route(RouteKind.COMMAND, 1, 0, offset, 0, START_MS, placement_key_of(root), 0)
        headers = [(ROUTE_HEADER, encode_route(route))]
        time_ms = START_MS + offset // RECORDS_A_MS
        return Record("shard", 0, offset, 0, time_ms, True, root.encode(), encode_command(command), headers)


def log_of(kind: str) -> tuple[list[Record], list[Record]]:
    """Return the records that open a kind's accounts, and its payments."""
    roots = ["p0"] if kind == "hot" else [f"p{number}" for number in range(PARTNERS)]
    if kind == "three":
        accounts = [address for root in roots for address in (root, f"{root}:vn", f"{root}:vn:shop")]
        payers = [f"{root}:vn:shop" for root in roots]
    else:
        accounts = payers = roots
    log = Log()
    return log.openings(accounts), log.payments(payers, COMMANDS)


def _decider() -> Decider:
    at = LanePoint(next_offset=0, lane_time_ms=0, digest=bytes(32), leader_epoch=-1)
    progress = Progress(
        lane=0, topic_id=bytes(16), owner_epoch=1, at=at, version_us=0, published_offset=0, published_time_ms=0
    )
    rules = Rules(version=1)
    state = LaneState(
        progress=progress,
        ingress={},
        rules=rules,
        rules_since={0: rules},
        system={},
        lane_times={},
        waiting_at=None,
        stop_code=None,
        stop_detail="",
        home=True,
    )
    context = LaneContext(
        identity=LaneIdentity(shard="s1", incarnation=bytes(range(16)), lane=0),
        lanes=1,
        results_topic="balance.results",
        results_partitions=4,
        dead_letters_topic="balance.dead-letters",
        commands_topic="balance.commands",
        commands_partitions=4,
    )
    return Decider(context, state, LaneTimes({}, {}, next_offset=0, let_pass_below=1 << 62))


class Lane:
    """Decides batches and makes their SQL text; nobody takes it."""

    def __init__(self) -> None:
        self.decider = _decider()
        self._gate = Gate(keyring=KeyRing(signing="k1", keys={"k1": bytes(32)}), lane=0, lanes=1)
        self._fence: Progress | None = None
        self._system: set[tuple[int, object, str]] = set()
        self._before: list[object] = []

    def batch(self, records: list[Record], stages: Callable[[str], None]) -> None:
        """Take a batch through every stage; ``stages`` is told the name of each at its end."""
        decider, book = self.decider, self.decider.book
        admissions = [admit(record, book.rules, self._gate) for record in records]
        stages("admit")
        needs = decider.needs_of(admissions)
        missing = book.missing(needs)
        stages("needs")
        selects = [load.sql.encode() for load in lane_sql.loads(missing, KEYS_MAX)]
        stages("look-up text")
        book.add(missing, Rows())
        stages("needs")
        decided = decider.decide(admissions, needs, published=(0, 0))
        stages("decide and encode")
        write = decided.write
        fence = self._fence or write.progress
        statements = lane_sql.writes(write, fence, self._system, write.ingress, KEYS_MAX)  # type: ignore[arg-type]
        _ = [statement.sql.encode() for statement in statements]
        stages("journal's text")
        book.forget([needs, *self._before], BOOK_ACCOUNTS_MAX)  # type: ignore[list-item]
        self._before, self._fence = [needs], write.progress
        self._system.update(write.changes.system)
        assert selects
        stages("forget")


def measure(kind: str) -> Stages:
    """Return microseconds a command of each stage, and the lane's digest as an integer."""
    openings, payments = log_of(kind)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    rounds: list[Stages] = []
    lane = Lane()
    for _ in range(ROUNDS):
        lane = Lane()
        _in_batches(lane, openings)
        rounds.append(_in_batches(lane, payments))
    found = {name: round(median(each[name] for each in rounds), 2) for name in rounds[0]}
    print(f"{kind}: digest {lane.decider.standing.digest.hex()[:16]}", file=sys.stderr)  # noqa: T201
    return {**found, "all": round(sum(found.values()), 2)}


def _in_batches(lane: Lane, records: list[Record]) -> Stages:
    spent: Stages = {}
    for first in range(0, len(records), BATCH):
        before = time.thread_time()

        def ended(name: str) -> None:
            nonlocal before
            now = time.thread_time()
            spent[name] = spent.get(name, 0.0) + (now - before) * 1e6 / len(records)
            before = time.thread_time()

        lane.batch(records[first : first + BATCH], ended)
    return spent


def main(
    *,
    only: Annotated[list[str] | None, typer.Option("--only", help="hot, many or three; may be given again.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="A commit to measure in turn with this checkout.")] = None,
    as_json: Annotated[bool, typer.Option("--as-json", help="As JSON: kind, stage, microseconds.")] = False,
) -> None:
    """Print what each stage of a payment costs a lane's thread, in microseconds of its CPU."""
    kinds = only or list(KINDS)
    if base is not None:
        from tests.bench.in_turn import print_ratios  # noqa: PLC0415 - a base that this file measures may not have it

        print_ratios(Path(__file__), base, kinds)
        return
    found = {kind: measure(kind) for kind in kinds}
    if as_json:
        print(json.dumps(found))  # noqa: T201
        return
    for name in found[kinds[0]]:
        print(f"{name:20}", *(f"{kind} {found[kind][name]:7.2f}" for kind in kinds))  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
