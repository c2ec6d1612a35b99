"""The read API as a test makes it: who may ask, what it may cost, and a service that stands as the test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette

from processors.faults import Fault
from processors.lookup.archived import LaneArchived
from processors.lookup.service import ServiceReader
from processors.ops.api.app import make_app
from processors.ops.api.asking import Limits
from processors.ops.api.parts import ApiParts
from processors.ops.api.readers import Readers
from processors.ops.api.standing import ServiceSeen
from processors.ops.api.tokens import Caller, TokenRing
from processors.ops.backlog import RouterStatus
from processors.ops.dead_letters import LetterSeen, LettersPage
from processors.ops.stages import Stage
from processors.ops.status import LaneStatus, ServerStatus, ServiceStatus, ShardStatus, SinkStatus
from processors.ops.under_way import MoveStatus
from processors.stores.shard_reader import Counts
from processors.stores.shard_upkeep import Finding
from processors.wire.dead_letters import decode_dead_letter, encode_dead_letter
from processors.wire.records import Record

LIMITS = Limits(count_max=1_000, steps_max=100, bytes_max=1_000_000)
NOW_MS = 1_774_000_000_000


def a_lane(lane: int = 0, **changed: Any) -> LaneStatus:
    values: dict[str, Any] = {
        "shard": "s1",
        "lane": lane,
        "next_offset": 17,
        "undecided": 0,
        "lane_time_ms": NOW_MS,
        "stop_code": "",
        "stop_detail": "",
        "stopped_at_ms": 0,
    }
    return LaneStatus(**values | changed)


def a_status(**changed: Any) -> ServiceStatus:
    """Return a service that is well, with one shard of two lanes."""
    counts = Counts(journal_rows=1_234, slices=8, open_holds=3, open_refunds=2, open_transfers=1)
    values: dict[str, Any] = {
        "servers": [ServerStatus(server=name, fault="") for name in ("Kafka", "MySQL of s1", "Cassandra")],
        "processes": [],
        "ports": {},
        "troubles": {},
        "router": RouterStatus(waiting=0, members=1),
        "lanes": [a_lane(0), a_lane(1)],
        "shards": [ShardStatus(shard="s1", counts=counts, findings=[])],
        "moves": [],
        "sink": [SinkStatus(partition=0, waiting=0)],
        "raised": [],
        "unknown_shards": [],
    }
    return ServiceStatus(**values | changed)


def a_finding(number: int = 1, **changed: Any) -> Finding:
    values: dict[str, Any] = {
        "id": number,
        "kind": "ARCHIVE_DIFFERS",
        "subject": f"slice {number}",
        "detail": "a row is not what was written",
        "raised_at_ms": NOW_MS,
        "resolved_at_ms": None,
    }
    return Finding(**values | changed)


def a_move(**changed: Any) -> MoveStatus:
    values: dict[str, Any] = {
        "placement_key": "acme",
        "generation": 2,
        "source": "s1",
        "target": "s2",
        "stage": Stage.SEALED,
        "begun_ms": NOW_MS - 120_000,
        "parts": 3,
        "parked": 4,
    }
    return MoveStatus(**values | changed)


def a_letter(partition: int = 0, offset: int = 7, *, cause: str = "UNKNOWN_SCHEMA", key: bytes = b"acme") -> LetterSeen:
    record = Record(
        topic="balance.commands", partition=partition, offset=3, leader_epoch=0, timestamp_ms=NOW_MS, append_time=True,
        key=key, value=b'{"pay": 1}', headers=(),
    )  # fmt: skip
    letter = decode_dead_letter(encode_dead_letter(record, cause, "no known fingerprint"))
    return LetterSeen(partition=partition, offset=offset, letter=letter, mistake="not encoded as Avro single objects")


@dataclass(slots=True)
class FixedObservatory:
    """A service that stands as it is said to; ``fault`` is what its servers answer with instead."""

    status: ServiceStatus = field(default_factory=a_status)
    archived: list[LaneArchived] | None = field(default_factory=list)
    page: LettersPage = field(default_factory=lambda: LettersPage(letters=[], before={}))
    fault: Fault | None = None
    asked: list[tuple[Mapping[int, int], int]] = field(default_factory=list)

    def standing(self) -> ServiceSeen:
        if self.fault is not None:
            raise self.fault
        return ServiceSeen(status=self.status, archived=self.archived, seen_ms=NOW_MS)

    def letters(self, before: Mapping[int, int], letters_max: int) -> LettersPage:
        self.asked.append((before, letters_max))
        if self.fault is not None:
            raise self.fault
        return self.page


def api_app(
    make: Callable[[], ServiceReader],
    callers: Mapping[str, Caller],
    *,
    observatory: FixedObservatory | None = None,
    names: frozenset[str] = frozenset(),
    limits: Limits = LIMITS,
) -> Starlette:
    """Return the application; without callers whoever asks may ask everything."""
    return make_app(
        ApiParts(
            readers=Readers(make, 1),
            observatory=observatory or FixedObservatory(),
            tokens=TokenRing(callers),
            limits=limits,
            names=names,
        )
    )
