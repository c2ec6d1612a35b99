"""The operators' commands for the rules, which every lane has from its log."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from processors.faults import Misconfigured
from processors.ledger.rules import Rules
from processors.ops import assembly, ruling
from processors.ops.cli.terminal import (
    WITHIN_S,
    JsonOption,
    ShardsOption,
    WithinOption,
    confirm,
    notes,
    open_client,
    page,
    print_json,
    print_table,
    read_duration,
    settings,
)
from processors.ops.durations import show_duration
from processors.ops.exits import EXIT_FAULT
from processors.ops.shards import every_shard
from processors.settings import Settings

Span = Annotated[int | None, typer.Option(parser=read_duration, metavar="SPAN", help="Such as 6h or 30d.")]


def show_rules(*, shard: ShardsOption = None, as_json: JsonOption = False) -> None:
    """Show the rules in force in each lane of each shard."""
    chosen = settings()
    shards = list(chosen.shards) if shard is None else [shard]
    every = {each: ruling.rules_by_lane(chosen, each) for each in shards}
    if as_json:
        print_json({each: {lane: asdict(rules) for lane, rules in lanes.items()} for each, lanes in every.items()})
        return
    columns = ("shard", "lane", "version", "release", "window", "skew", "future limit", "refund period", "longest hold")
    rows = (
        (
            each,
            lane,
            rules.version,
            rules.release,
            show_duration(rules.window_ms),
            show_duration(rules.skew_ms),
            show_duration(rules.future_limit_ms),
            show_duration(rules.refund_period_ms),
            show_duration(rules.longest_hold_ms),
        )
        for each, lanes in every.items()
        for lane, rules in lanes.items()
    )
    print_table("", columns, rows, right=("lane", "version", "release"))


def _shards(chosen: Settings, shard: str | None) -> list[str]:
    """Return the shard that was named, else every one that there is."""
    return every_shard(chosen) if shard is None else [shard]


def set_rules(
    *,
    window: Span = None,
    skew: Span = None,
    future_limit: Span = None,
    refund_period: Span = None,
    longest_hold: Span = None,
    registry_id: Annotated[
        list[str] | None,
        typer.Option("--registry-id", metavar="NAME=NUMBER", help="A schema registry's id more, such as pay=12."),
    ] = None,
    drop_registry_id: Annotated[
        list[int] | None, typer.Option("--drop-registry-id", metavar="NUMBER", help="One that counts no more.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Shorten the window or refund period without asking.")] = False,
    shard: ShardsOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Change the rules: a signed record into every lane of every shard; what is not named stays. Safe to run again."""
    planned = {
        "window_ms": window,
        "skew_ms": skew,
        "future_limit_ms": future_limit,
        "refund_period_ms": refund_period,
        "longest_hold_ms": longest_hold,
    }
    changes: dict[str, Any] = {name: value for name, value in planned.items() if value is not None}
    if not changes and not registry_id and not drop_registry_id:
        raise typer.BadParameter("name at least one rule to change")
    ids = assembly.registry_ids_of(registry_id or [])

    def change(rules: Rules) -> Rules:
        changed = replace(rules, **changes)
        return ruling.change_registry_ids(ids, drop_registry_id or [])(changed) if ids or drop_registry_id else changed

    chosen = settings()
    shards = _shards(chosen, shard)
    if not yes:
        _warn_of_shortening(chosen, shards, window, refund_period)
    change_rules(chosen, shards, change, within_s=within_s, as_json=as_json)


def _warn_of_shortening(
    chosen: Settings, shards: list[str], window_ms: int | None, refund_period_ms: int | None
) -> None:
    """Have the operator say that he means it: what leaves a period does not come back (I6)."""
    before = [rules for shard in shards for rules in ruling.rules_by_lane(chosen, shard).values()]
    lost = ruling.lost_by_shortening(before, window_ms=window_ms, refund_period_ms=refund_period_ms)
    if lost:
        confirm("\n".join(lost), "Change it nevertheless?", otherwise="leave it as long as it is, or give --yes")


def raise_release(
    *, shard: ShardsOption = None, within_s: WithinOption = WITHIN_S, as_json: JsonOption = False
) -> None:
    """Let every shard decide as this release does: signed records into every lane. Safe to run again.

    Install this release in every process first: an older one stops at them, and there is no way back.
    """
    chosen = settings()
    change = ruling.raise_release(chosen)
    change_rules(chosen, _shards(chosen, shard), change, within_s=within_s, as_json=as_json)


def change_rules(
    chosen: Settings, shards: list[str], change: ruling.Change, *, within_s: int, as_json: bool, otherwise: str = ""
) -> None:
    """Carry a change out in every lane of some shards, and say which rules each lane has afterwards.

    Nothing is written where one shard would not take it, or its database does not answer. A lane that does not answer
    ends it for its shard alone: then what is done, and what is not, is told, and the exit status is 3.
    """
    try:
        plans = {shard: ruling.plan(chosen, shard, change) for shard in shards}
    except Misconfigured as fault:
        raise typer.BadParameter(str(fault)) from None
    carried: dict[str, ruling.CarriedOut] = {}
    with open_client(within_s=within_s) as client:
        for shard, of_shard in plans.items():

            def done(lane: int, rules: Rules, shard: str = shard) -> None:
                if not as_json:
                    page.print(f"{shard} lane {lane} has rules {rules.version}")

            carried[shard] = ruling.carry_out(chosen, client, shard, of_shard, done)
    ruling.tell_directory_keys(chosen, shards)  # also where nothing was left to do: it may have been what was left
    left = {shard: each for shard, each in carried.items() if each.left}
    if as_json:
        print_json(
            {
                "done": {shard: each.done for shard, each in carried.items()},
                "left": {shard: {"lanes": each.left, "fault": each.fault} for shard, each in left.items()},
            }
        )
    elif not any(plans.values()):
        page.print(otherwise or "every lane has these rules already")
    if left:
        _tell_left(left, complete=[shard for shard in shards if shard not in left])
        raise typer.Exit(EXIT_FAULT)


def _tell_left(left: dict[str, ruling.CarriedOut], *, complete: list[str]) -> None:
    for shard, each in left.items():
        lanes = ", ".join(map(str, each.left))
        text = f"{shard}: not done, or not known to be, in lanes {lanes}: {each.fault}"
        notes.print(text, style="red", soft_wrap=True)
    notes.print(
        f"complete: {', '.join(complete) or 'no shard'}; not complete: {', '.join(left)}. What was written counts once "
        "the lane's worker runs; run the same again: what is done stays done",
        soft_wrap=True,
    )
