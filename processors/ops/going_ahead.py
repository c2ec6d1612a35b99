"""Sends ids of the window ahead of a move, so that a partner who has many does not wait for them (M6).

They are most of what a large partner brings: two thousand payments a second are 43 million within six hours, and his
commands would wait for a quarter of an hour. While his shard serves him this reads what it has decided, and sends it to
the target's lane; then what was decided meanwhile, until little is left. The marker names what went ahead, and the seal
hands over the rest. Whatever stops half-way is begun anew, and costs nothing but time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, count

from processors.client import Client
from processors.faults import Misconfigured
from processors.lane.handing_over import cut
from processors.ledger.commands import MoveAhead
from processors.ledger.rules import newest_of
from processors.ops import addresses
from processors.ops.moving import LEFT_BYTES_MAX, Ahead, PlannedMove, as_if_sealed, lane_of, row_of
from processors.stores.frozen_rows import FrozenRowsReader
from processors.stores.mysql import OneSession, Session
from processors.stores.shard_reader import ShardReader
from processors.wire.admission import AHEAD_SINCE
from processors.wire.packed_rows import compress_rows
from processors.wire.results import Result

# Each round sends what was decided during the one before. A target that takes ids twice as fast as the source decides
# leaves a 256th after so many; one that is hardly faster would never come to an end.
ROUNDS_MAX = 8
IN_FLIGHT_PARTS_MAX = 16  # without an answer: two batches of the target's, between which others are decided


def go_ahead(
    planned: PlannedMove,
    client: Client,
    *,
    tell: Callable[[int, int], None],
    any_pause: bool = False,
    rounds_max: int = ROUNDS_MAX,
) -> PlannedMove:
    """Send a partner's ids ahead of a move that was not begun yet, and return the move whose marker says so.

    Args:
        planned: The move; it is returned as it is where there are few ids, or the lanes' rules are of a release before.
        client: Sends the parts, each of which the target's lane answers.
        tell: Told of each part that is sent: the round, from 1, and how many parts went ahead.
        any_pause: Whether many ids may be left after the last round, for which the partner then waits.
        rounds_max: How many rounds are sent.

    Raises:
        Misconfigured: Many are left and may not be; or the target has something else, since somebody sends ids ahead of
            the same move.
        NoAnswer: The target's lane took no part in time; run it again.
        Fault: A server's.

    Source: M6.
    """
    ahead = Ahead()
    lane = lane_of(planned.settings, planned.source, planned.placement_key)
    address = addresses.mysql_address(planned.settings, planned.source)
    # A replica that took over, or a backup, may lack what the first server had: then all is to be read anew.
    with closing(OneSession(Session(address, lane=False))) as session:
        reader, rows = ShardReader(session), FrozenRowsReader(address, lane, session)
        if newest_of(reader.rules()[lane].values()).release < AHEAD_SINCE:
            return planned
        for number in count(1):
            now = as_if_sealed(planned, reader, ahead_offset=ahead.offset)
            if ahead.parts and now.sealed_from_offset != ahead.from_offset:
                raise Misconfigured(f"{planned.placement_key} was moved by somebody else meanwhile: run this again")
            found = _many(rows.read_ids(now, came_along=number == 1))
            if found is None or (number > rounds_max and any_pause):
                break
            if number > rounds_max:
                raise _many_left(planned, rounds_max)
            ahead = replace(
                _sent(planned, client, found, ahead, partial(tell, number)),
                from_offset=now.sealed_from_offset,
                offset=now.since_offset,
            )
    if ahead.parts:
        _refuse_others(planned, ahead)
    return replace(planned, ahead=ahead)


def _many_left(planned: PlannedMove, rounds: int) -> Misconfigured:
    key, source, target = planned.placement_key, planned.source, planned.target
    return Misconfigured(
        f"after {rounds} rounds {source} still decides more ids of {key} than {LEFT_BYTES_MAX // 1024:,} KiB while "
        f"{target} takes those before, so that {key} does not move: move him when he is paid less; or with "
        "--any-pause, and his commands wait until the rest is there"
    )


def _many(rows: Iterator[bytes | None]) -> Iterator[bytes] | None:
    """Return rows if they are worth it to go ahead, else None."""
    begun, size = [], 0
    for row in rows:
        if row is not None:
            begun.append(row)
            size += len(row)
        if size > LEFT_BYTES_MAX:
            return chain(begun, (row for row in rows if row is not None))
    return None


def _sent(
    planned: PlannedMove, client: Client, rows: Iterator[bytes], ahead: Ahead, tell: Callable[[int], None]
) -> Ahead:
    """Send rows in parts, have each answered, and return what went ahead by then."""
    lane = lane_of(planned.settings, planned.target, planned.placement_key)
    waiting: deque[Future[Result]] = deque()
    for piece in cut(rows, digest=ahead.digest):
        assert piece is not None, "no row is"
        if piece.is_last:
            ahead = replace(ahead, digest=piece.digest)
            break
        part = MoveAhead(
            command_id=client.new_id(),
            placement_key=planned.placement_key,
            generation=planned.generation,
            source=planned.source,
            number=ahead.parts,
            rows=compress_rows(piece.rows),
            digest=piece.digest,
        )
        waiting.append(client.submit_control(part, shard=planned.target, lane=lane, release=AHEAD_SINCE))
        ahead = replace(ahead, parts=ahead.parts + 1)
        tell(ahead.parts)
        if len(waiting) == IN_FLIGHT_PARTS_MAX:
            waiting.popleft().result()
    for each in waiting:
        each.result()
    return ahead


def _refuse_others(planned: PlannedMove, ahead: Ahead) -> None:
    row = row_of(planned.settings, planned.target, planned.placement_key)
    found = None if row is None else (row.ahead_generation, row.parts, row.digest)
    if found != (planned.generation, ahead.parts, ahead.digest):
        raise Misconfigured(
            f"{planned.target} has other ids of {planned.placement_key} than were sent ahead: somebody else moves it "
            f"at the same time. Run this again (`balance partner show {planned.placement_key}`)"
        )
