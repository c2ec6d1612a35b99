"""Changes of the rules: records of the log like any other, one in every lane (I6)."""

from __future__ import annotations

from processors.faults import LaneStopped, StopCode
from processors.ledger.commands import SetRules
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules, why_unfit
from processors.ledger.trust import keys_follow


def next_rules(current: Rules, command: SetRules, *, now_ms: int, known_release: int = RULES_RELEASE) -> Rules | None:
    """Return the rules after an operator's record.

    Args:
        current: The lane's rules in force.
        command: Verified and decoded, not judged. Times in milliseconds.
        now_ms: Lane time of the record, ms since the epoch.
        known_release: The newest release whose meaning this process knows.

    Returns:
        The new rules, in force from the next record on; None where the record has no effect, because its version is not
        the next one (it was sent again, or out of order), its values are out of range, or a key would be gone, have
        another secret or live again. The floors make sure that a longer window or refund period does not reach back to
        rows that may be gone already.

    Raises:
        LaneStopped: UNKNOWN_VERSION: the record is of a later release, whose meaning this code cannot know.

    Source: rules I6, H3, A7.
    """
    if command.release > known_release or command.result_version > RESULT_VERSION:
        raise LaneStopped(
            StopCode.UNKNOWN_VERSION,
            f"rules release {command.release} and result version {command.result_version} are in the log, "
            "this release knows "
            f"{known_release} and {RESULT_VERSION}: start the newer release again",
        )
    rules = Rules(
        version=command.version,
        release=command.release,
        window_ms=command.window_ms,
        skew_ms=command.skew_ms,
        future_limit_ms=command.future_limit_ms,
        refund_period_ms=command.refund_period_ms,
        longest_hold_ms=command.longest_hold_ms,
        result_version=command.result_version,
        window_floor_ms=current.window_start_ms(now_ms),
        refund_floor_ms=current.refund_start_ms(now_ms),
        recall_floor_ms=current.recall_start_ms(now_ms),
        keys=current.keys if command.keys is None else command.keys,
        registry_ids=current.registry_ids if command.registry_ids is None else command.registry_ids,
    )
    follows = (
        command.version == current.version + 1
        and command.release >= current.release
        and command.result_version >= current.result_version
        and keys_follow(current.keys, rules.keys)
    )
    return rules if follows and why_unfit(rules) is None else None


def set_rules_of(rules: Rules, command_id: bytes) -> SetRules:
    """Return an operator's record that brings rules, under an id; the floors are the lane's own to set (I6)."""
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
        keys=rules.keys,
        registry_ids=rules.registry_ids,
    )
