"""The runs of routing, of several shards, and of money between partners: as ``runs``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from random import Random
from statistics import mean

from confluent_kafka import Producer

from processors.ledger.commands import Command, OpenAccount, Pay, Transfer
from processors.ops import addresses
from processors.ops.keys import keyring
from processors.ops.probing import await_vouched
from processors.routing.buckets import BUCKETS, bucket_of, key_of_bucket, placement_key_of
from processors.stores.mysql import Session
from processors.stores.placement_sql import insert_placements
from processors.stores.rows import PlacementRow, PlacementState
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, TopicAdmin, shard_topic
from processors.wire.directory import PlacementRecord, encode_directory
from processors.wire.records import OutRecord
from tests.bench import load
from tests.bench.measure import CpuClock, mean_us, python_cpu_s, with_sum
from tests.bench.service import RESULTS_PARTITIONS, Service, service
from tests.bench.sizes import DEADLINE_S, PARTNERS, Fields, Size, await_results, drain, per_s
from tests.markers import marker_of
from tests.servers import Servers

PLACED = 10_000
_LOOK_S = 0.01
_FIRST, _SECOND = "s1", "s2"
_WORKERS = {"worker 1": "shard", "worker 2": f"shard@{_SECOND}"}
_TURNS = 2


def router(servers: Servers, size: Size) -> Fields:
    """The router alone, from a backlog of a thousand partners: nothing placed, and ten thousand and all buckets placed.

    In turn. "Python" is the part of the process's own threads, their calls into the Kafka client and the kernel
    included; the rest of the process is the Kafka client's threads.
    """
    rates, starts = defaultdict[str, list[int]](list), defaultdict[str, list[float]](list)
    costs, memory = defaultdict[str, list[dict[str, float]]](list), {}
    for placed in (0, PLACED) * _TURNS:
        with service(servers) as made:
            partners = load.roots(PARTNERS, lane=0, lanes=1)
            if placed:
                _place(made, [*load.roots(placed, lane=0, lanes=1), *map(key_of_bucket, range(BUCKETS))])
            count = load.Ingress(made.kafka, COMMANDS_TOPIC).write(load.payments(partners, size.backlog))
            began_s = time.monotonic()
            made.start("router")
            first, first_s = _forwarded(made, 1)
            clock, python = CpuClock(made.pids()), CpuClock({"Python": made.pids()["router"]}, python_cpu_s)
            last, last_s = _forwarded(made, count)
            clock.stop()
            python.stop()
            name = f"placed_{placed}"
            rates[name].append(per_s(last - first, last_s - first_s))
            costs[f"router, {placed} placed"].append(clock.us_per(last - first) | python.us_per(last - first))
            starts[name].append(first_s - began_s)
            memory[name] = made.memory_mb()["router"]
    return {
        "router_commands_per_s": {name: int(mean(each)) for name, each in rates.items()},
        "cpu_us_per_command": {name: mean_us(each) for name, each in costs.items()},
        "router_start_s": {name: round(mean(each), 2) for name, each in starts.items()},
        "memory_mb": {"router alone": memory},
    }


def _place(made: Service, placement_keys: Iterable[str]) -> None:
    """Write placements on the one shard that there is, as of the ingress' first record."""
    producer = IdempotentProducer(made.kafka)
    topic = made.kafka.topic_prefix + DIRECTORY_TOPIC
    for key in placement_keys:
        partition = made.partition_of(key)
        record = PlacementRecord(unit=key, generation=1, shard=_FIRST, ingress_partition=partition, since=0)
        producer.send(OutRecord(topic, 0, record.key, encode_directory(record), []))
    producer.flush(60)
    producer.close()


def _forwarded(made: Service, count: int) -> tuple[int, float]:
    """Wait until so many records are in the shard's topic; return how many there are then, and when that was."""
    topics, ends_s = TopicAdmin(made.kafka), time.monotonic() + DEADLINE_S
    while True:
        made.check()
        end = topics.end(made.shard_topic, 0)
        now_s = time.monotonic()
        if end >= count:
            return end, now_s
        if now_s > ends_s:
            raise TimeoutError(f"{end} of {count} records are forwarded after {DEADLINE_S} s")
        time.sleep(_LOOK_S)


