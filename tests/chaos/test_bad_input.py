"""Each kind of bad input through a real router and lane: exactly one of a result, a dead letter, or silence.

All of them are sent in one go, a neighbour's payments between them, so that they share batches.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from processors.ids import derived_id
from processors.ledger.commands import (
    Adjust,
    Direction,
    ExpireHold,
    OpenAccount,
    Pay,
    Recalled,
    RecallOriginal,
    SetRules,
    Tick,
    TopUp,
)
from processors.ops import keys
from processors.routing.buckets import partition_of
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, shard_topic
from processors.wire.avro import long_bytes
from processors.wire.commands import PAYLOAD_BYTES_MAX, encode_command
from processors.wire.dead_letters import DeadLetter, decode_dead_letter
from processors.wire.records import Headers
from processors.wire.results import Result
from processors.wire.route import ROUTE_HEADER, encode_route
from processors.wire.schemas import PREFIX_BYTES
from processors.wire.signature import SIGNATURE_HEADER, add_key, sign
from tests.chaos.lanes import HOUR_MS, SHARD, new_id
from tests.chaos.whole_service import WholeService
from tests.servers import Place
from tests.unit.wire.build import example, route
from tests.waiting import eventually

LARGEST = 2**63 - 1
ZEROS = bytes(5 * 1024 * 1024)  # compressed they pass a limit of one megabyte (W4)
STRANGERS = add_key(None, "strange", secrets.token_bytes(32))
SILENCE = "silence"
REUSED, TWICE, SHARED = new_id(), new_id(), new_id()


def pay(**wishes: object) -> Pay:
    given = {"command_id": new_id(), "address": "acme", "currency": "USD", "amount_minor": 1, **wishes}
    return Pay(**given)  # type: ignore[arg-type]


def paid(**wishes: object) -> bytes:
    return encode_command(pay(**wishes))


def hand_made(*, amount: bytes = long_bytes(1), currency: bytes = b"\x06USD", rest: bytes = b"\x00") -> bytes:
    """Return a PAY by its bytes, right or wrong."""
    return paid()[:PREFIX_BYTES] + new_id() + b"\x08acme" + currency + amount + rest


def topped_up(address: str, amount_minor: int) -> bytes:
    return encode_command(TopUp(command_id=new_id(), address=address, currency="USD", amount_minor=amount_minor))


ADJUSTED = encode_command(
    Adjust(
        command_id=new_id(),
        address="acme",
        currency="USD",
        amount_minor=5,
        direction=Direction.CREDIT,
        explanation="forged",
    )
)
EXPIRED = encode_command(
    example(ExpireHold, command_id=derived_id("EXPIRE_HOLD", REUSED), address="acme", hold_id=REUSED)
)
RECALLED = encode_command(
    example(
        RecallOriginal,
        command_id=derived_id("RECALL_ORIGINAL", REUSED),
        address="acme",
        refund_id=REUSED,
        recalled=Recalled.NOT_FOUND,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A record of the ingress and what must come of it: a status and reason, a dead letter's cause, or silence."""

    payload: bytes
    answer: str
    key: bytes | None = b"acme"
    headers: tuple[tuple[str, bytes], ...] = ()
    by_service: bool = False  # signed with the service's own key
    elsewhere: bool = False  # in another partition than its key's


def metadata(value: bytes) -> Sent:
    return Sent(payload=paid(metadata=value), answer="REJECTED INVALID_METADATA")


def address(value: str, key: bytes = b"acme") -> Sent:
    return Sent(payload=paid(address=value), answer="REJECTED INVALID_ADDRESS", key=key)


