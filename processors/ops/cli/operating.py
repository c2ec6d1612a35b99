"""The operators' tools: how the service is doing, lanes, rules, keys."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from processors.faults import NEXT_STEPS, Fault, Misconfigured, next_step
from processors.ledger.commands import SetRules
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules, why_unfit
from processors.ops import assembly, keys, processes
from processors.ops.cli.releasing import release
from processors.ops.cli.terminal import (
    WITHIN_S,
    Commands,
    JsonOption,
    LaneArgument,
    ShardOption,
    WithinOption,
    add_group,
    known_lane,
    notes,
    open_client,
    page,
    print_json,
    print_table,
    read_duration,
    settings,
)
from processors.ops.durations import show_duration
from processors.ops.result_text import EXIT_FAULT, show_time
from processors.ops.status import LaneStatus, ServerStatus, ServiceStatus, read_status
from processors.ops.supervisor import ChildState
from processors.settings import Settings
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.troubles import Trouble
from processors.wire.signature import KeyRing

_PANEL = "Operating"
_COUNTS_RIGHT = ("lane", "next", "undecided", "waiting", "rows", "slices", "holds", "refunds")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(rich_help_panel=_PANEL)(status)
    lanes: Commands = {"show": show_lanes, "release": release, "restart": restart}
    add_group(app, "lane", "Look at lanes, and start stopped ones again.", lanes, panel=_PANEL)
    rules: Commands = {"show": show_rules, "set": set_rules, "raise": raise_release}
    add_group(app, "rules", "The numbers that decide: window, skew, periods.", rules, panel=_PANEL)
    signing: Commands = {"add": add_key, "retire": retire_key}
    add_group(app, "key", "Keys that sign what operators and the service itself send.", signing, panel=_PANEL)


# ---------------------------------------------------------------------- status


def status(*, as_json: JsonOption = False) -> None:
    """Show each lane's lag, the sink's, what MySQL holds and what went wrong.

    Exit status 3 where a lane is stopped, a process here keeps failing or says that somebody must look, a server
    does not answer or a finding is open; a backlog alone is no fault.
    """
    found = read_status(settings())
    if as_json:
        print_json(_status_as_json(found))
    else:
        print_status(found)
    if not found.good:
        raise typer.Exit(EXIT_FAULT)


def _status_as_json(found: ServiceStatus) -> dict[str, Any]:
    return {**asdict(found), "good": found.good}


def print_status(found: ServiceStatus) -> None:
    """Write how the service is doing: tables, and a red line for each thing that somebody must look at."""
    _print_servers(found.servers)
    _print_processes(found.processes)
    _print_troubles(found.troubles)
    _print_lanes(found.lanes)
    rows = (
        (
            shard.shard,
            shard.counts.journal_rows,
            shard.counts.slices,
            shard.counts.open_holds,
            shard.counts.open_refunds,
        )
        for shard in found.shards
    )
    print_table(
        "MySQL (journal rows are estimated)", ("shard", "rows", "slices", "holds", "refunds"), rows, right=_COUNTS_RIGHT
    )
    waiting = ((each.partition, "unknown" if each.waiting is None else each.waiting) for each in found.sink)
    print_table("sink", ("results partition", "waiting"), waiting, right=_COUNTS_RIGHT)
    for topic in found.raised:
        text = f"topic {topic.topic} has {topic.partitions} partitions, the service knows {topic.known}: "
        astray = "what is written to the others becomes dead letters; docs/operations.md, Partition counts"
        text += astray if topic.loses_commands else "the others are ignored"
        page.print(text, style="red" if topic.loses_commands else None, soft_wrap=True)
    for shard in found.shards:
        for finding in shard.findings:
            text = f"{shard.shard} {show_time(finding.raised_at_ms)} {finding.kind} {finding.subject}: {finding.detail}"
            page.print(text, style="red", soft_wrap=True)


def _print_servers(servers: list[ServerStatus]) -> None:
    rows = ((_marked(each.server, each.fault), _marked(each.fault or "answers", each.fault)) for each in servers)
    print_table("servers", ("server", "state"), rows)


def _marked(text: str, fault: str) -> Text:
    return Text(text, style="red" if fault else "")


def _print_processes(states: list[ChildState]) -> None:
    """Show what runs under a supervisor here; elsewhere each process is whoever started it's to watch."""
    if not states:
        return
    rows = [(each.name, "failing" if each.failing else each.condition, each.restarts) for each in states]
    print_table("processes", ("process", "state", "restarts in a row"), rows, right=("restarts in a row",))
    for each in states:
        if each.restarts:
            text = f"{each.name} ended {each.restarts} times in a row, last with {each.last_end}; its log is {each.log}"
            page.print(text, style="red" if each.failing else "yellow", soft_wrap=True)