def placed_partners(servers: Servers, size: Size) -> Fields:
    """A thousand partners of one lane: in their buckets, one of them placed, and all of them among ten thousand placed.

    Each on a service of its own, so that nothing differs but what is placed; and once forth and once back, so that what
    a machine's other work changes meanwhile weighs on all of them alike.
    """
    rates, costs = defaultdict[str, list[int]](list), defaultdict[str, list[dict[str, float]]](list)
    partners = load.roots(PARTNERS, lane=0, lanes=1)
    for count in (0, 1, PLACED, PLACED, 1, 0):
        with service(servers) as made:
            placed = frozenset(load.roots(count, lane=0, lanes=1))
            _write_placements(made, _FIRST, placed, other=_SECOND)
            results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
            backlog = load.ShardBacklog(made.kafka, made.shard_topic, 1, placed_as=partial(_placed_among, placed))
            written = backlog.write(chain(load.openings(partners), load.payments(partners, size.backlog)))
            rate, clock, seen = drain(made, results, written, {"worker": "shard"})
            results.close()
            rates[f"placed_{count}"].append(rate)
            costs[f"worker, {count} placed"].append(with_sum(clock.us_per(seen)))
    return {
        "placed_commands_per_s": {name: int(mean(each)) for name, each in rates.items()},
        "cpu_us_per_command": {name: mean_us(each) for name, each in costs.items()},
    }


def _placed_among(placed: Collection[str], root: str) -> tuple[str, int]:
    return (root, 1) if root in placed else load.in_its_bucket(root)


