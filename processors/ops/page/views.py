"""What each page shows: the API's own answers, put into the words and the order of a page."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from processors.lookup.archived import LaneArchived
from processors.lookup.service import ServiceReader
from processors.lookup.times import show_time
from processors.ops.api import answering, overseeing
from processors.ops.api.answers import with_typed_amounts
from processors.ops.api.asking import Question
from processors.ops.api.standing import Observatory, ServiceSeen
from processors.ops.api.tokens import Scope
from processors.ops.durations import show_age
from processors.ops.page.chart import chart_of
from processors.ops.status import LaneStatus, ServiceStatus

_UNKNOWN = "unknown"
_LEVELS_SHOWN = 6
_REPAIR = "balance archive repair"  # writes nothing; docs/operations.md, Findings, says what comes before and after it


def partners(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """Return the accounts of an address and below it, each with its level."""
    found = with_typed_amounts(answering.list_accounts(service, asked))
    below = asked.below or ""
    base = below.count(":") if below else 0
    for each in found["accounts"]:
        each["level"] = min(_LEVELS_SHOWN, each["address"].count(":") - base)
    return {
        "accounts": found["accounts"],
        "count": found["count"],
        "below": below,
        "next": _next("/partners", asked, found["next_cursor"]),
    }


def statement(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """Return an account's statement of a period, with a line of its balance."""
    found, head = answering.read_statement(service, asked)
    path = f"/partners/{quote(head.address)}/{quote(head.currency)}"
    period = {name: asked.parameters.get(name, "") for name in ("from", "until", "tz")}
    told = answering.statement_told(found, head)
    given = urlencode({name: text for name, text in period.items() if text})
    return {
        "statement": with_typed_amounts(told),
        "address_text": head.address,
        "currency": head.currency,
        "path": path,
        "asked": period,
        "csv_period": f"?{given}" if given else "",
        "chart": chart_of(found.opening, found.rows, head.currency),
        "next": _next(path, asked, told["next_cursor"]),
    }


