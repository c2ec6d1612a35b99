"""The operators' tools: how the service is doing, lanes, rules, keys."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from processors.faults import NEXT_STEPS, Fault, Misconfigured, next_step
from processors.lane.stages import LaneStage
from processors.ledger.outcomes import Contra
from processors.lookup.times import show_time
from processors.ops import addresses, local_service
from processors.ops.backlog import RouterStatus
from processors.ops.cli.releasing import known_lane
from processors.ops.cli.terminal import (
    JsonOption,
    LaneArgument,
    ShardOption,
    notes,
    page,
    print_json,
    print_table,
    settings,
)
from processors.ops.durations import show_age
from processors.ops.exits import EXIT_FAULT
from processors.ops.money import show_money
from processors.ops.status import LaneStatus, ServerStatus, ServiceStatus, read_status
from processors.ops.supervisor import times
from processors.ops.under_way import MoveStatus
from processors.settings import Settings
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.streams.topics import COMMANDS_TOPIC
from processors.troubles import Trouble

MOVES_SHOWN = 20  # a screen
_COUNTS_RIGHT = ("lane", "next", "undecided", "waiting", "rows", "slices", "holds", "refunds")

_NOTHING_HERE = (
    "processes: none was started on this machine by `balance up`; where they run elsewhere, ask their health pages"
)

# ---------------------------------------------------------------------- status


def status(*, as_json: JsonOption = False) -> None:
    """Show the processes here, what waits for router, lanes and sink, what MySQL holds and what went wrong.

    Exit status 3, and `good` false in --json, where a lane is stopped, a process here keeps failing or says that
    somebody must look, a server does not answer, commands go astray or a finding is open. What waits alone is no fault;
    nor is it that no process is seen here, since they may run elsewhere.
    """
    found = read_status(settings())
    if as_json:
        print_json(_status_as_json(found))
    else:
        print_status(found)
    if not found.good:
        raise typer.Exit(EXIT_FAULT)


def _proven_ago(until_ms: int | None, now_ms: int) -> str:
    return "never" if until_ms is None else f"{show_age(now_ms - until_ms)} ago"


def _status_as_json(found: ServiceStatus) -> dict[str, Any]:
    return {**asdict(found), "good": found.good}


def print_status(found: ServiceStatus) -> None:
    """Write how the service is doing: tables, and a red line for each thing that somebody must look at."""
    _print_servers(found.servers)
    _print_processes(found)
    _print_troubles(found.troubles)
    _print_router(found.router)
    print_lanes(found.lanes)
    _print_stages(found.stages_ms)
    rows = (
        (
            shard.shard,
            shard.counts.journal_rows,
            shard.counts.slices,
            shard.counts.open_holds,
            shard.counts.open_refunds,
            shard.counts.open_transfers,
            _proven_ago(shard.proven_until_ms, time.time_ns() // 1_000_000),
        )
        for shard in found.shards
    )
    print_table(
        "MySQL (journal rows are estimated)",
        ("shard", "rows", "slices", "holds", "refunds", "transfers", "journal proven up to"),
        rows,
        right=_COUNTS_RIGHT,
    )
    _print_moves(found.moves, time.time_ns() // 1_000_000)
    _print_between(found)
    waiting = ((each.partition, "unknown" if each.waiting is None else each.waiting) for each in found.sink)
    print_table("sink", ("results partition", "waiting"), waiting, right=_COUNTS_RIGHT)
    for topic in found.raised:
        text = f"topic {topic.topic} has {topic.partitions} partitions, the service knows {topic.known}: "
        astray = "what is written to the others becomes dead letters; docs/operations.md, Partition counts"
        text += astray if topic.loses_commands else "the others are ignored"
        page.print(text, style="red" if topic.loses_commands else None, soft_wrap=True)
    for name in found.unknown_shards:
        text = f"shard {name} is in the directory and not in the settings here: nobody here sees it, or runs it"
        page.print(text, style="red", soft_wrap=True)
    for shard in found.shards:
        for finding in shard.findings:
            text = f"{shard.shard} {show_time(finding.raised_at_ms)} {finding.kind} {finding.subject}: {finding.detail}"
            page.print(text, style="red", soft_wrap=True)


def _print_moves(moves: list[MoveStatus] | None, now_ms: int) -> None:
    """Show what moves, the longest first, and what those wait for that should be over."""
    if not moves:
        page.print("moves under way: " + ("unknown" if moves is None else "none"))
        return
    rows = (
        (
            each.placement_key,
            each.generation,
            f"{each.source} to {each.target}",
            each.stage or "unknown",
            show_time(each.begun_ms),
            show_age(now_ms - each.begun_ms) if each.begun_ms else "",
            each.parts,
            each.parked,
        )
        for each in moves[:MOVES_SHOWN]
    )
    columns = ("moves", "generation", "from, to", "stage", "since", "age", "parts", "parked")
    print_table("moves under way", columns, rows, right=("generation", "age", "parts", "parked"))
    if len(moves) > MOVES_SHOWN:
        page.print(f"and {len(moves) - MOVES_SHOWN:,} more; --json has them all")
    for each in moves[:MOVES_SHOWN]:
        if each.is_late(now_ms):
            page.print(f"{each.placement_key} waits for {each.waits_for}", style="yellow", soft_wrap=True)


def _print_between(found: ServiceStatus) -> None:
    """Show the money that is on its way between partners and, where there are several, between shards."""
    if any(server.fault for server in found.servers):
        page.print("money on its way: unknown")
    elif not found.between:
        page.print("money on its way: none")
    for (account, currency), amount_minor in found.between.items():
        how = "between partners" if account == Contra.TRANSIT.lower() else "with partners who move"
        page.print(f"money on its way {how}: {show_money(amount_minor, currency)} (@{account})", soft_wrap=True)


def _print_servers(servers: list[ServerStatus]) -> None:
    rows = ((_marked(each.server, each.fault), _marked(each.fault or "answers", each.fault)) for each in servers)
    print_table("servers", ("server", "state"), rows)


def _marked(text: str, fault: str) -> Text:
    return Text(text, style="red" if fault else "")


def _print_processes(found: ServiceStatus) -> None:
    """Show what runs under a supervisor here; elsewhere each process is whoever started it's to watch."""
    states = found.processes
    if not states:
        page.print(_NOTHING_HERE, soft_wrap=True)
        return
    rows = [
        (each.name, "failing" if each.failing else each.condition, each.restarts, found.ports.get(each.name, ""))
        for each in states
    ]
    columns = ("process", "state", "restarts in a row", "port")
    print_table("processes (port: /metrics, /readyz, /healthz)", columns, rows, right=("restarts in a row", "port"))
    for each in states:
        if each.restarts:
            text = (
                f"{each.name} ended {times(each.restarts)} in a row, last with {each.last_end}; its log is {each.log}"
            )
            page.print(text, style="red" if each.failing else "yellow", soft_wrap=True)


