"""The operators' commands for what decides: rules, and the keys that sign."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from processors.faults import Misconfigured
from processors.ledger.rules import Rules
from processors.ledger.trust import TrustedKey, read_keys
from processors.ops import assembly, keys, ruling
from processors.ops.cli.terminal import (
    WITHIN_S,
    Commands,
    JsonOption,
    ShardOption,
    WithinOption,
    add_group,
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
from processors.wire.signature import KeyRing, fingerprint

_PANEL = "Operating"
_THEN_ANNOUNCE = "copy the file to every shard worker, recaller and operator; then `balance key announce`"
Span = Annotated[int | None, typer.Option(parser=read_duration, metavar="SPAN", help="Such as 6h or 30d.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    rules: Commands = {"show": show_rules, "set": set_rules, "raise": raise_release}
    add_group(app, "rules", "What decides: window, skew, periods, registry ids.", rules, panel=_PANEL)
    signing: Commands = {
        "list": list_keys,
        "add": add_key,
        "announce": announce_keys,
        "retire": retire_key,
        "end": end_key,
    }
    add_group(app, "key", "Keys that sign what operators and the service itself send.", signing, panel=_PANEL)


# ---------------------------------------------------------------------- rules


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
    wished = {
        "window_ms": window,
        "skew_ms": skew,
        "future_limit_ms": future_limit,
        "refund_period_ms": refund_period,
        "longest_hold_ms": longest_hold,
    }
    changes: dict[str, Any] = {name: value for name, value in wished.items() if value is not None}
    if not changes and not registry_id and not drop_registry_id:
        raise typer.BadParameter("name at least one rule to change")
    ids = assembly.registry_ids_of(registry_id or [])

    def change(rules: Rules) -> Rules:
        changed = replace(rules, **changes)
        return ruling.change_registry_ids(ids, drop_registry_id or [])(changed) if ids or drop_registry_id else changed

    chosen = settings()
    if not yes:
        _warn_of_shortening(chosen, shard or chosen.home_shard, window, refund_period)
    _change_rules(chosen, [shard or chosen.home_shard], change, within_s=within_s, as_json=as_json)


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
    _change_rules(chosen, [shard or chosen.home_shard], change, within_s=within_s, as_json=as_json)


def _change_rules(
    chosen: Settings, shards: list[str], change: ruling.Change, *, within_s: int, as_json: bool, otherwise: str = ""
) -> None:
    """Carry a change out, and say which rules each lane has afterwards."""
    try:
        wishes = {shard: ruling.plan(chosen, shard, change) for shard in shards}
    except Misconfigured as fault:
        raise typer.BadParameter(str(fault)) from None
    with open_client(within_s=within_s) as client:
        for shard, of_shard in wishes.items():

            def done(lane: int, rules: Rules, shard: str = shard) -> None:
                if not as_json:
                    page.print(f"{shard if len(shards) > 1 else ''} lane {lane} has rules {rules.version}".strip())

            ruling.carry_out(chosen, client, shard, of_shard, done)
    versions = {shard: {lane: wished[-1][1].version for lane, wished in each.items()} for shard, each in wishes.items()}
    if as_json:
        print_json(versions[shards[0]] if len(shards) == 1 else versions)
    elif not any(wishes.values()):
        page.print(otherwise or "every lane has these rules already")


# ---------------------------------------------------------------------- keys


def list_keys(*, as_json: JsonOption = False) -> None:
    """Show every key of the keys file and of the log: which signs, whose signatures count, and what is missing."""
    chosen = settings()
    ring = keys.keyring(chosen) if chosen.keys_file.exists() else None
    logged = {shard: ruling.rules_by_lane(chosen, shard) for shard in chosen.shards}
    names = sorted({*(ring.keys if ring else ()), *(name for each in logged.values() for name in _named(each))})
    found = [
        {
            "id": name,
            "file": _in_file(ring, name, logged),
            **{shard: _in_log(rules, name) for shard, rules in logged.items()},
        }
        for name in names
    ]
    if as_json:
        print_json({"file": str(chosen.keys_file), "keys": found})
        return
    print_table(str(chosen.keys_file), ("key", "in the file", *logged), ([*each.values()] for each in found))
    if any(value == _NOT_YET for each in found for value in each.values()):
        page.print(_THEN_ANNOUNCE)


_NOT_YET = "not yet in the log"


def _named(rules: dict[int, Rules]) -> set[str]:
    return {name for each in rules.values() for name in (read_keys(each.keys or "") or {})}


def _in_file(ring: KeyRing | None, name: str, logged: dict[str, dict[int, Rules]]) -> str:
    secret = None if ring is None else ring.keys.get(name)
    if ring is None or secret is None:
        return "missing"
    known = {key.fingerprint for shard in logged.values() for rules in shard.values() if (key := _key(rules, name))}
    if known - {fingerprint(secret)}:
        return "another secret than the log's"
    return "signs" if ring.signing == name else "verifies"


def _in_log(rules: dict[int, Rules], name: str) -> str:
    if all(each.keys is None for each in rules.values()):
        return "the file decides (release 1)"
    states = {_state(_key(each, name)) for each in rules.values()}
    return states.pop() if len(states) == 1 else "not in every lane the same: run the last command again"


def _key(rules: Rules, name: str) -> TrustedKey | None:
    return (read_keys(rules.keys or "") or {}).get(name)


def _state(key: TrustedKey | None) -> str:
    if key is None:
        return _NOT_YET
    return "ended" if key.ended else "counts"


def add_key(
    *, name: Annotated[str, typer.Argument(metavar="NAME", help="Such as k2.")], as_json: JsonOption = False
) -> None:
    """Add a key to the file, under the name and a part of its fingerprint: two machines never give one id twice."""
    file = settings().keys_file
    ring = keys.add_new_key(file, name)
    _show_ring(file, ring, _THEN_ANNOUNCE, as_json=as_json)


def announce_keys(*, within_s: WithinOption = WITHIN_S, as_json: JsonOption = False) -> None:
    """Tell every lane the file's keys, id and fingerprint: from there on their signatures count. Safe to run again.

    Copy the file to every shard worker first: one that lacks a key stops its lanes (KEY_MISSING).
    """
    chosen = settings()
    ring = keys.keyring(chosen)
    said = "every lane has the file's keys already"
    _change_keys(chosen, ruling.announce_keys(ring), said, within_s=within_s, as_json=as_json)
    if not as_json and ring.signing != list(ring.keys)[-1]:
        page.print(f"next: `balance key retire {ring.signing}`, so that the newest signs")


def retire_key(*, key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: JsonOption = False) -> None:
    """Let a key sign no more, and the newest one that counts in every lane sign instead."""
    chosen = settings()
    logged = [rules for shard in chosen.shards for rules in ruling.rules_by_lane(chosen, shard).values()]

    def counts(name: str) -> bool:
        return all(rules.keys is None or _state(_key(rules, name)) == "counts" for rules in logged)

    ring = keys.retire_old_key(chosen.keys_file, key_id, counts)
    next_step = (
        f"copy the file to every recaller and operator, and restart the recallers; then `balance key end {key_id}`"
    )
    _show_ring(chosen.keys_file, ring, next_step, as_json=as_json)


def end_key(
    *,
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """End a key in every lane: what it signs from there on is a dead letter, for good. Safe to run again.

    Recallers sign with keys, too: restart each with the newer file first. The ended key stays in the file: replays and
    restored databases meet what it signed before.
    """
    chosen = settings()
    change = ruling.end_key(keys.keyring(chosen), key_id)
    _change_keys(chosen, change, f"{key_id} has ended in every lane already", within_s=within_s, as_json=as_json)
    if not as_json:
        page.print(
            f"what {key_id} signs from here on is a dead letter. Recallers sign with keys, too: one that was not "
            "restarted with the newer file leaves refunds open; `balance dead-letters list` shows it (BAD_SIGNATURE)",
            soft_wrap=True,
        )


def _change_keys(chosen: Settings, change: ruling.Change, said: str, *, within_s: int, as_json: bool) -> None:
    _change_rules(chosen, list(chosen.shards), change, within_s=within_s, as_json=as_json, otherwise=said)


def _show_ring(file: Path, ring: KeyRing, next_step: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "keys": list(ring.keys), "signing": ring.signing})
    else:
        page.print(f"{file}: keys {', '.join(ring.keys)}; {ring.signing} signs")
        page.print(f"next: {next_step}")
