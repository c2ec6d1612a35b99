"""What was refused stays refused, whatever release, keys file or settings look at it later (I6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from processors.faults import StopCode
from processors.ids import make_command_id
from processors.lane.lane import Lane
from processors.ledger.commands import Pay, SetLaneTime, SetRules
from processors.ledger.control import set_rules_of
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules
from processors.wire.causes import Cause
from processors.wire.commands import ConfluentIds, encode_command
from processors.wire.dead_letters import decode_dead_letter
from processors.wire.records import OutRecord
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.schemas import schema_of
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign, trusted_keys
from tests.simulation.deployment import admit_of
from tests.simulation.fakes.clock import START_MS
from tests.simulation.test_regressions import HOUR_MS, PLACE, TOPIC, Worker
from tests.simulation.workload import KEYRING
from tests.unit.wire.build import confluent_framed

TWO = KeyRing(signing="k2", keys={**KEYRING.keys, "k2": bytes([7]) * 32})
FIRST = Rules(version=1, release=1, result_version=1)
SECOND = Rules(version=1, keys=trusted_keys(KEYRING), registry_ids="")


def rules_record(**more: str) -> bytes:
    return encode_command(
        SetRules(bytes(16), 2, RULES_RELEASE, HOUR_MS, 0, HOUR_MS, HOUR_MS, HOUR_MS, RESULT_VERSION, **more)
    )


def begin(rules: Rules = SECOND) -> Worker:
    worker = Worker.begin()
    worker.database.rules = rules
    return worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a process knows: its release, keys file and settings."""

    release: int = RULES_RELEASE
    keyring: KeyRing = KEYRING
    registry_ids: tuple[int, ...] = ()  # of PAY

    def given_to(self, worker: Worker) -> Worker:
        confluent: ConfluentIds = {number: schema_of("pay") for number in self.registry_ids}
        make_gate = worker.parts.make_gate
        parts = replace(
            worker.parts,
            context=replace(worker.parts.context, known_release=self.release),
            make_gate=lambda: replace(make_gate(), keyring=self.keyring, confluent=confluent),
        )
        worker.parts = replace(parts, admit=admit_of(self.release, parts.admit))
        worker.lane = Lane(worker.parts)
        return worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record that its first process refuses, and that a later one would take if the log did not decide."""

    record: OutRecord
    cause: Cause
    rules: Rules
    later: Known
    first: Known = Known()


def signed(ring: KeyRing, payload: bytes) -> OutRecord:
    return OutRecord(TOPIC, 0, None, payload, [(SIGNATURE_HEADER, sign(ring, None, payload))])


def routed(payload: bytes) -> OutRecord:
    route = Route(RouteKind.COMMAND, 1, 0, 0, 0, START_MS, "home", 0)
    return OutRecord(TOPIC, 0, b"acme", payload, [(ROUTE_HEADER, encode_route(route))])


PAY = Pay(command_id=make_command_id(START_MS, bytes(10)), address="acme", currency="USD", amount_minor=5)
REFUSED = {
    "a key": Refused(
        record=signed(TWO, rules_record()), cause=Cause.BAD_SIGNATURE, rules=SECOND, later=Known(keyring=TWO)
    ),
    "a schema": Refused(
        record=signed(KEYRING, encode_command(SetLaneTime(bytes(16), 1 << 40, 1, 1 << 41))),
        cause=Cause.UNKNOWN_SCHEMA,
        rules=FIRST,
        first=Known(release=1),
        later=Known(),
    ),
    "a registry id": Refused(
        record=routed(confluent_framed(encode_command(PAY), 12)),
        cause=Cause.UNKNOWN_SCHEMA,
        rules=SECOND,
        later=Known(registry_ids=(12,)),
    ),
}


@pytest.mark.rule("I6")
@pytest.mark.rule("F1")
@pytest.mark.rule("W1")
@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("offset_lost", [True, False])
def test_a_record_of_what_the_log_did_not_have_is_never_a_command(
    what: str, published: bool, restored: bool, offset_lost: bool
) -> None:
    refused = REFUSED[what]
    worker = refused.first.given_to(begin(refused.rules))
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.broker.write(refused.record)
    worker.serve(publish=published)
    if restored:
        worker.database.restore(backup)
    if offset_lost:
        worker.broker.group("workers").offsets.pop(PLACE, None)

    later = refused.later.given_to(worker.again())

    assert later.stop() is None
    assert later.next_offset == 1
    assert not [entry for entry in later.broker.log("balance.results", 0).entries if entry.value]
    letters = {entry.value for entry in later.broker.log("balance.dead-letters", 0).entries if entry.value}
    assert [decode_dead_letter(letter).cause for letter in letters] == [refused.cause]
    assert len(later.database.tables.rules_of(0)) == 1


@pytest.mark.rule("I6")
def test_a_worker_of_the_first_release_stops_at_the_raise_and_one_of_the_second_goes_on() -> None:
    worker = Known(release=1).given_to(begin(FIRST))
    worker.write(count=2)
    raised = replace(FIRST, version=2, release=2, result_version=RESULT_VERSION)
    worker.write(encode_command(set_rules_of(raised, bytes(16)), release=1))
    named = replace(raised, version=3, keys=trusted_keys(KEYRING), registry_ids="")
    worker.write(encode_command(set_rules_of(named, bytes(16))))
    stop = worker.stop()

    assert stop is not None
    assert stop.code is StopCode.UNKNOWN_VERSION
    worker.database.tables.stops.clear()
    assert worker.again().stop() is None
    assert worker.next_offset == 4
    assert [(rules.release, rules.keys is None) for rules in worker.database.tables.rules_of(0).values()] == [
        (1, True),
        (2, True),
        (2, False),
    ]


@pytest.mark.rule("W1")
def test_a_lane_stops_before_a_key_that_its_file_lacks_and_goes_on_once_it_has_it() -> None:
    worker = begin()
    worker.write(count=2)
    worker.write(rules_record(keys=trusted_keys(TWO), registry_ids=""))
    stop = worker.stop()

    assert stop is not None
    assert (stop.code, worker.next_offset) == (StopCode.KEY_MISSING, 2)
    worker.keyring = TWO
    worker.database.tables.stops.clear()
    assert worker.stop() is None
    assert worker.next_offset == 3