def _print_troubles(troubles: dict[str, list[Trouble]]) -> None:
    for name, found in troubles.items():
        for each in found:
            about = f", {each.subject}" if each.subject else ""
            text = f"{name}{about}: {each.fault}: {each.detail} ({each.times} times in {each.for_s} s)"
            page.print(text, style="red" if each.loud else "yellow", soft_wrap=True)


def _print_lanes(lanes: list[LaneStatus]) -> None:
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
    lane: Annotated[int | None, typer.Argument(metavar="[LANE]", min=0, help="Only this one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show where lanes stand, and why stopped ones stopped."""
    found = read_status(settings())
    lanes = [each for each in found.lanes if lane in {None, each.lane}]
    if as_json:
        print_json([asdict(each) for each in lanes])
    else:
        _print_lanes(lanes)
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
    upkeep = ShardUpkeep(assembly.mysql_address(chosen, shard))
    try:
        return upkeep.clear_stop(known)
    finally:
        upkeep.close()


def _refuse_in_vain(chosen: Settings, shard: str, lane: int) -> None:
    """Refuse where the lane would meet the same record with the same state.

    Raises:
        Misconfigured: Says what mends it.
    """
    stands = open_reader(assembly.mysql_address(chosen, shard)).lane_positions().get(lane)
    if stands is None or stands.stop_code is None or NEXT_STEPS[stands.stop_code].restart_mends:
        return
    step = next_step(stands.stop_code, shard=shard, lane=lane, offset=stands.progress.next_offset)
    raise Misconfigured(f"lane {lane} stopped with {stands.stop_code}, which a restart does not mend: {step}")


def _troubles_of_lane(chosen: Settings, shard: str, lane: int) -> dict[str, list[Trouble]]:
    """Return what processes here say of a lane, by their names; those that say nothing are left out."""
    found = {
        name: [each for each in troubles if each.subject == f"{shard} lane {lane}"]
        for name, troubles in processes.troubles(chosen).items()
    }
    return {name: troubles for name, troubles in found.items() if troubles}


# ---------------------------------------------------------------------- rules


def show_rules(*, shard: ShardOption = None, as_json: JsonOption = False) -> None:
    """Show the rules in force in each lane."""
    every = _rules_by_lane(settings(), shard)
    if as_json:
        print_json({lane: asdict(rules) for lane, rules in every.items()})
        return
    columns = ("lane", "version", "release", "window", "skew", "future limit", "refund period", "longest hold")
    rows = (
        (
            lane,
            rules.version,
            rules.release,
            show_duration(rules.window_ms),
            show_duration(rules.skew_ms),
            show_duration(rules.future_limit_ms),
            show_duration(rules.refund_period_ms),
            show_duration(rules.longest_hold_ms),
        )
        for lane, rules in every.items()
    )
    print_table("", columns, rows, right=("lane", "version", "release"))


Span = Annotated[int | None, typer.Option(parser=read_duration, metavar="SPAN", help="Such as 6h or 30d.")]


def set_rules(
    *,
    window: Span = None,
    skew: Span = None,
    future_limit: Span = None,
    refund_period: Span = None,
    longest_hold: Span = None,
    shard: ShardOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Change the rules: one signed record into every lane; what is not named stays. Safe to run again."""
    wished = {
        "window_ms": window,
        "skew_ms": skew,
        "future_limit_ms": future_limit,
        "refund_period_ms": refund_period,
        "longest_hold_ms": longest_hold,
    }
    changes = {name: value for name, value in wished.items() if value is not None}
    if not changes:
        raise typer.BadParameter("name at least one rule to change")
    _change_rules(changes, shard, within_s=within_s, as_json=as_json)


def raise_release(*, shard: ShardOption = None, within_s: WithinOption = WITHIN_S, as_json: JsonOption = False) -> None:
    """Let the shard decide as this release does: one signed record into every lane. Safe to run again.

    Install this release in every process first: an older one stops at the record, and there is no way back.
    """
    newest = {"release": RULES_RELEASE, "result_version": RESULT_VERSION}
    _change_rules(newest, shard, within_s=within_s, as_json=as_json)


def _change_rules(changes: dict[str, int], shard: str | None, *, within_s: int, as_json: bool) -> None:
    chosen = settings()
    name = shard or chosen.home_shard
    wishes = {
        lane: replace(rules, version=rules.version + 1, **changes)
        for lane, rules in _rules_by_lane(chosen, shard).items()
        if any(getattr(rules, each) != value for each, value in changes.items())
    }
    for rules in wishes.values():
        _make_room(chosen, name, rules)
    with open_client(within_s=within_s) as client:
        for lane, rules in wishes.items():
            client.send_control(_wish(rules, client.new_id()), shard=name, lane=lane)
            if not as_json:
                page.print(f"lane {lane} has rules {rules.version}")
    if as_json:
        print_json({lane: rules.version for lane, rules in wishes.items()})
    elif not wishes:
        page.print("every lane has these rules already")


def _make_room(chosen: Settings, shard: str, rules: Rules) -> None:
    """Refuse rules that a lane would not take, and make the journal's slices for those that it will (A7)."""
    now_ms = assembly.clock_ms()
    reason = why_unfit(rules)
    if reason is not None:
        raise typer.BadParameter(reason)
    upkeep = ShardUpkeep(assembly.mysql_address(chosen, shard))
    try:
        upkeep.ensure_slices(rules, from_ms=now_ms, to_ms=now_ms)
    finally:
        upkeep.close()


def _wish(rules: Rules, command_id: bytes) -> SetRules:
    return SetRules(
        command_id=command_id,
        version=rules.version,
        release=rules.release,
        window_ms=rules.window_ms,
        skew_ms=rules.skew_ms,
        future_limit_ms=rules.future_limit_ms,
        refund_period_ms=rules.refund_period_ms,
        longest_hold_ms=rules.longest_hold_ms,
        result_version=rules.result_version,
    )


def _rules_by_lane(chosen: Settings, shard: str | None) -> dict[int, Rules]:
    reader = open_reader(assembly.mysql_address(chosen, shard or chosen.home_shard))
    try:
        return {
            lane: max(of_lane.values(), key=lambda rules: rules.version) for lane, of_lane in reader.rules().items()
        }
    finally:
        reader.close()


# ---------------------------------------------------------------------- keys


def add_key(
    *, key_id: Annotated[str, typer.Argument(metavar="ID", help="Such as k2.")], as_json: JsonOption = False
) -> None:
    """Add a key. It verifies at once, and signs when the one before is retired: copy the file everywhere between."""
    file = settings().keys_file
    _show_ring(file, keys.add_new_key(file, key_id), as_json=as_json)


def retire_key(*, key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: JsonOption = False) -> None:
    """Let a key sign no more; it stays for verifying old records."""
    file = settings().keys_file
    _show_ring(file, keys.retire_old_key(file, key_id), as_json=as_json)


def _show_ring(file: Path, ring: KeyRing, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "keys": list(ring.keys), "signing": ring.signing})
    else:
        page.print(f"{file}: keys {', '.join(ring.keys)}; {ring.signing} signs")
