"""Makes a lost directory again, from what shards, logs and the routers' group still know (R8).

Whatever speaks against it is found before anything is written; and nothing is told to the routers before it is whole.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from processors.faults import Misconfigured
from processors.ledger.rules import newest_of
from processors.ledger.trust import TrustedKey
from processors.ops import addresses, assembly, counts
from processors.ops.known_placements import KnownPlacements, Routed, Seal, lost_moves, reconstruct
from processors.ops.ruling import began_with, logged_keys
from processors.routing.buckets import partition_of
from processors.routing.directory import HOME_PLACEMENT_KEY
from processors.settings import Settings
from processors.stores.databases import known_shard
from processors.stores.rows import PlacementRow
from processors.stores.shard_placements import ShardPlacements, read_shard_placements
from processors.streams.connection import KafkaAddress
from processors.streams.directory import DIRECTORY_ID_BYTES
from processors.streams.group_look import committed_positions, look_at_group
from processors.streams.reader import read_range
from processors.streams.rebuilt_directory import Remains, remains_of, why_in_the_way, write_rebuilt
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, ROUTER_GROUP, TopicAdmin, shard_topic
from processors.wire.directory import (
    DirectoryHead,
    DirectoryRecord,
    PlacementRecord,
    PositionRecord,
    ShardRecord,
    SigningKeyRecord,
    TopicRecord,
    first_rules_record,
)
from processors.wire.markers import marker_of
from processors.wire.records import Record
from processors.wire.route import ROUTE_HEADER, RouteKind, decode_route
from processors.wire.routed import RoutedBy

Progress = Callable[[str], None]

# A lane that runs has decided what is there within a second; one that is behind is told, with how far.
DECIDED_WITHIN_S = 10.0
_LOOK_S = 0.2
PROBLEMS_MAX = 10  # told at once


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDirectory:
    """A directory as it would be written: ``records`` are all but its head.

    ``remains`` is what the topic has already. ``committed`` has the offset of the routers' group by ingress partition.
    ``placed`` says how many placement keys that ever moved belong to each shard; ``on_their_way`` of these moves go on
    once the directory is there.
    """

    settings: Settings
    ingress_topic_id: bytes
    ingress_epoch: int
    records: list[DirectoryRecord]
    remains: Remains
    committed: dict[int, int]
    placed: dict[str, int]
    on_their_way: int

    @property
    def placements(self) -> list[PlacementRecord]:
        """Return the placements, the home shard's, too."""
        return [record for record in self.records if isinstance(record, PlacementRecord)]

    @property
    def positions(self) -> dict[int, int]:
        """Return where routers go on, by ingress partition."""
        found = (record for record in self.records if isinstance(record, PositionRecord))
        return {record.ingress_partition: record.next_offset for record in found}


def plan_rebuilding(settings: Settings, say: Progress) -> PlannedDirectory:
    """Read every shard and what Kafka knows, and say what the directory was; nothing is changed.

    Args:
        settings: They name all shards, and how many partitions the ingress has.
        say: Told what is done.

    Raises:
        Misconfigured: It cannot be told what it was. The text says why, and what to do.
        Fault: A server's.
    """
    address, topics = addresses.kafka_address(settings), TopicAdmin(addresses.kafka_address(settings))
    _refuse_routers(settings)
    shards = _shards_made(settings, topics)
    say(f"reading shards {', '.join(shards)}")
    found = _read_decided(settings, shards, topics)
    settings = _in_force(settings, found)
    epoch, reached = _ingress_reached(settings, found, topics, say)
    positions, committed, moves = _positions(settings, reached, topics)
    known = _known(settings, found, epoch, reached, (positions, moves))
    records = _records(settings, found, known, topics)
    records += [
        PositionRecord(ingress_epoch=epoch, ingress_partition=partition, next_offset=offset)
        for partition, offset in sorted(positions.items())
    ]
    return PlannedDirectory(
        settings=settings,
        ingress_topic_id=topics.topic_id(COMMANDS_TOPIC),
        ingress_epoch=epoch,
        records=records,
        remains=remains_of(address, records),
        committed=committed,
        placed=dict(Counter(each.shard for each in known.placed)),
        on_their_way=sum(not each.has_come for each in known.placed),
    )


