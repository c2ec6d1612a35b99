from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from typing import Any

import pytest

from processors.ledger.addresses import chain
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import (
    Adjust,
    Command,
    ExpireHold,
    MovePartner,
    OpenAccount,
    PlaceHold,
    RecallOriginal,
    Transfer,
    TransferCompleted,
    TransferReturn,
)
from processors.ledger.currencies import EXPONENTS, EXPONENTS_OF
from processors.ledger.outcomes import PRECEDENCE, Outcome, Reason, Status
from processors.ledger.rules import AMOUNT_MINOR_MAX, RULES_RELEASE
from processors.ledger.validity import why_invalid
from tests.unit.ledger import build
from tests.unit.ledger.lane import RULES, START_MS, SerialLane

ALL_WRONG = {"address": "ACME:", "currency": "XXX", "metadata": b"{"}
GOOD_FIELDS = {"address": "acme", "currency": "USD", "metadata": b""}


def reason_of(command: Command, root: str = "acme") -> Reason | None:
    return why_invalid(command, root, RULES)


PEELED: list[tuple[Command, list[tuple[Reason, dict[str, Any]]]]] = [
    (
        build.open_account(**ALL_WRONG, overdraft_limit=-1),
        [
            (Reason.INVALID_OVERDRAFT_LIMIT, {"overdraft_limit": 0}),
            (Reason.INVALID_METADATA, {"metadata": b"{}"}),
        ],
    ),
    (
        build.adjust(**ALL_WRONG, amount_minor=0, explanation=""),
        [
            (Reason.INVALID_AMOUNT, {"amount_minor": 1}),
            (Reason.INVALID_EXPLANATION, {"explanation": "x" * 256}),
            (Reason.INVALID_METADATA, {"metadata": b""}),
        ],
    ),
    (
        build.place_hold(**ALL_WRONG, amount_minor=-1, expires_in_ms=0),
        [
            (Reason.INVALID_AMOUNT, {"amount_minor": AMOUNT_MINOR_MAX}),
            (Reason.INVALID_EXPIRY, {"expires_in_ms": RULES.longest_hold_ms}),
            (Reason.INVALID_METADATA, {"metadata": b'{"a":1}'}),
        ],
    ),
    (
        build.transfer(**ALL_WRONG, amount_minor=2**63, to_address="acme"),
        [
            (Reason.INVALID_AMOUNT, {"amount_minor": 1}),
            (Reason.INVALID_METADATA, {"metadata": b""}),
            (Reason.SAME_ACCOUNT, {"to_address": "beta"}),
        ],
    ),
]


@pytest.mark.rule("F3")
@pytest.mark.parametrize(("command", "layers"), PEELED, ids=lambda value: type(value).__name__)
def test_of_everything_that_is_wrong_the_first_in_order_is_named(
    command: OpenAccount | Adjust | PlaceHold | Transfer, layers: list[tuple[Reason, dict[str, Any]]]
) -> None:
    first_layers: list[tuple[Reason, dict[str, Any]]] = [
        (Reason.KEY_IS_NOT_ROOT, {"address": "acme:"}),
        (Reason.INVALID_ADDRESS, {"address": "acme"}),
        (Reason.UNKNOWN_CURRENCY, {"currency": "USD"}),
    ]
    named = []
    for reason, repair in first_layers + layers:
        named.append(reason)
        assert reason_of(command) is reason
        command = replace(command, **repair)

    assert reason_of(command) is None
    assert named == sorted(named, key=PRECEDENCE.__getitem__)


@pytest.mark.rule("F3")
def test_a_key_that_is_not_the_root_is_refused_under_the_key() -> None:
    lane = build.lane_with()
    command = build.pay()

    answer = lane.send(command, root="beta")

    assert answer == Outcome(Status.REJECTED, Reason.KEY_IS_NOT_ROOT, command.command_id, amount_minor=10)
    assert ("beta", command.command_id) in lane.rows.decisions


@pytest.mark.parametrize(
    ("address", "levels"),
    [
        ("acme", 1),
        ("a" * 64, 1),
        ("a" * 65, 0),
        ("a:b:c:d:e:f:g:h", 8),
        ("a:b:c:d:e:f:g:h:i", 0),
        (":".join(["a" * 63] * 4), 4),  # 255 bytes
        (":".join(["a" * 63] * 3 + ["a" * 64]), 0),
        ("0._-", 1),
        ("", 0),
        (":", 0),
        ("acme:", 0),
        (":acme", 0),
        ("acme::vn", 0),
        ("Acme", 0),
        ("acme vn", 0),
        ("acme\n", 0),
        ("acmé", 0),
        ("acme\x00", 0),
        ("\u0430cme", 0),  # the first letter is Cyrillic
        ("\u0661", 0),  # an Arabic digit
    ],
)
def test_an_address_is_at_most_eight_plain_segments(address: str, levels: int) -> None:
    assert len(chain(address)) == levels


def test_a_transfers_other_address_is_looked_at_before_its_currency() -> None:
    assert reason_of(build.transfer(to_address="acme:", currency="XXX")) is Reason.INVALID_ADDRESS