def transaction(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """Return a transaction's steps as a time line; what a step does not have is empty."""
    found = with_typed_amounts(answering.get_transaction(service, asked))
    blank = dict.fromkeys(
        ("reason", "amount", "to_address", "refused_by", "remaining", "explanation", "metadata", "postings", "shard")
    )
    steps = [
        {**blank, "command_id": "", "address": "", "time": "", **step, "metadata": _as_text(step.get("metadata"))}
        for step in found["steps"]
    ]
    return {"found": {**found, "steps": steps}}


def _as_text(metadata: Any) -> str:
    return json.dumps(metadata, ensure_ascii=False) if metadata else ""


def dead_letters(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """Return the latest dead letters."""
    found = overseeing.list_letters(observatory, asked)
    return {"dead_letters": found["dead_letters"], "next": _next("/dead-letters", asked, found["next_cursor"])}


def moves(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """Return the moves under way."""
    found = overseeing.list_moves(observatory, asked)
    return {"moves": found["moves"], "seen_at": found["seen_at"], "next": _next("/moves", asked, found["next_cursor"])}


def overview(observatory: Observatory, asked: Question) -> dict[str, Any]:
    """Return how the service stands: what somebody must look at, figures, lanes, shards, processes."""
    asked.caller.must_have(Scope.READ)
    operates = asked.caller.scope is Scope.OPERATE
    seen = observatory.standing()
    status = seen.status
    archived = {(each.shard, each.lane): each for each in seen.archived or ()}
    lanes = [
        {
            "shard": lane.shard,
            "lane": lane.lane,
            "stop_code": lane.stop_code,
            "undecided": _number(lane.undecided),
            "next_offset": _number(lane.next_offset),
            "lane_time": show_time(lane.lane_time_ms),
            "archived_until": show_time(archived[lane.shard, lane.lane].until_ms) or "nothing yet"
            if (lane.shard, lane.lane) in archived
            else _UNKNOWN,
        }
        for lane in status.lanes
    ]
    shards = [
        {"shard": each.shard, "figures": [_number(figure) for figure in (
            each.counts.journal_rows, each.counts.slices, each.counts.open_holds, each.counts.open_refunds,
            each.counts.open_transfers,
        )]}
        for each in status.shards
    ]  # fmt: skip
    return {
        "seen_at": show_time(seen.seen_ms),
        "troubles": troubles(status, seen.seen_ms) if operates else _stops(status.lanes),
        "figures": _figures(seen) + (_operators_figures(status) if operates else []),
        "lanes": lanes,
        "shards": shards,
        "processes": status.processes if operates else [],
    }


def troubles(status: ServiceStatus, now_ms: int) -> list[dict[str, str]]:
    """Return what somebody must look at, and what to type; where ``status.good`` only moves that are late."""
    found = _stops(status.lanes)
    found += [_trouble(f"{each.server} does not answer.", each.fault) for each in status.servers if each.fault]
    for shard in status.shards:
        found += [
            _trouble(
                f"{each.kind} {each.subject}",
                f"on {shard.shard}, since {show_time(each.raised_at_ms)}: {each.detail}",
                _REPAIR if each.kind.startswith("ARCHIVE_") else "",
            )
            for each in shard.findings
        ]
    found += [
        _trouble(
            f"{each.name} keeps ending.",
            f"{each.restarts} times in a row, last with {each.last_end}",
            f"less {each.log}",
        )
        for each in status.processes
        if each.failing
    ]
    for name, some in status.troubles.items():
        found += [_trouble(f"{name}:", str(each)) for each in some if each.loud]
    found += [
        _trouble(
            f"{each.topic} has {each.partitions} partitions.",
            f"The service knows {each.known}: what is written to the others is refused.",
        )
        for each in status.raised
        if each.loses_commands
    ]
    found += [
        _trouble(f"Shard {name} is not in the settings here.", "Nobody here sees it, or runs it.")
        for name in status.unknown_shards
    ]
    found += [
        _trouble(f"The move of {each.placement_key} is late.", f"It waits for {each.waits_for}")
        for each in status.moves or ()
        if each.is_late(now_ms)
    ]
    return found


def _stops(lanes: list[LaneStatus]) -> list[dict[str, str]]:
    return [
        _trouble(f"Lane {each.lane} of {each.shard} stopped: {each.stop_code}.", each.stop_detail, each.next_step)
        for each in lanes
        if each.stop_code
    ]


def _trouble(what: str, says: str, next_step: str = "") -> dict[str, str]:
    return {"what": what, "says": says, "next_step": next_step}


def _figures(seen: ServiceSeen) -> list[tuple[str, str, str]]:
    """Return name, figure and a word more of each."""
    status = seen.status
    undecided = [lane.undecided for lane in status.lanes]
    waiting = [each.waiting for each in status.sink]
    return [
        (
            "Throughput",
            _number(seen.per_second),
            "commands a second" if seen.per_second is not None else "at a first look",
        ),
        ("Wait for the router", _number(status.router.waiting), "commands"),
        ("Wait in lanes", _number(_sum(undecided)), "commands"),
        ("Wait for the archive", _number(_sum(waiting)), "results"),
        ("Oldest unarchived", *_oldest(seen.archived)),
    ]


def _operators_figures(status: ServiceStatus) -> list[tuple[str, str, str]]:
    return [
        ("Moves under way", _number(None if status.moves is None else len(status.moves)), ""),
        ("Findings", _number(sum(len(shard.findings) for shard in status.shards)), "not looked at yet"),
    ]


def _oldest(archived: list[LaneArchived] | None) -> tuple[str, str]:
    """Return what waits longest for the archive, and a word more."""
    if archived is None:
        return _UNKNOWN, ""
    behind_ms = [each.behind_ms for each in archived]
    if None in behind_ms:
        return "everything", "of a lane: nothing of it is archived yet"
    longest_ms = max((each for each in behind_ms if each), default=0)
    return (show_age(longest_ms), "behind its lane, at most") if longest_ms else ("none", "")


def _sum(numbers: list[int | None]) -> int | None:
    known = [each for each in numbers if each is not None]
    return sum(known) if len(known) == len(numbers) else None


def _number(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _next(path: str, asked: Question, cursor: str | None) -> str:
    if cursor is None:
        return ""
    return f"{path}?{urlencode({**asked.parameters, 'cursor': cursor})}"
