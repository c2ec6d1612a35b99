"""Where a process may be cut off, stand still, or be left without an answer: every call into a fake passes here."""

from __future__ import annotations

from typing import Protocol


class PowerCut(BaseException):
    """The process ends here. Nothing of ours may catch it; what a ``finally`` still calls has no effect."""


class Power(Protocol):
    """What keeps a process running, as far as the fakes are concerned."""

    def point(self, where: str) -> None:
        """Pass a place between two effects: the process may be cut here, or stand still while others go on."""

    def fails(self, where: str) -> bool:
        """Say whether the server's answer gets lost here; what did happen is for the fake to choose."""

    def choose(self, ways: int) -> int:
        """Return one of so many ways, 0 to ``ways - 1``."""


class SteadyPower:
    """Nothing ever goes wrong; for tests of the fakes themselves. ``failures`` names calls that fail, once each."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self._way = 0

    def point(self, where: str) -> None:
        """Go on."""

    def fails(self, where: str) -> bool:
        if where not in self.failures:
            return False
        self._way = self.failures.pop(where)
        return True

    def choose(self, ways: int) -> int:
        return self._way % ways
