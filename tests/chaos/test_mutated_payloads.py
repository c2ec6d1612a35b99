"""Mutated payloads through a real lane: it goes on, its neighbours' payments too, and each record is answered once.

``FUZZ_LANE_PAYLOADS`` sets how many (half a million), ``FUZZ_SEED`` where they begin. What must come of each is what
the pure decider makes of the log; that a single payload takes a bounded time is shown where they are decoded
(``tests/properties/test_wire_fuzz.py``).
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable

import pytest

from processors.ledger.commands import (
    Command,
    HandOff,
    Installed,
    LacksAhead,
    MoveAhead,
    MovePartner,
    OpenAccount,
    Pay,
    SendAgain,
    SetLaneTime,
    SetRules,
    Tick,
    TopUp,
)
from processors.ledger.outcomes import Status
from processors.ops import keys
from processors.streams.reader import read_range
from processors.streams.topics import DEAD_LETTERS_TOPIC, RESULTS_TOPIC, shard_topic
from processors.wire.commands import PAYLOAD_BYTES_MAX, encode_command, type_of_payload
from processors.wire.records import Headers
from processors.wire.results import decode_result
from processors.wire.route import ROUTE_HEADER, encode_route
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign
from tests.chaos.lanes import SHARD, Shard, new_id
from tests.properties.test_wire_fuzz import mutated
from tests.servers import Place
from tests.unit.wire.build import KINDS, example, route
from tests.waiting import eventually

PAYLOADS = int(os.environ.get("FUZZ_LANE_PAYLOADS", "500000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SEEDS_EACH = 40  # payloads of each type, under ids of their own
NEIGHBOUR_EVERY = 500
DEADLINE_S = 60 + PAYLOADS / 2_000  # a tenth of the pace on an idle machine
# A mutated SET_RULES or SET_LANE_TIME that is rightly signed is the operator's word, and changes the lane.
SIGNED = ("ADJUST", "RECALL_ORIGINAL")
# What moves a partner is the service's own word, and the router's: a lane does what they say.
MOVING = {MovePartner, HandOff, Installed, SendAgain, MoveAhead, LacksAhead}


def seeds() -> list[bytes]:
    """Return commands of every type on the account that they are about."""
    made: list[bytes] = []
    for kind in (kind for kind in KINDS if kind not in MOVING):
        for _ in range(SEEDS_EACH):
            wishes = {} if kind in (Tick, SetRules, SetLaneTime) else {"command_id": new_id(), "address": "acme"}
            made.append(encode_command(example(kind, **wishes)))
    return made


def headers_of(chance: random.Random, ring: KeyRing, payload: bytes, ingress_offset: int) -> Headers:
    """Return the headers that a record of the router has; now and then none, each twice, or a route cut short.

    A whole route is not altered: only the router can write one, and the lane has to believe it.
    """
    way = encode_route(
        route(ingress_epoch=1, ingress_partition=0, ingress_offset=ingress_offset, ingress_leader_epoch=0)
    )
    headers: Headers = [(ROUTE_HEADER, way)]
    if type_of_payload(payload) in SIGNED:
        headers.append((SIGNATURE_HEADER, sign(ring, b"acme", payload)))
    match chance.randrange(40):
        case 0:
            return []
        case 1:
            return headers * 2
        case 2:
            return [(ROUTE_HEADER, way[: chance.randrange(len(way))])]
        case _:
            return headers


class Writer:
    """Writes mutated payloads, and a neighbour's payment between them now and then, to the one lane."""

    def __init__(self, shard: Shard) -> None:
        self.paid: list[bytes] = []
        self._shard = shard
        self._ring = keys.keyring(shard.settings)
        self._chance = random.Random(SEED)
        self._seeds = seeds()
        self._ingress_offset = 1_000_000  # above those of the shard's own writer

    def write(self, count: int) -> None:
        for number in range(count):
            if number % NEIGHBOUR_EVERY == 0:
                self._neighbour_pays()
            payload = mutated(self._chance, self._seeds)[:PAYLOAD_BYTES_MAX]
            self._ingress_offset += 1
            headers = headers_of(self._chance, self._ring, payload, self._ingress_offset)
            self._shard.append(b"acme", payload, headers)
        self._shard.flush()

    def _neighbour_pays(self) -> None:
        pay = Pay(command_id=new_id(), address="neighbour", currency="USD", amount_minor=1)
        self.paid.append(pay.command_id)
        self._ingress_offset += 1
        self._shard.write_payload("neighbour", encode_command(pay), ingress_offset=self._ingress_offset)