def _known(
    settings: Settings,
    found: Mapping[str, ShardPlacements],
    epoch: int,
    reached: Mapping[int, int],
    routers: tuple[Mapping[int, int], Mapping[int, int]],
) -> KnownPlacements:
    """Return the placements; ``routers`` are their positions, and how many moves they had, by ingress partition."""
    positions, moves = routers
    home, partitions = settings.home_shard, settings.topics.commands_partitions
    rows = {shard: each.placements for shard, each in found.items()}
    met = list(_markers(settings, positions, reached))
    routed = Routed(
        positions=positions,
        met_again={(key, generation) for key, generation, _ in met},
        seals=_seals(settings, rows, {key for key, _, _ in met}, epoch),
    )
    known = reconstruct(rows, home=home, partitions=partitions, routed=routed)
    _refuse([*known.problems, *lost_moves(known, moves, partitions, [partition for _, _, partition in met])])
    return known


def carry_out(planned: PlannedDirectory, say: Progress, tell: Callable[[int], None]) -> bytes:
    """Write a directory that was planned a moment ago; return its id, 16 bytes.

    Args:
        planned: What is to be written.
        say: Told what was made.
        tell: Told how many records are written so far, now and then.

    Raises:
        Misconfigured: The topic has a directory, or what is left of one.
        Fault: Kafka's; run it again.
    """
    settings, address = planned.settings, addresses.kafka_address(planned.settings)
    why = why_in_the_way(address, planned.remains)
    if why:
        raise Misconfigured(f"{why}. Nothing was written")
    specs = [spec for spec in assembly.topic_specs(settings) if spec.name == DIRECTORY_TOPIC]
    for name in TopicAdmin(address).create(specs, replication_factor=settings.kafka.replication_factor):
        say(f"made topic {address.topic_prefix}{name}")
    topic_id = TopicAdmin(address).topic_id(DIRECTORY_TOPIC)
    head = DirectoryHead(
        # Of this topic, which never had another: two who rebuild it at once write the same.
        directory_id=hashlib.sha256(topic_id + planned.ingress_topic_id).digest()[:DIRECTORY_ID_BYTES],
        ingress_topic_id=planned.ingress_topic_id,
        ingress_epoch=planned.ingress_epoch,
    )
    write_rebuilt(address, planned.records, head, planned.committed, tell)
    return head.directory_id


def _refuse(problems: list[str]) -> None:
    if problems:
        more = len(problems) - PROBLEMS_MAX
        told = [*problems[:PROBLEMS_MAX], *([f"and {more} more"] if more > 0 else [])]
        raise Misconfigured("\n".join(["it cannot be told what the directory was; nothing was written:", *told]))


# ---------------------------------------------------------------------- who must be there


def _refuse_routers(settings: Settings) -> None:
    partitions = range(settings.topics.commands_partitions)
    look = look_at_group(addresses.kafka_address(settings), ROUTER_GROUP, COMMANDS_TOPIC, partitions)
    if look.members:
        raise Misconfigured(
            f"{look.members} routers are in the group {ROUTER_GROUP}: stop them all; one that has ended is in it for "
            f"{settings.worker.session_timeout_ms / 1_000:.0f} s more. Nothing was written"
        )


