"""What was refused stays refused, whatever keys file looks at it later (I6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.faults import StopCode
from processors.ledger.commands import SetRules
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign, trusted_keys
from tests.simulation.customers import KEYRING
from tests.simulation.test_found import HOUR_MS, PLACE, TOPIC, Worker

TWO = KeyRing(signing="k2", keys={**KEYRING.keys, "k2": bytes([7]) * 32})


def wish(**more: str) -> bytes:
    return encode_command(
        SetRules(bytes(16), 2, RULES_RELEASE, HOUR_MS, 0, HOUR_MS, HOUR_MS, HOUR_MS, RESULT_VERSION, **more)
    )


def begin() -> Worker:
    worker = Worker.begin()
    worker.database.rules = replace(worker.database.rules, keys=trusted_keys(KEYRING), registry_ids="")
    return worker


@pytest.mark.rule("I6")
@pytest.mark.rule("W1")
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("offset_lost", [True, False])
def test_a_record_by_a_key_that_the_log_did_not_have_is_never_a_command(
    published: bool, restored: bool, offset_lost: bool
) -> None:
    worker = begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.broker.write(OutRecord(TOPIC, 0, None, wish(), [(SIGNATURE_HEADER, sign(TWO, None, wish()))]))
    worker.serve(publish=published)
    if restored:
        worker.database.restore(backup)
    if offset_lost:
        worker.broker.group("workers").offsets.pop(PLACE, None)

    later = worker.again()
    later.keyring = TWO

    assert later.stop() is None
    assert later.next_offset == 1
    assert len(later.database.tables.rules_of(0)) == 1


@pytest.mark.rule("W1")
def test_a_lane_stops_before_a_key_that_its_file_lacks_and_goes_on_once_it_has_it() -> None:
    worker = begin()
    worker.write(count=2)
    worker.write(wish(keys=trusted_keys(TWO), registry_ids=""))
    stop = worker.stop()

    assert stop is not None
    assert (stop.code, worker.next_offset) == (StopCode.KEY_MISSING, 2)
    worker.keyring = TWO
    worker.database.tables.stops.clear()
    assert worker.stop() is None
    assert worker.next_offset == 3
