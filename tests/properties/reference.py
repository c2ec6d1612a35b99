"""A ledger written to be obviously right, and slow: it keeps every change ever made and adds them up when asked.

It shares values with the core, and no code: it finds *every* reason that speaks against a command and gives the first
in the order of ``Reason``; the core stops at the first it meets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from processors.ids import derived_id
from processors.ledger.commands import (
    AccountStatus,
    Adjust,
    CaptureHold,
    Collect,
    Command,
    CommandType,
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
    TopUp,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, Status
from processors.ledger.rules import Rules
from tests.properties import reference_transfers as transfers
from tests.properties.reference_fields import mask, rejected, time_of, wrong_fields
from tests.properties.reference_rows import (
    Again,
    Change,
    Key,
    Known,
    Objection,
    OpenHold,
    RootId,
    SentTransfer,
    StoppedError,
    Waiting,
    known_amount,
)


@dataclass
class Reference:
    """The ledger's state as a list of what happened."""

    rules: Rules
    accounts: dict[Key, OpenAccount] = field(default_factory=dict)
    status: dict[Key, AccountStatus] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    holds: dict[RootId, OpenHold] = field(default_factory=dict)
    waiting: dict[RootId, Waiting] = field(default_factory=dict)
    given_back: dict[RootId, list[int]] = field(default_factory=dict)
    whole: dict[RootId, int] = field(default_factory=dict)
    decided: dict[RootId, Known] = field(default_factory=dict)
    sent: dict[RootId, SentTransfer] = field(default_factory=dict)
    credited: set[RootId] = field(default_factory=set)

    # ------------------------------------------------------------------ adding up

    def balance(self, key: Key) -> int:
        return sum(change.balance for change in self.changes if change.key == key)

    def held(self, key: Key) -> int:
        return sum(change.held for change in self.changes if change.key == key)

    def sequence(self, key: Key) -> int:
        return len([change for change in self.changes if change.key == key])

    def open_count(self, key: Key) -> int:
        held = [hold for hold in self.holds.values() if hold.remaining]
        rows: list[OpenHold | Waiting | SentTransfer] = [*held, *self.waiting.values(), *self.sent.values()]
        return len([row for row in rows if row.key[1] == key[1] and key[0] in row.addresses])

    def in_transit(self, key: Key) -> int:
        rows = [row for row in self.sent.values() if row.key[1] == key[1] and key[0] in row.addresses]
        return sum(row.amount for row in rows)

    def system(self) -> dict[tuple[int, Contra, str], int]:
        sums: dict[tuple[int, Contra, str], int] = {}
        for change in self.changes:
            if change.balance:
                name = (len(change.key[0].split(":")), change.contra, change.key[1])
                sums[name] = sums.get(name, 0) - change.balance
        return sums

    def chain(self, address: str, currency: str) -> list[str]:
        """Return the addresses of the chain that have an account, root first."""
        segments = address.split(":")
        prefixes = [":".join(segments[: count + 1]) for count in range(len(segments))]
        return [prefix for prefix in prefixes if (prefix, currency) in self.accounts]

    # ------------------------------------------------------------------ deciding

    def answer(self, command: Command, root: str, now_ms: int) -> Outcome | Again | None:
        if isinstance(command, ExpireHold):
            return self._expire(command, root, now_ms)
        if isinstance(command, RecallOriginal):
            return self._recall(command, root, now_ms)
        if isinstance(command, TransferCredit | TransferCompleted | TransferReturn):
            return transfers.answer(self, command, root, now_ms)
        known = self._identified(command, root, now_ms)
        if known is not None:
            return known
        reasons = [*wrong_fields(command, root, self.rules), *self._early(command, now_ms)]
        outcome: Outcome = rejected(command, reasons)
        addresses: list[str] = []
        if not reasons:
            outcome, addresses = self._decided(command, root, now_ms)
        self.decided[root, command.command_id] = Known(command, outcome, addresses)
        return outcome

    def _identified(self, command: Command, root: str, now_ms: int) -> Outcome | Again | None:
        time_ms = time_of(command.command_id)
        if time_ms is None or time_ms - now_ms > self.rules.future_limit_ms:
            return Outcome(Status.REJECTED, Reason.IMPLAUSIBLE_ID, command.command_id, journalled=False)
        if now_ms - time_ms > self.rules.window_ms:
            return Outcome(Status.UNKNOWN, Reason.COMMAND_TOO_OLD, command.command_id, journalled=False)
        first = self.decided.get((root, command.command_id))
        if first is not None and replace(first.command, command_id=b"") == replace(command, command_id=b""):
            return Again(first.outcome)
        if first is not None:
            return Outcome(Status.REJECTED, Reason.COMMAND_ID_REUSED, command.command_id, journalled=False)
        return None

    def _early(self, command: Command, now_ms: int) -> list[Reason]:
        time_ms = time_of(command.command_id)
        assert time_ms is not None
        return [Reason.COMMAND_FROM_FUTURE] if time_ms - now_ms > self.rules.skew_ms else []

    def _decided(self, command: Any, root: str, now_ms: int) -> tuple[Outcome, list[str]]:
        named = (command.address, command.currency)
        if isinstance(command, OpenAccount):
            return self._open(command, named)
        if named not in self.accounts:
            return self.refused(command, [(Reason.UNKNOWN_ACCOUNT, named)]), []
        if isinstance(command, UpdateAccount):
            return self._update(command, named)
        if isinstance(command, GetBalance):
            return self._show(command, self.chain(*named)), []
        if isinstance(command, CaptureHold | VoidHold):
            return self._end_hold(command, root, now_ms)
        if isinstance(command, Refund):
            return self._refund(command, root, now_ms)
        if isinstance(command, PlaceHold):
            return self._place(command, root, now_ms)
        if isinstance(command, Transfer) and command.to_address.split(":")[0] != root:
            return transfers.send(self, command, root)
        return self._move(command)

    def _open(self, command: OpenAccount, named: Key) -> tuple[Outcome, list[str]]:
        if named in self.accounts:
            return rejected(command, [Reason.ACCOUNT_EXISTS]), []
        self.accounts[named], self.status[named] = command, AccountStatus.ACTIVE
        return self._show(command, [command.address]), []

    def _update(self, command: UpdateAccount, named: Key) -> tuple[Outcome, list[str]]:
        used = self.balance(named) or self.held(named) or self.open_count(named)
        found: list[Objection] = []
        if self.status[named] is AccountStatus.CLOSED:
            found.append((Reason.ACCOUNT_CLOSED, named))
        if command.status is AccountStatus.CLOSED and used:
            found.append((Reason.ACCOUNT_NOT_EMPTY, None))
        if found:
            return self.refused(command, found), []
        wishes = {name: getattr(command, name) for name in ("overdraft_limit", "policy", "metadata")}
        self.accounts[named] = replace(
            self.accounts[named], **{name: wish for name, wish in wishes.items() if wish is not None}
        )
        self.status[named] = command.status or self.status[named]
        return self._show(command, [command.address]), []

    def _show(self, command: Any, addresses: list[str]) -> Outcome:
        named = (command.address, command.currency)
        return Outcome(
            Status.ACCEPTED,
            Reason.NONE,
            command.command_id,
            postings=tuple(self.posting((address, command.currency), Contra.NONE, 0, 0) for address in addresses),
            levels=mask(addresses),
            policy=self.accounts[named].policy,
            account_status=self.status[named],
        )

    def _move(self, command: TopUp | Collect | Adjust | Pay | Transfer) -> tuple[Outcome, list[str]]:
        amount, currency = command.amount_minor, command.currency
        touched = [command.address]
        legs: list[Change] = []
        match command:
            case TopUp():
                legs = [Change((command.address, currency), Contra.FUNDING, amount, 0)]
            case Collect():
                legs = [Change((command.address, currency), Contra.SETTLEMENT, amount, 0)]
            case Adjust():
                change = amount if command.direction is Direction.CREDIT else -amount
                legs = [Change((command.address, currency), Contra.ADJUSTMENT, change, 0)]
            case Pay():
                touched = self.chain(command.address, currency)
                legs = [Change((address, currency), Contra.SETTLEMENT, -amount, 0) for address in touched]
            case Transfer():
                if (command.to_address, currency) not in self.accounts:
                    return self.refused(command, [(Reason.UNKNOWN_ACCOUNT, (command.to_address, currency))]), []
                legs = [
                    Change((command.address, currency), Contra.TRANSIT, -amount, 0),
                    Change((command.to_address, currency), Contra.TRANSIT, amount, 0),
                ]
        found = self.against(legs, funds=isinstance(command, Pay | Transfer))
        if isinstance(command, Adjust) and self.rules.release >= 2:
            found = [each for each in found if each[0] is not Reason.ACCOUNT_FROZEN]
        if found:
            return self.refused(command, found), []
        postings = self.book(legs)
        return Outcome(Status.ACCEPTED, Reason.NONE, command.command_id, amount, postings, mask(touched)), touched

    def _place(self, command: PlaceHold, root: str, now_ms: int) -> tuple[Outcome, list[str]]:
        addresses = self.chain(command.address, command.currency)
        legs = [Change((address, command.currency), Contra.NONE, 0, command.amount_minor) for address in addresses]
        found = self.against(legs, funds=True)
        if found:
            return self.refused(command, found), []
        expires_at_ms = now_ms + command.expires_in_ms
        self.holds[root, command.command_id] = OpenHold(
            (command.address, command.currency), addresses, command.amount_minor, expires_at_ms
        )
        return Outcome(
            Status.ACCEPTED,
            Reason.NONE,
            command.command_id,
            command.amount_minor,
            self.book(legs),
            mask(addresses),
            remaining_minor=command.amount_minor,
            expires_at_ms=expires_at_ms,
        ), addresses

    def _end_hold(self, command: CaptureHold | VoidHold, root: str, now_ms: int) -> tuple[Outcome, list[str]]:
        hold = self.holds.get((root, command.hold_id))
        if hold is None or (not hold.remaining and now_ms - hold.expires_at_ms > self.rules.window_ms):
            return rejected(command, [Reason.UNKNOWN_HOLD]), []
        taken = 0
        if isinstance(command, CaptureHold):
            taken = hold.remaining if command.amount_minor is None else command.amount_minor
        keys = [(address, hold.key[1]) for address in hold.addresses]
        overflowing = [key for key in keys if self.balance(key) - taken < -(2**63)]
        possible = {
            Reason.HOLD_MISMATCH: hold.key != (command.address, command.currency),
            Reason.HOLD_EXPIRED: now_ms >= hold.expires_at_ms,
            Reason.CAPTURE_ABOVE_HOLD: taken > hold.remaining,
        }
        found: list[Objection] = [(reason, None) for reason, applies in possible.items() if applies]
        found += [(Reason.BALANCE_OVERFLOW, key) for key in overflowing]
        if found:
            return self.refused(command, found), []
        released = taken if isinstance(command, CaptureHold) and not command.final else hold.remaining
        amount = taken if isinstance(command, CaptureHold) else released
        outcome = self._let_go(root, command.hold_id, taken, released, amount)
        if not hold.remaining:
            del self.holds[root, command.hold_id]
        return outcome, hold.addresses

    def _let_go(self, root: str, hold_id: bytes, taken: int, released: int, amount: int) -> Outcome:
        hold = self.holds[root, hold_id]
        hold.remaining -= released
        contra = Contra.SETTLEMENT if taken else Contra.NONE
        legs = [Change((address, hold.key[1]), contra, -taken, -released) for address in hold.addresses]
        return Outcome(
            Status.ACCEPTED,
            Reason.NONE,
            hold_id,
            amount,
            self.book(legs),
            mask(hold.addresses),
            related_id=hold_id,
            remaining_minor=hold.remaining,
        )

    def _expire(self, command: ExpireHold, root: str, now_ms: int) -> Outcome | None:
        hold = self.holds.get((root, command.hold_id))
        if hold is None or not hold.remaining:
            return None
        if hold.key != (command.address, command.currency) or now_ms < hold.expires_at_ms:
            return None
        if command.command_id != derived_id("EXPIRE_HOLD", command.hold_id):
            return None
        return self._let_go(root, command.hold_id, 0, hold.remaining, hold.remaining)

    def _refund(self, command: Refund, root: str, now_ms: int) -> tuple[Outcome, list[str]]:
        time_ms = time_of(command.original_id)
        if time_ms is None:
            return rejected(command, [Reason.UNKNOWN_ORIGINAL]), []
        if now_ms - time_ms > self.rules.refund_period_ms:
            return rejected(command, [Reason.ORIGINAL_TOO_OLD]), []
        if now_ms - time_ms > self.rules.window_ms:
            return self._wait(command, root)
        known = self.decided.get((root, command.original_id))
        found, addresses = self._against_refund(command, known, root, command.original_id)
        if found:
            return self.refused(command, found), []
        return self._give_back(command, root, command.original_id, known, Status.ACCEPTED), addresses

    def _wait(self, command: Refund, root: str) -> tuple[Outcome, list[str]]:
        named = (command.address, command.currency)
        if self.status[named] is AccountStatus.CLOSED:
            return self.refused(command, [(Reason.ACCOUNT_CLOSED, named)]), []
        chain = self.chain(command.address, command.currency)
        addresses = [each for each in chain if self.status[each, command.currency] is not AccountStatus.CLOSED]
        self.waiting[root, command.command_id] = Waiting(
            (command.address, command.currency), command.original_id, command.amount_minor, addresses
        )
        return Outcome(
            Status.OPEN,
            Reason.NONE,
            command.command_id,
            command.amount_minor,
            levels=mask(addresses),
            related_id=command.original_id,
        ), []

    def _against_refund(
        self, wish: Refund, known: Known | None, root: str, original_id: bytes
    ) -> tuple[list[Objection], list[str]]:
        if known is None:
            return [(Reason.UNKNOWN_ORIGINAL, None)], []
        paid: Any = known.command
        if not isinstance(paid, Pay | CaptureHold) or known.outcome.status is not Status.ACCEPTED:
            return [(Reason.ORIGINAL_NOT_REFUNDABLE, None)], []
        total = sum(self.given_back.get((root, original_id), [])) + wish.amount_minor
        legs = [Change((each, wish.currency), Contra.SETTLEMENT, wish.amount_minor, 0) for each in known.addresses]
        found: list[Objection] = []
        if (paid.address, paid.currency) != (wish.address, wish.currency):
            return [(Reason.ORIGINAL_MISMATCH, None)], []
        if total > known.outcome.amount_minor:
            found.append((Reason.REFUND_ABOVE_ORIGINAL, None))
        return [*found, *self.against(legs, funds=False)], known.addresses

    def _give_back(self, wish: Refund, root: str, original_id: bytes, known: Known | None, status: Status) -> Outcome:
        assert known is not None
        key = (root, original_id)
        self.whole[key] = known.outcome.amount_minor
        self.given_back.setdefault(key, []).append(wish.amount_minor)
        legs = [Change((each, wish.currency), Contra.SETTLEMENT, wish.amount_minor, 0) for each in known.addresses]
        return Outcome(
            status,
            Reason.NONE,
            wish.command_id,
            wish.amount_minor,
            self.book(legs),
            mask(known.addresses),
            related_id=original_id,
            remaining_minor=self.whole[key] - sum(self.given_back[key]),
        )

    def _recall(self, command: RecallOriginal, root: str, now_ms: int) -> Outcome | None:
        row = self.waiting.get((root, command.refund_id))
        about = (command.address, command.currency), command.original_id
        if row is None or about != (row.key, row.original_id):
            return None
        if command.command_id != derived_id("RECALL_ORIGINAL", command.refund_id):
            return None
        original_key = (root, row.original_id)
        wish = Refund(
            command_id=command.refund_id,
            address=row.key[0],
            currency=row.key[1],
            original_id=row.original_id,
            amount_minor=row.amount,
        )
        known = self._as_recalled(command)
        time_ms = time_of(row.original_id)
        assert time_ms is not None
        if now_ms - time_ms > self.rules.refund_period_ms + self.rules.window_ms:
            found: list[Objection] = [(Reason.ORIGINAL_TOO_OLD, None)]
        else:
            found, addresses = self._against_refund(wish, known, root, row.original_id)
            reasons = {reason for reason, _ in found}
            other = {Reason.UNKNOWN_ORIGINAL, Reason.ORIGINAL_NOT_REFUNDABLE} & reasons
            if original_key in self.whole and (other or self.whole[original_key] != known_amount(known)):
                raise StoppedError
            if not other and Reason.ORIGINAL_MISMATCH not in reasons:
                whole_chain = command.address in addresses and mask(addresses) == command.original_levels
                if not (whole_chain and self._all_there(addresses, row)):
                    raise StoppedError
        del self.waiting[root, command.refund_id]
        if found:
            return self.refused(wish, found)
        return self._give_back(wish, root, row.original_id, known, Status.COMPLETED)

    def _all_there(self, addresses: list[str], row: Waiting) -> bool:
        return all((address, row.key[1]) in self.accounts for address in addresses)

    def _as_recalled(self, command: RecallOriginal) -> Known | None:
        """Return what the archive says, in the form in which commands are remembered here."""
        if command.recalled is Recalled.NOT_FOUND:
            return None
        kind = Pay if command.original_type in (CommandType.PAY, CommandType.CAPTURE_HOLD) else TopUp
        paid = kind(
            command_id=command.original_id,
            address=command.original_address,
            currency=command.original_currency,
            amount_minor=command.original_amount_minor,
        )
        segments = command.original_address.split(":")
        addresses = [
            ":".join(segments[: level + 1]) for level in range(len(segments)) if command.original_levels >> level & 1
        ]
        status = Status.ACCEPTED if command.original_accepted else Status.REJECTED
        return Known(paid, Outcome(status, Reason.NONE, b"", command.original_amount_minor), addresses)

    # ------------------------------------------------------------------ what accounts allow, and what is done to them

    def refused(self, command: Any, found: list[Objection]) -> Outcome:
        """Return the rejection with the first of some reasons, and the first account that has it."""
        reason, key = min(found, key=lambda each: list(Reason).index(each[0]))
        if key is None:
            return rejected(command, [reason])
        account = self.accounts.get(key)
        available = self.balance(key) - self.held(key) + (account.overdraft_limit if account else 0)
        return rejected(command, [reason], key[0], available)

    def against(self, legs: list[Change], *, funds: bool) -> list[Objection]:
        """Return every reason on every level against some changes."""
        found: list[Objection] = []
        for leg in legs:
            account, status = self.accounts.get(leg.key), self.status.get(leg.key)
            if account is None:
                continue
            takes = leg.balance < 0 or leg.held > 0
            balance, held = self.balance(leg.key), self.held(leg.key)
            available = balance - held + account.overdraft_limit
            if status is AccountStatus.CLOSED:
                found.append((Reason.ACCOUNT_CLOSED, leg.key))
            if status is AccountStatus.FROZEN and takes:
                found.append((Reason.ACCOUNT_FROZEN, leg.key))
            if takes and funds and account.policy is Policy.CHECKED and available < leg.held - leg.balance:
                found.append((Reason.INSUFFICIENT_FUNDS, leg.key))
            room = self.in_transit(leg.key) if leg.balance > 0 else 0
            if not -(2**63) <= balance + room + leg.balance < 2**63 or held + leg.held >= 2**63:
                found.append((Reason.BALANCE_OVERFLOW, leg.key))
        return found

    def book(self, legs: list[Change]) -> tuple[Posting, ...]:
        postings = []
        for leg in legs:
            self.changes.append(leg)
            postings.append(self.posting(leg.key, leg.contra, leg.balance, leg.held))
        return tuple(postings)

    def posting(self, key: Key, contra: Contra, balance: int, held: int) -> Posting:
        return Posting(
            key[0],
            contra,
            balance,
            held,
            self.balance(key),
            self.held(key),
            self.accounts[key].overdraft_limit,
            self.sequence(key),
        )
