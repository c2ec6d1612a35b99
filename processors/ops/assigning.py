"""Shares buckets out among shards, as an operator asks for it: which move, and their moves, some at a time.

Each bucket moves as a partner does, by a signed marker in its own log. Nothing is kept of the whole: how far it is, is
read from the directory and the shards, and the plan from there on is the rest of the one before.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Protocol

from processors.client import Client
from processors.faults import Fault, Misconfigured
from processors.ledger.outcomes import Status
from processors.ops import addresses, counts
from processors.ops.moving import PART_MS, PlannedMove, lane_of, last_move, refuse_unknown
from processors.ops.side_by_side import Asked
from processors.ops.stages import MoveSeen, Stage
from processors.routing.buckets import BUCKETS, key_of_bucket, partition_of
from processors.routing.directory import Placement
from processors.routing.shares import buckets_of_shares, plan_moves
from processors.settings import Settings
from processors.stores.journal_index import bucket_index
from processors.stores.moves_reader import MovesReader, Sizes
from processors.stores.rows import PlacementRow
from processors.streams.directory import DirectoryContents, read_directory
from processors.wire.packed_rows import PART_BYTES_MAX
from processors.wire.results import Result

# Moves on their way at once out of one lane, as many as it seals in one batch: a partner in one of them waits for the
# others, too, some tenths of a second. Fewer would have the lane wait for the next look.
IN_FLIGHT_OF_LANE = 16
LOOK_S = 0.1  # how often it is looked which have arrived
# A plan is made anew where a bucket was on its way already, or a move was refused since another marker was first: twice
# at most, where a run was killed whose markers no router had met. After more rounds without a move it is somebody else.
FUTILE_ROUNDS_MAX = 3
SIZES_ANSWER_S = 10.0
# Measured (docs/performance.md): a lane's moves of empty buckets, one after the other.
MOVE_OF_LANE_MS = 200
_FAR = (1 << 63) - 1  # an ingress offset above every one


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What is left to do so that each shard has its share.

    ``moves`` are those to be made, in the order of the buckets. ``under_way`` are those that were begun and are not at
    their end; their targets count as owners already. ``owners`` has each bucket's, by its number, as the directory's
    ``contents`` say; ``wanted`` how many each shard is to own.
    """

    settings: Settings
    contents: DirectoryContents
    wanted: dict[str, int]
    owners: list[Placement]
    moves: list[PlannedMove]
    under_way: list[PlannedMove]

    @property
    def is_done(self) -> bool:
        """Say whether each shard has its share, and nothing is on its way."""
        return not self.moves and not self.under_way

    @property
    def owned(self) -> dict[str, int]:
        """Return how many buckets each shard owns, by the directory."""
        return dict(sorted(Counter(owner.shard for owner in self.owners).items()))

    def lanes(self) -> dict[str, set[int]]:
        """Return the lanes that have a part in it, by shard."""
        found: dict[str, set[int]] = defaultdict(set)
        for move in (*self.moves, *self.under_way):
            for shard in (move.source, move.target):
                found[shard].add(lane_of(self.settings, shard, move.placement_key))
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What goes from one shard to another, about: estimates of the servers, in proportion to the buckets."""

    source: str
    target: str
    buckets: int
    accounts: int
    holds: int
    ids: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """How far it came: ``moved`` buckets are there. Where it is not done, ``why``, and what is left or under way."""

    moved: int
    left: int
    under_way: list[PlannedMove]
    why: str = ""


# ---------------------------------------------------------------------- the plan


def plan_assignment(settings: Settings, shares: Mapping[str, Fraction]) -> Assignment:
    """Return which buckets move so that each shard has its share of them.

    Args:
        settings: Of the whole service.
        shares: By shard, 1 together.

    Raises:
        Misconfigured: There is no such shard, or one that owns buckets was not named.
        Fault: A server's.
    """
    contents = read_directory(addresses.kafka_address(settings))
    settings = counts.of_contents(settings, contents)
    for shard in shares:
        refuse_unknown(settings, contents, shard)
    owners = read_owners(settings, contents)
    for shard, count in sorted(Counter(owner.shard for owner in owners).items()):
        if shard not in shares:
            raise Misconfigured(f"{shard} owns {count:,} buckets and has no share: name it, {shard}=0 to empty it")
    return planned_of(settings, contents, buckets_of_shares(shares), partial(_settled_in, settings))


def planned_anew(assignment: Assignment) -> Assignment:
    """Return what is left of an assignment now; the directory is read on from where it ended.

    Raises:
        Fault: A server's.
    """
    settings = assignment.settings
    contents = read_directory(addresses.kafka_address(settings), assignment.contents)
    return planned_of(settings, contents, assignment.wanted, partial(_settled_in, settings))


def read_owners(settings: Settings, contents: DirectoryContents) -> list[Placement]:
    """Return who owns each bucket by the directory, by the bucket's number."""
    partitions = settings.topics.commands_partitions
    return [
        contents.directory.place(key, ingress_partition=partition_of(key, partitions), ingress_offset=_FAR)
        for key in map(key_of_bucket, range(BUCKETS))
    ]