def shards_2(servers: Servers, size: Size) -> Fields:
    """A thousand partners, half of them moved to a second shard; one worker each, both databases on one server."""
    with service(servers, shards=2) as made:
        roots = load.roots(PARTNERS, lane=0, lanes=1)
        staying, moving = roots[: PARTNERS // 2], roots[PARTNERS // 2 :]
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        made.start("router", "shard", f"shard@{_SECOND}")
        opened = load.Ingress(made.kafka, COMMANDS_TOPIC).write(load.openings(roots))
        await_results(made, results, opened)
        move(made, moving, 1, "s1", _SECOND)
        made.await_moved(_SECOND, len(moving), DEADLINE_S)
        made.stop()
        half = size.backlog // 2
        results.close()
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        of_s1 = load.ShardBacklog(made.kafka, made.shard_topic, 1)
        of_s2 = load.ShardBacklog(made.kafka, shard_topic(_SECOND), 1, placed_as=lambda root: (root, 1))
        count = of_s1.write(load.payments(staying, half)) + of_s2.write(load.payments(moving, half))
        rate, clock, seen = drain(made, results, count, _WORKERS)
        return {"shards_2_commands_per_s": rate, "cpu_us_per_command": {"two shards": clock.us_per(seen)}}


def move(made: Service, roots: list[str], generation: int, source: str, target: str) -> None:
    """Send the markers that move partners."""
    producer = Producer(made.kafka.options() | {"acks": "all", "linger.ms": load.LINGER_MS})
    await_vouched(made.settings, [_SECOND])
    for root in roots:
        marker = marker_of(
            root,
            generation,
            source,
            target,
            keyring=keyring(made.settings),
            topic=made.kafka.topic_prefix + COMMANDS_TOPIC,
            partitions=made.settings.topics.commands_partitions,
        )
        producer.produce(marker.topic, marker.value, marker.key, marker.partition, headers=list(marker.headers))
    producer.flush(60)


def transfers(servers: Servers, size: Size) -> Fields:
    """Transfers between a thousand partners of one shard, from a backlog: each is three decisions and two legs."""
    with service(servers) as made:
        roots = load.roots(PARTNERS, lane=0, lanes=1)
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        made.start("router", "shard")
        ingress = load.Ingress(made.kafka, COMMANDS_TOPIC)
        await_results(made, results, ingress.write(load.openings(roots)))
        began_s, count = time.monotonic(), size.backlog // 5
        ingress.write(_transfers(roots, count))
        seen = await_results(made, results, 3 * count)
        return {"transfer_per_s": per_s(count, seen.last_s - began_s)}


def _transfers(roots: list[str], count: int) -> Iterator[Command]:
    for number in range(count):
        yield Transfer(
            command_id=load.new_id(),
            address=roots[number % len(roots)],
            currency="USD",
            to_address=roots[(number * 7 + 1) % len(roots)],
            amount_minor=1 + number % 100,
        )


def wallets(servers: Servers, size: Size) -> Fields:
    """As many e-wallets as there are, each one account, over two shards by their buckets; a worker and a lane each.

    Payments at random, beside those of a thousand of them, in turn: an hour on a shared machine changes more.
    """
    with service(servers, shards=2) as made:
        _share_buckets_out(made)
        on_s1, on_s2 = _by_shard(load.roots(size.wallets, lane=0, lanes=1))
        backlogs = (
            load.ShardBacklog(made.kafka, made.shard_topic, 1),
            load.ShardBacklog(made.kafka, shard_topic(_SECOND), 1, placed_as=_in_a_moved_bucket),
        )
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        memory: dict[str, int] = {}
        opened = sum(
            backlog.write(_with_overdraft(roots)) for backlog, roots in zip(backlogs, (on_s1, on_s2), strict=True)
        )
        made.start(*_WORKERS.values())
        await_results(made, results, opened)
        _note_memory(made, memory, f"{size.wallets} opened")
        made.stop()
        rng, rates, costs = Random(1), defaultdict[str, list[int]](list), {}
        for wallets in (PARTNERS, size.wallets) * _TURNS:
            name = f"of_{wallets}"
            count = sum(
                backlog.write(_payments(rng, roots[: wallets // 2], size.backlog // 2))
                for backlog, roots in zip(backlogs, (on_s1, on_s2), strict=True)
            )
            rate, clock, seen = drain(made, results, count, _WORKERS, look=partial(_note_memory, made, memory, name))
            rates[name].append(rate)
            costs[f"wallets, {name}"] = clock.us_per(seen)
        return {
            "wallets_commands_per_s": {name: int(mean(each)) for name, each in rates.items()},
            "cpu_us_per_command": costs,
            "memory_mb": {"the larger worker, wallets": memory},
        }


def _in_a_moved_bucket(root: str) -> tuple[str, int]:
    return placement_key_of(root), 1


def _note_memory(made: Service, memory: dict[str, int], name: str) -> None:
    memory[name] = max(made.memory_mb().values())


def _by_shard(roots: list[str]) -> tuple[list[str], list[str]]:
    """Return those that stay, and those in the buckets of the second shard."""
    stay = [root for root in roots if bucket_of(root) < BUCKETS // 2]
    return stay, [root for root in roots if bucket_of(root) >= BUCKETS // 2]


def _share_buckets_out(made: Service) -> None:
    """Leave both shards as ``balance bucket assign --share s1=0.5,s2=0.5`` does where nobody has an account yet."""
    moved = [key_of_bucket(number) for number in range(BUCKETS // 2, BUCKETS)]
    _write_placements(made, _FIRST, moved, state=PlacementState.AWAY, other=_SECOND)
    _write_placements(made, _SECOND, moved, other=_FIRST)


def _write_placements(
    made: Service,
    shard: str,
    placement_keys: Iterable[str],
    *,
    state: PlacementState = PlacementState.OWNED,
    other: str,
) -> None:
    """Write into a shard's database what its one lane has of placement keys that moved before it began."""
    rows = [PlacementRow(placement_key=key, generation=1, state=state, other_shard=other) for key in placement_keys]
    session = Session(addresses.mysql_address(made.settings, shard), lane=False)
    try:
        for statement in insert_placements(rows, lane=0):
            session.execute(statement.sql, statement.what)
    finally:
        session.close()


def _with_overdraft(roots: list[str]) -> Iterator[Command]:
    for root in roots:
        yield OpenAccount(command_id=load.new_id(), address=root, currency="USD", overdraft_limit=load.PLENTY)


def _payments(rng: Random, roots: list[str], count: int) -> Iterator[Command]:
    for _ in range(count):
        root, amount_minor = rng.choice(roots), 1 + rng.randrange(99)
        yield Pay(command_id=load.new_id(), address=root, currency="USD", amount_minor=amount_minor)
