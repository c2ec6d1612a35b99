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
    ShardOption,
    WithinOption,
    confirm,
    open_client,
    page,
    print_json,
    print_table,
    read_duration,
    settings,
)
from processors.ops.durations import show_duration
from processors.settings import Settings

Span = Annotated[int | None, typer.Option(parser=read_duration, metavar="SPAN", help="Such as 6h or 30d.")]


def show_rules(*, shard: ShardOption = None, as_json: JsonOption = False) -> None:
    """Show the rules in force in each lane."""
    chosen = settings()
    every = ruling.rules_by_lane(chosen, shard or chosen.home_shard)
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
    shard: ShardOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Change the rules: one signed record into every lane; what is not named stays. Safe to run again."""
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
    if not yes:
        _warn_of_shortening(chosen, shard or chosen.home_shard, window, refund_period)
    change_rules(chosen, [shard or chosen.home_shard], change, within_s=within_s, as_json=as_json)


def _warn_of_shortening(chosen: Settings, shard: str, window_ms: int | None, refund_period_ms: int | None) -> None:
    """Have the operator say that he means it: what leaves a period does not come back (I6)."""
    before = ruling.rules_by_lane(chosen, shard).values()
    lost = ruling.lost_by_shortening(before, window_ms=window_ms, refund_period_ms=refund_period_ms)
    if lost:
        confirm("\n".join(lost), "Change it nevertheless?", otherwise="leave it as long as it is, or give --yes")


def raise_release(*, shard: ShardOption = None, within_s: WithinOption = WITHIN_S, as_json: JsonOption = False) -> None:
    """Let the shard decide as this release does: signed records into every lane. Safe to run again.

    Install this release in every process first: an older one stops at them, and there is no way back.
    """
    chosen = settings()
    change = ruling.raise_release(chosen)
    change_rules(chosen, [shard or chosen.home_shard], change, within_s=within_s, as_json=as_json)


def change_rules(
    chosen: Settings, shards: list[str], change: ruling.Change, *, within_s: int, as_json: bool, otherwise: str = ""
) -> None:
    """Carry a change out, and say which rules each lane has afterwards."""
    try:
        plans = {shard: ruling.plan(chosen, shard, change) for shard in shards}
    except Misconfigured as fault:
        raise typer.BadParameter(str(fault)) from None
    with open_client(within_s=within_s) as client:
        for shard, of_shard in plans.items():

            def done(lane: int, rules: Rules, shard: str = shard) -> None:
                if not as_json:
                    page.print(f"{shard if len(shards) > 1 else ''} lane {lane} has rules {rules.version}".strip())

            ruling.carry_out(chosen, client, shard, of_shard, done)
    versions = {
        shard: {lane: planned[-1][1].version for lane, planned in each.items()} for shard, each in plans.items()
    }
    if as_json:
        print_json(versions[shards[0]] if len(shards) == 1 else versions)
    elif not any(plans.values()):
        page.print(otherwise or "every lane has these rules already")