def planned_of(
    settings: Settings,
    contents: DirectoryContents,
    wanted: dict[str, int],
    settled_in: Callable[[str], Collection[tuple[str, int]]],
) -> Assignment:
    """Return what is left to do by a directory.

    Args:
        settings: With the counts in force.
        contents: The directory.
        wanted: How many buckets each shard is to own, all of them together.
        settled_in: Returns the placement keys that have come to a shard, with their generations there, and for which
            nothing waits; asked once for each shard to which a bucket moved.
    """
    owners = read_owners(settings, contents)
    moves = [
        PlannedMove(
            settings=settings,
            placement_key=key_of_bucket(move.bucket),
            generation=owners[move.bucket].generation + 1,
            source=move.source,
            target=move.target,
        )
        for move in plan_moves([owner.shard for owner in owners], wanted)
    ]
    under_way = _under_way(settings, contents, owners, settled_in)
    busy = {move.placement_key for move in under_way}
    return Assignment(
        settings=settings,
        contents=contents,
        wanted=wanted,
        owners=owners,
        # A bucket that is on its way has to arrive before it goes on (M1): the next plan has it.
        moves=[move for move in moves if move.placement_key not in busy],
        under_way=under_way,
    )


def _under_way(
    settings: Settings,
    contents: DirectoryContents,
    owners: list[Placement],
    settled_in: Callable[[str], Collection[tuple[str, int]]],
) -> list[PlannedMove]:
    """Return the moves that the directory has and that have not settled, by what their targets know."""
    moved = [owner for owner in owners if owner.generation > 0]
    settled = {shard: settled_in(shard) for shard in {owner.shard for owner in moved}}
    return [
        last
        for owner in moved
        if (owner.placement_key, owner.generation) not in settled[owner.shard]
        and (last := last_move(settings, contents, owner.placement_key)) is not None
    ]


def _settled_in(settings: Settings, shard: str) -> set[tuple[str, int]]:
    with closing(MovesReader(addresses.mysql_address(settings, shard))) as reader:
        rows = reader.placements()
    return {(key, row.generation) for key, row in rows.items() if is_settled(row, row.generation)}


def is_settled(row: PlacementRow | None, generation: int) -> bool:
    """Say whether a move that begins a generation is at its end, by what its target knows."""
    return MoveSeen(generation=generation, is_placed=True, source=None, target=row).stage is Stage.SETTLED


# ---------------------------------------------------------------------- what would move


def bundles(assignment: Assignment) -> list[Bundle]:
    """Return what goes from where to where, about, without reading it; partners placed by hand are counted in.

    Raises:
        Fault: A server's.
    """
    settings, owned = assignment.settings, assignment.owned
    ways = Counter((move.source, move.target) for move in assignment.moves)
    asked = {shard: Asked(partial(_sizes, settings, shard)) for shard, _ in ways}
    ends_s = time.monotonic() + SIZES_ANSWER_S
    found = []
    for (source, target), buckets in sorted(ways.items()):
        sizes = asked[source].answer(ends_s)
        if isinstance(sizes, Fault):
            raise sizes
        part = Fraction(buckets, owned[source])
        found.append(
            Bundle(
                source=source,
                target=target,
                buckets=buckets,
                accounts=int(sizes.accounts * part),
                holds=int(sizes.holds * part),
                ids=int(sizes.ids * part),
                bytes=int(sizes.bytes * part),
            )
        )
    return found


