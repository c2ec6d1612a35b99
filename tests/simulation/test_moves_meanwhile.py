"""What is open, or on its way, while its partner moves: it ends at the target as it would have at the source."""

from __future__ import annotations

import pytest

from processors.ids import derived_id, make_command_id
from processors.ledger.commands import (
    CommandType,
    ExpireHold,
    OpenAccount,
    Pay,
    PlaceHold,
    Recalled,
    RecallOriginal,
    Refund,
    UpdateAccount,
)
from processors.ledger.outcomes import Reason, Status
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from processors.wire.results import Result
from processors.wire.signature import SIGNATURE_HEADER, sign
from tests.simulation.two_shards import TwoShards
from tests.simulation.workload import KEYRING

HOUR_MS = 3_600_000
HOLD_MS = 10_000
OLDER_THAN_THE_WINDOW_MS = 7 * HOUR_MS


def last(shards: TwoShards, kind: CommandType) -> Result:
    return [result for result in shards.results() if result.type is kind][-1]


@pytest.mark.rule("M9")
@pytest.mark.rule("H2")
def test_a_hold_that_expires_while_its_partner_moves_expires_at_the_target_alone(shards: TwoShards) -> None:
    hold = PlaceHold(command_id=shards.new_id(), address="acme", currency="USD", amount_minor=40, expires_in_ms=HOLD_MS)
    shards.send(hold)
    shards.serve()
    shards.move("s2")
    shards.of["s1"].serve()
    shards.clock.now_ms += 2 * HOLD_MS
    expiry = ExpireHold(
        command_id=derived_id("EXPIRE_HOLD", hold.command_id),
        address="acme",
        currency="USD",
        hold_id=hold.command_id,
    )
    for shard in ("s1", "s2"):  # the source's expirer had asked before it saw the seal
        shards.of[shard].tick()
        shards.broker.write(OutRecord(f"balance.shard.{shard}", 0, b"acme", encode_command(expiry), []))

    shards.serve()

    # s2 met the request before the hold had come: its expirer asks again, as it does each time it looks.
    shards.broker.write(OutRecord("balance.shard.s2", 0, b"acme", encode_command(expiry), []))
    shards.serve()
    expired = [result for result in shards.results() if result.type is CommandType.EXPIRE_HOLD]
    assert [(result.shard, result.postings[0].held, result.postings[0].sequence) for result in expired] == [
        ("s2", 0, 3)
    ]


@pytest.mark.rule("M6")
@pytest.mark.rule("H4")
def test_a_refund_that_waits_for_its_original_while_its_partner_moves_ends_at_the_target(shards: TwoShards) -> None:
    original_id = make_command_id(shards.clock.now_ms - OLDER_THAN_THE_WINDOW_MS, bytes(10))
    refund = Refund(
        command_id=shards.new_id(), address="acme", currency="USD", original_id=original_id, amount_minor=25
    )
    shards.send(refund)
    shards.serve()
    assert last(shards, CommandType.REFUND).status is Status.OPEN
    shards.move("s2")
    recall = RecallOriginal(
        command_id=derived_id("RECALL_ORIGINAL", refund.command_id),
        address="acme",
        currency="USD",
        refund_id=refund.command_id,
        original_id=original_id,
        recalled=Recalled.FOUND,
        original_type=CommandType.PAY.value,
        original_accepted=True,
        original_address="acme",
        original_currency="USD",
        original_amount_minor=100,
        original_levels=1,
    )
    payload = encode_command(recall)
    for _ in range(2):  # a recaller sends until the answer has come
        shards.forward("acme", payload, [(SIGNATURE_HEADER, sign(KEYRING, b"acme", payload))])

    shards.serve()

    ended = [result for result in shards.results() if result.status is Status.COMPLETED]
    assert [(result.shard, result.postings[0].balance) for result in ended] == [("s2", 1_025)]


@pytest.mark.rule("M1")
def test_a_limit_that_is_changed_while_its_partner_moves_counts_from_its_place_in_his_log(shards: TwoShards) -> None:
    def pay() -> Pay:
        return Pay(command_id=shards.new_id(), address="acme", currency="USD", amount_minor=1_200)

    shards.send(pay())
    shards.move("s2")
    shards.send(pay())
    shards.send(UpdateAccount(command_id=shards.new_id(), address="acme", currency="USD", overdraft_limit=500))
    shards.send(pay())
    shards.send(OpenAccount(command_id=shards.new_id(), address="acme:vn", currency="USD"))

    shards.serve()

    found = [(result.shard, result.type, result.reason) for result in shards.results()[2:]]
    assert found == [
        ("s1", CommandType.PAY, Reason.INSUFFICIENT_FUNDS),
        ("s1", CommandType.MOVE_PARTNER, Reason.NONE),
        ("s2", CommandType.PAY, Reason.INSUFFICIENT_FUNDS),
        ("s2", CommandType.UPDATE_ACCOUNT, Reason.NONE),
        ("s2", CommandType.PAY, Reason.NONE),
        ("s2", CommandType.OPEN_ACCOUNT, Reason.NONE),
    ]
