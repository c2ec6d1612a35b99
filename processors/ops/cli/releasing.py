"""Tells a lane the time of records whose broker's clock was wrong, and says what became of it (I2)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Annotated

import typer

from processors.client import Client, NoAnswer
from processors.faults import WAITING_FOR_A_TIME
from processors.lane.times import OVERRIDE_AHEAD_MS, RANGES_SINCE
from processors.ledger.commands import SetLaneTime
from processors.ledger.rules import newest_of
from processors.lookup.times import show_time
from processors.ops import addresses, assembly
from processors.ops.cli.terminal import (
    OFFSETS_MAX,
    WITHIN_S,
    JsonOption,
    LaneArgument,
    ShardOption,
    WithinOption,
    notes,
    open_client,
    page,
    print_json,
    read_offsets,
    read_time,
    settings,
)
from processors.ops.exits import EXIT_FAULT
from processors.settings import Settings
from processors.stores.shard_reader import LanePosition, ShardReader, open_reader
from processors.streams.reader import read_range
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.records import Record
from processors.wire.results import Result

LOOK_S = 0.5  # how often it is looked where the lane stands; a stopped one looks for the override every 2 s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The lane that is to be told, and where its rows are."""

    chosen: Settings
    shard: str
    lane: int
    reader: ShardReader

    def position(self) -> LanePosition | None:
        return self.reader.lane_positions().get(self.lane)

    def release(self) -> int:
        """Return the release of the lane's rules in force."""
        return newest_of(self.reader.rules()[self.lane].values()).release