def _sizes(settings: Settings, shard: str) -> Sizes:
    with closing(MovesReader(addresses.mysql_address(settings, shard))) as reader:
        return reader.sizes()


def expected_s(assignment: Assignment, found: Iterable[Bundle]) -> float:
    """Return how long it takes, about: the busiest lane's moves one after the other, and the bytes in their parts."""
    of_lane = Counter(
        (move.source, lane_of(assignment.settings, move.source, move.placement_key)) for move in assignment.moves
    )
    parts = sum(each.bytes for each in found) / PART_BYTES_MAX
    return (max(of_lane.values(), default=0) * MOVE_OF_LANE_MS + parts * PART_MS) / 1_000


# ---------------------------------------------------------------------- carrying it out


class Installation(Protocol):
    """Where moves are made: the service's log, directory and shards; a test has one of its own."""

    def send(self, move: PlannedMove) -> Future[Result]:
        """Send a move's marker."""

    def arrived(self, moves: Collection[PlannedMove]) -> set[str]:
        """Return the placement keys of those moves that are at their end; Fault where a server does not say."""

    def anew(self, assignment: Assignment) -> Assignment:
        """Return what is left of an assignment now."""


def carry_out(
    assignment: Assignment, installation: Installation, *, within_s: float, tell: Callable[[int], None]
) -> Carried:
    """Make an assignment's moves, some at a time, and plan anew until nothing is left.

    Args:
        assignment: Safe to begin again from any other that was made of the same shares.
        installation: Where.
        within_s: As soon as nothing has arrived for so long, nothing more is sent and this returns.
        tell: Told how many have arrived, each time that some have.

    Returns:
        How far it came.

    Raises:
        Fault: A server's, while it is planned anew.
    """
    moved = futile = 0
    refusal = ""
    while futile < FUTILE_ROUNDS_MAX:
        made = _Round(assignment, installation, tell)
        made.run(within_s)
        moved, futile = moved + made.moved, 0 if made.moved else futile + 1
        refusal = made.refusal or refusal
        if made.why:
            return Carried(moved=moved, left=made.left, under_way=made.under_way, why=made.why)
        assignment = installation.anew(assignment)
        if assignment.is_done:
            return Carried(moved=moved, left=0, under_way=[])
    why = f"moves were refused ({refusal}); the router's log says why (event marker_refused)"
    return Carried(moved=moved, left=len(assignment.moves), under_way=assignment.under_way, why=why)


