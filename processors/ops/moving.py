"""Moves of placement keys, as an operator asks for them: what speaks against one, what it would carry, how far it is.

A move is a signed record in the partner's own log (R3). Before it is sent the target is asked whether it would take the
partner (M10): what is on its way to a shard that does not answer waits there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, takewhile

from processors.client import Client
from processors.faults import Misconfigured
from processors.lane.handing_over import cut
from processors.lane.placements import Placements
from processors.ledger.commands import MovePartner, SendAgain
from processors.ledger.rules import newest_of
from processors.ledger.tables import ACCOUNTS, HOLDS, MOVED_IDS
from processors.ops import addresses, counts
from processors.ops.keys import keyring
from processors.ops.probing import refuse_unready_lanes
from processors.ops.stages import MoveSeen, Stage
from processors.routing.buckets import bucket_named, partition_of
from processors.routing.directory import Placement
from processors.settings import Settings
from processors.stores.frozen_rows import FrozenRowsReader
from processors.stores.rows import PlacementRow, PlacementState
from processors.stores.shard_reader import ShardReader, open_reader
from processors.streams.directory import DirectoryContents, read_directory, refuse_unknown_shard
from processors.streams.group_look import committed_positions
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, ROUTER_GROUP, TopicAdmin
from processors.wire.admission import AHEAD_SINCE
from processors.wire.markers import is_signed, marker_id, marker_of
from processors.wire.packed_ids import framed_ids
from processors.wire.packed_rows import unpack_row

LOOK_S = 0.1  # how often it is looked how far something is
UNDELIVERED = (Stage.ASKED, Stage.PLACED, Stage.SEALED, Stage.ARRIVING)  # the target does not own it yet
_FAR = (1 << 63) - 1  # an offset above every one
# Measured (docs/performance.md, A move): one that carries nearly nothing, and each part.
PAUSE_MS = 150
PART_MS = 6
# As many bytes of ids go along with the rest, some 4,000 of them: more go ahead (``going_ahead``).
LEFT_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What went ahead of a move (M6): ids known before a lane offset of the source, in parts; 32 bytes over them.

    ``from_offset`` is where the stay began in which they were read.
    """

    from_offset: int = 0
    offset: int = 0
    parts: int = 0
    digest: bytes = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """A move: ``generation`` is the one that it begins; ``settings`` have the counts in force.

    ``under_way``: its marker was met before, and it is not settled yet. ``ahead`` is what the target has already.
    """

    settings: Settings
    placement_key: str
    generation: int
    source: str
    target: str
    under_way: bool = False
    ahead: Ahead = Ahead()

    @property
    def marker(self) -> MovePartner:
        """Return its marker: whoever asks for it, and whatever went ahead, its id is the same (R3)."""
        ahead = self.ahead
        return MovePartner(
            command_id=marker_id(self.placement_key, self.generation, self.source, self.target),
            placement_key=self.placement_key,
            generation=self.generation,
            source=self.source,
            target=self.target,
            ahead_from_offset=ahead.from_offset,
            ahead_offset=ahead.offset,
            ahead_parts=ahead.parts,
            ahead_digest=ahead.digest if ahead.parts else b"",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyThere:
    """A placement key that is where it was to go: there is nothing to send. ``owner`` is its placement in force."""

    placement_key: str
    owner: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Luggage:
    """What would move, if it moved now: ``ids`` of the window, ``other_rows`` of refunds; bytes in ``parts`` records.

    ``pause_ms`` is how long the partner's commands would wait, about.
    """

    accounts: int
    holds: int
    ids: int
    other_rows: int
    bytes: int
    parts: int
    pause_ms: int


# ---------------------------------------------------------------------- what is asked for


def plan_move(settings: Settings, placement_key: str, target: str) -> PlannedMove | AlreadyThere:
    """Return the move of a placement key to a shard, or that it is there.

    Args:
        settings: Of the whole service.
        placement_key: A root, or a bucket's placement key.
        target: A shard's id.

    Raises:
        Misconfigured: There is no such shard, or the key is on its way elsewhere.
        Fault: A server's.
    """
    contents = read_directory(addresses.kafka_address(settings))
    settings = counts.of_contents(settings, contents)
    owner = _owner(settings, contents, placement_key)
    for shard in (target, owner.shard):
        refuse_unknown(settings, contents, shard)
    last = last_move(settings, contents, placement_key)
    if last is not None and seen(last).stage is not Stage.SETTLED:
        if last.target == target:
            return last
        raise Misconfigured(
            f"{placement_key} is on its way from {last.source} to {last.target}: {told(last)}; wait until it is there "
            f"(`balance partner move {placement_key} --to {last.target} --watch`)"
        )
    if owner.shard == target:
        return AlreadyThere(placement_key=placement_key, owner=owner)
    _refuse_bucket_under_way(settings, owner)
    begins = owner.generation + 1 if owner.placement_key == placement_key else 1
    return PlannedMove(
        settings=settings, placement_key=placement_key, generation=begins, source=owner.shard, target=target
    )


def is_asked(planned: PlannedMove) -> bool:
    """Say whether a move that the directory did not have was asked for already: no router has met it, or one has since.

    Who began to send ids ahead once more would throw away what that marker counts on (M6).

    Raises:
        Fault: A server's.
    """
    settings, key = planned.settings, planned.placement_key
    address, partition = addresses.kafka_address(settings), _ingress_partition(settings, planned.placement_key)
    committed = committed_positions(address, ROUTER_GROUP, COMMANDS_TOPIC, [partition])
    # Read behind the commits: what routers were past by then they have placed, or refused.
    contents = read_directory(address)
    last = last_move(settings, contents, key)
    if last is not None and last.generation >= planned.generation:
        return True
    start, end = TopicAdmin(address).bounds(COMMANDS_TOPIC, partition)
    # Where the group's offset is gone, routers go on from their own note (R6).
    reached = committed[partition][0] if partition in committed else contents.positions.get(partition, start)
    first = max(start, reached)
    ring, wanted = keyring(settings), planned.marker.command_id
    for record in chain.from_iterable(read_range(address, COMMANDS_TOPIC, partition, first, end)):
        marker = marker_of(record)
        if marker is not None and marker.command_id == wanted and is_signed(record, ring):
            return True
    return False


def plan_return(settings: Settings, placement_key: str) -> PlannedMove | AlreadyThere:
    """Return the move of a placement key to the shard that it came from, or that it is there.

    Raises:
        Misconfigured: It never moved; or as ``plan_move``.
    """
    contents = read_directory(addresses.kafka_address(settings))
    last = last_move(counts.of_contents(settings, contents), contents, placement_key)
    if last is None:
        raise Misconfigured(f"{placement_key} never moved by itself: say where it is to go, with --to")
    return plan_move(settings, placement_key, last.source)


def plan_placing(settings: Settings, root: str, shard: str) -> PlannedMove | AlreadyThere:
    """Return the move of a root that has no account yet, or that it is there.

    Raises:
        Misconfigured: It has accounts; or as ``plan_move``.
    """
    planned = plan_move(settings, root, shard)
    if isinstance(planned, AlreadyThere) or planned.under_way:
        return planned
    with closing(reader_of(planned, planned.source)) as reader:
        if reader.accounts_below(root, rows_max=1):
            raise Misconfigured(
                f"{root} has accounts on {planned.source}: move him (`balance partner move {root} --to {shard}`)"
            )
    return planned


def plan_sending_again(settings: Settings, placement_key: str) -> PlannedMove:
    """Return the move whose parts are to be sent again: its rows are frozen in the source, and not in the target.

    Raises:
        Misconfigured: There is no such move; the text says how far the last one is.
        Fault: A server's.
    """
    contents = read_directory(addresses.kafka_address(settings))
    settings = counts.of_contents(settings, contents)
    moves = _moves(settings, contents, placement_key)
    undelivered = list(takewhile(lambda move: seen(move).stage in UNDELIVERED, moves))
    if undelivered:  # others may have been asked for since: they wait for this one
        first = undelivered[-1]
        row = seen(first).source
        if row is not None and row.is_at(PlacementState.SEALED, first.generation):
            return first
    raise Misconfigured(
        f"{placement_key} has no move whose rows are frozen in one shard and missing in another: there is nothing to "
        f"send again (`balance partner show {placement_key}`)"
    )


def send_again(planned: PlannedMove, client: Client) -> int:
    """Have the source's lane send a sealed placement key's parts again; return the lane's offset of the record (M4).

    Raises:
        NoAnswer: The lane did not answer; what was written counts once its worker runs.
    """
    wish = SendAgain(command_id=client.new_id(), placement_key=planned.placement_key, generation=planned.generation)
    lane = lane_of(planned.settings, planned.source, planned.placement_key)
    return client.send_control(wish, shard=planned.source, lane=lane).lane_offset


def refuse_unknown(settings: Settings, contents: DirectoryContents, shard: str) -> None:
    """Refuse a shard that the directory or the settings do not have.

    Raises:
        Misconfigured: Says which of them, and what to do.
    """
    refuse_unknown_shard(contents, shard)
    if shard not in settings.shards:
        raise Misconfigured(f"shard {shard} is not in the settings here: add a table [shards.{shard}]")


def _owner(settings: Settings, contents: DirectoryContents, placement_key: str) -> Placement:
    return contents.directory.place(
        placement_key, ingress_partition=_ingress_partition(settings, placement_key), ingress_offset=_FAR
    )


def _ingress_partition(settings: Settings, placement_key: str) -> int:
    return partition_of(placement_key, settings.topics.commands_partitions)


def last_move(settings: Settings, contents: DirectoryContents, placement_key: str) -> PlannedMove | None:
    """Return the last move of a placement key that the directory has; None where it never moved by itself."""
    return next(_moves(settings, contents, placement_key), None)


def _moves(settings: Settings, contents: DirectoryContents, placement_key: str) -> Iterator[PlannedMove]:
    """Yield the moves of a placement key that the directory has, the newest first."""
    for move in contents.directory.moves_of(placement_key):
        yield PlannedMove(
            settings=settings,
            placement_key=placement_key,
            generation=move.placement.generation,
            source=contents.directory.source_of(move),
            target=move.placement.shard,
            under_way=True,
        )


def _refuse_bucket_under_way(settings: Settings, owner: Placement) -> None:
    """Refuse to move a root out of a bucket that has not arrived yet."""
    if bucket_named(owner.placement_key) is None or owner.generation == 0:
        return
    row = row_of(settings, owner.shard, owner.placement_key)
    if row is None or row.state is not PlacementState.OWNED or row.generation != owner.generation or row.parked:
        raise Misconfigured(f"{owner.placement_key}, to which it belongs, is on its way to {owner.shard}: wait")


# ---------------------------------------------------------------------- how far it is


def seen(planned: PlannedMove) -> MoveSeen:
    """Ask both shards, and the directory, how far a move is."""
    return _seen(planned, None)[0]


def _seen(planned: PlannedMove, known: DirectoryContents | None) -> tuple[MoveSeen, DirectoryContents]:
    """Return how far a move is, and the directory, which is read on from where it was ``known``."""
    key, settings = planned.placement_key, planned.settings
    # In this order: a target that has a part of it was placed, and what the source does next is no less.
    target = row_of(settings, planned.target, key)
    source = row_of(settings, planned.source, key)
    contents = read_directory(addresses.kafka_address(settings), known)
    is_placed = any(move.placement.generation >= planned.generation for move in contents.directory.moves_of(key))
    return MoveSeen(generation=planned.generation, is_placed=is_placed, source=source, target=target), contents


def told(planned: PlannedMove) -> str:
    """Say in words how far a move is."""
    return seen(planned).told(planned.source, planned.target)


def watch(planned: PlannedMove, *, ends_s: float, tell: Callable[[MoveSeen], None] = lambda _seen: None) -> MoveSeen:
    """Look how far a move is until it is settled, at most until a time of the monotonic clock.

    Args:
        planned: The move.
        ends_s: On the monotonic clock.
        tell: Told of each stage that is met, once.

    Returns:
        What was seen last.
    """
    before: Stage | None = None
    contents: DirectoryContents | None = None
    while True:
        found, contents = _seen(planned, contents)
        if found.stage is not before:
            tell(found)
        before = found.stage
        if before is Stage.SETTLED or time.monotonic() > ends_s:
            return found
        time.sleep(LOOK_S)


def row_of(settings: Settings, shard: str, placement_key: str) -> PlacementRow | None:
    """Return what a shard's lane knows of a placement key; None where it knows nothing."""
    with closing(open_reader(addresses.mysql_address(settings, shard))) as reader:
        return reader.placements_of(placement_key, lane_of(settings, shard, placement_key)).get(placement_key)


def lane_of(settings: Settings, shard: str, placement_key: str) -> int:
    """Return the lane of a placement key in a shard."""
    return partition_of(placement_key, settings.lanes_of(shard))


def reader_of(planned: PlannedMove, shard: str) -> ShardReader:
    """Return what reads a shard's rows."""
    return open_reader(addresses.mysql_address(planned.settings, shard))


# ---------------------------------------------------------------------- M10


def refuse_unready(planned: PlannedMove) -> None:
    """Ask both shards' lanes whether they do their part in the move (M10).

    Raises:
        Misconfigured: One does not; the text says why, and what to do.
        Fault: A server's.
    """
    lanes = {
        shard: [lane_of(planned.settings, shard, planned.placement_key)] for shard in (planned.target, planned.source)
    }
    refuse_unready_lanes(planned.settings, lanes)


# ---------------------------------------------------------------------- what would move


def luggage(planned: PlannedMove) -> Luggage:
    """Read what would move if it moved now; all of it is read, and nothing changed.

    Raises:
        Fault: The server's.
    """
    lane = lane_of(planned.settings, planned.source, planned.placement_key)
    with closing(reader_of(planned, planned.source)) as reader:
        as_if = as_if_sealed(planned, reader)
        release = newest_of(reader.rules()[lane].values()).release
    found: Counter[str] = Counter()
    size = of_ids = 0
    with closing(FrozenRowsReader(addresses.mysql_address(planned.settings, planned.source), lane)) as rows:

        def counted(packed: bytes) -> bytes:
            nonlocal size, of_ids
            table, values = unpack_row(packed)
            found[table.name] += len(framed_ids(values[-1])) if table is MOVED_IDS else 1
            size += len(packed)
            of_ids += len(packed) if table is MOVED_IDS else 0
            return packed

        packed = (counted(row) for row in rows.read(as_if) if row is not None)
        parts = sum(1 for _ in cut(packed))
    known = (ACCOUNTS.name, HOLDS.name, MOVED_IDS.name)
    return Luggage(
        accounts=found[ACCOUNTS.name],
        holds=found[HOLDS.name],
        ids=found[MOVED_IDS.name],
        other_rows=found.total() - sum(found[name] for name in known),
        bytes=size,
        parts=parts,
        pause_ms=pause_ms(parts, size=size, of_ids=of_ids, release=release),
    )


def pause_ms(parts: int, *, size: int, of_ids: int, release: int) -> int:
    """Return about how long a partner's commands wait for what moves.

    Args:
        parts: In which it is sent.
        size: Its bytes.
        of_ids: How many of them are ids, of which most go ahead where the rules know that (M6).
        release: Of the rules.

    >>> [pause_ms(100, size=5_000_000, of_ids=4_000_000, release=release) for release in (3, 4)]
    [750, 396]
    """
    ahead = parts * max(0, of_ids - LEFT_BYTES_MAX) // max(1, size) if release >= AHEAD_SINCE else 0
    return PAUSE_MS + PART_MS * (parts - ahead)


def as_if_sealed(planned: PlannedMove, reader: ShardReader, *, ahead_offset: int = 0) -> PlacementRow:
    """Return the row that the source would have of a placement key if it was sealed now (M2).

    Args:
        planned: The move.
        reader: Of the source.
        ahead_offset: The lane offset before which ids went ahead; 0: none did.

    Raises:
        Fault: The server's.
    """
    key = planned.placement_key
    lane = lane_of(planned.settings, planned.source, key)
    position = reader.lane_positions().get(lane)
    rules = newest_of(reader.rules()[lane].values())
    here = Placements(reader.placements_of(key, lane), home=True)
    at = None if position is None else position.progress.at
    return PlacementRow(
        placement_key=key,
        generation=planned.generation,
        state=PlacementState.SEALED,
        since_offset=0 if at is None else at.next_offset,
        sealed_ids_since_ms=0 if at is None else max(0, rules.window_start_ms(at.lane_time_ms)),
        sealed_from_offset=here.here_from(key),
        ahead_offset=ahead_offset,
    )