CASES: dict[str, list[Sent]] = {
    "empty": [Sent(payload=b"", answer="EMPTY")],
    "truncated": [Sent(payload=paid()[:-3], answer="MALFORMED")],
    "cut within the fingerprint": [Sent(payload=paid()[:5], answer="UNKNOWN_SCHEMA")],
    "trailing bytes": [Sent(payload=paid() + b"\x00", answer="TRAILING_BYTES")],
    "unknown fingerprint": [Sent(payload=b"\xc3\x01" + b"\x07" * 40, answer="UNKNOWN_SCHEMA")],
    "no marker": [Sent(payload=b'{"type":"PAY"}', answer="UNKNOWN_SCHEMA")],
    "enum index out of range": [
        Sent(
            payload=encode_command(example(OpenAccount, command_id=new_id(), address="acme"))[:-18] + b"\x7f" * 18,
            answer="MALFORMED",
        )
    ],
    "huge declared length": [Sent(payload=hand_made(currency=long_bytes(2**62)), answer="MALFORMED")],
    "negative declared length": [Sent(payload=hand_made(currency=long_bytes(-5)), answer="MALFORMED")],
    "a number that is written too long": [Sent(payload=hand_made(amount=b"\x82\x00"), answer="NOT_CANONICAL")],
    "payload above the limit": [
        Sent(payload=paid() + b"m" * PAYLOAD_BYTES_MAX, answer="TOO_LARGE"),
        Sent(payload=ZEROS, answer="TOO_LARGE"),
    ],
    "a key that is no root": [
        Sent(payload=paid(), answer="BAD_KEY", key=key) for key in (None, b"", b"ACME!", b"acme:vn", b"\xff\xfe")
    ],
    "another root than the key": [Sent(payload=paid(address="neighbour"), answer="REJECTED KEY_IS_NOT_ROOT")],
    "another partition than the key's": [Sent(payload=paid(), answer="WRONG_PARTITION", elsewhere=True)],
    "too deep an address": [address(":".join(["acme", *"abcdefgh"]))],
    "too long an address": [address("acme:" + "x" * 300)],
    "odd characters in an address": [
        address(text) for text in ("acme:", "acme:a b", "acme:é", "acme:\x00", "acme:A/B")
    ],
    "a currency that is none": [
        Sent(payload=paid(currency=currency), answer="REJECTED UNKNOWN_CURRENCY")
        for currency in ("", "usd", "XXX", "usé", "€€€", "\x00\x00\x00", "U" * 60_000)
    ],
    "amount 0": [Sent(payload=paid(amount_minor=0), answer="REJECTED INVALID_AMOUNT")],
    "negative amount": [Sent(payload=paid(amount_minor=-1), answer="REJECTED INVALID_AMOUNT")],
    "amount 2**63": [Sent(payload=hand_made(amount=b"\x80" * 9 + b"\x02"), answer="MALFORMED")],
    "unknown currency": [Sent(payload=paid(currency="XXQ"), answer="REJECTED UNKNOWN_CURRENCY")],
    "an id that is no UUIDv7": [
        Sent(payload=paid(command_id=bytes(16)), answer="REJECTED IMPLAUSIBLE_ID"),
        Sent(payload=paid(command_id=b"\xff" * 16), answer="REJECTED IMPLAUSIBLE_ID"),
    ],
    "too old an id": [Sent(payload=paid(command_id=new_id(7 * HOUR_MS)), answer="UNKNOWN COMMAND_TOO_OLD")],
    "an id from the future": [Sent(payload=paid(command_id=new_id(-HOUR_MS)), answer="REJECTED COMMAND_FROM_FUTURE")],
    "an id from the far future": [
        Sent(payload=paid(command_id=new_id(-48 * HOUR_MS)), answer="REJECTED IMPLAUSIBLE_ID")
    ],
    "an id reused with another body": [
        Sent(payload=paid(command_id=REUSED), answer="ACCEPTED NONE"),
        Sent(payload=paid(command_id=REUSED, amount_minor=2), answer="REJECTED COMMAND_ID_REUSED"),
    ],
    "an id used by another root": [
        Sent(payload=paid(command_id=SHARED), answer="ACCEPTED NONE"),
        Sent(payload=paid(command_id=SHARED, address="beside"), answer="ACCEPTED NONE", key=b"beside"),
    ],
    "its own duplicate in the same batch": [
        Sent(payload=paid(command_id=TWICE), answer="ACCEPTED NONE"),
        Sent(payload=paid(command_id=TWICE), answer="ACCEPTED NONE"),
    ],
    "a forged internal command": [
        Sent(payload=EXPIRED, answer="UNEXPECTED_ROUTE"),
        Sent(payload=encode_command(Tick()), answer="UNEXPECTED_ROUTE"),
        Sent(payload=encode_command(example(SetRules)), answer="UNEXPECTED_ROUTE", by_service=True),
        Sent(payload=RECALLED, answer="BAD_SIGNATURE"),
        Sent(payload=ADJUSTED, answer="BAD_SIGNATURE"),
        Sent(
            payload=ADJUSTED,
            answer="BAD_SIGNATURE",
            headers=((SIGNATURE_HEADER, sign(STRANGERS, b"acme", ADJUSTED)),),
        ),
    ],
    "the service's own, with nothing to do": [Sent(payload=RECALLED, answer=SILENCE, by_service=True)],
    "forged balance- headers": [
        Sent(
            payload=paid(),
            answer="ACCEPTED NONE",
            headers=((ROUTE_HEADER, encode_route(route())), ("Balance-Route", b"x"), ("balance-anything", b"")),
        )
    ],
    "many headers": [
        Sent(payload=paid(), answer="ACCEPTED NONE", headers=tuple((f"h{n}", b"") for n in range(40))),
        Sent(payload=paid(), answer="ACCEPTED NONE", headers=(("h", b"x" * 900_000),)),
        Sent(payload=paid(), answer="ACCEPTED NONE", headers=((SIGNATURE_HEADER, b""),) * 40),
    ],
    "an overflow of a balance": [
        Sent(payload=topped_up("brim", LARGEST), answer="ACCEPTED NONE", key=b"brim"),
        Sent(payload=topped_up("brim", 1), answer="REJECTED BALANCE_OVERFLOW", key=b"brim"),
    ],
    "metadata that is not what it says": [
        metadata(b"{"),
        metadata(b"[1]"),
        metadata(b'{"a":1,"a":2}'),
        metadata(b'{"a":NaN}'),
        metadata(b'{"a":1.5}'),
        metadata(b'{"a":"\\ud800"}'),
        metadata(b"\xff\xfe"),
        metadata(b'{"a":' * 20 + b"1" + b"}" * 20),
        metadata(json.dumps({"a": "x" * 5_000}).encode()),
    ],
}


