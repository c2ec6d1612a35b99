"""Asks lanes whether they do their part in a move, before anything is moved (M10)."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import closing

from processors.faults import Misconfigured
from processors.ledger.commands import Tick
from processors.ledger.rules import newest_of
from processors.ops import addresses
from processors.ops.keys import keyring
from processors.settings import Settings
from processors.stores.shard_reader import LanePosition, ShardReader, open_reader
from processors.streams.directory import read_directory
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.admission import MOVES_SINCE
from processors.wire.commands import encode_command
from processors.wire.directory import COUNTS_AFTER_MS, Vouched
from processors.wire.records import OutRecord
from processors.wire.signature import fingerprint

# A lane that is well takes a TICK within 30 ms, on a busy machine within some; one that changes its owner, 6 s (P4).
PROBE_S = 10.0
# A lane decides some 10,000 records a second: the partner's commands wait behind those that it has still to decide.
LAG_MAX = 10_000
_LOOK_S = 0.1  # how often it is looked whether a lane has taken its TICK
_FLUSH_S = 10.0
_CLOCK_AHEAD_MS = 500  # this machine's clock may be so much ahead of the brokers'


def refuse_unready_lanes(settings: Settings, lanes: Mapping[str, Collection[int]]) -> None:
    """Ask lanes whether they do their part in moves: they have rules of one release, no backlog, and take a TICK.

    Then waits until routers take the key that signs here, and the shards, where the directory has them since a moment
    ago only.

    Args:
        settings: With the counts in force.
        lanes: By shard; asked in this order.

    Raises:
        Misconfigured: One does not; the text says why, and what to do.
        Fault: A server's.

    Source: M10, R3.
    """
    releases: dict[tuple[str, int], int] = {}
    for shard, of_shard in lanes.items():
        with closing(open_reader(addresses.mysql_address(settings, shard))) as reader:
            reader.check(shard)
            rules = reader.rules()
            releases |= {(shard, lane): newest_of(rules[lane].values()).release for lane in of_shard}
            refuse_releases(releases)
            _refuse_silent(settings, shard, sorted(of_shard), reader)
    await_vouched(settings, lanes)


def refuse_releases(releases: Mapping[tuple[str, int], int]) -> None:
    """Refuse lanes whose rules know no moves, or are of several releases: not both could read the other's rows.

    Who moves may have to come back, so the later release must not be on either side.

    Args:
        releases: Of each lane's newest rules, by (shard, lane).

    Raises:
        Misconfigured: Says which lane, and what to do.

    Source: M10.
    """
    (shard, lane), lowest = min(releases.items(), key=lambda each: (each[1], each[0]))
    if lowest < MOVES_SINCE:
        raise Misconfigured(
            f"lane {lane} of {shard} decides by rules of release {lowest}, which know no moves: first "
            f"`balance rules raise --shard {shard}`"
        )
    (other, other_lane), highest = max(releases.items(), key=lambda each: each[1])
    if lowest != highest:
        raise Misconfigured(
            f"lane {lane} of {shard} decides by rules of release {lowest}, and lane {other_lane} of {other} by those "
            f"of release {highest}: one might not understand the other's rows; first "
            f"`balance rules raise --shard {shard}`"
        )


def _refuse_silent(settings: Settings, shard: str, lanes: Collection[int], reader: ShardReader) -> None:
    """Refuse lanes that are stopped, are behind, or do not take a TICK; all are given theirs at once."""
    address = addresses.kafka_address(settings)
    topics, topic = TopicAdmin(address), shard_topic(shard)
    positions = reader.lane_positions()
    for lane in lanes:
        behind = topics.end(topic, lane) - _reached(shard, lane, positions)
        if behind > LAG_MAX:
            raise Misconfigured(
                f"lane {lane} of {shard} is {behind} records behind, above {LAG_MAX}: the partner's commands would "
                "wait as long as it takes to decide them; wait until it has caught up (`balance status`)"
            )
    producer = IdempotentProducer(address, delivery_deadline_ms=int(_FLUSH_S * 1_000), linger_ms=0)
    try:
        for lane in lanes:
            producer.send(OutRecord(address.topic_prefix + topic, lane, None, encode_command(Tick()), []))
        producer.flush(_FLUSH_S)
    finally:
        producer.close()
    ends, ends_s = {lane: topics.end(topic, lane) for lane in lanes}, time.monotonic() + PROBE_S
    while waits := [lane for lane in lanes if _reached(shard, lane, positions) < ends[lane]]:
        if time.monotonic() > ends_s:
            raise Misconfigured(
                f"lane {waits[0]} of {shard} did not take a TICK within {PROBE_S:.0f} s: is a worker of {shard} "
                f"running? (`balance status`, `balance shard run --shard {shard}`)"
            )
        time.sleep(_LOOK_S)
        positions = reader.lane_positions()


def _reached(shard: str, lane: int, positions: Mapping[int, LanePosition]) -> int:
    """Return the first offset that a lane has not decided, 0 for one that no worker ever had; refuse a stopped one."""
    position = positions.get(lane)
    if position is not None and position.stop_code is not None:
        raise Misconfigured(f"lane {lane} of {shard} is stopped: {position.stop_code} (`balance shard show {shard}`)")
    return 0 if position is None else position.progress.at.next_offset


def await_vouched(settings: Settings, shards: Collection[str]) -> None:
    """Wait until routers take markers of now that are signed with the key that signs here, towards some shards.

    Raises:
        Misconfigured: The directory does not have the key, or it has ended; or this machine's clock is behind.
        Fault: Kafka's.

    Source: R3.
    """
    vouched = read_directory(addresses.kafka_address(settings)).vouched
    from_ms = max(_key_counts_from_ms(settings, vouched), *(vouched.targets[shard] for shard in shards))
    wait_ms = from_ms + _CLOCK_AHEAD_MS - time.time_ns() // 1_000_000
    if wait_ms > 2 * COUNTS_AFTER_MS:
        raise Misconfigured(f"this machine's clock is {wait_ms / 1_000:.0f} s behind the brokers': set it right")
    time.sleep(max(0, wait_ms) / 1_000)


def _key_counts_from_ms(settings: Settings, vouched: Vouched) -> int:
    """Return the first stamp of a marker that may be signed with the key of the file here."""
    ring = keyring(settings)
    known = vouched.keys.get(ring.signing)
    if known is None or known.fingerprint != fingerprint(ring.keys[ring.signing]):
        raise Misconfigured(f"the directory does not have key {ring.signing}, which signs here: `balance key announce`")
    if known.ended_from_ms is not None:
        raise Misconfigured(f"key {ring.signing}, which signs here, has ended: bring the keys file of another machine")
    return known.counts_from_ms
