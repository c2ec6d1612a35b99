"""The expirer: moves idle lanes' time on, and asks for holds to be expired that are overdue by their lane's own time.

It decides nothing. Only the lane decides that a hold has expired (H2). A record of the expirer asks the lane to look at
one hold; so a record too many changes nothing, and one that is lost is written again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from processors.faults import Retryable, Unavailable, UnknownOutcome
from processors.ids import derived_id
from processors.ledger.commands import ExpireHold, Tick
from processors.metrics import EXPIRIES_SENT, TICKS_SENT
from processors.stores.shard_reader import LanePosition, OverdueHold
from processors.streams.record_producer import RecordProducer
from processors.telemetry import PULSE
from processors.troubles import TROUBLES
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord

TICK = encode_command(Tick())
# All lanes' records of one step; a broker that takes longer is away, and the next step begins anew.
FLUSH_DEADLINE_S = 30.0
# From TICK to TICK of a lane in which records wait for a placement key that has come: some more than deciding the 4,000
# takes that one TICK unparks (M5), so that a partner who moved catches up, and his neighbours have their turn.
UNPARK_S = 0.25
# After the ticks were written: an idle lane takes one in 30 ms, a busy machine in some more.
TAKEN_S = 0.5


class HoldReader(Protocol):
    """The shard's rows (``stores.shard_reader``)."""

    def lane_positions(self) -> Mapping[int, LanePosition]:
        """Return lane -> where it stands."""

    def overdue_holds(self, lane: int, *, now_ms: int, holds_max: int) -> list[OverdueHold]:
        """Return the lane's holds that expired by ``now_ms``, the longest overdue first."""

    def unparking_lanes(self) -> list[int]:
        """Return the lanes that own a placement key for which records wait (M5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirerParts:
    """What an expirer works with.

    ``topic`` is the shard's, with its prefix. ``end_offset`` returns the offset behind a lane's last record; all
    that was acknowledged to ``writer`` is below it. ``holds_max`` bounds the EXPIRE_HOLD records of a lane and step.
    """

    shard: str
    topic: str
    lanes: int
    reader: HoldReader
    writer: RecordProducer
    end_offset: Callable[[int], int]
    holds_max: int


class Expirer:
    """One shard's expirer; ``step`` is all it does, again and again."""

    def __init__(self, parts: ExpirerParts) -> None:
        """Begin without a memory: what was asked for before a restart is at worst asked for again."""
        self._parts = parts
        for counter in (TICKS_SENT, EXPIRIES_SENT):  # from 0 on
            counter.labels(parts.shard)
        self.holds_max = parts.holds_max
        self._asked_up_to: dict[int, int] = {}  # lane -> the offset behind its last requests

    def step(self) -> int:
        """Write a TICK to every lane, and EXPIRE_HOLD for the overdue holds of those that passed the last requests.

        Returns:
            How many holds were asked for.

        Raises:
            Fault: The shard or the broker. What was written is harmless; step again.
        """
        asked = self._ask_lanes()
        self._tick(range(self._parts.lanes))  # idle or not, owned or not: A6 waits for every lane's time
        return self._sent(asked)

    def ask(self) -> int:
        """Do the same without a TICK: a lane that has taken its last one knows that more holds are over."""
        return self._sent(self._ask_lanes())

    def unpark(self) -> None:
        """Write a TICK to each lane in which records wait for a placement key that has come (M5).

        Raises:
            Fault: As ``step``.
        """
        lanes = self._parts.reader.unparking_lanes()
        if lanes:
            self._tick(lanes)
            self._parts.writer.flush(FLUSH_DEADLINE_S)

    def _tick(self, lanes: Collection[int]) -> None:
        parts = self._parts
        for lane in lanes:
            parts.writer.send(OutRecord(parts.topic, lane, None, TICK, []))
        TICKS_SENT.labels(parts.shard).inc(len(lanes))

    def _ask_lanes(self) -> dict[int, int]:
        return {lane: self._ask_lane(lane, position) for lane, position in self._parts.reader.lane_positions().items()}

    def _sent(self, asked: Mapping[int, int]) -> int:
        """Wait for what was written, and remember where the lanes' requests end."""
        parts = self._parts
        parts.writer.flush(FLUSH_DEADLINE_S)
        for lane in (lane for lane, holds in asked.items() if holds):
            self._asked_up_to[lane] = parts.end_offset(lane)
        EXPIRIES_SENT.labels(parts.shard).inc(sum(asked.values()))
        return sum(asked.values())

    def _ask_lane(self, lane: int, position: LanePosition) -> int:
        parts = self._parts
        progress = position.progress
        if progress.at.next_offset < self._asked_up_to.get(lane, 0):  # H2
            return 0
        overdue = parts.reader.overdue_holds(lane, now_ms=progress.at.lane_time_ms, holds_max=parts.holds_max)
        for hold in overdue:
            parts.writer.send(OutRecord(parts.topic, lane, hold.root.encode(), expiry_of(hold), []))
        return len(overdue)


def expiry_of(hold: OverdueHold) -> bytes:
    """Return the EXPIRE_HOLD of a hold: the same bytes on every repeat (I7)."""
    return encode_command(
        ExpireHold(
            command_id=derived_id("EXPIRE_HOLD", hold.transaction_id),
            address=hold.address,
            currency=hold.currency,
            hold_id=hold.transaction_id,
        )
    )


def run(
    make_expirer: Callable[[], tuple[Expirer, Callable[[], None]]],
    stopping: threading.Event,
    *,
    tick_ms: int,
) -> int:
    """Step every ``tick_ms`` until told to stop; a fault that may pass is waited out.

    Args:
        make_expirer: Connects an expirer, and returns it with what closes its connections.
        stopping: Ends it after the step under way.
        tick_ms: From one step's begin to the next, which comes sooner after one that asked for all it may.

    Returns:
        0.

    Raises:
        Fault: Any other; who runs the process begins anew.
    """
    while not stopping.is_set():
        expirer, close = make_expirer()
        try:
            while not stopping.is_set():
                began_s = time.monotonic()
                asked = expirer.step()
                # An idle lane's time moves with ticks alone. Once it has taken this one, more of its holds may be over.
                _unpark_until(expirer, began_s + min(TAKEN_S, tick_ms / 2_000), stopping)
                asked = max(asked, expirer.ask())
                PULSE.beat()
                TROUBLES.over("expirer")
                # After as many holds as may be asked for, more wait; and the lane has had time for these.
                wait_s = 0.0 if asked >= expirer.holds_max else tick_ms / 1000
                _unpark_until(expirer, began_s + wait_s, stopping)
        except (Retryable, Unavailable, UnknownOutcome) as fault:
            TROUBLES.met("expirer", fault)
            if PULSE.has_begun:
                PULSE.beat()
            stopping.wait(tick_ms / 1000)
        finally:
            close()
    PULSE.stop()
    return 0


def _unpark_until(expirer: Expirer, ends_s: float, stopping: threading.Event) -> None:
    """Wait until a moment, or until told to stop; lanes in which records wait get a TICK every ``UNPARK_S`` (M5)."""
    while (left_s := ends_s - time.monotonic()) > 0 and not stopping.wait(min(left_s, UNPARK_S)):
        expirer.unpark()
        PULSE.beat()
