"""What a golden scenario's lines ask for, as commands."""

from __future__ import annotations

from collections.abc import Callable

from processors.ids import root_of
from processors.ledger.commands import (
    AccountStatus,
    Adjust,
    CaptureHold,
    Collect,
    Command,
    Direction,
    ExpireHold,
    GetBalance,
    MovePartner,
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
from processors.ledger.transfers import credit_id, end_id
from processors.wire.markers import marker_id
from tests.golden.words import AMOUNT, CURRENCY, NAME, Words, minor, span_ms
from tests.unit.ledger.lane import START_MS, Ids, expiry_id, recall_id

_GARBLED_ID = bytes(16)


class Wishes:
    """Reads commands, and remembers the time, the currency, and the names that were given."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.currency = "USD"
        self._ids = Ids()
        self._named: dict[str, bytes] = {}
        self._addresses: dict[str, str] = {}  # of what was named: holds, refunds
        self._originals: dict[str, bytes] = {}  # of refunds
        self._transfers: dict[str, Transfer] = {}

    def read(self, words: Words) -> tuple[Command, str]:
        """Return a line's command and, where it says so, the key it is sent under."""
        command_id, root = self._prefix(words)
        command = _VERBS[words.next()](self, words, command_id)
        assert not words.left, f"nobody reads {words.rest()!r}"
        return command, root

    def _prefix(self, words: Words) -> tuple[bytes, str]:
        """Read what stands before a wish: the id it is sent under, and the key."""
        command_id, root = b"", ""
        while True:
            if words.take("as"):
                command_id = self._named[words.next()]
            elif words.take("from"):
                distance_ms = span_ms(words.next())
                command_id = self._ids.at(self.now_ms + (distance_ms if words.next() == "ahead" else -distance_ms))
            elif words.take("garbled"):
                command_id = _GARBLED_ID
            elif words.take("keyed"):
                root = words.next()
            else:
                return command_id or self._ids.at(self.now_ms), root

    def _name(self, words: Words, command_id: bytes) -> str:
        name = words.matching(NAME)
        if name:
            self._named[name] = command_id
        return name

    def amount_minor(self, words: Words) -> int:
        digits = words.matching(AMOUNT)
        assert digits, f"an amount is missing before {words.rest()!r}"
        self.currency = words.matching(CURRENCY) or self.currency
        return minor(digits, self.currency)

    def _metadata(self, words: Words) -> bytes:
        return words.metadata.strip().encode()

    def _amounts_of(self, words: Words, command_id: bytes) -> dict[str, bytes | str | int]:
        """Read what most commands have: a name perhaps, an address, an amount."""
        self._name(words, command_id)
        address = words.next()
        amount_minor = self.amount_minor(words)
        return {
            "command_id": command_id,
            "address": address,
            "currency": self.currency,
            "amount_minor": amount_minor,
            "metadata": self._metadata(words),
        }

    def open(self, words: Words, command_id: bytes) -> Command:
        address = words.next()
        self.currency = words.next()
        options = self.options(words)
        return OpenAccount(
            command_id=command_id,
            address=address,
            currency=self.currency,
            overdraft_limit=options[0] or 0,
            policy=options[1] or Policy.CHECKED,
            metadata=self._metadata(words),
        )

    def update(self, words: Words, command_id: bytes) -> Command:
        address = words.next()
        limit, policy, status = self.options(words)
        return UpdateAccount(
            command_id=command_id,
            address=address,
            currency=self.currency,
            overdraft_limit=limit,
            policy=policy,
            status=status,
            metadata=self._metadata(words) if words.metadata else None,
        )

    def options(self, words: Words) -> tuple[int | None, Policy | None, AccountStatus | None]:
        limit, policy, status = None, None, None
        while words.left:
            if words.take("limit"):
                limit = self.amount_minor(words)
            elif word := words.take("checked", "unchecked"):
                policy = Policy[word.upper()]
            elif word := words.take("active", "frozen", "closed"):
                status = AccountStatus[word.upper()]
            else:
                break
        return limit, policy, status

    def topup(self, words: Words, command_id: bytes) -> Command:
        return TopUp(**self._amounts_of(words, command_id))  # type: ignore[arg-type]

    def collect(self, words: Words, command_id: bytes) -> Command:
        return Collect(**self._amounts_of(words, command_id))  # type: ignore[arg-type]

    def pay(self, words: Words, command_id: bytes) -> Command:
        return Pay(**self._amounts_of(words, command_id))  # type: ignore[arg-type]

    def adjust(self, words: Words, command_id: bytes) -> Command:
        direction = Direction[words.take("credit", "debit").upper()]
        common = self._amounts_of(words, command_id)
        words.take("because")
        return Adjust(**common, direction=direction, explanation=words.rest())  # type: ignore[arg-type]

    def transfer(self, words: Words, command_id: bytes) -> Command:
        name = self._name(words, command_id)
        address = words.next()
        assert words.take("to")
        to_address = words.next()
        self._transfers[name] = sent = Transfer(
            command_id=command_id,
            address=address,
            to_address=to_address,
            amount_minor=self.amount_minor(words),
            currency=self.currency,
            metadata=self._metadata(words),
        )
        return sent

    def credit(self, words: Words, _: bytes) -> Command:
        sent = self._transfers[words.next()]
        return TransferCredit(
            command_id=credit_id(root_of(sent.address), sent.command_id),
            address=sent.to_address,
            currency=sent.currency,
            from_address=sent.address,
            transfer_id=sent.command_id,
            amount_minor=sent.amount_minor,
            metadata=sent.metadata,
        )

    def completed(self, words: Words, _: bytes) -> Command:
        sent = self._transfers[words.next()]
        id_ = end_id("TRANSFER_COMPLETED", root_of(sent.address), sent.command_id)
        return TransferCompleted(id_, sent.address, sent.currency, sent.to_address, sent.command_id)

    def returned(self, words: Words, _: bytes) -> Command:
        """Read ``return T1 because ACCOUNT_CLOSED``."""
        sent = self._transfers[words.next()]
        assert words.take("because")
        id_ = end_id("TRANSFER_RETURN", root_of(sent.address), sent.command_id)
        return TransferReturn(id_, sent.address, sent.currency, sent.to_address, sent.command_id, words.next())

    def move(self, words: Words, _: bytes) -> Command:
        """Read ``move acme from s1 to s2 generation 3``: a marker as the ledger meets it, after the router's no."""
        key = words.next()
        assert words.take("from")
        source = words.next()
        assert words.take("to")
        target = words.next()
        assert words.take("generation")
        generation = int(words.next())
        return MovePartner(marker_id(key, generation, source, target), key, generation, source, target)

    def hold(self, words: Words, command_id: bytes) -> Command:
        name = self._name(words, command_id)
        address = words.next()
        self._addresses[name] = address
        amount_minor = self.amount_minor(words)
        assert words.take("for")
        return PlaceHold(
            command_id=command_id,
            address=address,
            currency=self.currency,
            amount_minor=amount_minor,
            expires_in_ms=span_ms(words.next()),
            metadata=self._metadata(words),
        )

    def _hold_named(self, words: Words) -> tuple[bytes, str]:
        """Read a hold's name and, where it is not the hold's own, ``at`` which address it is looked for."""
        name = words.next()
        address = words.next() if words.take("at") else self._addresses.get(name, "")
        return self._named.get(name, self._ids.at(self.now_ms)), address

    def capture(self, words: Words, command_id: bytes) -> Command:
        hold_id, address = self._hold_named(words)
        amount_minor = None if words.take("everything") else self.amount_minor(words)
        final = not words.take("keeping")
        if words.take("named"):
            name = words.next()
            self._named[name] = command_id
            self._addresses[name] = address
        return CaptureHold(
            command_id=command_id,
            address=address,
            currency=self.currency,
            hold_id=hold_id,
            amount_minor=amount_minor,
            final=final,
        )

    def void(self, words: Words, command_id: bytes) -> Command:
        hold_id, address = self._hold_named(words)
        return VoidHold(command_id=command_id, address=address, currency=self.currency, hold_id=hold_id)

    def expire(self, words: Words, _: bytes) -> Command:
        hold_id, address = self._hold_named(words)
        return ExpireHold(command_id=expiry_id(hold_id), address=address, currency=self.currency, hold_id=hold_id)

    def refund(self, words: Words, command_id: bytes) -> Command:
        name = self._name(words, command_id)
        assert words.take("of")
        original = words.next()
        original_id = _GARBLED_ID if original == "garbled" else self._original_id(original, words)
        self._originals[name] = original_id
        assert words.take("at")
        self._addresses[name] = address = words.next()
        amount_minor = self.amount_minor(words)
        return Refund(
            command_id=command_id,
            address=address,
            currency=self.currency,
            original_id=original_id,
            amount_minor=amount_minor,
            metadata=self._metadata(words),
        )

    def _original_id(self, name: str, words: Words) -> bytes:
        """Read ``P1``; or ``O1 from 7h ago`` for a payment that this story never saw."""
        if words.take("from"):
            self._named.setdefault(name, self._ids.at(self.now_ms - span_ms(words.next())))
            assert words.take("ago")
        return self._named.setdefault(name, self._ids.at(self.now_ms))

    def recall(self, words: Words, _: bytes) -> Command:
        """Read ``recall R1 found 100.00``, then ``as TOP_UP``, ``refused``, ``at other`` where that is what it was."""
        name = words.next()
        found = words.next() == "found"
        amount_minor = self.amount_minor(words) if found else 0
        address = self._addresses[name]
        original_address, original_type, accepted = address, "PAY", True
        while words.left:
            if words.take("as"):
                original_type = words.next()
            elif words.take("refused"):
                accepted = False
            else:
                assert words.take("at")
                original_address = words.next()
        return RecallOriginal(
            command_id=recall_id(self._named[name]),
            address=address,
            currency=self.currency,
            refund_id=self._named[name],
            original_id=self._originals[name],
            recalled=Recalled.FOUND if found else Recalled.NOT_FOUND,
            original_type=original_type,
            original_accepted=accepted,
            original_address=original_address,
            original_currency=self.currency,
            original_amount_minor=amount_minor,
            original_levels=(1 << (original_address.count(":") + 1)) - 1,
        )

    def balance(self, words: Words, command_id: bytes) -> Command:
        return GetBalance(command_id=command_id, address=words.next(), currency=self.currency)


_VERBS: dict[str, Callable[[Wishes, Words, bytes], Command]] = {
    "open": Wishes.open,
    "update": Wishes.update,
    "topup": Wishes.topup,
    "collect": Wishes.collect,
    "adjust": Wishes.adjust,
    "pay": Wishes.pay,
    "transfer": Wishes.transfer,
    "credit": Wishes.credit,
    "completed": Wishes.completed,
    "return": Wishes.returned,
    "move": Wishes.move,
    "hold": Wishes.hold,
    "capture": Wishes.capture,
    "void": Wishes.void,
    "expire": Wishes.expire,
    "refund": Wishes.refund,
    "recall": Wishes.recall,
    "balance": Wishes.balance,
}
