"""Random sequences of commands of a few partners, with something odd now and then, and the reference's answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from processors.ids import root_of
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import (
    AccountStatus,
    Adjust,
    CaptureHold,
    Collect,
    Command,
    Direction,
    ExpireHold,
    GetBalance,
    OpenAccount,
    Pay,
    PlaceHold,
    Policy,
    Recalled,
    RecallOriginal,
    Refund,
    ServicesCommand,
    TopUp,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.outcomes import Outcome, Status
from tests.properties.reference import Reference
from tests.properties.reference_fields import METADATA
from tests.properties.reference_rows import Again, StoppedError
from tests.properties.reference_transfers import derived
from tests.unit.ledger.lane import DAY_MS, HOUR_MS, RULES, START_MS, Ids, Sent, expiry_id, recall_id

VERBS = (
    *("pay", "hold", "capture", "refund") * 4,
    *("transfer", "void", "expire", "recall", "topup", "update") * 2,
    *("transfer", "credit", "end") * 2,
    *("open", "collect", "adjust", "balance"),
    *("late mistaken refund",) * 3,
)
ADDRESSES = (*("acme", "acme:vn", "acme:vn:shop") * 4, "acme:us", "acme:us", "beta", "beta:x")
TO_ADDRESSES = (*("acme", "acme:vn", "acme:vn:shop", "acme:us"), *("beta", "beta:x", "gamma", "acme:us") * 2)
AMOUNTS = (*range(1, 12), 40, 100, 2**62)
PAUSES_MS = (*(0,) * 15, 1, 30_000, 60_000, HOUR_MS, 6 * HOUR_MS, 7 * HOUR_MS, 7 * HOUR_MS, 90 * DAY_MS)
TWISTS = (
    *("plain",) * 36,
    *(
        "repeat",
        "reuse",
        "old",
        "ahead",
        "far",
        "key",
        "currency",
        "zero",
        "huge",
        "bad metadata",
        "metadata",
        "address",
    ),
)


@dataclass(frozen=True)
class Step:
    """What chance says about one record; ``ReferenceRun`` makes a command of it."""

    verb: str
    address: str
    amount: int
    pause_ms: int
    twist: str
    pick: int


STEPS = st.builds(
    Step,
    verb=st.sampled_from(VERBS),
    address=st.sampled_from(ADDRESSES),
    amount=st.sampled_from(AMOUNTS),
    pause_ms=st.sampled_from(PAUSES_MS),
    twist=st.sampled_from(TWISTS),
    pick=st.integers(0, 11),
)
SEQUENCES = st.lists(STEPS, min_size=10, max_size=60)

ReferenceAnswer = Outcome | Again | StoppedError | None


@dataclass
class Exchange:
    """A record, and what the reference answered."""

    sent: Sent
    answer: ReferenceAnswer


@dataclass
class ReferenceRun:
    """Turns steps into records, so that they refer to what came before them."""

    reference: Reference = field(default_factory=lambda: Reference(RULES))
    exchanges: list[Exchange] = field(default_factory=list)
    now_ms: int = START_MS
    ids: Ids = field(default_factory=Ids)

    def begin(self) -> None:
        """Open a tree with money in it, so that chance has something to spend."""
        for address in ("acme", "acme:vn", "acme:vn:shop", "acme:us"):
            self._send(Sent(command=self._open(address, 20), now_ms=self.now_ms))
        self._send(Sent(command=self._open("beta", 20), now_ms=self.now_ms))
        in_yen = replace(self._open("acme", 20), currency="JPY")  # so that a refund may name a wrong currency
        self._send(Sent(command=in_yen, now_ms=self.now_ms))
        for address, amount in (("acme", 200), ("acme:vn", 100), ("acme:vn:shop", 60)):
            command_id = self.ids.at(self.now_ms)
            top_up = TopUp(command_id=command_id, address=address, currency="USD", amount_minor=amount)
            self._send(Sent(command=top_up, now_ms=self.now_ms))

    def step(self, step: Step) -> None:
        self.now_ms += step.pause_ms
        if step.twist == "repeat":
            earlier = self.exchanges[-1 - step.pick % len(self.exchanges)].sent
            self._send(replace(earlier, now_ms=self.now_ms))
            return
        command = self._twisted(self._command(step), step)
        root = "other" if step.twist == "key" else ""
        self._send(Sent(command=command, now_ms=self.now_ms, root=root))

    def _send(self, sent: Sent) -> None:
        answer: ReferenceAnswer
        try:
            answer = self.reference.answer(sent.command, sent.key, sent.now_ms)
        except StoppedError as stopped:
            answer = stopped
        self.exchanges.append(Exchange(sent, answer))

    def _open(self, address: str, limit: int) -> OpenAccount:
        policy = Policy.UNCHECKED if limit == 11 else Policy.CHECKED
        return OpenAccount(
            command_id=self.ids.at(self.now_ms), address=address, currency="USD", overdraft_limit=limit, policy=policy
        )

    def _twisted(self, command: Any, step: Step) -> Any:
        """Make one thing odd about a command; those of the service keep their own id."""
        if isinstance(command, ServicesCommand):
            return command
        match step.twist:
            case "reuse":
                return replace(
                    command, command_id=self.exchanges[-1 - step.pick % len(self.exchanges)].sent.command.command_id
                )
            case "old":
                return replace(command, command_id=self.ids.at(self.now_ms - RULES.window_ms - (step.pick & 1)))
            case "ahead":
                return replace(command, command_id=self.ids.at(self.now_ms + RULES.skew_ms + (step.pick & 1)))
            case "far":
                return replace(command, command_id=self.ids.at(self.now_ms + RULES.future_limit_ms + (step.pick & 1)))
            case "currency":
                return replace(command, currency="XXX" if step.pick & 1 else "JPY")
            case "address":
                return replace(command, address=f"{command.address}:V" if step.pick & 1 else f"{command.address}:")
            case "zero" | "huge" if hasattr(command, "amount_minor"):
                return replace(command, amount_minor=0 if step.twist == "zero" else 2**63 - (step.pick & 1))
            case "metadata" | "bad metadata" if hasattr(command, "metadata"):
                good = step.twist == "metadata"
                fitting = [each for each, canonical in METADATA.items() if (canonical is not None) is good]
                return replace(command, metadata=fitting[step.pick % len(fitting)])
            case _:
                return command

    def _command(self, step: Step) -> Command:
        common: Any = {"command_id": self.ids.at(self.now_ms), "address": step.address, "currency": "USD"}
        amounts: Any = {**common, "amount_minor": step.amount}
        made: dict[str, Callable[[], Command]] = {
            "pay": lambda: Pay(**amounts),
            "topup": lambda: TopUp(**amounts),
            "collect": lambda: Collect(**amounts),
            "adjust": lambda: Adjust(
                **amounts, direction=list(Direction)[step.pick % 2], explanation="why" * (step.pick % 4)
            ),
            "transfer": lambda: Transfer(**amounts, to_address=TO_ADDRESSES[step.pick]),
            "hold": lambda: PlaceHold(**amounts, expires_in_ms=(*(8 * HOUR_MS, 60_000) * 5, 1, 0)[step.pick]),
            "balance": lambda: GetBalance(**common),
            "open": lambda: self._open(step.address, step.amount),
            "update": lambda: self._update(step),
            "capture": lambda: self._capture(step),
            "void": lambda: self._void(step),
            "expire": lambda: self._expire(step),
            "refund": lambda: self._refund(step),
            "late mistaken refund": lambda: self._late_mistaken_refund(step),
            "recall": lambda: self._recall(step),
            "credit": lambda: self._credit(step),
            "end": lambda: self._end(step),
        }
        return made[step.verb]()

    def _update(self, step: Step) -> UpdateAccount:
        status = (None, None, AccountStatus.ACTIVE, AccountStatus.ACTIVE, AccountStatus.FROZEN, AccountStatus.CLOSED)
        return UpdateAccount(
            command_id=self.ids.at(self.now_ms),
            address=step.address,
            currency="USD",
            overdraft_limit=(step.amount - 1 if step.amount < 2**62 else -1) if step.pick & 1 else None,
            policy=(None, None, Policy.CHECKED, Policy.UNCHECKED)[step.pick % 4],
            status=status[step.pick % 6],
        )

    def _earlier(self, pick: int, *kinds: type[Command]) -> Command | None:
        """Return an earlier command of some kinds, the latest likelier than the others."""
        found = [exchange.sent.command for exchange in self.exchanges if isinstance(exchange.sent.command, kinds)]
        return found[-1 - pick % min(3, len(found))] if found else None

    def _hold(self, step: Step) -> tuple[bytes, str]:
        hold = self._earlier(step.pick, PlaceHold)
        if hold is None:
            return self.ids.at(self.now_ms), step.address
        return hold.command_id, hold.address if step.pick < 10 else step.address

    def _capture(self, step: Step) -> CaptureHold:
        hold_id, address = self._hold(step)
        return CaptureHold(
            command_id=self.ids.at(self.now_ms),
            address=address,
            currency="USD",
            hold_id=hold_id,
            amount_minor=None if step.amount == 40 else step.amount,
            final=step.pick % 3 == 0,
        )

    def _void(self, step: Step) -> VoidHold:
        hold_id, address = self._hold(step)
        return VoidHold(command_id=self.ids.at(self.now_ms), address=address, currency="USD", hold_id=hold_id)

    def _expire(self, step: Step) -> ExpireHold:
        hold_id, address = self._hold(step)
        command_id = expiry_id(hold_id) if step.pick != 9 else self.ids.at(self.now_ms)
        return ExpireHold(command_id=command_id, address=address, currency="USD", hold_id=hold_id)

    def _refund(self, step: Step) -> Refund:
        any_command: tuple[type[Command], ...] = tuple(TYPE_OF)
        original = self._earlier(step.pick, *(any_command if step.pick == 11 else (Pay, CaptureHold)))
        address = step.address if original is None or step.pick == 10 else original.address
        return Refund(
            command_id=self.ids.at(self.now_ms),
            address=address,
            currency="USD",
            original_id=self.ids.at(self.now_ms) if original is None else original.command_id,
            amount_minor=step.amount,
        )

    def _sent(self, step: Step) -> Transfer | None:
        """Return an earlier transfer, mostly one that is open."""
        waiting = [known.command for key, known in self.reference.decided.items() if key in self.reference.sent]
        sent = waiting[step.pick % len(waiting)] if waiting and step.pick else self._earlier(step.pick, Transfer)
        return sent if isinstance(sent, Transfer) else None

    def _credit(self, step: Step) -> Command:
        sent = self._sent(step)
        if sent is None:
            return self._refund(step)
        command_id = derived("TRANSFER_CREDIT", root_of(sent.address), sent.command_id)
        return TransferCredit(
            command_id=command_id if step.pick != 9 else derived("TRANSFER_CREDIT", "gamma", sent.command_id),
            address=sent.to_address,
            currency=sent.currency,
            from_address=sent.address,
            transfer_id=sent.command_id,
            amount_minor=step.amount,
        )

    def _end(self, step: Step) -> Command:
        sent = self._sent(step)
        if sent is None:
            return self._refund(step)
        name = "TRANSFER_RETURN" if step.amount & 1 else "TRANSFER_COMPLETED"
        id_ = derived(name, "beta" if step.pick == 9 else root_of(sent.address), sent.command_id)
        to_address = sent.to_address if step.pick != 10 else step.address
        common: tuple[Any, ...] = (id_, sent.address, sent.currency, to_address, sent.command_id)
        reason = ("ACCOUNT_CLOSED", "TRANSFER_TOO_OLD", "OF_LATER")[step.pick % 3]
        return TransferReturn(*(*common, reason)) if step.amount & 1 else TransferCompleted(*common)

    def _late_mistaken_refund(self, step: Step) -> Refund:
        """Refund, after its window, an original of which a part was given back: at a wrong address or currency."""
        known = [original_id for _, original_id in self.reference.whole]
        if not known:
            return self._refund(step)
        self.now_ms += RULES.window_ms + 1
        wrong: Any = {"address": "acme", "currency": "JPY"} if step.pick & 1 else {"address": step.address}
        late = replace(self._refund(step), **wrong)
        return replace(late, command_id=self.ids.at(self.now_ms), original_id=known[-1 - step.pick % len(known)])

    def _recall(self, step: Step) -> Command:
        """Answer an earlier refund as the archive would; seldom as it never should."""
        waiting = [known.command for key, known in self.reference.decided.items() if key in self.reference.waiting]
        refund = waiting[step.pick % len(waiting)] if waiting else self._earlier(step.pick, Refund)
        if not isinstance(refund, Refund):
            return self._refund(step)
        known = self.reference.decided.get((root_of(refund.address), refund.original_id))
        recall = RecallOriginal(
            command_id=recall_id(refund.command_id),
            address=refund.address,
            currency=refund.currency,
            refund_id=refund.command_id,
            original_id=refund.original_id,
            recalled=Recalled.NOT_FOUND,
        )
        if known is None or step.pick == 7:
            return recall
        recall = replace(
            recall,
            recalled=Recalled.FOUND,
            original_type=TYPE_OF[type(known.command)].value,
            original_accepted=known.outcome.status is Status.ACCEPTED,
            original_address=known.command.address,
            original_currency=known.command.currency,
            original_amount_minor=known.outcome.amount_minor,
            original_levels=known.outcome.levels,
        )
        if step.pick == 8:
            return replace(recall, original_amount_minor=step.amount, original_levels=step.amount & 7)
        return recall


def run_reference(steps: list[Step]) -> ReferenceRun:
    """Send a whole sequence to the reference, and return the run with the reference's state there."""
    run = ReferenceRun()
    run.begin()
    for step in steps:
        run.step(step)
    return run
