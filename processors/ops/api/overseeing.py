"""The API's questions about the service itself: lanes, shards, rules, the archive, moves, findings, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from processors.ledger.rules import newest_of
from processors.lookup.archived import LaneArchived
from processors.lookup.service import ServiceReader
from processors.lookup.times import show_time
from processors.ops.api.answers import cursor_of
from processors.ops.api.asking import Question
from processors.ops.api.problems import SERVER_AWAY, ProblemError
from processors.ops.api.standing import Observatory
from processors.ops.api.tokens import Scope
from processors.ops.result_text import dead_letter_as_json
from processors.ops.status import lane_status

_NUMBERS_END = 2**63


def list_lanes(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """List every lane of every shard: where it stands, and why it stopped if it did."""
    asked.caller.must_have(Scope.READ)
    found = [
        lane_status(shard, lane, position, None)
        for shard in service.places.shards
        for lane, position in service.shard(shard).lane_positions().items()
    ]
    rows = [
        (
            _key(each.shard, each.lane),
            {
                "shard": each.shard,
                "lane": each.lane,
                "next_offset": each.next_offset,
                "lane_time": show_time(each.lane_time_ms),
                "stop_code": each.stop_code,
                "stop_detail": each.stop_detail,
                "stopped_at": show_time(each.stopped_at_ms),
                "next_step": each.next_step,
            },
        )
        for each in found
    ]
    return _page("lanes", rows, asked)


def list_shards(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """List the shards and what each holds; the journal's rows are the server's estimate."""
    asked.caller.must_have(Scope.READ)
    rows = []
    for shard in service.places.shards:
        row, counts = service.row(shard), service.shard(shard).counts()
        told = {
            "shard": shard,
            "home": row.home,
            "lanes": row.lanes,
            "journal_rows": counts.journal_rows,
            "slices": counts.slices,
            "open_holds": counts.open_holds,
            "open_refunds": counts.open_refunds,
            "open_transfers": counts.open_transfers,
        }
        rows.append((_key(shard), told))
    return _page("shards", rows, asked)


def list_rules(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """List the rules in force of each lane: spans in milliseconds."""
    asked.caller.must_have(Scope.READ)
    rows = []
    for shard in service.places.shards:
        for lane, of_lane in service.shard(shard).rules().items():
            newest = newest_of(of_lane.values())
            told = {
                "shard": shard,
                "lane": lane,
                "version": newest.version,
                "release": newest.release,
                "window_ms": newest.window_ms,
                "refund_period_ms": newest.refund_period_ms,
                "longest_hold_ms": newest.longest_hold_ms,
            }
            rows.append((_key(shard, lane), told))
    return _page("rules", rows, asked)


def show_archive(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """Say how far the archive is behind each lane, and what waits for the sink in each results partition.

    Raises:
        ProblemError: Kafka or the archive does not answer.
    """
    asked.caller.must_have(Scope.READ)
    standing = observatory.standing()
    if standing.archived is None:
        raise ProblemError(SERVER_AWAY, "how far the archive is behind is not known: Kafka or Cassandra is silent")
    rows = [(_key(each.shard, each.lane), _archived_as_json(each)) for each in standing.archived]
    waiting = [{"partition": each.partition, "waiting": each.waiting} for each in standing.status.sink]
    return {"seen_at": show_time(standing.seen_ms), "waiting": waiting, **_page("lanes", rows, asked)}


def _archived_as_json(each: LaneArchived) -> dict[str, Any]:
    return {
        "shard": each.shard,
        "lane": each.lane,
        "lane_time": show_time(each.lane_time_ms),
        "archived_until": show_time(each.until_ms),
        "behind_ms": each.behind_ms,
    }


def list_moves(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """List the moves under way, and what each waits for.

    Raises:
        ProblemError: Kafka does not answer.
    """
    asked.caller.must_have(Scope.OPERATE)
    standing = observatory.standing()
    if standing.status.moves is None:
        raise ProblemError(SERVER_AWAY, "which moves are under way is not known: Kafka is silent")
    rows = [
        (
            _key(each.placement_key, each.generation),
            {
                "placement_key": each.placement_key,
                "generation": each.generation,
                "source": each.source,
                "target": each.target,
                "stage": None if each.stage is None else str(each.stage),
                "begun_at": show_time(each.begun_ms),
                "parts": each.parts,
                "parked": each.parked,
                "late": each.is_late(standing.seen_ms),
                "waits_for": each.waits_for,
            },
        )
        for each in standing.status.moves
    ]
    return {"seen_at": show_time(standing.seen_ms), **_page("moves", rows, asked)}


def list_findings(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """List what is not as it should be and nobody has looked at yet; of each shard the newest first."""
    asked.caller.must_have(Scope.OPERATE)
    standing = observatory.standing()
    rows = [
        (
            _key(shard.shard, _NUMBERS_END - each.id),
            {
                "shard": shard.shard,
                "id": each.id,
                "kind": each.kind,
                "subject": each.subject,
                "detail": each.detail,
                "raised_at": show_time(each.raised_at_ms),
            },
        )
        for shard in standing.status.shards
        for each in shard.findings
    ]
    return {"seen_at": show_time(standing.seen_ms), **_page("findings", rows, asked)}


def list_letters(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """List dead letters, the newest first, with what their sender has most likely done."""
    asked.caller.must_have(Scope.OPERATE)
    found = observatory.letters(asked.letters_before, asked.rows_max)
    return {
        "dead_letters": [
            dead_letter_as_json(each.letter, each.name) | {"likely_mistake": each.mistake} for each in found.letters
        ],
        "next_cursor": cursor_of(",".join(f"{partition}:{offset}" for partition, offset in found.before.items()))
        if found.before
        else None,
    }


def _key(text: str, number: int = 0) -> str:
    """Return what orders a list, and says where it goes on."""
    return f"{text}/{number:020}"


def _page(name: str, rows: Sequence[tuple[str, dict[str, Any]]], asked: Question) -> dict[str, Any]:
    after = asked.row_after
    left = sorted((row for row in rows if row[0] > after), key=lambda row: row[0])
    shown = left[: asked.rows_max]
    return {
        name: [told for _, told in shown],
        "next_cursor": cursor_of(shown[-1][0]) if len(left) > len(shown) else None,
    }
