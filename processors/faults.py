"""What can go wrong with I/O, by what the caller must do next. A driver's own exception never leaves its layer.

A *rejection* is a value (``ledger.outcomes``), a *bug* is a failed ``assert``; everything else that goes wrong is
one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(Exception):  # noqa: N818 - what goes wrong is a rejection, a fault or a bug
    """I/O went wrong. The subclass says what to do; the text says what, where, and the next step."""


class Retryable(Fault):
    """Nothing was changed, and the same step may be tried again: a deadlock, a lock wait, a lost connection."""


class UnknownOutcome(Fault):
    """It may or may not have happened: read the state again before anything else (L5, L6)."""


class Fenced(Fault):
    """Another owner took over: drop the lane, change nothing, publish nothing (L1, L5)."""


class Undecodable(Fault):
    """Bytes that are no valid record of ours. ``cause`` is one of ``wire.causes.Cause``."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class Misconfigured(Fault):
    """What this release itself found wrong in a setting, a schema or a server; the text says what to change."""


class Unavailable(Fault):
    """A server did not answer within the deadline, or cannot do its part for now; it may come back."""


class Refused(Unavailable):
    """A server is there and says no: a login, a right, a certificate, a topic it does not know.

    Somebody must look; but it may be mended from the other side at any moment (a rotated password, a restart that is
    under way), so it is waited out, loudly.
    """


class StopCode(StrEnum):
    """Why a lane stopped: in ``progress.stop_code``, shown by ``balance status``, a heading each in docs/runbook.md."""

    LOG_GAP = "LOG_GAP"  # L2: the next record is not next_offset
    LOG_TRUNCATED = "LOG_TRUNCATED"  # L3: the log begins after, or ends before, the position the lane needs
    LOG_REWRITTEN = "LOG_REWRITTEN"  # L3: a record differs from its journal row, or its leader epoch is too high
    TOPIC_CHANGED = "TOPIC_CHANGED"  # L3: another topic id under the same name
    TIMESTAMP_TYPE = "TIMESTAMP_TYPE"  # I2: not LogAppendTime
    CLOCK_AHEAD = "CLOCK_AHEAD"  # I2: a record's broker time is far ahead of this machine's clock
    INGRESS_WENT_BACK = "INGRESS_WENT_BACK"  # L10: a redelivery with a higher ingress leader epoch
    DIGEST_DIFFERS = "DIGEST_DIFFERS"  # L4: decided again, and not to what was published
    RECALLS_DISAGREE = "RECALLS_DISAGREE"  # H3
    UNKNOWN_VERSION = "UNKNOWN_VERSION"  # I6: rules or result schema of a later release
    KEY_MISSING = "KEY_MISSING"  # W1: the log has a signing key that the keys file lacks, or has with another secret
    MISSING_SLICE = "MISSING_SLICE"  # A7: no journal partition for an id's time
    MISCONFIGURED = "MISCONFIGURED"  # stored by earlier releases only: a wrong setting, which is waited out now
    BUG = "BUG"  # L8, L11: an assertion failed or a count was not the expected one


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What starts a stopped lane again: ``mend`` first, in words, then ``command``, empty where there is none yet."""

    mend: str
    command: str = "balance lane restart {lane}"

    @property
    def restart_mends(self) -> bool:
        """Say whether a restart can help; else the lane would meet the same record with the same state."""
        return "lane restart" in self.command


# docs/runbook.md says the same, more at length; a test holds them together.
NEXT_STEPS: Mapping[StopCode, NextStep] = {
    StopCode.LOG_GAP: NextStep(mend="bring back the broker, or the copy of the topic, that has the records"),
    StopCode.LOG_TRUNCATED: NextStep(mend="bring back the broker that has the records"),
    StopCode.LOG_REWRITTEN: NextStep(mend="restore the true log"),
    StopCode.TOPIC_CHANGED: NextStep(mend="bring back the old topic; a new one needs an empty database"),
    StopCode.TIMESTAMP_TYPE: NextStep(
        mend="set message.timestamp.type of the topic to LogAppendTime",
        command="balance lane release {lane} {offset} TIME (--all TIME where several records wait)",
    ),
    StopCode.CLOCK_AHEAD: NextStep(
        mend="set the clock that is wrong",
        command="balance lane release {lane} {offset} TIME (--all TIME where several records wait), or, where the "
        "worker's clock was behind and the rules are of release 1, balance lane restart {lane}",
    ),
    StopCode.INGRESS_WENT_BACK: NextStep(mend="nothing in this release: keep the shard's topic as it is", command=""),
    StopCode.DIGEST_DIFFERS: NextStep(mend="restore the database again, with the release that decided"),
    StopCode.RECALLS_DISAGREE: NextStep(
        mend="nothing in this release: repair the archive for later recalls", command=""
    ),
    StopCode.UNKNOWN_VERSION: NextStep(mend="start the later release again"),
    StopCode.KEY_MISSING: NextStep(mend="bring the keys file from a machine that has the key (balance key list)"),
    StopCode.MISSING_SLICE: NextStep(mend="run balance migrate"),
    StopCode.MISCONFIGURED: NextStep(mend="correct what the detail names"),
    StopCode.BUG: NextStep(mend="install a release that mends it"),
}


def next_step(code: StopCode, *, shard: str, lane: int, offset: int | None) -> str:
    """Return what an operator does about a stopped lane, the command as it is typed.

    Args:
        code: Why it stopped.
        shard: Whose lane.
        lane: Its number.
        offset: The record that stopped it; None where it is not known here.

    >>> next_step(StopCode.LOG_GAP, shard="s1", lane=3, offset=17)
    'bring back the broker, or the copy of the topic, that has the records; then: balance lane restart --shard s1 3'
    """
    step = NEXT_STEPS[code]
    if not step.command:
        return step.mend
    filled = step.command.format(lane=f"--shard {shard} {lane}", offset="OFFSET" if offset is None else offset)
    return f"{step.mend}; then: {filled}"


# An operator's time override on the record's time ends these stops, without another command (I2).
WAITING_FOR_A_TIME = (StopCode.CLOCK_AHEAD, StopCode.TIMESTAMP_TYPE)


class LaneStopped(Fault):
    """The lane must not go on until an operator has looked; the process's other lanes do.

    ``stored``: it was read from the database, where an operator may take it away at any moment, with ``next_offset``,
    where the lane stands.
    """

    def __init__(self, code: StopCode, detail: str, *, stored: bool = False, next_offset: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.next_offset = next_offset
        self.code = code
        self.detail = detail
        self.stored = stored