def _shards_made(settings: Settings, topics: TopicAdmin) -> list[str]:
    """Return the shards of the settings that were ever made; what any shard knew of moves is needed.

    Raises:
        Misconfigured: The settings lack a shard, or a database is lost.
    """
    made = [shard for shard in settings.shards if known_shard(addresses.mysql_address(settings, shard)) is not None]
    used = [name.removeprefix(shard_topic("")) for name in topics.named(shard_topic("")) if _has_records(topics, name)]
    for shard in used:
        if shard not in settings.shards:
            raise Misconfigured(
                f"shard {shard} has a topic with records, and is not in the settings here: add a table "
                f"[shards.{shard}]. Nothing was written"
            )
        if shard not in made:
            raise Misconfigured(
                f"{addresses.mysql_address(settings, shard)} does not hold shard {shard}, whose topic has records: "
                "correct the settings, or bring the database back from a backup. Nothing was written"
            )
    if settings.home_shard not in made:
        raise Misconfigured(
            f"the home shard {settings.home_shard} has no database: where there was no service yet, run `balance init`"
        )
    return made


def _has_records(topics: TopicAdmin, name: str) -> bool:
    ((_, partitions),) = topics.partition_counts([name]).items()
    return any(topics.end(name, partition) for partition in range(partitions))


def _read_decided(settings: Settings, shards: list[str], topics: TopicAdmin) -> dict[str, ShardPlacements]:
    """Read the shards once their lanes have decided all that the routers have brought them, and no move goes on.

    They are read one after the other: a move that goes on may be seen in one shard as it was, and in the other as it
    is. So they are read again until nothing has changed.
    """
    found = {shard: _read_decided_one(settings, shard, topics) for shard in shards}
    ends_s = time.monotonic() + DECIDED_WITHIN_S
    while True:
        again = {shard: _read_decided_one(settings, shard, topics) for shard in shards}
        moved = [shard for shard in shards if again[shard].placements != found[shard].placements]
        if not moved:
            return again
        if time.monotonic() > ends_s:
            raise Misconfigured(
                f"moves go on in {', '.join(moved)}: run this again once they are over (`balance status`). Nothing was "
                "written"
            )
        found = again


def _read_decided_one(settings: Settings, shard: str, topics: TopicAdmin) -> ShardPlacements:
    topic, address = shard_topic(shard), addresses.mysql_address(settings, shard)
    if not topics.exists(topic):
        raise Misconfigured(f"there is no topic {topic} of shard {shard}, and {address} holds the shard: restore it")
    found, ends_s = read_shard_placements(address, shard), time.monotonic() + DECIDED_WITHIN_S
    ends = {lane: topics.end(topic, lane) for lane in range(found.row.lanes)}
    while behind := [lane for lane, end in ends.items() if _decided(found, lane) < end]:
        if time.monotonic() > ends_s:
            lane = behind[0]
            raise Misconfigured(
                f"lane {lane} of {shard} has decided up to offset {_decided(found, lane)} of {ends[lane]}: a move may "
                f"lie in what it has not; have its workers running, and run this again (`balance shard run --shard "
                f"{shard}`; a lane that is stopped: docs/runbook.md). Nothing was written"
            )
        time.sleep(_LOOK_S)
        found = read_shard_placements(address, shard)
    topic_id = topics.topic_id(topic)
    for lane, position in found.positions.items():
        if position.topic_id != topic_id:
            raise Misconfigured(
                f"lane {lane} of {shard} was decided from topic {topic} with id {position.topic_id.hex()}, and the "
                f"topic now has id {topic_id.hex()}: it was made again; restore it. Nothing was written"
            )
    if found.move_outs_parked:
        raise Misconfigured(
            f"MOVE_OUTs wait in {shard} of {', '.join(found.move_outs_parked[:PROBLEMS_MAX])}: moves that have not "
            "begun there yet; wait until they have, and run this again. Nothing was written"
        )
    return found


def _decided(found: ShardPlacements, lane: int) -> int:
    position = found.positions.get(lane)
    return 0 if position is None else position.at.next_offset


