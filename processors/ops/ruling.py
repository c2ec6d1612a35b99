"""Changes of the rules that decide: what an operator asks for, as one signed record for each lane (I6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from processors.client import Client, NoAnswer
from processors.faults import Fault, Misconfigured
from processors.ledger.control import set_rules_of
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules, newest_of, why_unfit
from processors.ledger.trust import (
    TrustedKey,
    keys_follow,
    read_keys,
    read_registry_ids,
    write_keys,
    write_registry_ids,
)
from processors.ops import addresses, assembly, keys
from processors.ops.durations import show_duration
from processors.settings import Settings
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.streams.directory import write_keys as write_keys_into_directory
from processors.streams.first_rules import write_first_rules
from processors.wire.signature import KeyRing, trusted_keys

STEPS_MAX = 2  # of a raise: one record that the older release reads, then one that only the newer one does
Change = Callable[[Rules], Rules]
"""From a lane's rules to those that are wanted, the version aside; the same again where nothing is left to do."""


def rules_by_lane(settings: Settings, shard: str) -> dict[int, Rules]:
    """Return the rules in force in each lane of a shard."""
    reader = open_reader(addresses.mysql_address(settings, shard))
    try:
        return {lane: newest_of(of_lane.values()) for lane, of_lane in reader.rules().items()}
    finally:
        reader.close()


def plan(settings: Settings, shard: str, change: Change) -> dict[int, list[tuple[int, Rules]]]:
    """Return what must be written to each lane, in order: the rules, and the release that reads them.

    A raise takes two records: an older release must be able to read the first (``raise_release``).

    Raises:
        Misconfigured: A lane would not take them; the text says why.
    """
    planned = {lane: _steps(rules, change) for lane, rules in rules_by_lane(settings, shard).items()}
    return {lane: steps for lane, steps in planned.items() if steps}


def _steps(rules: Rules, change: Change) -> list[tuple[int, Rules]]:
    steps: list[tuple[int, Rules]] = []
    for _ in range(STEPS_MAX):
        wanted = change(rules)
        if wanted == rules:
            break
        planned = replace(wanted, version=rules.version + 1)
        reason = why_unfit(planned)
        if reason is not None or not keys_follow(rules.keys, planned.keys):
            raise Misconfigured(reason or "a key of the log may not go, get another secret or live again")
        steps.append((rules.release, planned))
        rules = planned
    return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOut:
    """How far a shard's change went: the version in each lane that has it, and the lanes that are ``left``.

    Of those it is not known that they have it. ``fault`` says what kept it; empty where nothing is left.
    """

    done: dict[int, int]
    left: list[int]
    fault: str


def carry_out(
    settings: Settings,
    client: Client,
    shard: str,
    plans: Mapping[int, list[tuple[int, Rules]]],
    done: Callable[[int, Rules], None],
) -> CarriedOut:
    """Make the journal's slices that the rules need (A7), write each lane's records, and wait for their results.

    The first lane that does not answer ends it for its shard: what was written to it counts once its worker runs. It is
    done again then; what is done stays done. Other shards have workers of their own: the caller goes on with them.
    """
    versions: dict[int, int] = {}

    def note(lane: int, rules: Rules) -> None:
        versions[lane] = rules.version
        done(lane, rules)

    fault = ""
    try:
        _write(settings, client, shard, plans, note)
    except (Fault, NoAnswer) as met:
        fault = str(met)
    finished = {lane: version for lane, version in versions.items() if version == plans[lane][-1][1].version}
    return CarriedOut(done=finished, left=[lane for lane in plans if lane not in finished], fault=fault)


def _write(
    settings: Settings,
    client: Client,
    shard: str,
    plans: Mapping[int, list[tuple[int, Rules]]],
    done: Callable[[int, Rules], None],
) -> None:
    upkeep = ShardUpkeep(addresses.mysql_address(settings, shard))
    try:
        now_ms = assembly.clock_ms()
        for rules in {rules for planned in plans.values() for _, rules in planned}:
            upkeep.ensure_slices(rules, from_ms=now_ms, to_ms=now_ms)
    finally:
        upkeep.close()
    for lane, planned in plans.items():
        for release, rules in planned:
            _write_one(settings, client, shard, lane, rules, release=release)
            done(lane, rules)


def _write_one(settings: Settings, client: Client, shard: str, lane: int, rules: Rules, *, release: int) -> None:
    try:
        client.send_control(set_rules_of(rules, client.new_id()), shard=shard, lane=lane, release=release)
    except NoAnswer:
        if not _has(settings, shard, lane, rules):
            raise


def _has(settings: Settings, shard: str, lane: int, wanted: Rules) -> bool:
    """Say whether a lane that did not answer has the rules all the same.

    It had not decided an earlier record of the same change yet when this one was written, and that one went first.
    """
    return _wish(rules_by_lane(settings, shard)[lane]) == _wish(wanted)


def _wish(rules: Rules) -> Rules:
    """Return rules without what the lane itself adds to an operator's wish."""
    return replace(rules, version=1, window_floor_ms=0, refund_floor_ms=0, recall_floor_ms=0)


def tell_first_rules(settings: Settings, shards: Iterable[str]) -> list[str]:
    """Write into the directory with which rules shards began, as their databases have them, where it does not say so.

    A shard is then rebuilt from logs alone, whatever becomes of its database (I6, V1).

    Returns:
        The shards of which it was written.

    Raises:
        Fault: A server's; do it again.
    """

    def of_shard(shard: str) -> Rules:
        reader = open_reader(addresses.mysql_address(settings, shard))
        try:
            return began_with(shard, reader.rules())
        finally:
            reader.close()

    return write_first_rules(addresses.kafka_address(settings), shards, of_shard)