def release(
    *,
    lane: LaneArgument,
    offsets: Annotated[
        range | None,
        typer.Argument(
            parser=read_offsets,
            metavar="OFFSET[-LAST]",
            help="The record that stopped the lane, as `lane show` tells; or it and those after it.",
        ),
    ] = None,
    time_ms: Annotated[
        int | None,
        typer.Argument(
            parser=read_time, metavar="TIME", help="Its true time: 2026-11-23T00:10:00Z, or ms since the epoch."
        ),
    ] = None,
    all_ms: Annotated[
        int | None,
        typer.Option("--all", parser=read_time, metavar="TIME", help="The time of every record that needs one."),
    ] = None,
    shard: ShardOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Tell a stopped lane the true time of records, after the broker's clock, or the topic, was set right.

    For CLOCK_AHEAD and TIMESTAMP_TYPE; the lane then goes on by itself. With --all the last record that needs a time is
    found: one time is right for all, since a lane's time never goes back.
    """
    chosen = settings()
    name = shard or chosen.home_shard
    place = _Place(
        chosen=chosen,
        shard=name,
        lane=known_lane(chosen, name, lane),
        reader=open_reader(addresses.mysql_address(chosen, name)),
    )
    try:
        told_ms = _one_time(offsets, time_ms, all_ms)
        first = _waits_at(place, offsets)
        _refuse_untrue(place, first, told_ms)
        last = _last_untimed(place, first) if offsets is None else offsets[-1]
        _tell(place, first, last, told_ms, within_s=within_s, as_json=as_json)
    finally:
        place.reader.close()


def _one_time(offsets: range | None, time_ms: int | None, all_ms: int | None) -> int:
    told_ms = all_ms if time_ms is None else time_ms
    if told_ms is None or (offsets is None) == (all_ms is None):
        raise typer.BadParameter("say OFFSET and TIME, or --all TIME")
    if told_ms > time.time_ns() // 1_000_000:
        raise typer.BadParameter("the record was written before now")
    return told_ms


def _waits_at(place: _Place, offsets: range | None) -> int:
    """Return the record for whose time the lane waits; refuse an override that no lane waits for."""
    stands = place.position()
    if stands is None or stands.stop_code not in WAITING_FOR_A_TIME:
        raise typer.BadParameter(
            f"lane {place.lane} is not stopped for want of a record's time; see `balance lane show`"
        )
    first = stands.progress.at.next_offset
    if offsets is not None and offsets[0] != first:
        raise typer.BadParameter(f"lane {place.lane} stopped at offset {first}, not {offsets[0]}")
    return first


def _refuse_untrue(place: _Place, first: int, told_ms: int) -> None:
    """Refuse a time that would count for nothing: the record's own is (nearly) over, and may have been used."""
    if place.release() < RANGES_SINCE:
        return
    record = next(_records(place, first, first + 1), None)
    if record is None or not record.append_time or told_ms >= record.timestamp_ms:
        return
    if record.timestamp_ms <= time.time_ns() // 1_000_000 + OVERRIDE_AHEAD_MS:
        stamp = show_time(record.timestamp_ms)
        raise typer.BadParameter(
            f"offset {first} has the broker's time {stamp}, which is over, or will be within two minutes: it stays. "
            "Say that time or a later one, once it is over"
        )


def _last_untimed(place: _Place, first: int) -> int:
    """Return the last record in the lane that has no broker's time, or one that is too far ahead of now (I2).

    Under rules that know an override of one record only, it is at most the last of ``OFFSETS_MAX``.
    """
    ahead_ms = time.time_ns() // 1_000_000 + place.chosen.worker.clock_ahead_max_ms
    end = TopicAdmin(addresses.kafka_address(place.chosen)).end(shard_topic(place.shard), place.lane)
    if place.release() < RANGES_SINCE:
        end = min(end, first + OFFSETS_MAX)
    last = first
    for record in _records(place, first, end):
        if not record.append_time or record.timestamp_ms > ahead_ms:
            last = record.offset
    return last


def _records(place: _Place, from_offset: int, to_offset: int) -> Iterator[Record]:
    address = addresses.kafka_address(place.chosen)
    return chain.from_iterable(read_range(address, shard_topic(place.shard), place.lane, from_offset, to_offset))


def _tell(place: _Place, first: int, last: int, told_ms: int, *, within_s: int, as_json: bool) -> None:
    with open_client(within_s=within_s) as client:
        is_answered = _await(place, first, _write(client, place, range(first, last + 1), told_ms))
    stands = place.position()
    reached = first if stands is None else stands.progress.at.next_offset
    stop = "" if stands is None or stands.stop_code is None else stands.stop_code.value
    if as_json:
        found = {"lane": place.lane, "first_offset": first, "last_offset": last, "time_ms": told_ms}
        print_json(found if is_answered else found | {"next_offset": reached, "stop_code": stop})
    elif is_answered:
        page.print(f"lane {place.lane} knows the time of offset {first}" + (f" to {last}" if last > first else ""))
    if not is_answered:
        if not as_json:
            notes.print(_how_far(place.lane, first, reached, stop, within_s), style="red", soft_wrap=True)
        raise typer.Exit(EXIT_FAULT)


def _how_far(lane: int, first: int, reached: int, stop: str, within_s: int) -> str:
    """Say where a lane stands that has not reached the override itself."""
    if reached > first:
        went = f"lane {lane} went past {reached - 1}"
        return f"{went}, stopped at {reached}: {stop}, see `balance lane show`" if stop else f"{went}, and goes on"
    return (
        f"no answer of lane {lane} within {within_s} s: what was written counts once its worker runs; look with "
        "`balance lane show`, and say it again if the lane still waits for a time then"
    )


def _write(client: Client, place: _Place, offsets: range, told_ms: int) -> Future[Result]:
    """Write the override, or one for each record where the lane's rules know no other; return the last one's answer."""
    if place.release() >= RANGES_SINCE:
        override = SetLaneTime(
            command_id=client.new_id(), lane_offset=offsets[0], time_ms=told_ms, last_offset=offsets[-1]
        )
        return client.submit_control(override, shard=place.shard, lane=place.lane)
    overrides = [SetLaneTime(command_id=client.new_id(), lane_offset=offset, time_ms=told_ms) for offset in offsets]
    # All before the first answer: the lane answers none of them before it has passed the last of these records.
    submit = partial(client.submit_control, shard=place.shard, lane=place.lane, release=place.release())
    return [submit(override) for override in overrides][-1]


def _await(place: _Place, first: int, told: Future[Result]) -> bool:
    """Wait for the lane's answer; False once it stopped behind the first record, or where none came in time."""
    while True:
        try:
            told.result(LOOK_S)
        except TimeoutError:
            stands = place.position()
            if stands is not None and stands.stop_code is not None and stands.progress.at.next_offset > first:
                return False
        except NoAnswer:
            return False
        else:
            return True


def known_lane(chosen: Settings, shard: str, lane: int) -> int:
    """Refuse a lane that the shard does not have; else return it."""
    lanes = assembly.founded_settings(chosen, shard).lanes_of(shard)
    if lane >= lanes:
        raise typer.BadParameter(f"there are lanes 0 to {lanes - 1}")
    return lane
