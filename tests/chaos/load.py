"""Commands of every kind, written to a service from a seed while a test does something to it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from processors.ledger.commands import CaptureHold, Command, OpenAccount, Pay, PlaceHold, Refund, TopUp, VoidHold
from tests.chaos.lanes import new_id
from tests.waiting import eventually

ROOTS = 12
BATCH_COMMANDS = 30
PAUSE_S = 0.1
BATCHES_MAX = 1_200  # two minutes of load: the writer ends, whatever happens to the test
HOLD_MS = 3_000  # some are captured, some voided, the others are left to the expirer
KEPT = 200  # commands that a later one may refer to, or repeat


class Sending(Protocol):
    """What takes commands to the ingress."""

    def send(self, commands: Sequence[Command]) -> None:
        """Append commands; not acknowledged yet."""


class Load:
    """A thread that sends batches of commands from a seed until its block ends, or ``BATCHES_MAX`` are sent."""

    def __init__(
        self, service: Sending, seed: int, addresses: Sequence[str] = (), *, commands: int = BATCH_COMMANDS
    ) -> None:
        """Open the partners' accounts.

        Args:
            service: Gets the commands.
            seed: Of all that is chosen at random.
            addresses: Of the accounts, each level before those below it; what is named twice is paid twice as often.
            commands: Of a batch.
        """
        self._service = service
        self._chance = random.Random(seed)
        self._roots = list(addresses) or [f"load-{seed}-{number}" for number in range(ROOTS)]
        self._commands = commands
        self._known: list[Command] = []
        self._ending = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self.batches = 0
        for root in dict.fromkeys(self._roots):
            opening: list[Command] = [
                OpenAccount(command_id=new_id(), address=root, currency="USD"),
                TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=1_000_000),
            ]
            service.send(opening)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def await_batches(self, count: int) -> None:
        """Wait until that many more batches were sent, which shows that the writer is not held up."""
        end = self.batches + count
        eventually(lambda: self.batches >= end or self._failure is not None, f"{count} batches were sent")

    def _run(self) -> None:
        try:
            while not self._ending.wait(PAUSE_S) and self.batches < BATCHES_MAX:
                self._service.send([self._command() for _ in range(self._commands)])
                self.batches += 1
        except Exception as failure:  # noqa: BLE001 - told in the test's own thread
            self._failure = failure

    def _command(self) -> Command:
        make = self._chance.choices((self._new, self._about_a_known_one, self._again), (80, 15, 5))[0]
        return make()

    def _new(self) -> Command:
        root, amount = self._chance.choice(self._roots), self._chance.randint(1, 300)
        makers: list[Callable[[], Command]] = [
            lambda: Pay(command_id=new_id(), address=root, currency="USD", amount_minor=amount),
            lambda: PlaceHold(
                command_id=new_id(), address=root, currency="USD", amount_minor=amount, expires_in_ms=HOLD_MS
            ),
            lambda: Pay(command_id=new_id(), address=root, currency="USD", amount_minor=10**10),  # never enough
        ]
        command = self._chance.choices(makers, (80, 15, 5))[0]()
        self._known = [*self._known[-KEPT:], command]
        return command

    def _again(self) -> Command:
        return self._chance.choice(self._known) if self._known else self._new()

    def _about_a_known_one(self) -> Command:
        known = self._again()
        root, amount = known.address, self._chance.randint(1, 100)
        match known:
            case Pay():
                return Refund(
                    command_id=new_id(),
                    address=root,
                    currency="USD",
                    original_id=known.command_id,
                    amount_minor=amount,
                )
            case PlaceHold() if amount > 50:
                return VoidHold(command_id=new_id(), address=root, currency="USD", hold_id=known.command_id)
            case PlaceHold():
                return CaptureHold(
                    command_id=new_id(),
                    address=root,
                    currency="USD",
                    hold_id=known.command_id,
                    amount_minor=amount,
                    final=False,
                )
            case _:
                return known