def _in_force(settings: Settings, found: Mapping[str, ShardPlacements]) -> Settings:
    """Return the settings with the shards' own counts; refuse them where the shards do not fit together."""
    for shard, each in found.items():
        if each.row.home != (shard == settings.home_shard):
            raise Misconfigured(
                f"shard {shard} was {'' if each.row.home else 'not '}made as the home shard, and the settings' home "
                f"shard is {settings.home_shard}: correct the settings. Nothing was written"
            )
        settings = counts.of_shard(settings, each.row)
    for shard, each in found.items():
        if each.row.results_partitions != settings.topics.results_partitions:
            raise Misconfigured(f"the shards were made with other counts of results partitions than {shard}")
    return settings


# ---------------------------------------------------------------------- the ingress


def _ingress_reached(
    settings: Settings, found: Mapping[str, ShardPlacements], topics: TopicAdmin, say: Progress
) -> tuple[int, dict[int, int]]:
    """Return the ingress epoch, and of each partition the highest offset that any lane has met.

    It is the epoch that the lanes know, since the log is the same one: in another they would decide again whatever the
    routers bring them twice (L10). Where no lane has met anything it is new.
    """
    epoch = max((epoch for each in found.values() for epoch, _ in each.ingress), default=int(time.time()))
    reached: dict[int, int] = {}
    for each in found.values():
        for (of_epoch, partition), offset in each.ingress.items():
            if of_epoch == epoch:
                reached[partition] = max(offset, reached.get(partition, -1))
    partitions = settings.topics.commands_partitions
    ((_, there),) = topics.partition_counts([COMMANDS_TOPIC]).items()
    if there < partitions or max(reached, default=0) >= partitions:
        raise Misconfigured(
            f"{COMMANDS_TOPIC} has {there} partitions, topics.commands_partitions is {partitions}, and lanes have met "
            f"partition {max(reached, default=0)}: correct the settings; a count never changes (W3)"
        )
    if there > partitions:
        say(f"{COMMANDS_TOPIC} has {there} partitions, of which {partitions} count, as topics.commands_partitions says")
    for partition, offset in sorted(reached.items()):
        end = topics.end(COMMANDS_TOPIC, partition)
        if offset >= end:
            raise Misconfigured(
                f"lanes have met offset {offset} of ingress partition {partition}, which now ends at {end}: "
                f"{COMMANDS_TOPIC} was made again, or has lost its end; restore it. Nothing was written"
            )
    return epoch, reached


def _positions(
    settings: Settings, reached: Mapping[int, int], topics: TopicAdmin
) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Return where routers go on, where their group says so, and how many moves the lost directory had; by partition.

    Where the group says nothing (any more) they go on at the first record that is left, as they do without a note, and
    lanes drop what they had (R6): what lanes have met says nothing of those that have met less.
    """
    partitions = range(settings.topics.commands_partitions)
    found = committed_positions(addresses.kafka_address(settings), ROUTER_GROUP, COMMANDS_TOPIC, partitions)
    positions = {partition: offset for partition, (offset, _) in found.items()}
    for partition, offset in positions.items():
        start, end = topics.bounds(COMMANDS_TOPIC, partition)
        if not start <= offset <= end:
            raise Misconfigured(
                f"the routers' group stands at offset {offset} of ingress partition {partition}, which has {start} to "
                f"{end}: {COMMANDS_TOPIC} was made again, or has lost records; restore it. Nothing was written"
            )
    for partition in reached.keys() - positions.keys():
        positions[partition] = topics.bounds(COMMANDS_TOPIC, partition)[0]
    said = {partition: RoutedBy.read(metadata) for partition, (_, metadata) in found.items()}
    moves = {partition: routed_by.moves for partition, routed_by in said.items() if routed_by is not None}
    return positions, {partition: offset for partition, (offset, _) in found.items()}, moves


def _markers(
    settings: Settings, positions: Mapping[int, int], reached: Mapping[int, int]
) -> Iterator[tuple[str, int, int]]:
    """Yield placement key, generation and partition of the markers that routers meet again, and lanes may have met."""
    address = addresses.kafka_address(settings)
    for partition, last in sorted(reached.items()):
        if positions[partition] > last:
            continue
        for records in read_range(address, COMMANDS_TOPIC, partition, positions[partition], last + 1):
            for marker in filter(None, map(marker_of, records)):
                yield marker.placement_key, marker.generation, partition


def _seals(
    settings: Settings, rows: Mapping[str, Mapping[str, PlacementRow]], keys: set[str], epoch: int
) -> dict[tuple[str, int], Seal]:
    """Return at which ingress offsets the markers of some placement keys stood, where a shard's log still says so."""
    address = addresses.kafka_address(settings)
    found: dict[tuple[str, int], Seal] = {}
    for shard, of_shard in rows.items():
        for key in sorted(keys & of_shard.keys()):
            lane = partition_of(key, settings.lanes_of(shard))
            for record in _at(address, shard_topic(shard), lane, of_shard[key].since_offset):
                found |= _sealed_by(record, shard, key, epoch)
    return found