def _print_router(router: RouterStatus) -> None:
    one = router.waiting == 1
    waits = f"{router.waiting} {'record' if one else 'records'} of {COMMANDS_TOPIC} {'waits' if one else 'wait'}"
    if router.fault:
        page.print(f"router: what waits is unknown: {router.fault}", style="yellow", soft_wrap=True)
    elif router.waiting is None:
        page.print("router: what waits is unknown")
    elif router.stands_still:
        text = f"router: {waits}, and no router is there: start one, or see why none joins its group"
        page.print(text, style="yellow", soft_wrap=True)
    else:
        page.print(f"router: {waits} to be forwarded; routers in their group: {router.members}", soft_wrap=True)


def _print_stages(stages_ms: dict[str, dict[str, float]]) -> None:
    """Show where a batch spends its time, of workers that have had any."""
    if stages_ms:
        rows = ((name, *(found.get(stage, "") for stage in LaneStage)) for name, found in stages_ms.items())
        print_table("a batch's way, ms on the mean", ("worker", *LaneStage), rows, right=tuple(LaneStage))


def _print_troubles(troubles: dict[str, list[Trouble]]) -> None:
    for name, found in troubles.items():
        for each in found:
            about = f", {each.subject}" if each.subject else ""
            text = f"{name}{about}: {each.fault}: {each.detail} ({each.times} times in {each.for_s} s)"
            page.print(text, style="red" if each.loud else "yellow", soft_wrap=True)


