"""The router: takes each record of the ingress to its owner's lane, in order, at least once (docs/design.md, The flow).

It reads the directory before its first record (R1), forwards each record without decoding it (W2), and commits an
offset only once everything before it is acknowledged (R6). After a crash it forwards some records again, byte for byte
the same. The lane recognises each of them by its offset in the ingress (L10), so no Kafka transaction is needed.

The one record that it reads is the marker of a move: it writes the move's placement into the directory, waits until
that is acknowledged, and only then tells the old owner to let go (R3 to R5).
"""

from __future__ import annotations

import gc
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from processors.faults import Fault, Fenced, Misconfigured, Retryable, Unavailable
from processors.metrics import ROUTED, ROUTER_DEAD_LETTERS, ROUTER_MARKERS, ROUTER_STUBS
from processors.streams.directory import DirectoryContents, refuse_other_ingress
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC
from processors.streams.unused_partitions import PartitionWatch
from processors.telemetry import PULSE, get_logger
from processors.troubles import TROUBLES
from processors.wire.causes import Cause
from processors.wire.commands import PAYLOAD_BYTES_MAX
from processors.wire.directory import PlacementRecord, PositionRecord, encode_directory, place
from processors.wire.forwarder import Destination, Forwarder, Outgoing
from processors.wire.forwarding import RoutingContext, dead_letter, forward, is_marker, refusal_of
from processors.wire.markers import AcceptedMarker, RefusedMarker, judge, move_out, move_refused
from processors.wire.records import Content, OutRecord, Record
from processors.wire.routed import RoutedBy
from processors.wire.signature import KeyRing

log = get_logger(__name__)

POLL_S = 0.1
# What may be on its way to the brokers: a second at full speed. With more, a slow broker would only fill memory.
IN_FLIGHT_RECORDS_MAX = 50_000
# As long as the producer waits for more records to share a request with. After a silence of that length more would
# hardly come in time, so the next record goes out at once: at 100 commands a second results come 4 ms earlier. Were
# each small read sent at once, the lanes' batches would get smaller at 1,000 a second, and results come later (both
# measured).
SILENCE_S = 0.005
# A crash has at most this much forwarded again, which the lanes drop for 5 µs a record.
COMMIT_INTERVAL_S = 0.5
# Commits that fail for this long end the process: a group's lag that stands still looks like an outage.
COMMIT_PATIENCE_S = 60.0
# The group's offset expires where no router is there for days. What is noted in the directory does not: at an orderly
# end, when partitions go, and this often, so that after a kill ten minutes' records are forwarded again, which lanes
# drop. 64 partitions make 9,000 notes a day, which compaction takes away.
NOTE_INTERVAL_S = 600.0
# A placement takes as long as any other record, some milliseconds. Where the directory's partition has no leader for
# this long, starting again is as good as waiting; the marker is then met again.
PLACEMENT_DEADLINE_S = 30.0
# A marker is judged by a directory that was read so short a time ago, at most: what counts for the marker is in it
# (``wire.directory.COUNTS_AFTER_MS``). Whoever floods the ingress with forged markers has it read twice a second.
FRESH_S = 0.5
# A batch of 4,000 records makes some 30,000 objects, and none in a cycle: collecting after every 700, Python's default,
# scans the remembered keys again and again, a third of what a record costs.
COLLECT_AFTER = (200_000, 20, 100)
# On giving partitions away: courtesy only, the next owner would forward what is not committed again.
REVOKE_DEADLINE_S = 3.0


class IngressConsumer(Protocol):
    """The router's membership in its group (``streams.group``)."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records, in order within each partition."""

    def commit(self, offsets: Mapping[int, int], metadata: Mapping[int, str]) -> None:
        """Commit the next offset of some partitions, each with its metadata."""

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]:
        """Return the group's offset and metadata of those partitions that have any."""