class Collected(WholeService):
    """The service's results and dead letters, by the ingress record that they answer."""

    def __init__(self, place: Place) -> None:
        """Have a producer that compresses, as a gateway may."""
        super().__init__(place)
        limits = {"message.max.bytes": 2 * len(ZEROS), "compression.type": "gzip"}
        self._gateway = Producer(self.address.options() | limits | {"enable.idempotence": True, "acks": "all"})

    def send_record(self, sent: Sent, ring_headers: Headers) -> list[tuple[int, int]]:
        """Append a record; the list gets its partition and offset once it is acknowledged."""
        partitions = self.settings.topics.commands_partitions
        root = (sent.key or b"").decode("ascii", "replace")
        partition = (partition_of(root, partitions) + sent.elsewhere) % partitions
        place: list[tuple[int, int]] = []

        def acknowledged(error: object, message: object) -> None:
            assert error is None, error
            place.append((message.partition(), message.offset()))  # type: ignore[attr-defined]

        self._gateway.produce(
            self.address.topic_prefix + COMMANDS_TOPIC,
            sent.payload,
            sent.key,
            partition,
            headers=[*sent.headers, *ring_headers],
            on_delivery=acknowledged,
        )
        return place

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        super().flush()
        assert self._gateway.flush(30) == 0

    def all_results(self) -> list[Result]:
        self.results()
        return [result for read in self._read.values() for _, _, result in read]

    def letters(self) -> list[DeadLetter]:
        first, end = self.topics.bounds(DEAD_LETTERS_TOPIC, 0)
        found = read_range(self.address, DEAD_LETTERS_TOPIC, 0, first, end)
        return [decode_dead_letter(record.value or b"") for records in found for record in records]

    def answers(self) -> dict[tuple[int, int], list[str]]:
        """Return what came of each ingress record."""
        found: dict[tuple[int, int], list[str]] = {}
        for result in self.all_results():
            source = (result.ingress_partition, result.ingress_offset)
            found.setdefault(source, []).append(f"{result.status} {result.reason}")
        for letter in self.letters():
            by_router = letter.topic.endswith(COMMANDS_TOPIC)
            source = (
                (letter.partition, letter.offset) if by_router else (letter.ingress_partition, letter.ingress_offset)
            )
            found.setdefault(source, []).append(letter.cause)
        return found


