"""The language of the golden scenarios: what a partner or an operator asks, and what must come back.

A line is a wish, an arrow, and what must come of it; ``#`` begins a remark. Amounts are written as people write them,
in the currency of the last ``account`` or ``open`` line unless another follows. Transactions have names: ``P1``.

    release 2                                         # of the rules; the newest where nothing is said
    account acme USD balance 100.00 limit 20.00       # an account as it is when the story begins
    pay P1 acme 30.00          -> accepted   balance 70.00  available 90.00
    pay acme 90.01             -> INSUFFICIENT_FUNDS at acme (available 90.00, missing 0.01)
    again pay P1 acme 30.00    -> accepted (same answer)  balance 70.00
    wait 60s
    see acme  balance 70.00  sequence 2

Before a wish: ``again`` (the same record once more), ``as P1`` (under that id), ``from 10m ahead`` or ``from 7h ago``
(the id's time), ``garbled`` (an id that is no UUIDv7), ``keyed other`` (under another root's key). After every wish the
trial balance must be zero, held amounts the sums of open holds, and after a refusal everything as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace

from processors.ledger.commands import AccountStatus, Command, Policy, RecallOriginal
from processors.ledger.decide import Duplicate, Verdict
from processors.ledger.outcomes import Contra, Outcome, Reason, Status
from processors.ledger.rows import Account
from tests.golden.wishes import Wishes
from tests.golden.words import CURRENCY, Words, shown, span_ms
from tests.unit.ledger.lane import RULES, SerialLane

_ANSWERS = {
    "accepted": Status.ACCEPTED,
    "open": Status.OPEN,
    "completed": Status.COMPLETED,
    "returned": Status.RETURNED,
    "unknown": Status.UNKNOWN,
}


class Story:
    """A scenario being told: one lane, and what was sent to it."""

    def __init__(self) -> None:
        self._lane = SerialLane()
        self._wishes = Wishes()
        self._sent: dict[str, tuple[Command, str]] = {}

    def tell(self, line: str) -> None:
        """Do what a line says, and check what it says must come of it."""
        wish, _, expected = line.partition("->")
        words = Words(wish)
        if words.take("release"):
            self._lane = SerialLane(replace(RULES, release=int(words.next())))
        elif words.take("account"):
            self._have_account(words)
        elif words.take("wait"):
            self._wishes.now_ms += span_ms(words.next())
        elif words.take("see"):
            self._see(words.next(), words)
        else:
            self._ask(wish.split(), words, Words(expected))

    def _ask(self, wish: list[str], words: Words, expected: Words) -> None:
        if words.take("again"):
            command, root = self._sent[" ".join(wish[1:])]
        else:
            command, root = self._sent[" ".join(wish)] = self._wishes.read(words)
        before = deepcopy((self._lane.rows, self._lane.system))
        answer = self._lane.send(command, now_ms=self._wishes.now_ms, root=root)
        self._check_answer(answer, expected, command.currency)
        refused = isinstance(answer, Outcome) and answer.status in (Status.REJECTED, Status.UNKNOWN)
        if refused and not isinstance(command, RecallOriginal):
            _check_unchanged(before, self._lane)
        _check_sums(self._lane)
        if expected.left:
            self._check_account(command.address, command.currency, expected, answer)

    def _have_account(self, words: Words) -> None:
        address = words.next()
        self._wishes.currency = words.next()
        account = Account(address, self._wishes.currency)
        if words.take("balance"):
            account.balance = self._wishes.amount_minor(words)
            level = address.count(":") + 1
            key = (level, Contra.FUNDING, self._wishes.currency)
            self._lane.system[key] = self._lane.system.get(key, 0) - account.balance
        limit, policy, status = self._wishes.options(words)
        account.overdraft_limit = limit or 0
        account.policy = policy or Policy.CHECKED
        account.status = status or AccountStatus.ACTIVE
        assert not words.left, f"nobody reads {words.rest()!r}"
        self._lane.rows.accounts[address, self._wishes.currency] = account
        self._lane.forget()

    def _see(self, address: str, words: Words) -> None:
        if not address.startswith("@"):
            self._check_account(address, words.matching(CURRENCY) or self._wishes.currency, words, None)
            return
        assert words.take("level")
        level = int(words.next())
        seen = self._lane.system.get((level, Contra[address[1:].upper()], self._wishes.currency), 0)
        assert shown(seen, self._wishes.currency) == words.next()

    def _check_answer(self, answer: Verdict, expected: Words, currency: str) -> None:
        word = expected.next()
        if answer is None:
            assert word == "silence"
            return
        if isinstance(answer, Duplicate):
            wanted = _ANSWERS.get(word, Status.REJECTED)
            assert answer.first.status is wanted, f"the first answer was {answer.first.status}"
            if wanted is Status.REJECTED:
                assert f"<Reason.{word}:" in answer.first.result.decode()
            assert (expected.take("(same"), expected.take("answer)")) == ("(same", "answer)"), "it is the same answer"
            return
        if word in {"unknown", "returned"}:
            wanted, reason = _ANSWERS[word], Reason(expected.next())
        elif word in _ANSWERS:
            wanted, reason = _ANSWERS[word], Reason.NONE
        else:
            wanted, reason = Status.REJECTED, Reason(word)
        said = f"it was {answer.status} {answer.reason}"
        assert (answer.status, answer.reason) == (wanted, reason), said
        if expected.take("at"):
            _check_refused_by(answer, expected, currency)

    def _check_account(self, address: str, currency: str, expected: Words, answer: Verdict) -> None:
        account = self._lane.rows.accounts[address, currency]
        while expected.left:
            fact = expected.next()
            if fact == "left":
                assert isinstance(answer, Outcome)
                assert shown(answer.remaining_minor, currency) == expected.next()
            else:
                assert str(_FACTS[fact](account)) == expected.next(), f"{fact} is {_FACTS[fact](account)}"


def _check_refused_by(answer: Outcome, expected: Words, currency: str) -> None:
    """Check which account said no, what was available there, and what was missing."""
    cause = answer.refused_by
    assert cause is not None, "no account is named as the cause"
    address = expected.next()
    assert cause.address == address, f"it was {cause.address}"
    assert expected.next() == "(available"
    told = [expected.next()]
    while not told[-1].endswith(")"):
        told.append(expected.next())
    available, missing = shown(cause.available_minor, currency), shown(cause.missing_minor, currency)
    words = f"{available}, missing {missing})" if cause.missing_minor else f"{available})"
    assert " ".join(told) == words, f"available was {words}"


_FACTS: dict[str, Callable[[Account], str | int]] = {
    "balance": lambda account: shown(account.balance, account.currency),
    "held": lambda account: shown(account.held, account.currency),
    "available": lambda account: shown(account.available, account.currency),
    "limit": lambda account: shown(account.overdraft_limit, account.currency),
    "sequence": lambda account: account.sequence,
    "open": lambda account: account.open_count,
    "status": lambda account: account.status.lower(),
    "policy": lambda account: account.policy.lower(),
    "metadata": lambda account: account.metadata.decode(),
}


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield a scenario's lines with their numbers, remarks and empty ones left out."""
    for number, line in enumerate(text.splitlines(), 1):
        told = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if told:
            yield number, told


def _check_unchanged(before: object, lane: SerialLane) -> None:
    rows, system = deepcopy((lane.rows, lane.system))
    rows.decisions = before[0].decisions  # type: ignore[index]
    assert (rows, system) == before, "a refusal leaves everything as it was"


def _check_sums(lane: SerialLane) -> None:
    """The trial balance is zero per level and currency, and what is held is the sum of open holds."""
    sums: dict[tuple[int, str], int] = {}
    held: dict[tuple[str, str], int] = {}
    for (level, _, currency), balance in lane.system.items():
        sums[level, currency] = sums.get((level, currency), 0) + balance
    for account in lane.rows.accounts.values():
        place = (account.address.count(":") + 1, account.currency)
        sums[place] = sums.get(place, 0) + account.balance
        held[account.address, account.currency] = -account.held
    for hold in lane.rows.holds.values():
        prefixes = hold.address.split(":")
        for level in range(len(prefixes)):
            if hold.levels >> level & 1:
                held[":".join(prefixes[: level + 1]), hold.currency] += hold.remaining_minor
    assert not any(sums.values()), f"the trial balance is not zero: {sums}"
    assert not any(held.values()), f"held is not the sum of open holds: {held}"
