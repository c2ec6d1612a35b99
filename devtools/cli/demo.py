"""``balance demo``: a business day on real servers, from set-up to verdict; what `make run` plays."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import FrameType
from typing import Annotated

import typer
from rich.progress import Progress

from devtools import playing, stack
from devtools.playing import Daybook, DayOutcome
from devtools.sample_day import CURRENCIES, Day, plan_day
from processors.client import Client, ClientConfig, CommandIds
from processors.ledger.addresses import is_root
from processors.ops import addresses, assembly, keys, local_service
from processors.ops.assembly.proving import verify_shard
from processors.ops.cli.looking import accounts_below, print_accounts
from processors.ops.cli.proving import print_checks, print_in_flight, prove_between
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.statements import print_changes
from processors.ops.cli.terminal import counting, page, print_table, say, settings
from processors.ops.exits import EXIT_GOOD, EXIT_REJECTED
from processors.ops.moving import PlannedMove, plan_move, watch
from processors.ops.probing import await_vouched
from processors.ops.setting_up import initialize
from processors.ops.stages import Stage
from processors.ops.statement_text import StatementHead
from processors.ops.supervisor import Supervisor
from processors.recovery.checks import Check
from processors.recovery.transit import InFlight
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive

_STATEMENT_ROWS = 12
_TERMINATED = 143  # as a shell says of a program that SIGTERM ended
# The first commands wait for processes that are just starting, on a machine where everything starts at once.
_DEADLINE_MS = 60_000
_MOVE_DEADLINE_S = 60.0  # a move takes a second or two; on a machine where everything is busy, some more
_CLEAN = "clean: every command answered as it must be, and no cent is missing or on its way"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def run_demo(
    *,
    seed: Annotated[int, typer.Option(help="The same seed plays the same day.")] = 1,
    actions: Annotated[
        int, typer.Option(min=1, max=100_000, help="How much happens; each is 1 to 4 commands.")
    ] = 4_000,
    keep: Annotated[bool, typer.Option("--keep", envvar="KEEP", help="Leave the servers running.")] = False,
) -> None:
    """Play a sample business day on real servers, and prove it; exit status 0 only if everything is as it must be."""
    signal.signal(signal.SIGTERM, _leave)
    chosen = settings()
    with _servers(chosen, keep=keep):
        initialize(chosen, say)
        with local_service.supervised(chosen) as supervisor:
            say(f"the service runs; its logs are in {local_service.log_folder(chosen)}")
            clean = _play_and_prove(chosen, supervisor, seed, actions)
    if keep:
        say("the servers are left running: `make up` starts the service on them, `make down` stops them")
    raise typer.Exit(EXIT_GOOD if clean else EXIT_REJECTED)


def _servers(chosen: Settings, *, keep: bool) -> AbstractContextManager[object]:
    """Have the native servers for a while, unless the settings point at others only."""
    native = stack.addresses(chosen)
    native_mysql = {(native.mysql_host, port) for port in (native.mysql_port, chosen.stack.mysql_2_port)}
    wanted = (
        chosen.kafka.bootstrap_servers == native.kafka
        or any((shard.host, shard.port) in native_mysql for shard in chosen.shards.values())
        or (chosen.cassandra.hosts, chosen.cassandra.port) == ((native.cassandra_host,), native.cassandra_port)
    )
    return stack.borrowed(chosen, say, keep=keep) if wanted else nullcontext()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_TERMINATED)  # unwinds: processes and servers are stopped on the way


def _play_and_prove(chosen: Settings, supervisor: Supervisor, seed: int, actions: int) -> bool:
    now_ms = assembly.clock_ms()
    tag = _short(now_ms // 1_000)
    day = plan_day(seed=seed, actions=actions, tag=tag, now_ms=now_ms, new_id=CommandIds().next)
    book = Daybook(frozenset(day.roots), chosen.topics.results_partitions)
    config = ClientConfig(kafka=addresses.kafka_address(chosen), keyring=keys.keyring(chosen), deadline_ms=_DEADLINE_MS)
    with Client(config, observe=book.observe) as client, progress_bar() as bar:
        moves = _planned_moves(chosen, day)
        submit = partial(_submit, client, moves)
        outcome = _played(client, day, book, bar, supervisor, midday=submit)
        outcome.mistakes += _unfinished(moves)
        _archived(chosen, book, bar, supervisor)
    with counting() as count:
        checks = {f"shard {shard}": verify_shard(chosen, shard, on_progress=count) for shard in chosen.shards}
        checks["all shards"], in_flight = prove_between(chosen)
    print_accounts(
        "partners", [account for root in day.roots for account in accounts_below(root) if is_root(account.address)]
    )
    _show_statement(chosen, day)
    _show_answers(book, outcome)
    for moved in moves:
        page.print(f"{moved.placement_key} moved from {moved.source} to {moved.target} in the middle of the day")
    for title, of_shard in checks.items():
        print_checks(of_shard, title=title)
    print_in_flight(in_flight)
    clean = is_clean(outcome.mistakes, [check for of_shard in checks.values() for check in of_shard], in_flight)
    page.print(_CLEAN if clean else "NOT CLEAN", style="bold green" if clean else "bold red")
    return clean


def is_clean(mistakes: Sequence[str], checks: Sequence[Check], in_flight: Sequence[InFlight]) -> bool:
    """Say whether a day that is over was as it must be: each answer, each proof, and no money on its way any more."""
    return not mistakes and all(check.passed for check in checks) and not in_flight


def _planned_moves(chosen: Settings, day: Day) -> list[PlannedMove]:
    """Return which partner moves in the middle of the day; none where there is one shard."""
    elsewhere = [shard for shard in chosen.shards if shard != chosen.home_shard][:1]
    planned = [plan_move(chosen, day.moving, shard) for shard in elsewhere]
    return [each for each in planned if isinstance(each, PlannedMove)]


def _played(
    client: Client, day: Day, book: Daybook, bar: Progress, supervisor: Supervisor, *, midday: Callable[[], object]
) -> DayOutcome:
    task = bar.add_task("commands", total=len(list(day)))
    return playing.play(client, day, book, lambda count: bar.advance(task, count), supervisor.insist, midday=midday)


def _submit(client: Client, moves: Sequence[PlannedMove]) -> None:
    for planned in moves:
        await_vouched(planned.settings, [planned.target])
        client.submit_marker(planned.marker, partitions=planned.settings.topics.commands_partitions)


def _unfinished(moves: Sequence[PlannedMove]) -> list[str]:
    """Wait until moves are over, and return what is to be said of those that are not."""
    ends_s = time.monotonic() + _MOVE_DEADLINE_S
    seen = [(planned, watch(planned, ends_s=ends_s)) for planned in moves]
    return [
        f"{planned.placement_key} did not come to {planned.target}: {found.told(planned.source, planned.target)}"
        for planned, found in seen
        if found.stage is not Stage.SETTLED
    ]


def _archived(chosen: Settings, book: Daybook, bar: Progress, supervisor: Supervisor) -> None:
    task = bar.add_task("archived", total=len(book.journalled))
    session = open_archive(addresses.cassandra_address(chosen), requests_max=1)
    try:
        reader = ArchiveReader(session)

        def left() -> int:
            waiting = book.uncovered(reader.coverage)
            bar.update(task, completed=len(book.journalled) - waiting)
            return waiting

        playing.wait_for(left, playing.ARCHIVE_DEADLINE_S, "lanes were not archived", supervisor.insist)
    finally:
        session.close()


def _show_statement(chosen: Settings, day: Day) -> None:
    address, currency = day.busiest, CURRENCIES[0]
    session = open_archive(addresses.cassandra_address(chosen), requests_max=1)
    try:
        reader = ArchiveReader(session)
        newest = reader.newest_sequence(address, currency)
        first = max(1, newest - _STATEMENT_ROWS + 1)
        rows = list(reader.statement(address, currency, from_sequence=first, to_sequence=newest))
    finally:
        session.close()
    page.print(f"{address}, the last {len(rows)} of {newest} changes, from Cassandra")
    print_changes(rows, StatementHead(address=address, currency=currency))


def _show_answers(book: Daybook, outcome: DayOutcome) -> None:
    print_table("answers", ("status", "reason", "results"), playing.counted(book.counts.items()), right=("results",))
    rate = outcome.answered / outcome.seconds if outcome.seconds else 0
    page.print(f"{outcome.answered:,} commands answered, {rate:,.0f} a second")
    for mistake in outcome.mistakes[: playing.MISTAKES_SHOWN]:
        page.print(mistake, style="red", soft_wrap=True)


def _short(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits
