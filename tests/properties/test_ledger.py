"""What is true of every run, whatever happens in it."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.faults import LaneStopped, StopCode
from processors.ledger.commands import Adjust, Policy, RecallOriginal, UpdateAccount
from processors.ledger.decide import Duplicate, Verdict
from processors.ledger.outcomes import Outcome, Status
from processors.ledger.rows import Account, Hold, OpenRefund, OpenTransfer, Refunded
from processors.ledger.tables import ROOT_TABLES
from tests.properties.command_sequences import SEQUENCES, Exchange, ReferenceAnswer, Step, run_reference
from tests.properties.reference import Reference
from tests.properties.reference_fields import METADATA, mask
from tests.properties.reference_rows import Again, StoppedError
from tests.unit.ledger.lane import Sent, SerialLane

# Together below five seconds on one core: every rule about money is tried whenever someone saves a file.
long_run = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
short_run = settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])


def sent_to(lane: SerialLane, exchange: Exchange) -> Verdict | StoppedError:
    """Send a record; a stop is told apart, and the lane goes on as if the record had not been."""
    try:
        return lane.send(exchange.sent.command, now_ms=exchange.sent.now_ms, root=exchange.sent.root)
    except LaneStopped as stop:
        if stop.code is not StopCode.RECALLS_DISAGREE:
            raise
        return StoppedError()


def agrees(answer: Verdict | StoppedError, reference: ReferenceAnswer) -> bool:
    if isinstance(answer, Duplicate):
        return isinstance(reference, Again) and answer.first.result == repr(reference.first).encode()
    if isinstance(answer, StoppedError):
        return isinstance(reference, StoppedError)
    return answer == reference


def rows_of(reference: Reference) -> tuple[object, ...]:
    """Return the rows that a shard should have after what the reference remembers."""
    accounts = {}
    for key, opened in reference.accounts.items():
        accounts[key] = Account(
            key[0],
            key[1],
            reference.balance(key),
            reference.held(key),
            opened.overdraft_limit,
            opened.policy,
            reference.status[key],
            reference.sequence(key),
            reference.open_count(key),
            METADATA[opened.metadata] or b"",
            reference.in_transit(key),
        )
    holds = {}
    for name, hold in reference.holds.items():
        placed = reference.decided[name].outcome.amount_minor
        holds[name] = Hold(*hold.key, placed, hold.remaining, mask(hold.addresses), hold.expires_at_ms)
    waiting = {
        name: OpenRefund(*row.key, row.original_id, row.amount, mask(row.addresses))
        for name, row in reference.waiting.items()
    }
    refunded = {name: Refunded(whole, sum(reference.given_back[name])) for name, whole in reference.whole.items()}
    sent = {
        name: OpenTransfer(*row.key, row.to_address, row.amount, mask(row.addresses))
        for name, row in reference.sent.items()
    }
    return accounts, holds, waiting, refunded, sent


@given(steps=SEQUENCES)
@long_run
@pytest.mark.rule("I3")
@pytest.mark.rule("I4")
@pytest.mark.rule("I5")
@pytest.mark.rule("I7")
@pytest.mark.rule("H1")
@pytest.mark.rule("H2")
@pytest.mark.rule("H3")
@pytest.mark.rule("H5")
@pytest.mark.rule("T1")
@pytest.mark.rule("T2")
@pytest.mark.rule("T3")
@pytest.mark.rule("T5")
def test_the_core_answers_as_the_naive_reference_does(steps: list[Step]) -> None:
    run = run_reference(steps)
    lane = SerialLane()

    for exchange in run.exchanges:
        answer = sent_to(lane, exchange)
        assert agrees(answer, exchange.answer), (
            f"{exchange.sent}\n  the core: {answer}\n  the reference: {exchange.answer}"
        )

    rows = lane.rows
    found = (rows.accounts, rows.holds, rows.open_refunds, rows.refunded, rows.open_transfers)
    assert found == rows_of(run.reference)
    assert {key: change for key, change in lane.system.items() if change} == {
        key: change for key, change in run.reference.system().items() if change
    }


@given(steps=SEQUENCES)
@short_run
@pytest.mark.rule("L15")
def test_the_trial_balance_of_every_level_and_currency_is_zero_after_every_command(steps: list[Step]) -> None:
    lane = SerialLane()

    for exchange in run_reference(steps).exchanges:
        sent_to(lane, exchange)
        sums: dict[tuple[int, str], int] = {}
        for account in lane.rows.accounts.values():
            place = (account.address.count(":") + 1, account.currency)
            sums[place] = sums.get(place, 0) + account.balance
        for (level, _, currency), balance in lane.system.items():
            sums[level, currency] = sums.get((level, currency), 0) + balance
        assert not any(sums.values())


@given(steps=SEQUENCES)
@short_run
@pytest.mark.rule("H5")
def test_what_is_held_and_counted_open_is_what_the_open_rows_say(steps: list[Step]) -> None:
    lane = SerialLane()

    for exchange in run_reference(steps).exchanges:
        sent_to(lane, exchange)
        for (address, currency), account in lane.rows.accounts.items():
            bit = 1 << address.count(":")

            def touches(
                row: Hold | OpenRefund | OpenTransfer, bit: int = bit, address: str = address, currency: str = currency
            ) -> bool:
                on_chain = row.address == address or row.address.startswith(f"{address}:")
                return on_chain and row.currency == currency and bool(row.levels & bit)

            holds = [hold for hold in lane.rows.holds.values() if touches(hold) and hold.remaining_minor]
            refunds = [refund for refund in lane.rows.open_refunds.values() if touches(refund)]
            assert account.held == sum(hold.remaining_minor for hold in holds)
            transfers = [transfer for transfer in lane.rows.open_transfers.values() if touches(transfer)]
            assert account.open_count == len(holds) + len(refunds) + len(transfers)
            assert account.in_transit_minor == sum(transfer.amount_minor for transfer in transfers)


@given(steps=SEQUENCES)
@short_run
@pytest.mark.rule("H5")
def test_available_of_a_checked_account_falls_below_zero_only_by_an_operator(steps: list[Step]) -> None:
    lane = SerialLane()

    for exchange in run_reference(steps).exchanges:
        before = {key: account.available for key, account in lane.rows.accounts.items()}
        sent_to(lane, exchange)
        if isinstance(exchange.sent.command, Adjust | UpdateAccount):  # a correction, a limit lowered, a policy changed
            continue
        for key, account in lane.rows.accounts.items():
            if account.policy is Policy.CHECKED and account.available < 0:
                assert account.available >= before[key], f"{exchange.sent} overspent {key}"


def state_of(lane: SerialLane) -> tuple[object, ...]:
    """Return all that a refusal leaves as it was."""
    return tuple(table.rows_in(lane.rows) for table in ROOT_TABLES), lane.system


@given(steps=SEQUENCES)
@short_run
@pytest.mark.rule("L11")
def test_a_refusal_leaves_everything_as_it_was(steps: list[Step]) -> None:
    lane = SerialLane()

    for exchange in run_reference(steps).exchanges:
        before = deepcopy(state_of(lane))
        answer = sent_to(lane, exchange)
        no = isinstance(answer, Outcome) and answer.status in (Status.REJECTED, Status.UNKNOWN)
        ends_a_refund = isinstance(exchange.sent.command, RecallOriginal)  # its refusal is the refund's end
        if not isinstance(answer, Outcome) or (no and not ends_a_refund):
            assert state_of(lane) == before


@given(steps=SEQUENCES)
@short_run
@pytest.mark.rule("H5")
def test_an_accounts_sequence_rises_by_one_with_each_change_and_only_then(steps: list[Step]) -> None:
    lane = SerialLane()
    last: dict[tuple[str, str], int] = {}

    for exchange in run_reference(steps).exchanges:
        answer = sent_to(lane, exchange)
        for posting in answer.postings if isinstance(answer, Outcome) else ():
            key = (posting.address, exchange.sent.command.currency)
            changes = bool(posting.balance_change or posting.held_change)
            assert posting.sequence == last.get(key, 0) + changes
            last[key] = posting.sequence
    assert {key: account.sequence for key, account in lane.rows.accounts.items() if account.sequence} == {
        key: sequence for key, sequence in last.items() if sequence
    }


@given(steps=SEQUENCES, cuts=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=9))
@short_run
@pytest.mark.rule("L9")
def test_outcomes_do_not_depend_on_where_batches_are_cut(steps: list[Step], cuts: list[tuple[int, bool]]) -> None:
    log = [
        exchange.sent for exchange in run_reference(steps).exchanges if not isinstance(exchange.answer, StoppedError)
    ]
    one_by_one, cut = SerialLane(), SerialLane()

    answers = [one_by_one.batch([record])[0] for record in log]

    again: list[Verdict] = []
    rest: list[Sent] = log
    for turn in range(len(log)):
        size, new_owner = cuts[turn % len(cuts)]
        if new_owner:
            cut.forget()
        again += cut.batch(rest[:size])
        rest = rest[size:]
    assert again == answers
    assert (cut.rows, cut.system) == (one_by_one.rows, one_by_one.system)
