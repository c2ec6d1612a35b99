"""What is decided one after the other has its results encoded together, and each is still its record's."""

from __future__ import annotations

import pytest

from processors.lane.decided import UndecidedError
from processors.ledger.book import Rows
from processors.ledger.commands import Pay
from processors.wire.admission import Gate, admit
from processors.wire.signature import KeyRing
from tests.bench.stages import Lane, Log


@pytest.mark.rule("L11")
def test_a_result_that_cannot_be_encoded_names_its_own_record() -> None:
    log, decider = Log(), Lane().decider
    gate = Gate(keyring=KeyRing(signing="k1", keys={"k1": bytes(32)}), lane=0, lanes=1)
    records = [*log.openings(["p0"]), *log.payments(["p0"], 3)]
    admissions = [admit(record, decider.book.rules, gate) for record in records]
    spoilt = admissions[3].command
    assert isinstance(spoilt, Pay)
    spoilt.command_id = b"not 16 bytes"
    needs = decider.needs_of(admissions)
    decider.book.add(decider.book.missing(needs), Rows())

    with pytest.raises(UndecidedError) as raised:
        decider.decide(admissions, needs, published=(0, 0))

    assert raised.value.offset == records[3].offset