@pytest.mark.parametrize("amount_minor", [0, -1, 2**63, -(2**63)])
@pytest.mark.parametrize(
    "made", [build.top_up, build.collect, build.adjust, build.pay, build.place_hold, build.refund, build.transfer]
)
def test_an_amount_is_one_minor_unit_to_64_bits_signed(made: Any, amount_minor: int) -> None:
    assert reason_of(made(amount_minor=amount_minor)) is Reason.INVALID_AMOUNT
    assert reason_of(made(amount_minor=1)) is None
    assert reason_of(made(amount_minor=2**63 - 1)) is None


def test_a_capture_may_name_no_amount_and_never_nothing() -> None:
    hold = build.place_hold()

    assert reason_of(build.capture_hold(hold, amount_minor=None)) is None
    for wrong in (0, -1, 2**63):
        assert reason_of(build.capture_hold(hold, amount_minor=wrong)) is Reason.INVALID_AMOUNT
    for right in (1, 2**63 - 1):
        assert reason_of(build.capture_hold(hold, amount_minor=right)) is None


@pytest.mark.parametrize("limit", [-1, 2**63])
def test_a_limit_is_nothing_to_64_bits_signed(limit: int) -> None:
    assert reason_of(build.open_account(overdraft_limit=limit)) is Reason.INVALID_OVERDRAFT_LIMIT
    assert reason_of(build.update_account(overdraft_limit=limit)) is Reason.INVALID_OVERDRAFT_LIMIT
    assert reason_of(build.update_account(overdraft_limit=None)) is None
    for right in (0, 1, 2**63 - 1):
        assert reason_of(build.open_account(overdraft_limit=right)) is None
        assert reason_of(build.update_account(overdraft_limit=right)) is None


@pytest.mark.parametrize(("characters", "reason"), [(0, False), (1, True), (256, True), (257, False)])
def test_an_explanation_has_1_to_256_characters(characters: int, *, reason: bool) -> None:
    found = reason_of(build.adjust(explanation="ế" * characters))

    assert found is (None if reason else Reason.INVALID_EXPLANATION)


def test_a_hold_lasts_a_millisecond_to_what_the_rules_say() -> None:
    assert reason_of(build.place_hold(expires_in_ms=0)) is Reason.INVALID_EXPIRY
    assert reason_of(build.place_hold(expires_in_ms=1)) is None
    assert reason_of(build.place_hold(expires_in_ms=RULES.longest_hold_ms)) is None
    assert reason_of(build.place_hold(expires_in_ms=RULES.longest_hold_ms + 1)) is Reason.INVALID_EXPIRY


@pytest.mark.rule("F2")
def test_currencies_are_those_of_iso_4217_with_their_own_exponents() -> None:
    assert {EXPONENTS[code] for code in EXPONENTS} == {0, 2, 3, 4}
    assert [EXPONENTS[code] for code in ("JPY", "VND", "USD", "EUR", "KWD", "TND", "CLF", "UYW")] == [
        *(0, 0),
        *(2, 2),
        *(3, 3),
        *(4, 4),
    ]
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in EXPONENTS)
    assert not {"XXX", "XTS", "XAU", "XDR"} & set(EXPONENTS)


@pytest.mark.rule("F2")
@pytest.mark.rule("I6")
def test_every_release_of_the_rules_that_this_code_knows_has_its_list_of_currencies() -> None:
    assert set(EXPONENTS_OF) == set(range(1, RULES_RELEASE + 1))
    # A list that shipped is never edited: what it refused, a replay refuses.
    text = " ".join(f"{code}{exponent}" for code, exponent in sorted(EXPONENTS_OF[1].items()))
    assert (len(EXPONENTS_OF[1]), hashlib.sha256(text.encode()).hexdigest()[:16]) == (167, "89929c1d29ec2b05")


@pytest.mark.parametrize("kind", [kind for kind in TYPE_OF if kind is not MovePartner])
def test_every_command_is_decided_by_a_rule_of_its_own(kind: type[Command]) -> None:
    hold = build.place_hold()
    made: dict[type[Command], Command] = {
        type(command): command
        for command in (
            *(build.open_account(), build.update_account(), build.top_up(), build.collect(), build.adjust()),
            *(build.pay(), hold, build.capture_hold(hold), build.void_hold(hold), build.expire_hold(hold)),
            *(build.refund(), build.recall(build.refund()), build.transfer(), build.get_balance()),
            *(build.credit(), build.completed(), build.returned()),
        )
    }
    answer = SerialLane().send(made[kind], now_ms=START_MS)

    if kind in (ExpireHold, RecallOriginal, TransferCompleted, TransferReturn):
        assert answer is None
    else:
        assert isinstance(answer, Outcome)
        assert answer.reason is (Reason.NONE if kind is OpenAccount else Reason.UNKNOWN_ACCOUNT)


@pytest.mark.rule("I6")
@pytest.mark.rule("T1")
@pytest.mark.parametrize("release", range(1, RULES_RELEASE + 1))
def test_a_transfer_between_trees_is_offered_since_release_3(release: int) -> None:
    found = why_invalid(build.transfer(to_address="beta"), "acme", replace(RULES, release=release))

    assert found is (Reason.TRANSFER_BETWEEN_TREES if release < 3 else None)


def test_an_address_that_is_too_long_is_not_remembered() -> None:
    address = "acme:" + "x" * 60_000
    known = sys.getrefcount(address)

    assert chain(address) == ()
    assert sys.getrefcount(address) == known