class _Round:
    """One plan's moves. ``why`` it ended before they were all done, empty where they are; ``refusal`` the last one."""

    def __init__(self, assignment: Assignment, installation: Installation, tell: Callable[[int], None]) -> None:
        self._assignment = assignment
        self._installation = installation
        self._tell = tell
        self._waiting: dict[tuple[str, int], deque[PlannedMove]] = defaultdict(deque)  # by the lane that they leave
        self._on_their_way: dict[str, PlannedMove] = {}
        self._answers: dict[str, Future[Result]] = {}
        self.moved = 0
        self.why = self.refusal = ""
        for move in assignment.moves:
            self._waiting[self._source_lane(move)].append(move)
        for move in assignment.under_way:
            self._on_their_way[move.placement_key] = move

    @property
    def left(self) -> int:
        """Return how many were not sent."""
        return sum(map(len, self._waiting.values()))

    @property
    def under_way(self) -> list[PlannedMove]:
        """Return those that were sent and have not arrived."""
        return list(self._on_their_way.values())

    def run(self, within_s: float) -> None:
        """Go on until all have arrived, or nothing has for ``within_s`` seconds."""
        news_s = time.monotonic()
        while self._waiting or self._on_their_way:
            self._send()
            fault = ""
            try:
                arrived = self._take_arrived()
            except Fault as silent:  # its lanes may go on all the same: within_s says when it is enough
                arrived, fault = 0, str(silent)
            refused = self._take_refused()
            if arrived or refused:
                news_s = time.monotonic()
            elif time.monotonic() - news_s > within_s:
                self.why = fault or f"nothing has arrived for {within_s:.0f} s"
                return
            else:
                time.sleep(LOOK_S)

    def _source_lane(self, move: PlannedMove) -> tuple[str, int]:
        return move.source, lane_of(self._assignment.settings, move.source, move.placement_key)

    def _send(self) -> None:
        """Send as many as each lane has room for."""
        busy = Counter(map(self._source_lane, self._on_their_way.values()))
        for lane, waiting in list(self._waiting.items()):
            while waiting and busy[lane] < IN_FLIGHT_OF_LANE:
                move = waiting.popleft()
                busy[lane] += 1
                self._on_their_way[move.placement_key] = move
                self._answers[move.placement_key] = self._installation.send(move)
            if not waiting:
                del self._waiting[lane]

    def _take_arrived(self) -> int:
        keys = self._installation.arrived(self.under_way)
        for key in keys:
            del self._on_their_way[key]
            self._answers.pop(key, None)
        self.moved += len(keys)
        if keys:
            self._tell(len(keys))
        return len(keys)

    def _take_refused(self) -> int:
        """Let go of moves that were refused, and of all that were not sent: the next plan knows better.

        An answer that does not come says nothing: what was sent is watched by what the shards have.
        """
        refused = 0
        for key, answer in list(self._answers.items()):
            if not answer.done():
                continue
            del self._answers[key]
            if answer.exception() is None and answer.result().status is not Status.ACCEPTED:
                self.refusal = f"{key}: {answer.result().reason}"
                del self._on_their_way[key]
                self._waiting.clear()
                refused += 1
        return refused


@contextmanager
def journals_indexed(assignment: Assignment, say: Callable[[str], None]) -> Iterator[None]:
    """Have the journals of the shards from which buckets move indexed by bucket, while the block runs.

    Raises:
        Fault: A server's.
    """
    settings = assignment.settings
    with ExitStack() as indexes:
        for shard in sorted({move.source for move in (*assignment.moves, *assignment.under_way)}):
            say(f"{shard}: indexing the journal by bucket")
            indexes.enter_context(bucket_index(addresses.mysql_address(settings, shard)))
        yield


class Service:
    """The installation that the settings name. Close it after use; for one thread."""

    def __init__(self, settings: Settings, client: Client) -> None:
        """Nothing is connected yet but the client, which signs."""
        self._settings = settings
        self._client = client
        self._readers: dict[str, MovesReader] = {}
        self._closing = ExitStack()

    def close(self) -> None:
        """Give the connections back."""
        self._closing.close()

    def send(self, move: PlannedMove) -> Future[Result]:
        """Send a move's marker."""
        return self._client.submit_marker(move.marker, partitions=self._settings.topics.commands_partitions)

    def arrived(self, moves: Collection[PlannedMove]) -> set[str]:
        """Return the placement keys of those moves that are at their end, as the targets say."""
        found: set[str] = set()
        for shard in sorted({move.target for move in moves}):
            coming = [move for move in moves if move.target == shard]
            lanes = {move.placement_key: lane_of(self._settings, shard, move.placement_key) for move in coming}
            rows = self._reader(shard).placements_at(lanes)
            found |= {
                move.placement_key for move in coming if is_settled(rows.get(move.placement_key), move.generation)
            }
        return found

    def anew(self, assignment: Assignment) -> Assignment:
        """Return what is left of an assignment now."""
        return planned_anew(assignment)

    def _reader(self, shard: str) -> MovesReader:
        if shard not in self._readers:
            self._readers[shard] = MovesReader(addresses.mysql_address(self._settings, shard))
            self._closing.callback(self._readers[shard].close)
        return self._readers[shard]