def print_lanes(lanes: list[LaneStatus]) -> None:
    """Write where lanes stand, and why stopped ones stopped."""
    columns = ("shard", "lane", "next", "undecided", "lane time", "state")
    rows = (
        (
            lane.shard,
            lane.lane,
            lane.next_offset,
            "unknown" if lane.undecided is None else lane.undecided,
            show_time(lane.lane_time_ms),
            lane.stop_code or "runs",
        )
        for lane in lanes
    )
    print_table("lanes", columns, rows, right=_COUNTS_RIGHT)
    for lane in lanes:
        if lane.stop_code:
            when = show_time(lane.stopped_at_ms)
            text = f"{lane.shard} lane {lane.lane} stopped at {when}: {lane.stop_code}: {lane.stop_detail}"
            page.print(text, style="red", soft_wrap=True)
            page.print(f"  {lane.next_step}", soft_wrap=True)


# ---------------------------------------------------------------------- lanes


def show_lanes(
    *,
    lane: Annotated[int | None, typer.Argument(metavar="LANE", min=0, help="Only this one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show where lanes stand, and why stopped ones stopped."""
    found = read_status(settings())
    lanes = [each for each in found.lanes if lane in {None, each.lane}]
    if as_json:
        print_json([asdict(each) for each in lanes])
    else:
        print_lanes(lanes)
    silent = [each for each in found.servers if each.fault]
    for server in silent:
        notes.print(f"{server.server} does not answer: {server.fault}", style="red", soft_wrap=True)
    if silent:
        raise typer.Exit(EXIT_FAULT)


def restart(*, lane: LaneArgument, shard: ShardOption = None, as_json: JsonOption = False) -> None:
    """Let a stopped lane go on, after what stopped it was mended.

    Exit status 3 where it would stop again at the same record, or where the database does not know yet that it stopped.
    """
    chosen = settings()
    name = shard or chosen.home_shard
    waits = _troubles_of_lane(chosen, name, lane)
    try:
        cleared = _clear_stop(chosen, name, lane)
    except Fault:  # of the database, which may not know that the lane stopped
        _print_troubles(waits)
        raise
    if as_json:
        told = [] if cleared else [asdict(each) for found in waits.values() for each in found]
        print_json({"lane": lane, "was_stopped": cleared, "troubles": told})
    elif cleared:
        page.print(f"lane {lane} may go on")
    else:
        page.print(f"lane {lane} was not stopped" + ("; its worker says:" if waits else ""))
        _print_troubles(waits)
    if not cleared and any(each.loud for found in waits.values() for each in found):
        raise typer.Exit(EXIT_FAULT)


def _clear_stop(chosen: Settings, shard: str, lane: int) -> bool:
    known = known_lane(chosen, shard, lane)
    _refuse_in_vain(chosen, shard, known)
    upkeep = ShardUpkeep(addresses.mysql_address(chosen, shard))
    try:
        return upkeep.clear_stop(known)
    finally:
        upkeep.close()


def _refuse_in_vain(chosen: Settings, shard: str, lane: int) -> None:
    """Refuse where the lane would meet the same record with the same state.

    Raises:
        Misconfigured: Says what mends it.
    """
    stands = open_reader(addresses.mysql_address(chosen, shard)).lane_positions().get(lane)
    if stands is None or stands.stop_code is None or NEXT_STEPS[stands.stop_code].restart_mends:
        return
    step = next_step(stands.stop_code, shard=shard, lane=lane, offset=stands.progress.at.next_offset)
    raise Misconfigured(f"lane {lane} stopped with {stands.stop_code}, which a restart does not mend: {step}")


def _troubles_of_lane(chosen: Settings, shard: str, lane: int) -> dict[str, list[Trouble]]:
    """Return what processes here say of a lane, by their names; those that say nothing are left out."""
    found = {
        name: [each for each in troubles if each.subject == f"{shard} lane {lane}"]
        for name, troubles in local_service.troubles(chosen).items()
    }
    return {name: troubles for name, troubles in found.items() if troubles}
