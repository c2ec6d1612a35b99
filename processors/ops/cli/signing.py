"""The operators' commands for the keys that sign: in the file, and in the log, which says whose signatures count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from processors.ledger.rules import Rules
from processors.ledger.trust import TrustedKey, read_keys
from processors.ops import keys, ruling
from processors.ops.cli.ruling import change_rules
from processors.ops.cli.terminal import (
    WITHIN_S,
    JsonOption,
    WithinOption,
    page,
    print_json,
    print_table,
    settings,
)
from processors.ops.shards import every_shard
from processors.settings import Settings
from processors.wire.signature import KeyRing, fingerprint

_THEN_ANNOUNCE = "copy the file to every shard worker, recaller and operator; then `balance key announce`"
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `key list` names it.", show_default=False)]


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


def retire_key(*, key_id: KeyId, as_json: JsonOption = False) -> None:
    """Let a key sign no more, and the newest one that counts in every lane sign instead."""
    chosen = settings()
    logged = [rules for shard in every_shard(chosen) for rules in ruling.rules_by_lane(chosen, shard).values()]

    def counts(name: str) -> bool:
        return all(rules.keys is None or _state(_key(rules, name)) == "counts" for rules in logged)

    ring = keys.retire_old_key(chosen.keys_file, key_id, counts)
    next_step = (
        f"copy the file to every recaller and operator, and restart the recallers; then `balance key end {key_id}`"
    )
    _show_ring(chosen.keys_file, ring, next_step, as_json=as_json)


def end_key(
    *,
    key_id: KeyId,
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
    change_rules(chosen, every_shard(chosen), change, within_s=within_s, as_json=as_json, otherwise=said)


def _show_ring(file: Path, ring: KeyRing, next_step: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "keys": list(ring.keys), "signing": ring.signing})
    else:
        page.print(f"{file}: keys {', '.join(ring.keys)}; {ring.signing} signs")
        page.print(f"next: {next_step}")
