"""``balance demo``: a business day on real servers, from set-up to verdict; what `make run` plays."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Annotated

import typer
from rich.progress import Progress

from devtools import playing, stack
from devtools.playing import Daybook, DayOutcome
from devtools.sample_day import CURRENCIES, Day, plan_day
from processors.client import Client, ClientConfig, CommandIds
from processors.ops import addresses, assembly, keys, local_service
from processors.ops.assembly.proving import verify_shard
from processors.ops.cli.history import print_statement
from processors.ops.cli.looking import print_accounts
from processors.ops.cli.proving import counting, print_checks
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.terminal import page, print_table, say, settings
from processors.ops.exits import EXIT_GOOD, EXIT_REJECTED
from processors.ops.setting_up import initialize
from processors.ops.supervisor import Supervisor
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.stores.shard_reader import open_reader

_STATEMENT_ROWS = 12
_TERMINATED = 143  # as a shell says of a program that SIGTERM ended
# The first commands wait for processes that are just starting, on a machine where everything starts at once.
_DEADLINE_MS = 60_000
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
        outcome = _played(client, day, book, bar, supervisor)
        _archived(chosen, book, bar, supervisor)
    with counting() as count:
        checks = {shard: verify_shard(chosen, shard, on_progress=count) for shard in chosen.shards}
    _show_partners(chosen, day)
    _show_statement(chosen, day)
    _show_answers(book, outcome)
    for shard, of_shard in checks.items():
        print_checks(of_shard, title=f"shard {shard}")
    clean = not outcome.mistakes and all(check.passed for of_shard in checks.values() for check in of_shard)
    style = "bold green" if clean else "bold red"
    verdict = "clean: every command answered as it must be, and no cent is missing" if clean else "NOT CLEAN"
    page.print(verdict, style=style)
    return clean


def _played(client: Client, day: Day, book: Daybook, bar: Progress, supervisor: Supervisor) -> DayOutcome:
    task = bar.add_task("commands", total=len(list(day)))
    return playing.play(client, day, book, lambda count: bar.advance(task, count), supervisor.insist)


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


def _show_partners(chosen: Settings, day: Day) -> None:
    reader = open_reader(addresses.mysql_address(chosen, chosen.home_shard))
    try:
        accounts = [account for root in day.roots for account in reader.accounts_below(root)]
    finally:
        reader.close()
    print_accounts("partners", [account for account in accounts if ":" not in account.address])


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
    print_statement(f"{address}, the last {len(rows)} of {newest} changes, from Cassandra", rows, currency)


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
