"""The remover on real MySQL and Cassandra: when a slice may go, and what is left when it has gone (A6, A7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from processors.faults import Retryable, Unavailable
from processors.ids import SLICE_MS, SLICES_MAX, id_text, slice_of
from processors.ledger.commands import CommandType
from processors.ledger.rows import Hold, Refunded
from processors.metrics import REGISTRY, SLICES_WAITING
from processors.ops.assembly.remover import run_remover
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import Covered
from processors.stores.migrations import migrate
from processors.stores.partitions import TABLES
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.streams.connection import KafkaAddress
from processors.streams.topics import ARCHIVED_TOPIC
from processors.wire.coverage import SliceRemoved, decode_archived
from processors.wire.results import decode_result
from tests.archived import INCARNATION, NOW_MS, Ledger, id_at, journal_row_of
from tests.cable import Cable
from tests.integration.mysql_shard import rows_of, take_lane
from tests.integration.removal import (
    LANES,
    PAST_MS,
    ROWS,
    RULES,
    SHARD,
    SLICE,
    WINDOW_MS,
    Shard,
    a_story,
)
from tests.kafka_log import KafkaLog
from tests.servers import Servers
from tests.waiting import eventually

# ------------------------------------------------------------------ a slice goes


@pytest.mark.rule("A6")
def test_a_slice_that_is_past_and_proven_goes_whole_and_this_is_told(shard: Shard) -> None:
    assert shard.journal_rows() == ROWS

    assert shard.remover().step(PAST_MS) == [SLICE - 1, SLICE]

    assert shard.journal_rows() == 0
    assert rows_of(shard.mysql, "SELECT COUNT(*) FROM journal") == [(0,)]
    assert min(open_reader(shard.mysql).slices()) == SLICE + 1
    assert shard.told.archived() == [
        SliceRemoved(incarnation=INCARNATION, shard="s1", slice=number, rows=rows, time_ms=PAST_MS)
        for number, rows in ((SLICE - 1, 0), (SLICE, ROWS))
    ]
    assert shard.findings() == []


@pytest.mark.rule("A6")
def test_mysql_is_back_at_its_size_however_many_slices_have_passed(empty_shard: Shard) -> None:
    shard = empty_shard
    ledgers = {lane: Ledger(lane=lane) for lane in range(LANES)}
    lanes = {lane: take_lane(shard.mysql, lane) for lane in range(LANES)}
    sizes = []
    for hour in range(6):
        now_ms = NOW_MS + hour * SLICE_MS
        for lane, ledger in ledgers.items():
            ledger.time_ms, before = now_ms, len(ledger.results)
            for _ in range(50):
                ledger.pay(root=f"partner-{lane}")
            fresh = ledger.results[before:]
            lanes[lane].write(len(fresh), journal=list(map(journal_row_of, fresh)))
            shard.archive(fresh)
        shard.publish(now_ms)
        shard.remover().step(now_ms)
        ((rows,),) = rows_of(shard.mysql, "SELECT COUNT(*) FROM journal")
        sizes.append((rows, len(open_reader(shard.mysql).slices())))

    assert sizes == [(100, 4), (200, 4), (200, 4), (200, 4), (200, 4), (200, 4)]


@pytest.mark.rule("A6")
def test_what_is_open_does_not_keep_its_slice(empty_shard: Shard) -> None:
    ledger = Ledger(lane=0)
    placed = ledger.add(type=CommandType.PLACE_HOLD)
    hold = Hold("acme", "USD", 100, 100, 1, PAST_MS + 10**9)
    empty_shard.write(0, ledger, holds=[(("acme", placed.command_id), hold, False)])
    empty_shard.write(1, Ledger(lane=1))
    empty_shard.publish()

    assert SLICE in empty_shard.remover().step(PAST_MS)
    assert open_reader(empty_shard.mysql).open_transactions(placed.command_id) == [("acme", hold)]


# ------------------------------------------------------------------ (a) needed no more


@pytest.mark.rule("A6")
@pytest.mark.parametrize("lane", range(LANES))
def test_every_lane_must_have_published_past_the_slices_end_by_the_window(shard: Shard, lane: int) -> None:
    shard.publish(PAST_MS - 1, lane=lane)
    assert SLICE not in shard.remover().step(PAST_MS)
    assert shard.journal_rows() == ROWS

    shard.publish(PAST_MS, lane=lane)
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
def test_it_is_the_lanes_time_that_counts_not_the_wall_clock(shard: Shard) -> None:
    shard.publish(NOW_MS)

    assert SLICE not in shard.remover().step(PAST_MS + 10 * SLICE_MS)


@pytest.mark.rule("A6")
def test_a_lane_without_progress_keeps_every_slice(shard: Shard) -> None:
    shard.sql("DELETE FROM progress WHERE lane = 1")

    assert shard.remover().step(PAST_MS) == []


@pytest.mark.rule("A6")
def test_a_stopped_lane_keeps_every_slice(shard: Shard) -> None:
    shard.sql("UPDATE progress SET stop_code = 'BUG', stopped_at_ms = 1 WHERE lane = 1")
    assert shard.remover().step(PAST_MS) == []

    shard.sql("UPDATE progress SET stop_code = NULL WHERE lane = 1")
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
@pytest.mark.rule("A7")
def test_a_lane_that_stopped_for_want_of_a_slice_does_not_keep_those_whose_place_it_waits_for(shard: Shard) -> None:
    shard.sql("UPDATE progress SET stop_code = 'MISSING_SLICE', stopped_at_ms = 1 WHERE lane = 1")

    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
@pytest.mark.rule("I6")
def test_the_window_is_that_of_the_rules_where_the_lane_has_published_to(shard: Shard) -> None:
    """Rules with a smaller window, decided but not published, say nothing about what must be answered again."""
    ((next_offset,),) = rows_of(shard.mysql, "SELECT next_offset FROM progress WHERE lane = 1")
    shard.publish(PAST_MS - WINDOW_MS + 60_000)
    shard.sql(
        "INSERT INTO rules SELECT lane, 2, IF(lane = 0, 0, next_offset + 5), since_time_ms, rules_release, 60000, "
        "skew_ms, future_limit_ms, refund_period_ms, longest_hold_ms, result_version, window_floor_ms, "
        "refund_floor_ms, recall_floor_ms, signing_keys, registry_ids "
        f"FROM rules JOIN (SELECT {next_offset} AS next_offset) AS lane_1 WHERE version = 1"
    )
    assert SLICE not in shard.remover().step(PAST_MS)

    shard.sql("UPDATE progress SET published_offset = published_offset + 5 WHERE lane = 1")
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
@pytest.mark.rule("I6")
def test_a_window_that_was_grown_does_not_bring_passed_ids_back(shard: Shard) -> None:
    shard.sql(f"UPDATE rules SET window_ms = {50 * SLICE_MS}, window_floor_ms = {NOW_MS + SLICE_MS}")

    assert SLICE in shard.remover().step(PAST_MS)


# ------------------------------------------------------------------ (b) covered


@pytest.mark.rule("A6")
@pytest.mark.rule("A5")
def test_coverage_must_have_reached_the_slices_last_row_in_each_results_partition(empty_shard: Shard) -> None:
    shard = empty_shard
    for lane in range(LANES):
        shard.write(lane, a_story(lane), archived=False)
        shard.archive(shard.ledgers[lane].results, covered=False)
    shard.publish()
    assert SLICE not in shard.remover().step(PAST_MS)
    shard.archive(shard.ledgers[0].results)
    shard.archive(shard.ledgers[1].results[:-1])
    assert SLICE not in shard.remover().step(PAST_MS)
    assert shard.findings() == []  # waiting is no finding

    shard.archive(shard.ledgers[1].results)
    assert SLICE in shard.remover().step(PAST_MS)


# ------------------------------------------------------------------ what waits is counted


def waiting() -> float:
    return REGISTRY.get_sample_value("balance_remover_slices_waiting", {"shard": "s1"}) or 0.0


def behind_the_sink(shard: Shard) -> None:
    shard.session.execute("TRUNCATE coverage")


def with_a_finding(shard: Shard) -> None:
    shard.session.execute("TRUNCATE transaction_index")


def with_a_stopped_lane(shard: Shard) -> None:
    shard.sql("UPDATE progress SET stop_code = 'BUG', stopped_at_ms = 1 WHERE lane = 1")


@pytest.mark.parametrize(
    ("harm", "left"),
    [(behind_the_sink, 1), (with_a_finding, 1), (with_a_stopped_lane, 2)],
    ids=["behind the sink", "with a finding", "with a stopped lane"],
)
def test_a_slice_that_is_past_and_may_not_go_is_counted(shard: Shard, harm: Callable[[Shard], None], left: int) -> None:
    harm(shard)
    shard.remover().step(PAST_MS)
    assert waiting() == left


def test_slices_that_are_past_are_counted_while_a_server_keeps_them(shard: Shard) -> None:
    class InUse(ShardUpkeep):
        """A shard whose journal somebody reads in one long transaction."""

        def drop_slice(self, number: int) -> None:
            raise Retryable(f"slice {number}: the journal was in use")

    SLICES_WAITING.labels(shard="s1").set(0)
    with pytest.raises(Retryable):
        shard.remover(upkeep=InUse(shard.mysql)).step(PAST_MS)
    assert waiting() == 2
    shard.remover().step(PAST_MS)
    assert waiting() == 0


# ------------------------------------------------------------------ reading meanwhile


@pytest.mark.rule("A8")
def test_a_transaction_and_a_statement_can_be_read_before_during_and_after_the_removal(shard: Shard) -> None:
    reader, archive = open_reader(shard.mysql), ArchiveReader(shard.session)
    payment = decode_result(shard.ledgers[1].results[7])
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        seen.append(
            (
                len(reader.transaction(payment.command_id)),
                len(archive.steps(payment.command_id)),
                len(list(archive.statement("partner-1", "USD"))),
            )
        )

    look()
    shard.told.on_flush = look  # just after the drop
    shard.remover().step(PAST_MS)
    look()

    assert seen == [(1, 1, 30), (1, 1, 30), (0, 1, 30), (0, 1, 30)]


@pytest.mark.rule("A6")
def test_the_process_removes_a_slice_and_tells_it_on_balance_archived(
    shard: Shard, archive: CassandraAddress, servers: Servers, topic_prefix: Callable[[], str]
) -> None:
    kafka = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())
    log = KafkaLog(kafka)
    log.make(ARCHIVED_TOPIC)
    with Cable(servers.cassandra_host, servers.cassandra_port) as cable:
        cable.cut()  # it waits for Cassandra at the start
        address = replace(archive, hosts=("127.0.0.1",), port=cable.port)
        thread = threading.Thread(
            target=run_remover,
            args=(kafka, address, shard.mysql),
            kwargs={"shard": "s1", "interval_ms": 100, "requests_max": 4, "stopping": shard.stopping},
        )
        thread.start()
        try:
            time.sleep(1)
            assert shard.journal_rows() == ROWS
            cable.mend()
            eventually(lambda: shard.journal_rows() == 0, "the slice is gone")
            eventually(lambda: SLICE in slices_told(log), "and it is told")
        finally:
            shard.stopping.set()
            thread.join()


def slices_told(log: KafkaLog) -> set[int]:
    told = [decode_archived(record.value or b"") for record in log.read(ARCHIVED_TOPIC)]
    return {record.slice for record in told if isinstance(record, SliceRemoved)}


# ------------------------------------------------------------------ room ahead, and other old rows


@pytest.mark.rule("A7")
def test_slices_are_made_up_to_twice_the_future_limit_ahead(shard: Shard) -> None:
    now_ms = PAST_MS + 5 * SLICE_MS

    shard.remover().step(now_ms)

    slices = open_reader(shard.mysql).slices()
    assert slices[-1] == slice_of(now_ms + 2 * SLICE_MS)
    # Without a gap, from the oldest that a lane may still need: what came before is gone.
    assert slices == list(range(SLICE + 1, slices[-1] + 1))


def filled(shard: Shard) -> Shard:
    """Give a shard all the slices that a journal may have, most of them for a far future."""
    far_ms = NOW_MS + 10_000 * SLICE_MS
    upkeep = ShardUpkeep(shard.mysql)
    upkeep.make_room(from_ms=far_ms, to_ms=far_ms + 2 * SLICES_MAX * SLICE_MS)
    upkeep.close()
    assert len(open_reader(shard.mysql).slices()) == SLICES_MAX - 1
    return shard


@pytest.mark.rule("A7")
def test_a_full_journal_is_told_emptied_of_what_may_go_and_filled_with_what_fits(shard: Shard) -> None:
    full = filled(shard)
    (told,) = migrate(full.mysql, SHARD, {0: RULES}, now_ms=NOW_MS + 5 * SLICE_MS)
    assert told.startswith(f"5 slices of the journal do not fit beside {SLICES_MAX - 1}")

    removed = full.remover().step(PAST_MS + 5 * SLICE_MS)

    assert removed == [SLICE - 1, SLICE]
    slices = open_reader(full.mysql).slices()
    assert len(slices) == SLICES_MAX - 1
    assert [number for number in slices if number < SLICE + 10] == [SLICE + 1, SLICE + 2, SLICE + 3, SLICE + 4]
    labels = {"shard": "s1"}
    assert REGISTRY.get_sample_value("balance_journal_slices", labels) == SLICES_MAX - 1
    assert REGISTRY.get_sample_value("balance_journal_slices_lacking", labels) == 5
    assert full.findings() == [("JOURNAL_FILLS", "journal")]

    for table in TABLES:
        full.sql(f"ALTER TABLE {table} DROP PARTITION {', '.join(f'p{number}' for number in slices[700:])}")
    full.remover().step(PAST_MS + 5 * SLICE_MS)
    assert open_reader(full.mysql).slices()[:9] == list(range(SLICE + 1, SLICE + 10))
    assert full.findings() == []


@pytest.mark.rule("A7")
def test_slices_are_made_while_the_archive_is_silent(shard: Shard) -> None:
    class Silent(ArchiveReader):
        """An archive that does not answer."""

        def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
            raise Unavailable(f"no answer about {incarnation.hex()}")

    with pytest.raises(Unavailable):
        shard.remover(archive=Silent(shard.session)).step(PAST_MS + 5 * SLICE_MS)
    assert open_reader(shard.mysql).slices()[-1] == SLICE + 9
    assert waiting() == 1


@pytest.mark.rule("A7")
def test_a_clock_that_is_behind_the_lanes_makes_no_slices_that_nobody_needs(shard: Shard) -> None:
    remover = shard.remover()
    behind_ms = PAST_MS - 50 * SLICE_MS
    remover.step(behind_ms)

    assert remover.step(behind_ms) == []
    slices = open_reader(shard.mysql).slices()
    assert slices == list(range(SLICE + 1, slices[-1] + 1))
    assert slices[-1] == slice_of(PAST_MS + 2 * SLICE_MS)


@pytest.mark.rule("A7")
def test_a_slice_that_went_is_not_made_again_although_the_window_was_wider_once(shard: Shard) -> None:
    remover = shard.remover()
    shard.sql(
        f"INSERT INTO rules SELECT lane, 2, 0, since_time_ms, rules_release, {WINDOW_MS}, skew_ms, future_limit_ms, "
        "refund_period_ms, longest_hold_ms, result_version, window_floor_ms, refund_floor_ms, "
        "recall_floor_ms, signing_keys, registry_ids FROM rules"
    )
    shard.sql(f"UPDATE rules SET window_ms = {9 * WINDOW_MS} WHERE version = 1")
    assert SLICE in remover.step(PAST_MS)

    assert remover.step(PAST_MS) == []
    assert min(open_reader(shard.mysql).slices()) == SLICE + 1


@pytest.mark.rule("L13")
def test_batch_digests_go_after_seven_days_of_the_lanes_time_but_the_newest(empty_shard: Shard) -> None:
    for lane in range(LANES):
        empty_shard.write(lane, Ledger(lane=lane))
    week_ms = 7 * 86_400_000
    empty_shard.sql("DELETE FROM batch_digest")
    empty_shard.sql(
        "INSERT INTO batch_digest (lane, next_offset, digest, lane_time_ms, sources) VALUES "
        + ", ".join(
            f"({lane}, {offset}, REPEAT('d', 32), {time_ms}, '')"
            for lane in range(LANES)
            for offset, time_ms in ((10, NOW_MS), (20, NOW_MS + 1), (30, NOW_MS + 2))
        )
    )
    empty_shard.sql("UPDATE progress SET next_offset = 30")
    empty_shard.publish(NOW_MS + 1 + week_ms, lane=0)
    empty_shard.publish(NOW_MS + 99 + week_ms, lane=1)

    empty_shard.remover().step(NOW_MS)

    assert rows_of(empty_shard.mysql, "SELECT lane, next_offset FROM batch_digest ORDER BY lane, next_offset") == [
        (0, 20),
        (0, 30),
        (1, 30),
    ]


@pytest.mark.rule("H2")
def test_what_expired_is_kept_for_a_window_of_the_slowest_lane(empty_shard: Shard) -> None:
    ids = [id_at(NOW_MS), id_at(NOW_MS)]
    holds = [(("acme", id_), Hold("acme", "USD", 5, 0, 1, NOW_MS + number), False) for number, id_ in enumerate(ids)]
    empty_shard.write(0, Ledger(lane=0), holds=holds)
    empty_shard.write(1, Ledger(lane=1))
    empty_shard.publish(NOW_MS + RULES.window_ms + 1)
    empty_shard.publish(NOW_MS + RULES.window_ms, lane=1)
    empty_shard.remover().step(NOW_MS)
    assert len(rows_of(empty_shard.mysql, "SELECT 1 FROM hold")) == 2

    empty_shard.publish(NOW_MS + RULES.window_ms + 1)
    empty_shard.remover().step(NOW_MS)

    assert rows_of(empty_shard.mysql, "SELECT transaction_id FROM hold") == [(ids[1],)]


@pytest.mark.rule("H3")
def test_what_was_refunded_is_kept_for_refund_period_and_window_of_the_slowest_lane(empty_shard: Shard) -> None:
    kept_ms = RULES.refund_period_ms + RULES.window_ms
    old, young = id_at(NOW_MS), id_at(NOW_MS + 1)
    empty_shard.write(
        0,
        Ledger(lane=0),
        refunded=[(("acme", old), Refunded(100, 40), False), (("acme", young), Refunded(100, 40), False)],
    )
    empty_shard.write(1, Ledger(lane=1))
    empty_shard.publish(NOW_MS + kept_ms + 1)
    empty_shard.publish(NOW_MS + kept_ms, lane=1)
    empty_shard.remover().step(NOW_MS)
    assert len(rows_of(empty_shard.mysql, "SELECT 1 FROM refunded")) == 2

    empty_shard.publish(NOW_MS + kept_ms + 1)
    empty_shard.remover().step(NOW_MS)

    ((left,),) = rows_of(empty_shard.mysql, "SELECT transaction_id FROM refunded")
    assert id_text(left) == id_text(young)