def digest_of(value: bytes | None) -> bytes:
    return hashlib.blake2b(value or b"", digest_size=16).digest()


def digests(shard: Shard, topic: str) -> list[bytes]:
    """Return what stands in a topic of one partition, as digests: half a million letters would fill the memory."""
    first, end = shard.topics.bounds(topic, 0)
    return [
        digest_of(record.value) for records in read_range(shard.address, topic, 0, first, end) for record in records
    ]


def expected(shard: Shard) -> tuple[list[bytes], list[bytes], bytes]:
    """Return the digests of results and dead letters that the log leads to, and the lane's digest."""
    decider = shard.decider(0)
    results: list[bytes] = []
    letters: list[bytes] = []
    first, end = shard.topics.bounds(shard_topic(SHARD), 0)
    for records in read_range(shard.address, shard_topic(SHARD), 0, first, end):
        for record in shard.decide(decider, 0, records):
            place = results if record.topic.endswith(RESULTS_TOPIC) else letters
            place.append(digest_of(record.value))
    return results, letters, decider.standing.digest


@pytest.fixture
def shard(fresh_place: Callable[..., Place]) -> Shard:
    topics = ("LANES", "COMMANDS_PARTITIONS", "RESULTS_PARTITIONS")
    return Shard(fresh_place(**{f"BALANCE_TOPICS__{name}": "1" for name in topics}))


@pytest.mark.rule("F1")
@pytest.mark.rule("L11")
@pytest.mark.rule("W2")
def test_mutated_payloads_leave_the_lane_running_and_its_neighbours_unharmed(shard: Shard) -> None:
    opening: list[Command] = []
    for root in ("acme", "neighbour"):
        opening.append(OpenAccount(command_id=new_id(), address=root, currency="USD"))
        opening.append(TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=10**9))
    shard.write(opening)
    writer = Writer(shard)
    with shard.worker() as worker:
        writer.write(PAYLOADS)
        _, end = shard.topics.bounds(shard_topic(SHARD), 0)

        def decided() -> bool:
            lanes = shard.positions()
            return bool(lanes) and lanes[0].at.next_offset == end

        eventually(decided, "every record is decided", DEADLINE_S)
        worker.signal(signal.SIGTERM)  # it publishes what it has decided, and ends well
        assert worker.wait() == 0, worker.log
    assert shard.stop_codes() == {}

    results, letters, digest = expected(shard)
    assert shard.positions()[0].at.digest == digest
    assert digests(shard, RESULTS_TOPIC) == results
    assert digests(shard, DEAD_LETTERS_TOPIC) == letters
    assert len(letters) > PAYLOADS // 4  # the mutations reach both
    assert len(results) > PAYLOADS // 100
    assert answers_of(shard, "neighbour")[-len(writer.paid) :] == [(each, Status.ACCEPTED) for each in writer.paid]


def answers_of(shard: Shard, root: str) -> list[tuple[bytes, Status]]:
    first, end = shard.topics.bounds(RESULTS_TOPIC, 0)
    found = read_range(shard.address, RESULTS_TOPIC, 0, first, end)
    ours = (record.value for records in found for record in records if record.key == root.encode())
    return [(result.command_id, result.status) for result in map(decode_result, filter(None, ours))]
