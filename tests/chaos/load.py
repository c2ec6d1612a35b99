"""Commands of every kind, written to a service from a seed while a test does something to it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from processors.ledger.commands import CaptureHold, Command, OpenAccount, Pay, PlaceHold, Refund, TopUp, VoidHold
from tests.chaos.lanes import HOUR_MS, new_id
from tests.waiting import eventually

ROOTS = 12
BATCH_COMMANDS = 30
PAUSE_S = 0.1
BATCHES_MAX = 1_200  # two minutes of load: the writer ends, whatever happens to the test
FUNDS_MINOR = 10**9  # more than all of them pay
TOO_MUCH_MINOR = 10 * FUNDS_MINOR
HOLD_MS = 3_000  # some are captured, some voided, the others are left to the expirer
OLD_MS = 7 * HOUR_MS  # longer ago than the window is long
OLD_REFUNDS = 2  # to a hundred others
KEPT = 200  # commands that a later one may refer to, or repeat


class Sending(Protocol):
    """What takes commands to the ingress."""

    def send(self, commands: Sequence[Command]) -> None:
        """Append commands; not acknowledged yet."""


class Pace(Protocol):
    """When the next batch is due."""

    def await_turn(self, ending: threading.Event) -> bool:
        """Wait until a batch is due, and say whether it is to be sent: not once ``ending`` is set."""


class Pauses:
    """A batch, and a pause: who is slow sends less."""

    def await_turn(self, ending: threading.Event) -> bool:
        return not ending.wait(PAUSE_S)


class ByTheClock:
    """A batch is due every so many seconds of the clock, and who is late sends all that is due at once.

    After some batches it waits until it is told to go on, and is not late for that: what a slow machine has still to
    answer stays bounded.
    """

    def __init__(self, every_s: float, batches_ahead: int) -> None:
        """Begin now, with as many batches as after each ``go_on``."""
        self._every_s, self._ahead = every_s, batches_ahead
        self._due_s = time.monotonic()
        self._may = threading.Condition()
        self._left = batches_ahead

    def go_on(self) -> None:
        """Let so many batches follow, whatever is left of those before."""
        with self._may:
            self._left = self._ahead
            self._may.notify()

    def await_turn(self, ending: threading.Event) -> bool:
        with self._may:
            while not self._left and not ending.is_set():
                self._may.wait(PAUSE_S)
                self._due_s = time.monotonic()
            self._left -= 1
        self._due_s += self._every_s
        return not ending.wait(max(0.0, self._due_s - time.monotonic()))


_PAUSES = Pauses()


class Load:
    """A thread that sends batches of commands from a seed until its block ends, or ``batches_max`` are sent."""

    def __init__(
        self,
        service: Sending,
        seed: int,
        addresses: Sequence[str] = (),
        *,
        commands: int = BATCH_COMMANDS,
        pace: Pace = _PAUSES,
        batches_max: int = BATCHES_MAX,
        old_refunds: bool = False,
    ) -> None:
        """Open the partners' accounts.

        Args:
            service: Gets the commands.
            seed: Of all that is chosen at random.
            addresses: Of the accounts, each level before those below it; what is named twice is paid twice as often.
            commands: Of a batch.
            pace: When each batch is due.
            batches_max: How many there are at most.
            old_refunds: Some refunds are of originals older than the window: they stay open until a recall.
        """
        self._service = service
        self._chance = random.Random(seed)
        self._roots = list(addresses) or [f"load-{seed}-{number}" for number in range(ROOTS)]
        self._commands, self._pace, self._batches_max = commands, pace, batches_max
        self._weights = (80, 15, 5, OLD_REFUNDS if old_refunds else 0)
        self._known: list[Command] = []
        self._ending = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._began_s = self._last_s = time.monotonic()
        self.batches = 0
        for root in dict.fromkeys(self._roots):
            opening: list[Command] = [
                OpenAccount(command_id=new_id(), address=root, currency="USD"),
                TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=FUNDS_MINOR),
            ]
            service.send(opening)

    def __enter__(self) -> Self:
        self._began_s = self._last_s = time.monotonic()
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

    @property
    def told(self) -> str:
        """Say how much was sent by now, and how fast."""
        sent, took_s = self.batches * self._commands, self._last_s - self._began_s
        return f"{sent} commands in {took_s:.1f} s, {sent / max(took_s, PAUSE_S):.0f} a second"

    def _run(self) -> None:
        try:
            while self.batches < self._batches_max and self._pace.await_turn(self._ending):
                self._service.send([self._command() for _ in range(self._commands)])
                self.batches += 1
                self._last_s = time.monotonic()
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
            lambda: Pay(command_id=new_id(), address=root, currency="USD", amount_minor=TOO_MUCH_MINOR),
            lambda: Refund(
                command_id=new_id(),
                address=root,
                currency="USD",
                original_id=new_id(age_ms=OLD_MS),
                amount_minor=amount,
            ),
        ]
        command = self._chance.choices(makers, self._weights)[0]()
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