def began_with(shard: str, rules: Mapping[int, Mapping[int, Rules]]) -> Rules:
    """Return the rules with which a shard began.

    Args:
        shard: Its id, for the fault.
        rules: By lane and offset, as its database has them.

    Raises:
        Misconfigured: Its lanes did not begin with the same rules, or these are not known any more.
    """
    firsts = {of_lane[0] for of_lane in rules.values() if 0 in of_lane and of_lane[0].version == 1}
    if len(firsts) != 1:
        raise Misconfigured(
            f"the lanes of shard {shard} did not begin with the same rules, or lack the first: restore its database"
        )
    return firsts.pop()


def tell_directory_keys(settings: Settings, shards: Iterable[str]) -> list[str]:
    """Write into the directory which keys shards' lanes take, and which have ended: routers judge by these (R3).

    A key that counts in one lane counts; one that has ended in one lane has ended.

    Returns:
        The ids of the keys of which something was written.

    Raises:
        Misconfigured: The directory knows one of them by another secret.
        Fault: A server's; do it again.
    """
    logged = logged_keys(each for shard in shards for each in rules_by_lane(settings, shard).values())
    return write_keys_into_directory(addresses.kafka_address(settings), logged)


def logged_keys(in_force: Iterable[Rules]) -> dict[str, TrustedKey]:
    """Return the keys of lanes' rules by id: one that counts in any lane counts, unless it has ended in one."""
    logged: dict[str, TrustedKey] = {}
    for rules in in_force:
        for name, key in (read_keys(rules.keys or "") or {}).items():
            if name not in logged or key.ended:
                logged[name] = key
    return logged


# ------------------------------------------------------------------ changes


def lost_by_shortening(
    before: Iterable[Rules], *, window_ms: int | None = None, refund_period_ms: int | None = None
) -> list[str]:
    """Say what shorter periods mean for what was decided already; nothing where they are not shorter.

    Args:
        before: The rules in force in each lane, at least one.
        window_ms: The new window; None: it stays.
        refund_period_ms: The new refund period; None: it stays.

    Source: rules I4, I6 and H3.
    """
    rules = list(before)
    longest_window_ms = max(each.window_ms for each in rules)
    longest_period_ms = max(each.refund_period_ms for each in rules)
    told = []
    if window_ms is not None and window_ms < longest_window_ms:
        told.append(
            f"a window of {show_duration(window_ms)}, not {show_duration(longest_window_ms)}: a command that its lane "
            "reads later than that after its id was made is answered UNKNOWN (COMMAND_TOO_OLD), whether it was decided "
            "before or never; and open refunds end sooner"
        )
    if refund_period_ms is not None and refund_period_ms < longest_period_ms:
        told.append(
            f"a refund period of {show_duration(refund_period_ms)}, not {show_duration(longest_period_ms)}: no payment "
            "older than that is refunded any more (ORIGINAL_TOO_OLD)"
        )
    return [f"{each}. Making it longer again brings nothing back that has left it" for each in told]


def raise_release(settings: Settings) -> Change:
    """Return the change to this release; then the log says whose signatures count, as the file and settings did."""
    ring = keys.keyring(settings)
    registry_ids = logged_registry_ids(settings)

    def change(rules: Rules) -> Rules:
        newest = replace(rules, release=RULES_RELEASE, result_version=RESULT_VERSION)
        if newest != rules:
            return newest
        return rules if rules.keys is not None else replace(rules, keys=trusted_keys(ring), registry_ids=registry_ids)

    return change


def change_registry_ids(added: Mapping[int, str], removed: list[int]) -> Change:
    """Return the change that adds a schema registry's ids, with their schemas' fingerprints, and takes others away."""

    def change(rules: Rules) -> Rules:
        known = dict(read_registry_ids(_said(rules.registry_ids)) or {})
        for number in removed:
            known.pop(number, None)
        return replace(rules, registry_ids=write_registry_ids({**known, **added}))

    return change


def announce_keys(ring: KeyRing) -> Change:
    """Return the change by which every key of the file counts that the log does not have yet.

    Raises:
        Misconfigured: When it is applied: the log has one of them with another secret.
    """
    of_file = read_keys(trusted_keys(ring)) or {}

    def change(rules: Rules) -> Rules:
        known = read_keys(_said(rules.keys)) or {}
        for name, key in of_file.items():
            if name in known and known[name].fingerprint != key.fingerprint:
                raise Misconfigured(
                    f"key {name} of the keys file has another secret than the log's, {known[name].fingerprint}: bring "
                    "the file from a machine that has that one (`balance key list`)"
                )
        return replace(rules, keys=write_keys({**of_file, **known}))

    return change


def end_key(ring: KeyRing, key_id: str) -> Change:
    """Return the change that ends a key: what it signed from there on is a dead letter, for good.

    Raises:
        Misconfigured: It still signs; or, when it is applied, the log has no such key.
    """
    if ring.signing == key_id:
        raise Misconfigured(f"{key_id} signs: `balance key retire {key_id}` first, and bring the file everywhere")

    def change(rules: Rules) -> Rules:
        known = read_keys(_said(rules.keys)) or {}
        if key_id not in known:
            raise Misconfigured(f"the log has no key {key_id}; it has {', '.join(known)}")
        return replace(rules, keys=write_keys({**known, key_id: TrustedKey(known[key_id].fingerprint, ended=True)}))

    return change


def _said(text: str | None) -> str:
    if text is None:
        raise Misconfigured(
            "this shard still decides as release 1, by each process's keys file and settings: first "
            "`balance rules raise`"
        )
    return text


def logged_registry_ids(settings: Settings) -> str:
    """Return the settings' registry ids as the rules name them."""
    return write_registry_ids(
        {number: schema.fingerprint for number, schema in assembly.confluent_ids(settings).items()}
    )
