"""The runs of the archive: many accounts through the sink, the remover's proof, what people read; and MySQL's disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain

from confluent_kafka import Producer

from processors.archive.slice_proof import SliceProver
from processors.ledger.commands import Command, CommandType
from processors.ledger.outcomes import Contra, Posting, Reason, Status
from processors.ops import addresses
from processors.stores.archive_reader import ArchiveReader
from processors.stores.cassandra import CassandraSession
from processors.stores.shard_reader import open_reader
from processors.streams.topics import RESULTS_TOPIC, TopicAdmin
from processors.wire.result_format import write_result
from processors.wire.results import Result
from tests.bench import load
from tests.bench.archive_disk import archive_bytes_per_command
from tests.bench.measure import CpuClock, quantile_ms
from tests.bench.service import RESULTS_PARTITIONS, SHARD, Service, server_pids, service
from tests.bench.sizes import DEADLINE_S, Fields, Size, drain, per_s
from tests.servers import Servers

# Of one results partition, and more than a sink's batch has results: so each result is its account's only change there.
WIDE_ACCOUNTS = 100_000
READERS_PARTNERS = 100  # each has enough changes for statements of 100
READS = 200
READS_BEFORE = 50  # which the driver, and Cassandra's compiler, take to become fast
STATEMENT_ENTRIES = 100
_PARTITION = 0


def wide_sink(servers: Servers, size: Size) -> Fields:
    """A hundred thousand accounts, a change of each a batch: their results are in the topic before the sink starts."""
    with service(servers) as made:
        accounts = load.roots(WIDE_ACCOUNTS, lane=_PARTITION, lanes=RESULTS_PARTITIONS)
        _write_results(made, _results(made, accounts, size.backlog))
        made.start("sink")
        first_s, first, _ = made.await_archived({}, DEADLINE_S)
        clock = CpuClock(made.pids() | server_pids(made.settings))
        _, _, last_s = made.await_archived({(0, _PARTITION): size.backlog - 1}, DEADLINE_S)
        clock.stop()
        rows = size.backlog - 1 - first
        made.stop()
        archive_bytes = archive_bytes_per_command(made, size.backlog)
        return {
            "archive_bytes_per_command": {f"{WIDE_ACCOUNTS} accounts": archive_bytes},
            "sink_wide_rows_per_s": per_s(rows, last_s - first_s),
            "cpu_us_per_command": {f"sink, {WIDE_ACCOUNTS} accounts": clock.us_per(rows)},
        }


def archived(servers: Servers, size: Size) -> Fields:
    """A hundred partners' payments, archived: on disk in MySQL, proven as the remover does, and read as people do."""
    with service(servers) as made:
        partners, count = load.roots(READERS_PARTNERS, lane=0, lanes=1), size.backlog // 2
        payments = list(load.payments(partners, count))
        results = load.Results(made.kafka, RESULTS_TOPIC, RESULTS_PARTITIONS)
        backlog = load.ShardBacklog(made.kafka, made.shard_topic, 1)
        empty_bytes = made.disk_bytes()
        decided = backlog.write(chain(load.openings(partners), payments))
        drain(made, results, decided, {"worker": "shard"})
        results.close()
        disk_bytes = (made.disk_bytes() - empty_bytes) / decided
        made.start("sink")
        made.await_archived(made.journal_ends(), DEADLINE_S)
        made.stop()
        archive_bytes = archive_bytes_per_command(made, decided)
        return {
            "archive_bytes_per_command": {f"{READERS_PARTNERS} partners": archive_bytes},
            "disk_bytes_per_command": round(disk_bytes),
            "proof_us_per_row": _proof(made),
            "archive_read_ms": _reads(made, payments),
        }