def _sealed_by(record: Record, shard: str, key: str, epoch: int) -> dict[tuple[str, int], Seal]:
    """Return what a record of a lane says of a placement key's seal; nothing where it is not the key's MOVE_OUT."""
    marker, routes = marker_of(record), [value for name, value in record.headers if name == ROUTE_HEADER]
    if marker is None or marker.placement_key != key or not routes:
        return {}
    route = decode_route(routes[0] or b"")
    if route.kind is not RouteKind.MOVE_OUT:
        return {}
    # What was routed in an earlier life of the ingress lies before all of this one.
    offset = route.ingress_offset if route.ingress_epoch == epoch else -1
    return {(key, marker.generation): Seal(ingress_offset=offset, source=shard)}


def _at(address: KafkaAddress, topic: str, partition: int, offset: int) -> list[Record]:
    """Return the record at an offset, if the log still has it."""
    start, end = TopicAdmin(address).bounds(topic, partition)
    if not start <= offset < end:
        return []
    return [record for records in read_range(address, topic, partition, offset, offset + 1) for record in records]


# ---------------------------------------------------------------------- the records


def _records(
    settings: Settings, found: Mapping[str, ShardPlacements], known: KnownPlacements, topics: TopicAdmin
) -> list[DirectoryRecord]:
    """Return all records but head and positions, in the order in which they are written.

    What a marker is judged by stands behind the home shard: so it counts for markers of later stamps alone (R3). A
    marker that lies in the ingress already, and did not count by what the shards know, does not count: whether it was
    refused once cannot be told. Who asked for the move is told so, and asks again.
    """
    home = PlacementRecord(
        unit=HOME_PLACEMENT_KEY, generation=0, shard=settings.home_shard, ingress_partition=0, since=0
    )
    made = {shard_topic(shard) for shard in found}
    lanes = {shard_topic(shard) for shard in settings.shards}
    return [
        home,
        *(
            TopicRecord(topic=topic, partitions=count)
            for topic, count in counts.by_topic(settings).items()
            if topic in made or topic not in lanes
        ),
        *(
            ShardRecord(shard=shard, topic=shard_topic(shard), topic_id=topics.topic_id(shard_topic(shard)))
            for shard in found
        ),
        *(first_rules_record(shard, began_with(shard, each.rules)) for shard, each in found.items()),
        *(_key_record(key_id, key) for key_id, key in sorted(_keys(found).items())),
        *known.placements,
    ]


def _keys(found: Mapping[str, ShardPlacements]) -> dict[str, TrustedKey]:
    return logged_keys(newest_of(of_lane.values()) for each in found.values() for of_lane in each.rules.values())


def _key_record(key_id: str, key: TrustedKey) -> SigningKeyRecord:
    """Return a key's one record: of a key that has ended its end alone, so that it counts for no marker."""
    return SigningKeyRecord(key_id=key_id, fingerprint=key.fingerprint, ended=key.ended)
