"""A business day of eight made-up partners: a list of commands, each with the answer it must get. From a seed.

Three levels deep, two currencies with different exponents, every command that partners and operators send; some are
wrong or sent twice, so that the answers to those are seen too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from processors.ids import make_command_id
from processors.ledger.addresses import chain
from processors.ledger.commands import (
    AccountStatus,
    Adjust,
    CaptureHold,
    Collect,
    Command,
    Direction,
    GetBalance,
    OpenAccount,
    Pay,
    PlaceHold,
    Policy,
    Refund,
    TopUp,
    Transfer,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.outcomes import Reason, Status
from processors.ledger.rules import AMOUNT_MINOR_MAX

PARTNERS = ("bamboo", "cedar", "harbor", "kite", "lotus", "monsoon", "pearl", "saffron")
COUNTRIES = ("vn", "th")
SHOPS = ("shop-1", "shop-2")
CURRENCIES = ("USD", "JPY")
UNCHECKED_PARTNER = "monsoon"  # money flows from end users to the bank: recorded, never refused for funds
# Above all payments of the day together, so that only those fail for want of funds that shall.
DEPOSIT_MINOR = 500_000_000
PAYMENT_MINOR_MAX = 20_000
HOLD_MS = 600_000
SHORT_HOLD_MS = 1_000  # expires while the day goes on
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_C = TypeVar("_C", bound=Command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A command and the answer it must get: ``status``, and one of ``reasons``.

    ``duplicate``: the same command was planned before. ``until_final``: the first answer is OPEN, wait for the next.
    """

    command: Command
    status: Status = Status.ACCEPTED
    reasons: tuple[Reason, ...] = (Reason.NONE,)
    duplicate: bool = False
    until_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Three parts, each answered whole before the next begins: the accounts, the business, captures that come too late.

    ``left_holds`` are the ids of holds that nobody captures or voids: they expire on their own.
    """

    opening: list[Planned]
    business: list[Planned]
    evening: list[Planned]
    roots: tuple[str, ...]
    left_holds: frozenset[bytes]

    @property
    def busiest(self) -> str:
        """Return the address where most happens."""
        return Counter(planned.command.address for planned in self.business).most_common(1)[0][0]

    @property
    def moving(self) -> str:
        """Return the partner who moves to another shard in the middle of the day: the one with the busiest address."""
        return chain(self.busiest)[0]

    def __iter__(self) -> Iterator[Planned]:
        yield from self.opening
        yield from self.business
        yield from self.evening


@dataclass(frozen=True, slots=True)
class Place:
    """An account where business is done."""

    address: str
    currency: str

    @property
    def root(self) -> str:
        """Return the partner it belongs to."""
        return chain(self.address)[0]


def plan_day(*, seed: int, actions: int, tag: str, now_ms: int, new_id: Callable[[], bytes]) -> Day:
    """Plan a day.

    Args:
        seed: The same seed gives the same day, but for ids and ``tag``.
        actions: How many things happen between morning and evening; each is one to four commands.
        tag: Ends every root's name, so that each day has partners of its own.
        now_ms: For ids that are too old or from the future.
        new_id: Makes the ids.
    """
    return _Planner(seed, tag, now_ms, new_id).plan(actions)


@dataclass(slots=True)
class _Planner:
    seed: int
    tag: str
    now_ms: int
    new_id: Callable[[], bytes]
    planned: list[Planned] = field(default_factory=list)
    left: list[tuple[Place, bytes]] = field(default_factory=list)
    chance: random.Random = field(init=False)
    places: list[Place] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - a day that repeats, no secret
        self.places = [
            Place(f"{name}-{self.tag}:{country}:{shop}", currency)
            for name in PARTNERS
            for country in COUNTRIES
            for shop in SHOPS
            for currency in CURRENCIES
        ]

    def plan(self, actions: int) -> Day:
        self._open_accounts()
        opening = self._cut()
        kinds = self._kinds()
        for kind in self.chance.choices(list(kinds), list(kinds.values()), k=actions):
            kind(self.chance.choice(self.places))
        self._go_wrong()
        business = self._cut()
        for place, hold_id in self.left:
            self._no(self._made(CaptureHold, place, hold_id=hold_id), Reason.HOLD_EXPIRED)
        return Day(
            opening=opening,
            business=business,
            evening=self._cut(),
            roots=tuple(f"{name}-{self.tag}" for name in PARTNERS),
            left_holds=frozenset(hold_id for _, hold_id in self.left),
        )

    def _cut(self) -> list[Planned]:
        planned, self.planned = self.planned, []
        return planned

    def _made(self, kind: type[_C], place: Place, **fields: Any) -> _C:
        values = {"command_id": self.new_id(), "address": place.address, "currency": place.currency, **fields}
        return kind(**values)

    def _yes(self, kind: type[Command], place: Place, **fields: Any) -> bytes:
        """Plan what must be accepted, and return its id."""
        command = self._made(kind, place, **fields)
        self.planned.append(Planned(command=command))
        return command.command_id

    def _no(self, command: Command, *reasons: Reason, status: Status = Status.REJECTED) -> None:
        self.planned.append(Planned(command=command, status=status, reasons=reasons))

    def _amount(self) -> int:
        return self.chance.randint(100, PAYMENT_MINOR_MAX)

    # ------------------------------------------------------------------ morning and business

    def _open_accounts(self) -> None:
        levels = [Place(level, place.currency) for place in self.places for level in chain(place.address)]
        for place in dict.fromkeys(levels):
            policy = Policy.UNCHECKED if place.address.startswith(UNCHECKED_PARTNER) else Policy.CHECKED
            self._yes(OpenAccount, place, policy=policy, metadata=b'{"opened_for":"a sample day"}')
            self._yes(TopUp, place, amount_minor=DEPOSIT_MINOR)

    def _kinds(self) -> dict[Callable[[Place], Any], int]:
        """Return what happens on a day, and how often each."""
        return {
            self._pay: 60,
            self._pay_twice: 4,
            self._pay_and_refund: 6,
            self._hold_and_capture: 8,
            self._hold_and_capture_in_parts: 4,
            self._hold_and_void: 4,
            self._hold_and_leave: 2,
            self._transfer: 4,
            lambda place: self._yes(Collect, place, amount_minor=self._amount()): 4,
            lambda place: self._yes(TopUp, place, amount_minor=self._amount()): 3,
            lambda place: self._yes(GetBalance, place): 3,
            self._adjust: 1,
        }

    def _pay(self, place: Place) -> None:
        self._yes(Pay, place, amount_minor=self._amount(), metadata=b'{"order":%d}' % self.chance.randrange(10**6))

    def _pay_twice(self, place: Place) -> None:
        command = self._made(Pay, place, amount_minor=self._amount())
        self.planned += [Planned(command=command), Planned(command=command, duplicate=True)]

    def _pay_and_refund(self, place: Place) -> None:
        amount = self._amount()
        original_id = self._yes(Pay, place, amount_minor=amount)
        first = self.chance.randint(1, amount - 1)
        for part in (first, amount - first):
            self._yes(Refund, place, original_id=original_id, amount_minor=part)

    def _hold(self, place: Place, amount: int, expires_in_ms: int = HOLD_MS) -> bytes:
        return self._yes(PlaceHold, place, amount_minor=amount, expires_in_ms=expires_in_ms)

    def _hold_and_capture(self, place: Place) -> None:
        amount = self._amount()
        self._yes(CaptureHold, place, hold_id=self._hold(place, amount), amount_minor=self.chance.randint(1, amount))

    def _hold_and_capture_in_parts(self, place: Place) -> None:
        amount = self._amount()
        hold_id = self._hold(place, amount)
        for part in (amount // 4, amount // 2):
            self._yes(CaptureHold, place, hold_id=hold_id, amount_minor=part, final=False)
        self._yes(CaptureHold, place, hold_id=hold_id)

    def _hold_and_void(self, place: Place) -> None:
        self._yes(VoidHold, place, hold_id=self._hold(place, self._amount()))

    def _hold_and_leave(self, place: Place) -> None:
        self.left.append((place, self._hold(place, self._amount(), SHORT_HOLD_MS)))

    def _transfer(self, place: Place) -> None:
        self._yes(Transfer, place, to_address=self._sibling(place).address, amount_minor=self._amount())

    def _sibling(self, place: Place) -> Place:
        return next(
            each
            for each in self.places
            if each.root == place.root and each.currency == place.currency and each.address != place.address
        )

    def _adjust(self, place: Place) -> None:
        direction = self.chance.choice(list(Direction))
        self._yes(Adjust, place, amount_minor=self._amount(), direction=direction, explanation="counted again by hand")

    # ------------------------------------------------------------------ what goes wrong

    def _go_wrong(self) -> None:
        """Plan every mistake a few times, among partners that are checked."""
        checked = [place for place in self.places if not place.address.startswith(UNCHECKED_PARTNER)]
        for place in self.chance.sample(checked, k=4):
            self._wrong_ids(place)
            self._wrong_fields(place)
            self._wrong_accounts(place)
            self._wrong_holds(place)
            self._wrong_refunds(place)
            self._transfers_between_trees(place)

    def _wrong_ids(self, place: Place) -> None:
        paid = self._made(Pay, place, amount_minor=self._amount())
        self.planned.append(Planned(command=paid))
        self._no(
            self._made(Pay, place, command_id=paid.command_id, amount_minor=paid.amount_minor + 1),
            Reason.COMMAND_ID_REUSED,
        )
        self._no(self._made(Pay, place, command_id=bytes(16), amount_minor=1), Reason.IMPLAUSIBLE_ID)
        future = self._made(Pay, place, command_id=self._id_at(self.now_ms + 2 * HOUR_MS), amount_minor=1)
        self._no(future, Reason.COMMAND_FROM_FUTURE)
        old = self._made(Pay, place, command_id=self._id_at(self.now_ms - DAY_MS), amount_minor=1)
        self._no(old, Reason.COMMAND_TOO_OLD, status=Status.UNKNOWN)

    def _id_at(self, time_ms: int) -> bytes:
        # From a real id's random bits: two days on the same servers must not share ids.
        return make_command_id(time_ms, self.new_id()[6:])

    def _wrong_fields(self, place: Place) -> None:
        pay, hold = {"amount_minor": 100}, {"amount_minor": 100, "expires_in_ms": HOLD_MS}
        self._no(self._made(Pay, place, **pay, currency="XXX"), Reason.UNKNOWN_CURRENCY)
        self._no(self._made(Pay, place, amount_minor=0), Reason.INVALID_AMOUNT)
        self._no(self._made(Pay, place, **pay, metadata=b'{"half":0.5}'), Reason.INVALID_METADATA)
        self._no(self._made(PlaceHold, place, **{**hold, "expires_in_ms": 365 * DAY_MS}), Reason.INVALID_EXPIRY)
        self._no(self._made(UpdateAccount, place, overdraft_limit=-1), Reason.INVALID_OVERDRAFT_LIMIT)
        adjust = self._made(Adjust, place, **pay, direction=Direction.DEBIT, explanation="")
        self._no(adjust, Reason.INVALID_EXPLANATION)
        self._no(self._made(Transfer, place, **pay, to_address=place.address), Reason.SAME_ACCOUNT)

    def _transfers_between_trees(self, place: Place) -> None:
        """Send money to another partner, who has it in the end; and to nobody, from whom it comes back."""
        there = [each for each in self.places if each.root != place.root and each.currency == place.currency]
        for other in there[:1]:
            self._sent(self._made(Transfer, place, amount_minor=1, to_address=other.address), Status.COMPLETED)
        other = next(each for each in self.places if each.root != place.root)
        lost = self._made(Transfer, place, amount_minor=1, to_address=f"{other.root}:nowhere")
        self._sent(lost, Status.RETURNED, Reason.UNKNOWN_ACCOUNT)

    def _sent(self, command: Transfer, status: Status, reason: Reason = Reason.NONE) -> None:
        self.planned.append(Planned(command=command, status=status, reasons=(reason,), until_final=True))

    def _wrong_accounts(self, place: Place) -> None:
        self._no(self._made(OpenAccount, place), Reason.ACCOUNT_EXISTS)
        self._no(self._made(Pay, Place(f"{place.root}:nowhere", "USD"), amount_minor=1), Reason.UNKNOWN_ACCOUNT)
        self._no(self._made(Pay, place, amount_minor=10 * DEPOSIT_MINOR), Reason.INSUFFICIENT_FUNDS)
        self._no(self._made(TopUp, place, amount_minor=AMOUNT_MINOR_MAX), Reason.BALANCE_OVERFLOW)
        self._no(self._made(UpdateAccount, place, status=AccountStatus.CLOSED), Reason.ACCOUNT_NOT_EMPTY)
        short_lived = Place(f"{place.root}:pop-up-{next(self._numbers)}", place.currency)
        self._yes(OpenAccount, short_lived)
        self._yes(UpdateAccount, short_lived, status=AccountStatus.FROZEN)
        self._no(self._made(Pay, short_lived, amount_minor=1), Reason.ACCOUNT_FROZEN)
        self._yes(UpdateAccount, short_lived, status=AccountStatus.CLOSED)
        self._no(self._made(Pay, short_lived, amount_minor=1), Reason.ACCOUNT_CLOSED)

    def _wrong_holds(self, place: Place) -> None:
        self._no(self._made(VoidHold, place, hold_id=self.new_id()), Reason.UNKNOWN_HOLD)
        hold_id = self._hold(place, 1_000)
        self._no(self._made(VoidHold, self._sibling(place), hold_id=hold_id), Reason.HOLD_MISMATCH)
        self._no(self._made(CaptureHold, place, hold_id=hold_id, amount_minor=1_001), Reason.CAPTURE_ABOVE_HOLD)
        self._yes(VoidHold, place, hold_id=hold_id)

    def _wrong_refunds(self, place: Place) -> None:
        paid, topped_up = self._yes(Pay, place, amount_minor=500), self._yes(TopUp, place, amount_minor=500)
        self._no(self._made(Refund, place, original_id=paid, amount_minor=501), Reason.REFUND_ABOVE_ORIGINAL)
        self._no(self._made(Refund, place, original_id=topped_up, amount_minor=1), Reason.ORIGINAL_NOT_REFUNDABLE)
        elsewhere = self._made(Refund, self._sibling(place), original_id=paid, amount_minor=1)
        self._no(elsewhere, Reason.ORIGINAL_MISMATCH)
        self._no(self._made(Refund, place, original_id=self.new_id(), amount_minor=1), Reason.UNKNOWN_ORIGINAL)
        ancient = self._id_at(self.now_ms - 200 * DAY_MS)
        self._no(self._made(Refund, place, original_id=ancient, amount_minor=1), Reason.ORIGINAL_TOO_OLD)
        # Older than the window: only the archive can tell, so the recaller answers this one.
        archived = self._made(Refund, place, original_id=self._id_at(self.now_ms - DAY_MS), amount_minor=1)
        self.planned.append(
            Planned(command=archived, status=Status.REJECTED, reasons=(Reason.UNKNOWN_ORIGINAL,), until_final=True)
        )
