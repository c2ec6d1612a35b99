"""Proofs: that a shard's books add up, that the archive has them, and that its topic leads to the same books again."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from processors.ops import addresses
from processors.ops.assembly.proving import (
    prove_moved,
    prove_transit,
    repair_archive,
    verify_shard,
)
from processors.ops.cli.terminal import (
    JsonOption,
    ShardOption,
    counting,
    page,
    print_json,
    print_table,
    settings,
)
from processors.ops.exits import EXIT_FAULT, EXIT_REJECTED
from processors.ops.money import show_money
from processors.ops.result_text import show_id
from processors.ops.shards import every_shard, lacking_shards
from processors.recovery.archive_replay import ReplayedArchive
from processors.recovery.checks import Check
from processors.recovery.repair import Repair
from processors.recovery.transit import InFlight, told
from processors.settings import Settings
from processors.streams.directory import read_directory

IN_FLIGHT_SHOWN = 20  # a screen


def verify(
    *,
    shard: ShardOption = None,
    all_shards: Annotated[
        bool, typer.Option("--all-shards", help="Every shard, and what is on its way between partners.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="From the first record on, not only what is not proven yet.")
    ] = False,
    with_results: Annotated[bool, typer.Option("--results/--no-results", help="Read the results topic, too.")] = True,
    with_archive: Annotated[bool, typer.Option("--archive/--no-archive", help="Read Cassandra, too.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Prove that nothing is missing: double entry, balances, holds, sequences, results, archive; exit 1 if not.

    It goes on from where the last proof ended. Exit 3: nothing is wrong, and not everything could be compared.
    """
    chosen = settings()
    in_flight: list[InFlight] = []
    checks: list[Check] = []
    with_between = all_shards or _is_alone(chosen)  # asked first: nobody waits for a proof that ends with a fault
    with counting() as count:
        for name in every_shard(chosen) if all_shards else [shard or chosen.home_shard]:
            found = verify_shard(
                chosen,
                name,
                on_progress=count,
                with_results=with_results,
                with_archive=with_archive,
                everything=everything,
            )
            checks += [replace(check, name=f"{name}: {check.name}") for check in found] if all_shards else found
        if with_between:
            between, in_flight = prove_between(chosen, with_archive=with_archive)
            checks += between
    if as_json:
        print_json(
            [asdict(check) | {"passed": check.passed, "verdict": check.verdict} for check in checks]
            + _in_flight_as_json(in_flight)
        )
    else:
        print_checks(checks)
        print_in_flight(in_flight)
    if any(check.wrong for check in checks):
        raise typer.Exit(EXIT_REJECTED)
    if not all(check.passed for check in checks):
        raise typer.Exit(EXIT_FAULT)


def _is_alone(chosen: Settings) -> bool:
    """Say whether the shard of these settings is the only one there is: what is of one shard is of all then."""
    return len(chosen.shards) == 1 and not lacking_shards(chosen, read_directory(addresses.kafka_address(chosen)))


def prove_between(chosen: Settings, *, with_archive: bool = True) -> tuple[list[Check], list[InFlight]]:
    """Prove what is between partners and, where there are several shards, between these; and name open transfers."""
    transit, in_flight = prove_transit(chosen, with_archive=with_archive)
    return [transit, prove_moved(chosen)] if len(chosen.shards) > 1 else [transit], in_flight


def _in_flight_as_json(in_flight: list[InFlight]) -> list[dict[str, Any]]:
    """Return what is on its way as one more entry; none where nothing is. Amounts in minor units."""
    rows = [{**asdict(each), "transfer_id": show_id(each.transfer_id)} for each in in_flight]
    return [{"name": "in flight", "passed": True, "transfers": rows}] if rows else []


def print_in_flight(in_flight: list[InFlight]) -> None:
    """Write what is on its way between partners, transfer by transfer."""
    for each in in_flight[:IN_FLIGHT_SHOWN]:
        page.print(told(each, show_money(each.amount_minor, each.currency)), markup=False, soft_wrap=True)
    if len(in_flight) > IN_FLIGHT_SHOWN:
        page.print(f"and {len(in_flight) - IN_FLIGHT_SHOWN:,} more; --json has them all")
    if in_flight:
        page.print(
            "one that is still here after a minute lost a leg to the dead letters, or waits for a lane: mend the cause "
            "(`balance dead-letters list`, `balance status`), then `balance tx send-again ID`",
            soft_wrap=True,
        )


def print_checks(checks: list[Check], *, title: str = "") -> None:
    """Write what was proven, what was not, and why; ``title`` stands above it."""
    rows = ((check.name, check.counted, f"{check.wrong} wrong" if check.wrong else check.verdict) for check in checks)
    print_table(title, ("check", "looked at", "verdict"), rows, right=("looked at",))
    for check in checks:
        for detail in check.details:
            page.print(f"{check.name}: {detail}", style="red", markup=False, soft_wrap=True)
        if check.wrong > len(check.details):
            page.print(f"{check.name}: and {check.wrong - len(check.details):,} more", style="red", soft_wrap=True)
        for lacking in check.incomplete:
            page.print(f"{check.name}: INCOMPLETE: {lacking}", style="yellow", markup=False, soft_wrap=True)


def repair(
    *,
    shard: ShardOption = None,
    write: Annotated[bool, typer.Option("--write", help="Bring back what is missing; else only name it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare MySQL's journal with the archive, as far as the sink is, and bring back what is lost; exit 1 if not all.

    Nothing is written without --write. It may run beside everything else. What differs is named, never overwritten.
    """
    chosen = settings()
    with counting() as count:
        done = repair_archive(chosen, shard or chosen.home_shard, write=write, on_progress=count)
    if as_json:
        print_json(asdict(done))
    else:
        for each in done.told:
            page.print(f"{each.kind} {each.subject}: {each.detail}", style="red", markup=False, soft_wrap=True)
        page.print(summary_of(done, write=write), markup=False, soft_wrap=True)
    if done.left:
        raise typer.Exit(EXIT_REJECTED)


def summary_of(done: Repair | ReplayedArchive, *, write: bool) -> str:
    """Say in a line how many rows were compared, and what became of what the archive lacked."""
    told = f"{done.compared} rows compared, "
    if not done.found:
        return told + "the archive has them all"
    if not write:
        return told + f"{done.found} differences; nothing was written: --write brings back what is missing"
    return told + f"{done.found} differences, {done.found - done.left} mended, {done.left} left"
