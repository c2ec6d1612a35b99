"""Crash points: where a process may crash, stand still, or get no answer. Every call into a fake passes some."""

from __future__ import annotations

from typing import Protocol


class Crash(BaseException):
    """The process crashes here. Nothing of ours may catch it; what a ``finally`` still calls has no effect."""


class CrashPoints(Protocol):
    """What a fake asks at each point of its process."""

    def point(self, where: str) -> None:
        """Pass a place between two effects: the process may crash here, or stand still while others go on."""

    def fails(self, where: str) -> bool:
        """Say whether the server's answer gets lost here; what did happen is for the fake to choose."""

    def choose(self, ways: int) -> int:
        """Return one of so many ways, 0 to ``ways - 1``."""


class NoCrashes:
    """No process ever crashes; for tests step by step. ``failures`` names calls that fail, once each."""

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