@contextmanager
def router(service: WholeService) -> Iterator[None]:
    log_file = Path(service.settings.keys_file).parent / "router.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "processors.ops.cli", "router", "run"],
            env={**os.environ, **service.place.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, log_file.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What came of all cases, and of the neighbour's payments between them."""

    service: Collected
    places: dict[str, list[tuple[int, int]]]
    answers: dict[tuple[int, int], list[str]]
    neighbours: list[tuple[int, int]]


@pytest.fixture(scope="module")
def day(fresh_place: Callable[..., Place]) -> Day:
    """Send everything, and stop once it is all decided and published."""
    service = Collected(fresh_place())
    ring = keys.keyring(service.settings)
    for root in ("acme", "beside", "neighbour", "brim"):
        service.send([OpenAccount(command_id=new_id(), address=root, currency="USD")])
        if root != "brim":
            service.send([TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=1_000)])
    service.flush()
    sent: dict[str, list[list[tuple[int, int]]]] = {}
    neighbours: list[list[tuple[int, int]]] = []
    for name, records in CASES.items():
        for record in records:
            signature = [(SIGNATURE_HEADER, sign(ring, record.key, record.payload))] if record.by_service else []
            sent.setdefault(name, []).append(service.send_record(record, signature))
            beside = Sent(payload=paid(address="neighbour"), answer="ACCEPTED NONE", key=b"neighbour")
            neighbours.append(service.send_record(beside, []))
    service.flush()
    places = {name: [place[0] for place in each] for name, each in sent.items()}
    wanted = {
        place: record.answer
        for name, records in CASES.items()
        for place, record in zip(places[name], records, strict=True)
        if record.answer != SILENCE
    } | {place[0]: "ACCEPTED NONE" for place in neighbours}
    with router(service), service.worker():
        eventually(lambda: wanted.keys() <= service.answers().keys(), "every record is answered")
        service.await_decided()  # and those that nothing comes of are decided, too
    return Day(service=service, places=places, answers=service.answers(), neighbours=[place[0] for place in neighbours])


@pytest.mark.rule("F3")
@pytest.mark.rule("W1")
@pytest.mark.rule("W2")
@pytest.mark.rule("W4")
@pytest.mark.parametrize("case", CASES)
def test_each_bad_record_gets_exactly_one_of_a_result_a_dead_letter_and_silence(day: Day, case: str) -> None:
    expected = [[] if sent.answer == SILENCE else [sent.answer] for sent in CASES[case]]

    assert [day.answers.get(place, []) for place in day.places[case]] == expected


def test_the_neighbours_payments_between_them_are_all_accepted(day: Day) -> None:
    assert {place: day.answers[place] for place in day.neighbours} == {
        place: ["ACCEPTED NONE"] for place in day.neighbours
    }
    assert day.service.stop_codes() == {}


def test_a_dead_letter_tells_its_cause_its_source_and_what_it_was(day: Day) -> None:
    place = day.places["trailing bytes"][0]
    (sent,) = CASES["trailing bytes"]
    (letter,) = [each for each in day.service.letters() if (each.ingress_partition, each.ingress_offset) == place]

    assert (letter.cause, letter.key, letter.payload) == ("TRAILING_BYTES", b"acme", sent.payload)
    assert letter.topic.endswith(shard_topic(SHARD))