def _results(made: Service, accounts: list[str], count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield payments' results as a lane writes them, by their partners."""
    incarnation = TopicAdmin(made.kafka).topic_id(made.shard_topic)
    began_ms = time.time_ns() // 1_000_000
    for offset in range(count):
        account, sequence = accounts[offset % len(accounts)], 1 + offset // len(accounts)
        id_, time_ms = load.new_id(), began_ms + offset // 20
        posting = Posting(
            address=account,
            contra=Contra.SETTLEMENT,
            balance_change=-100,
            held_change=0,
            balance=load.PLENTY - 100 * sequence,
            held=0,
            overdraft_limit=0,
            sequence=sequence,
        )
        result = Result(
            incarnation=incarnation,
            shard=SHARD,
            lane=0,
            lane_offset=offset,
            lane_index=0,
            lane_time_ms=time_ms,
            version_us=began_ms * 1_000 + offset,
            rules_version=1,
            type=CommandType.PAY,
            status=Status.ACCEPTED,
            reason=Reason.NONE,
            root=account,
            command_id=id_,
            transaction_id=id_,
            body_hash=id_,
            address=account,
            currency="USD",
            amount_minor=100,
            levels=1,
            postings=(posting,),
        )
        yield account.encode(), write_result(result)


def _write_results(made: Service, results: Iterator[tuple[bytes, bytes]]) -> None:
    producer = Producer(made.kafka.options() | {"acks": "all", "linger.ms": load.LINGER_MS, "compression.type": "lz4"})
    topic = made.kafka.topic_prefix + RESULTS_TOPIC
    for key, value in results:
        load.produce(producer, topic, value, key, partition=_PARTITION)
    producer.flush(DEADLINE_S)


def _proof(made: Service) -> dict[str, float]:
    """Prove every slice, as the remover does before it drops one, and return what a row takes."""
    incarnation = TopicAdmin(made.kafka).topic_id(made.shard_topic)
    with closing(open_reader(made.mysql)) as journal, closing(_session(made)) as session:
        prover = SliceProver(
            journal,
            ArchiveReader(session),
            lanes=1,
            results_partitions=RESULTS_PARTITIONS,
            stopping=threading.Event(),
        )
        clock, began_s, rows = CpuClock(server_pids(made.settings)), time.process_time(), 0
        for number in journal.slices():
            proof = prover.prove(number, incarnation)
            assert proof.complete, f"slice {number} is not archived"
            assert not proof.differences, proof.differences
            rows += proof.rows
        used_s = time.process_time() - began_s
        clock.stop()
        return {"remover": round(used_s * 1e6 / rows, 1), **clock.us_per(rows)}


def _reads(made: Service, payments: list[Command]) -> dict[str, dict[str, float]]:
    """Read single transactions, and the newest hundred changes of accounts, one after the other."""
    asked = payments[:: len(payments) // (READS + READS_BEFORE)]
    with closing(_session(made)) as session:
        archive = ArchiveReader(session)
        ends = {command.address: archive.newest_sequence(command.address, "USD") for command in asked}

        def statement(address: str) -> int:
            last = ends[address]
            first = last - STATEMENT_ENTRIES + 1
            return len(list(archive.statement(address, "USD", from_sequence=first, to_sequence=last)))

        return {
            "tx get": _timed([partial(_steps, archive, command.command_id) for command in asked], 1),
            f"statement of {STATEMENT_ENTRIES}": _timed(
                [partial(statement, command.address) for command in asked], STATEMENT_ENTRIES
            ),
        }


def _steps(archive: ArchiveReader, transaction_id: bytes) -> int:
    return len(archive.steps(transaction_id))


def _timed(reads: list[Callable[[], int]], wanted: int) -> dict[str, float]:
    """Time reads, each of which finds as much as it must; the first some are left out."""
    took_s = []
    for read in reads:
        began_s = time.monotonic()
        found = read()
        took_s.append(time.monotonic() - began_s)
        assert found == wanted, f"{found} found, not {wanted}"
    return {"p50": quantile_ms(took_s[READS_BEFORE:], 0.5), "p99": quantile_ms(took_s[READS_BEFORE:], 0.99)}


def _session(made: Service) -> CassandraSession:
    return CassandraSession(addresses.cassandra_address(made.settings), keyspace=made.keyspace)