class LaneProducer(Protocol):
    """Writes in order and without gaps; any delivery that fails ends it (R7, ``streams.producer``)."""

    @property
    def undelivered(self) -> int:
        """Return how many records are not acknowledged yet."""

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        """Queue a record; ``on_delivered`` is called from ``poll`` or ``flush``."""

    def send_together(
        self, topic: str, partition: int, contents: Sequence[Content], on_delivered: Callable[[], None]
    ) -> None:
        """Queue records of one partition; ``on_delivered`` is called as ``send``'s, once all are acknowledged."""

    def write(self, record: OutRecord, deadline_s: float) -> None:
        """Send a record, and wait until it is acknowledged."""

    def poll(self, timeout_s: float) -> None:
        """Learn of deliveries."""

    def hurry(self) -> None:
        """Have what is queued go out now, without waiting for more."""

    def flush(self, deadline_s: float) -> None:
        """Wait until everything queued is acknowledged."""


Revoked = Callable[[Collection[int]], None]
Assigned = Callable[[Collection[int]], Mapping[int, int]]
_DIRECTORY_PARTITION = 0  # it has one


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Sizes and names, from the settings; ``topic_prefix`` goes before the names of topics.

    ``lanes`` is of a shard of which the directory does not say it, as earlier releases wrote it: there every shard had
    as many.
    """

    ingress_partitions: int
    lanes: int
    topic_prefix: str
    dead_letters_topic: str
    batch_records_max: int
    stop_deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterParts:
    """What the router works with.

    ``join`` makes the consumer. From within its ``poll`` the consumer calls the first function with the partitions that
    it was assigned, before their first record, and the second one with those that were revoked. What the first returns
    is where to begin in partitions of which the group has no offset. ``read_directory`` is given what it returned last,
    and need not read that again. ``read_keyring`` reads the keys file, as it is at each marker, for the secrets.
    ``clock_s`` gives seconds that never go back. ``watch`` knows the ingress and the shards' topics.
    """

    join: Callable[[Assigned, Revoked], IngressConsumer]
    producer: LaneProducer
    read_directory: Callable[[DirectoryContents | None], DirectoryContents]
    read_ingress_id: Callable[[], bytes]
    read_keyring: Callable[[], KeyRing]
    clock_s: Callable[[], float]
    watch: PartitionWatch


@dataclass(slots=True)
class _SentBatch:
    """Records that were read together: of how many lanes not all are acknowledged, and where each partition goes on."""

    waiting: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)

    def sent(self, records: Sequence[Record]) -> None:
        self.next_offsets.update({record.partition: record.offset + 1 for record in records})

    def delivered(self) -> None:
        self.waiting -= 1


class Router:
    """Forwards the ingress partitions that the consumer group assigns to this process. For one thread."""

    def __init__(self, config: RouterConfig, parts: RouterParts) -> None:
        """Join the group; nothing is read before ``step``."""
        for cause in Cause:  # from 0 on: the first of a kind is a rise, too
            ROUTER_DEAD_LETTERS.labels(cause)
        for outcome in ("accepted", "met_again", "refused"):
            ROUTER_MARKERS.labels(outcome)
        self._config = config
        self._parts = parts
        self._context: RoutingContext | None = None
        self._forwarder: Forwarder | None = None
        self._contents: DirectoryContents | None = None
        self._read_s = 0.0  # when it was read
        self._owned: set[int] = set()
        self._in_flight: deque[_SentBatch] = deque()  # oldest first
        self._acknowledged: dict[int, int] = {}  # what may be committed, and is not
        self._forwarded_s = self._committed_s = self._noted_s = parts.clock_s()
        self._unnoted: dict[int, int] = {}  # what was committed, and is not in the directory yet
        self._has_note: set[int] = set()  # ingress partitions of which the directory has any note
        self._consumer = parts.join(self._assigned, self._revoked)

    @property
    def owned(self) -> Collection[int]:
        """Return the ingress partitions that are this process's now."""
        return frozenset(self._owned)

    def run(self, stopping: threading.Event) -> int:
        """Forward until told to stop; then wait for what is on its way, and commit it.

        Returns:
            0.

        Raises:
            Misconfigured: The directory or the ingress is not what it was (R8).
            Fault: A record cannot be delivered, or Kafka did not answer for too long; start the process again.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        while not stopping.is_set():
            self.step()
            PULSE.beat()
        PULSE.stop()
        self.finish()
        return 0

    def step(self, timeout_s: float = POLL_S) -> int:
        """Forward the next records, and commit what is due.

        Args:
            timeout_s: How long to wait for the first record.

        Returns:
            How many records were met; 0 also where too much is on its way.
        """
        self._parts.producer.poll(0)
        self._parts.watch.look_if_due()
        self._take_acknowledged()
        if self._parts.clock_s() - self._committed_s >= COMMIT_INTERVAL_S:
            self._commit()
        if self._parts.clock_s() - self._noted_s >= NOTE_INTERVAL_S:
            self._note_positions()
        if self._parts.producer.undelivered >= IN_FLIGHT_RECORDS_MAX:
            self._parts.producer.poll(timeout_s)
            return 0
        records = self._consumer.poll(self._config.batch_records_max, timeout_s)
        if records:
            self._forward(records)
            self._hurry_after_silence()
        return len(records)

    def finish(self) -> None:
        """Wait for what is on its way, and commit it.

        Raises:
            Unavailable: It was not acknowledged in time; the next process forwards it again.
        """
        self._parts.producer.flush(self._config.stop_deadline_s)
        self._take_acknowledged()
        self._commit()
        self._note_positions()
        self._parts.producer.flush(self._config.stop_deadline_s)

    # -------------------------------------------------- told by the consumer, in its poll

    def _assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Read the directory, and say how far the partitions were forwarded, for those whose group offset expired."""
        committed = self._consumer.committed(partitions)
        self._read_directory()  # R1: up to its end as it is after the assignment
        contents = self._contents
        assert contents is not None
        for partition, (_, metadata) in committed.items():
            _refuse_shorter(contents, partition, metadata)
        if max(partitions, default=0) >= self._config.ingress_partitions:  # W3: named in the letters of what is there
            self._parts.watch.look()
            self._route_by(contents)
        self._owned.update(partitions)
        log.info("ingress_assigned", partitions=sorted(partitions), directory_end=contents.end_offset)
        self._has_note.update(contents.positions)
        unnoted = {partition: offset for partition, (offset, _) in committed.items() if partition not in self._has_note}
        if unnoted:  # by a release that wrote no notes, or by a router that was killed before its first
            self._unnoted.update(unnoted)
            self._note_positions()
        return self._expired(set(partitions) - committed.keys(), contents)

    def _expired(self, uncommitted: set[int], contents: DirectoryContents) -> Mapping[int, int]:
        """Return where to begin in partitions of which the group has no offset, and say so."""
        expired = {partition: contents.positions[partition] for partition in uncommitted & contents.positions.keys()}
        if expired:
            log.warning("group_offsets_gone", positions=expired, detail="goes on where the directory says")
        unknown = sorted(uncommitted - expired.keys())
        if unknown:
            log.warning(
                "no_positions",
                partitions=unknown,
                detail="neither group nor directory says that any record was forwarded: as in a new installation this "
                "begins at the first record, and lanes drop what they had",
            )
        return expired

    def _read_directory(self) -> None:
        """Read the directory up to its end as it is now; what was known stays known, since it only grows (R2)."""
        read_s = self._parts.clock_s()
        contents = self._parts.read_directory(self._contents)
        refuse_other_ingress(contents.head, self._parts.read_ingress_id())
        if self._contents is not None and contents.head != self._contents.head:
            raise Misconfigured("the directory's head changed while the router ran: start it again")
        self._contents, self._read_s = contents, read_s
        self._route_by(contents)

    def _route_by(self, contents: DirectoryContents) -> None:
        self._context = self._context_of(contents)
        self._forwarder = Forwarder(self._context)

    def _context_of(self, contents: DirectoryContents) -> RoutingContext:
        config = self._config
        return RoutingContext(
            directory=contents.directory,
            ingress_epoch=contents.head.ingress_epoch,
            ingress_partitions=config.ingress_partitions,
            ingress_partitions_found=self._parts.watch.found(COMMANDS_TOPIC),
            topic_of={shard: config.topic_prefix + record.topic for shard, record in contents.shards.items()},
            lanes_of={shard: contents.lanes_of(shard) or config.lanes for shard in contents.shards},
            vouched=contents.vouched,
            dead_letters_topic=config.topic_prefix + config.dead_letters_topic,
        )

    def _revoked(self, partitions: Collection[int]) -> None:
        """Commit what is acknowledged soon, and forget the rest: its next owner forwards it again (R6)."""
        try:
            self._parts.producer.flush(REVOKE_DEADLINE_S)
            self._take_acknowledged()
            self._commit()
            self._note_positions()
        except Fault as fault:  # its next owner meets the same; a failed delivery also ends this one's next step
            TROUBLES.met("router", fault)
        self._owned.difference_update(partitions)
        for waiting in (self._acknowledged, *(batch.next_offsets for batch in self._in_flight)):
            for partition in partitions:
                waiting.pop(partition, None)

    # -------------------------------------------------- forwarding

    def _forward(self, records: list[Record]) -> None:
        """Forward what was read together: of each lane one record after the other, as they stand in the ingress."""
        owned = self._owned
        records = [record for record in records if record.partition in owned]  # others were revoked while it was read
        batch = _SentBatch()
        self._in_flight.append(batch)
        done = 0
        while done < len(records):
            assert self._forwarder is not None  # R1: read on assignment, before the first record
            outgoing: Outgoing = defaultdict(list)
            taken = self._forwarder.take(records, done, outgoing)
            self._send_together(outgoing, batch)
            batch.sent(records[done:taken])
            done = taken + 1
            for record in records[taken:done]:
                self._forward_alone(record, batch)
                batch.sent([record])

    def _send_together(self, outgoing: Mapping[Destination, Sequence[Content]], batch: _SentBatch) -> None:
        for lane, contents in outgoing.items():
            batch.waiting += 1
            self._parts.producer.send_together(lane.topic, lane.partition, contents, batch.delivered)
            ROUTED.labels(lane.shard).inc(len(contents))

    def _forward_alone(self, record: Record, batch: _SentBatch) -> None:
        """Forward, or refuse, a record that needs more than a look at its key; all before it are sent."""
        context = self._context
        assert context is not None
        refusal = refusal_of(record, context)
        if refusal is None:
            shard, out = self._meet_marker(record) if is_marker(record) else forward(record, context)
            ROUTED.labels(shard).inc()
            if len(record.value or b"") > PAYLOAD_BYTES_MAX:
                ROUTER_STUBS.inc()
        else:
            out = dead_letter(record, refusal, context)
            ROUTER_DEAD_LETTERS.labels(refusal.cause).inc()
        batch.waiting += 1
        self._parts.producer.send(out, batch.delivered)

    # -------------------------------------------------- markers of moves

    def _meet_marker(self, record: Record) -> tuple[str, OutRecord]:
        """Return where a marker goes, and as what; a placement that it brings is in the directory by then (R4)."""
        judgement = self._judged(record)
        assert self._context is not None
        if isinstance(judgement, RefusedMarker):
            ROUTER_MARKERS.labels("refused").inc()
            place_of_it = {"partition": record.partition, "offset": record.offset}
            log.warning("marker_refused", key=(record.key or b"").decode(), why=judgement.why, **place_of_it)
            return move_refused(record, judgement, self._context)
        if judgement.is_known:
            ROUTER_MARKERS.labels("met_again").inc()
        else:
            self._write_placement(judgement.placement)
            ROUTER_MARKERS.labels("accepted").inc()
            log.info("placement_written", owner=judgement.owner.shard, **asdict(judgement.placement))
        return move_out(record, judgement, self._context)

    def _judged(self, record: Record) -> AcceptedMarker | RefusedMarker:
        """Judge a marker by a directory that has what counts for it (R3)."""
        assert self._context is not None
        keyring = self._parts.read_keyring()
        judgement = judge(record, self._context, keyring)
        by_directory = judgement.by_directory if isinstance(judgement, RefusedMarker) else not judgement.is_known
        if by_directory and self._parts.clock_s() - self._read_s >= FRESH_S:
            self._read_directory()
            judgement = judge(record, self._context, keyring)
        return judgement

    def _write_placement(self, placement: PlacementRecord) -> None:
        """Write a placement, wait until it is acknowledged, and know it from then on (R4, R6)."""
        assert self._contents is not None
        topic = self._config.topic_prefix + DIRECTORY_TOPIC
        record = OutRecord(topic, _DIRECTORY_PARTITION, placement.key, encode_directory(placement), [])
        self._parts.producer.write(record, PLACEMENT_DEADLINE_S)
        place(self._contents.directory, placement)

    # -------------------------------------------------- committing

    def _hurry_after_silence(self) -> None:
        before_s, self._forwarded_s = self._forwarded_s, self._parts.clock_s()
        if self._forwarded_s - before_s > SILENCE_S:
            self._parts.producer.hurry()

    def _take_acknowledged(self) -> None:
        """Move on over the oldest batches that are acknowledged whole: everything before them is (R6)."""
        while self._in_flight and not self._in_flight[0].waiting:
            self._acknowledged.update(self._in_flight.popleft().next_offsets)

    def _commit(self) -> None:
        now_s = self._parts.clock_s()
        if not self._acknowledged:
            self._committed_s = now_s
            return
        assert self._contents is not None
        try:
            # R8: nothing that was read from another topic under the same name is ever committed.
            refuse_other_ingress(self._contents.head, self._parts.read_ingress_id())
            metadata = {partition: _metadata(self._contents, partition) for partition in self._acknowledged}
            self._consumer.commit(self._acknowledged, metadata)
        except (Fenced, Retryable, Unavailable) as fault:
            self._bear(fault, now_s)
            return
        self._unnoted.update(self._acknowledged)
        if not self._acknowledged.keys() <= self._has_note:  # the first note must not wait for ten minutes
            self._note_positions()
        self._acknowledged = {}
        self._committed_s = now_s
        TROUBLES.over("router")

    def _note_positions(self) -> None:
        """Write what is committed into the directory, where it does not expire."""
        self._noted_s = self._parts.clock_s()
        noted, self._unnoted = self._unnoted, {}
        self._has_note.update(noted)
        for partition, offset in noted.items():
            assert self._context is not None
            epoch = self._context.ingress_epoch
            note = PositionRecord(ingress_epoch=epoch, ingress_partition=partition, next_offset=offset)
            topic = self._config.topic_prefix + DIRECTORY_TOPIC
            self._parts.producer.send(OutRecord(topic, _DIRECTORY_PARTITION, note.key, encode_directory(note), []))

    def _bear(self, fault: Fault, now_s: float) -> None:
        """Commit again with the next step: offsets are absolute, and a lost partition's are dropped on its loss."""
        TROUBLES.met("router", fault)
        if now_s - self._committed_s > COMMIT_PATIENCE_S:
            raise fault


def _metadata(contents: DirectoryContents, partition: int) -> str:
    """Return what a commit says beside the offset: which directory it was routed by, and how far that reached (R8)."""
    moves = contents.directory.moves_in(partition)
    return RoutedBy(directory_id=contents.head.directory_id, end=contents.end_offset, moves=moves).text


def _refuse_shorter(contents: DirectoryContents, partition: int, metadata: str) -> None:
    """Refuse a directory that is not the one, or lacks a part of the one, that an earlier commit was routed by (R8)."""
    routed_by = RoutedBy.read(metadata)
    if routed_by is None:
        return
    moves = contents.directory.moves_in(partition)
    lacks = routed_by.end > contents.end_offset or routed_by.moves > moves
    if routed_by.directory_id != contents.head.directory_id or lacks:
        raise Misconfigured(
            f"ingress partition {partition} was routed by directory {routed_by.directory_id.hex()} up to its offset "
            f"{routed_by.end}, with {routed_by.moves} moves of the partition, and this is "
            f"{contents.head.directory_id.hex()} up to {contents.end_offset}, with {moves}: placements are lost; "
            "restore the topic from a copy; or stop the routers, delete the topic, and have it made again from the "
            "shards (`balance directory rebuild`)"
        )
