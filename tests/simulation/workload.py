"""The workload: random commands of every type from a few partners, repeated and referred to, and what is none.

``_MIX`` says how often each kind of operation comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from processors.ids import derived_id, make_command_id, root_of
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
    TopUp,
    Transfer,
    UpdateAccount,
    VoidHold,
)
from processors.wire.commands import encode_command
from processors.wire.records import Headers
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign

HOUR_MS = 3_600_000
# By turns of either parity, so that of two partitions each has its own: lanes, ingress and results partitions alike.
ROOTS = ("acme", "zeta", "beta", "u-1")
CURRENCIES = ("USD", "JPY")
KEYRING = KeyRing(signing="k1", keys={"k1": bytes(range(32))})
FORGERS_KEYRING = KeyRing(signing="k1", keys={"k1": bytes(32)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the workload, as a gateway writes it: key, payload and headers; the partition is the key's."""

    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


class Workload:
    """Makes operations; remembers what was sent, to repeat it and to refer to it."""

    def __init__(self, rng: Random, roots: int, transfers_share: float = 0.0) -> None:
        self._rng = rng
        self._transfers_share = transfers_share
        self._addresses = [address for root in ROOTS[:roots] for address in (root, f"{root}:vn", f"{root}:vn:shop")]
        self._sent: list[Command] = []
        self._operations: list[Operation] = []
        self._holds: list[Command] = []
        self._originals: list[Command] = []
        self._now_ms = 0
        pairs = [(address, currency) for address in self._addresses for currency in CURRENCIES]
        self._opening = sorted(rng.sample(pairs, min(len(pairs), rng.randrange(3, 9))))
        self._funding: list[tuple[str, str]] = []
        self._opened: list[tuple[str, str]] = []

    def next_operation(self, now_ms: int) -> Operation:
        """Return the next operation, as of the gateway's time."""
        self._now_ms = now_ms
        if self._funding:
            address, currency = self._funding.pop()
            command_id = self._id(now_ms)
            return self._operation(TopUp(command_id=command_id, address=address, currency=currency, amount_minor=1_500))
        if self._opening:
            return self._open_next()
        if self._transfers_share and self._rng.random() < self._transfers_share:
            return self._transfer_between_trees()
        total, choose = self._rng.randrange(_TOTAL_WEIGHT), None
        for weight, choose in _MIX:  # noqa: B007 - the one that the number falls on
            total -= weight
            if total < 0:
                break
        assert choose is not None
        return choose(self)

    # ------------------------------------------------------------------ commands

    def _operation(self, command: Command) -> Operation:
        self._sent.append(command)
        if isinstance(command, PlaceHold):
            self._holds.append(command)
        elif isinstance(command, Pay | CaptureHold):
            self._originals.append(command)
        key = root_of(command.address).encode()
        payload = encode_command(command)
        headers: Headers = []
        if isinstance(command, Adjust):
            keyring = KEYRING if self._rng.random() < 0.8 else FORGERS_KEYRING
            headers = [(SIGNATURE_HEADER, sign(keyring, key, payload))]
        operation = Operation(key=key, value=payload, headers=headers)
        self._operations.append(operation)
        return operation

    def _basics(self) -> dict[str, Any]:
        rng = self._rng
        return {
            "command_id": self._id(self._now_ms - rng.randrange(2_000)),
            "address": rng.choice(self._addresses),
            "currency": "USD" if rng.random() < 0.75 else "JPY",
        }

    def _id(self, time_ms: int) -> bytes:
        return make_command_id(time_ms, self._rng.randbytes(10))

    def _amount(self) -> int:
        rng = self._rng
        return rng.randrange(1, 400) if rng.random() < 0.96 else rng.choice((0, -5, 2**63 - 1, 2**62))

    def _metadata(self) -> bytes:
        return self._rng.choice((b"", b"", b"", b'{"order": "7"}', b'{"order": 1.5}'))

    def _open_next(self) -> Operation:
        """Open an account as every run begins, and mostly see to its funds next."""
        rng = self._rng
        address, currency = self._opening.pop(0)
        self._opened.append((address, currency))
        if rng.random() < 0.9:
            self._funding.append((address, currency))
        return self._operation(
            OpenAccount(
                command_id=self._id(self._now_ms),
                address=address,
                currency=currency,
                overdraft_limit=rng.choice((0, 0, 100)),
                policy=Policy.CHECKED if rng.random() < 0.85 else Policy.UNCHECKED,
            )
        )

    def _open(self) -> Operation:
        return self._operation(OpenAccount(**self._basics(), metadata=self._metadata()))

    def _update(self) -> Operation:
        rng = self._rng
        statuses = (AccountStatus.ACTIVE, AccountStatus.ACTIVE, AccountStatus.FROZEN, AccountStatus.CLOSED)
        return self._operation(
            UpdateAccount(
                **self._basics(),
                overdraft_limit=rng.choice((None, 0, 50, 1000)),
                status=rng.choice((None, None, *statuses)),
                policy=rng.choice((None, None, Policy.CHECKED, Policy.UNCHECKED)),
            )
        )

    def _top_up(self) -> Operation:
        return self._operation(TopUp(**self._basics(), amount_minor=self._amount()))

    def _collect(self) -> Operation:
        return self._operation(Collect(**self._basics(), amount_minor=self._amount()))

    def _adjust(self) -> Operation:
        direction = self._rng.choice((Direction.CREDIT, Direction.DEBIT))
        return self._operation(
            Adjust(**self._basics(), amount_minor=self._amount(), direction=direction, explanation="a correction")
        )

    def _pay(self) -> Operation:
        return self._operation(Pay(**self._basics(), amount_minor=self._amount(), metadata=self._metadata()))

    def _hold(self) -> Operation:
        expires_in_ms = self._rng.choice((1, 3_000, 60_000, HOUR_MS, 30 * HOUR_MS))
        return self._operation(PlaceHold(**self._basics(), amount_minor=self._amount(), expires_in_ms=expires_in_ms))

    def _about(self, known: list[Command]) -> tuple[bytes, dict[str, Any]]:
        """Return the id of an earlier command, and basics that mostly fit it."""
        basics = self._basics()
        if not known or self._rng.random() < 0.05:
            return self._id(self._now_ms), basics
        about = self._rng.choice(known[-12:] if self._rng.random() < 0.7 else known)
        if self._rng.random() < 0.95:
            basics["address"], basics["currency"] = about.address, about.currency
        return about.command_id, basics

    def _capture(self) -> Operation:
        hold_id, basics = self._about(self._holds)
        amount_minor = None if self._rng.random() < 0.4 else self._amount() // 3
        final = self._rng.random() < 0.6
        return self._operation(CaptureHold(**basics, hold_id=hold_id, amount_minor=amount_minor, final=final))

    def _void(self) -> Operation:
        hold_id, basics = self._about(self._holds)
        return self._operation(VoidHold(**basics, hold_id=hold_id))

    def _refund(self) -> Operation:
        original_id, basics = self._about(self._originals if self._rng.random() < 0.95 else self._sent)
        return self._operation(Refund(**basics, original_id=original_id, amount_minor=max(1, self._amount() // 2)))

    def _transfer(self) -> Operation:
        basics = self._basics()
        tree = [address for address in self._addresses if root_of(address) == root_of(basics["address"])]
        to_address = self._rng.choice(tree if self._rng.random() < 0.4 else self._addresses)
        return self._operation(Transfer(**basics, to_address=to_address, amount_minor=self._amount()))

    def _transfer_between_trees(self) -> Operation:
        """Send money from an account that was opened, mostly to one of another partner that was, too."""
        rng = self._rng
        address, currency = rng.choice(self._opened)
        others = [other for other, theirs in self._opened if theirs == currency and root_of(other) != root_of(address)]
        to_address = rng.choice(others) if others and rng.random() < 0.9 else rng.choice(self._addresses)
        id_ = self._id(self._now_ms - rng.randrange(2_000))
        return self._operation(Transfer(id_, address, currency, to_address, rng.randrange(1, 200)))

    def _get_balance(self) -> Operation:
        return self._operation(GetBalance(**self._basics()))

    # ------------------------------------------------------------------ repetitions, and what should not be

    def _again(self) -> Operation:
        """Send an operation again, the same bytes: seconds or hours later."""
        if not self._operations:
            return self._pay()
        recent = self._rng.random() < 0.6
        return self._rng.choice(self._operations[-6:] if recent else self._operations)

    def _reused_id(self) -> Operation:
        if not self._sent:
            return self._pay()
        earlier = self._rng.choice(self._sent[-8:])
        return self._operation(
            Pay(command_id=earlier.command_id, address=earlier.address, currency="USD", amount_minor=self._amount())
        )

    def _strange_id(self) -> Operation:
        offset_ms = self._rng.choice((-30 * HOUR_MS, -7 * HOUR_MS, -HOUR_MS, 8 * 60_000, 5 * HOUR_MS, 40 * HOUR_MS))
        basics = self._basics()
        basics["command_id"] = self._id(self._now_ms + offset_ms)
        return self._operation(Pay(**basics, amount_minor=self._amount()))

    def _strange_address(self) -> Operation:
        basics = self._basics()
        basics["address"] += self._rng.choice((":", ":A", ":x:y:z", "::vn"))
        return self._operation(Pay(**basics, amount_minor=self._amount()))

    def _strange_bytes(self) -> Operation:
        rng = self._rng
        key = rng.choice(ROOTS).encode()
        payload = encode_command(Pay(**self._basics(), amount_minor=5))
        values = (b"", None, payload[:-1], payload + b"\0", payload[:3] + b"\xff" + payload[4:], rng.randbytes(30))
        return Operation(key=key, value=rng.choice(values))

    def _strange_key(self) -> Operation:
        payload = encode_command(Pay(**self._basics(), amount_minor=5))
        return Operation(key=self._rng.choice((None, b"", b"\xff\xfe", b"No Root", b"beta", b"u-1")), value=payload)

    def _forged_route(self) -> Operation:
        operation = self._pay()
        name = self._rng.choice(("balance-route", "Balance-Route", "balance-anything"))
        return replace(operation, headers=[(name, self._rng.randbytes(20)), ("trace", b"7")])

    def _forged_service(self) -> Operation:
        """Pretend to be the service: EXPIRE_HOLD through the router, RECALL_ORIGINAL with a wrong signature."""
        about, basics = self._about(self._originals)
        key = root_of(basics["address"]).encode()
        if self._rng.random() < 0.5:
            basics["command_id"] = derived_id("EXPIRE_HOLD", about)
            return Operation(key=key, value=encode_command(ExpireHold(**basics, hold_id=about)))
        basics["command_id"] = derived_id("RECALL_ORIGINAL", about)
        payload = encode_command(
            RecallOriginal(**basics, refund_id=about, original_id=about, recalled=Recalled.NOT_FOUND)
        )
        return Operation(key=key, value=payload, headers=[(SIGNATURE_HEADER, sign(FORGERS_KEYRING, key, payload))])


_MIX: tuple[tuple[int, Callable[[Workload], Operation]], ...] = (
    (26, Workload._pay),
    (10, Workload._hold),
    (10, Workload._capture),
    (4, Workload._void),
    (14, Workload._refund),
    (9, Workload._top_up),
    (9, Workload._transfer),
    (3, Workload._collect),
    (3, Workload._adjust),
    (4, Workload._update),
    (3, Workload._get_balance),
    (3, Workload._open),
    (16, Workload._again),
    (4, Workload._reused_id),
    (5, Workload._strange_id),
    (2, Workload._strange_address),
    (4, Workload._strange_bytes),
    (2, Workload._strange_key),
    (2, Workload._forged_route),
    (2, Workload._forged_service),
)
_TOTAL_WEIGHT = sum(weight for weight, _ in _MIX)
