"""The router's look-up a key: the same bytes as the decision that it remembers, whatever is read in whatever order."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import pytest

from processors.ledger.commands import CommandType
from processors.routing.buckets import partition_of, placement_key_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.wire.commands import PAYLOAD_BYTES_MAX, prefixes_of
from processors.wire.directory import Vouched
from processors.wire.forwarder import Destination, Forwarder, Outgoing
from processors.wire.forwarding import RoutingContext, forward, is_marker, refusal_of
from processors.wire.records import UNREADABLE_HEADERS, OutRecord, Record
from processors.wire.route import ROUTE_HEADER
from processors.wire.signature import SIGNATURE_HEADER

PARTITIONS = 4
LANES = {"s1": 2, "s2": 8}
ROOTS = [f"root-{number}" for number in range(12)]
MARKER = prefixes_of(CommandType.MOVE_PARTNER)[0]
SIGNED = (SIGNATURE_HEADER, b"k1:signature")


def home() -> RoutingContext:
    """Return two shards, the first of them home, and nobody placed."""
    directory = Directory()
    directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)
    return RoutingContext(
        directory=directory,
        ingress_epoch=3,
        ingress_partitions=PARTITIONS,
        ingress_partitions_found=PARTITIONS,
        topic_of={shard: f"p.balance.shard.{shard}" for shard in LANES},
        lanes_of=LANES,
        vouched=Vouched(keys={}, targets={}),
        dead_letters_topic="p.balance.dead-letters",
    )


def place(context: RoutingContext, key: str, generation: int, shard: str, since: int) -> None:
    at = partition_of(key, PARTITIONS)
    context.directory.add(placement_key=key, generation=generation, shard=shard, ingress_partition=at, since=since)


def came(root: str, offset: int, *, value: bytes | None = b"payload", partition: int | None = None) -> Record:
    at = partition_of(root, PARTITIONS) if partition is None else partition
    return Record("p.balance.commands", at, offset, 5, 1_000 + offset, True, root.encode(), value, [])


def taken(router: Forwarder, *records: Record) -> tuple[int, list[OutRecord]]:
    """Return how many records were taken, and what goes to lanes of them."""
    outgoing: Outgoing = defaultdict(list)
    count = router.take(records, 0, outgoing)
    return count, [OutRecord(lane.topic, lane.partition, *out) for lane, outs in outgoing.items() for out in outs]


def drawn(chance: Random, offset: int) -> Record:
    """Return a record as anybody may write it; half of them are plain."""
    root = chance.choice(ROOTS)
    record = came(root, offset)
    if chance.random() < 0.5:
        return record
    record.partition = chance.randrange(PARTITIONS) if chance.random() < 0.2 else record.partition
    record.value = chance.choice([None, b"", b"x", MARKER, MARKER[:-1], bytes(PAYLOAD_BYTES_MAX + chance.randrange(2))])
    record.key = chance.choice([None, b"", b"NO ROOT", placement_key_of(root).encode(), root.encode()])
    record.leader_epoch = chance.choice([-1, 2**31 - 1])
    record.headers = chance.choice(
        [[SIGNED], [("trace", b"t"), SIGNED], [SIGNED] * 3, UNREADABLE_HEADERS, [(ROUTE_HEADER, b"forged")]]
    )
    return record


@pytest.mark.rule("R2")
@pytest.mark.rule("W2")
@pytest.mark.parametrize("seed", range(40))
def test_what_is_taken_goes_where_the_decision_sends_it_byte_for_byte(seed: int) -> None:
    chance = Random(seed)
    context, plain, generations = home(), 0, defaultdict[str, int](int)
    router = Forwarder(context)
    for offset in range(400):
        if chance.random() < 0.05:
            key = chance.choice([chance.choice(ROOTS), placement_key_of(chance.choice(ROOTS))])
            generations[key] += 1
            place(context, key, generations[key], chance.choice(list(LANES)), since=offset + chance.randrange(-50, 50))
        record = drawn(chance, max(0, offset + chance.randrange(-60, 60)))
        count, out = taken(router, record)
        if refusal_of(record, context) is None and not is_marker(record):
            assert not count or out == [forward(record, context)[1]]
            plain += count
        else:
            assert not count
            assert out == []
    assert plain > 150


@pytest.mark.rule("R2")
def test_a_move_is_known_to_the_next_record_whoever_wrote_it_into_the_directory() -> None:
    context = home()
    router = Forwarder(context)
    assert taken(router, came("root-1", 7))[0] == 1

    place(context, placement_key_of("root-1"), 1, "s2", since=8)

    assert taken(router, came("root-1", 7))[0] == 0  # from before the move: the directory decides
    assert taken(router, came("root-1", 8))[1] == [forward(came("root-1", 8), context)[1]]
    assert taken(router, came("root-1", 8))[1][0].topic == "p.balance.shard.s2"


def test_what_comes_before_the_first_odd_record_is_taken_and_what_follows_begins_behind_it() -> None:
    router, outgoing = (
        Forwarder(home()),
        defaultdict[Destination, list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]](list),
    )
    records = [came("root-1", 0), came("root-2", 0), came("root-1", 1, value=MARKER), came("root-1", 2)]

    assert router.take(records, 0, outgoing) == 2
    assert router.take(records, 3, outgoing) == 4
    assert sum(map(len, outgoing.values())) == 3


def test_keys_are_forgotten_where_there_are_too_many() -> None:
    router = Forwarder(home(), keys_max=5)
    for offset in range(3):
        for root in ROOTS:
            assert taken(router, came(root, offset))[0] == 1
            assert len(router._known) <= 6
