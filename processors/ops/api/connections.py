"""Connections of the read API that do not get on are closed: one that sends nothing, and one that takes no answer.

The server closes a connection that is silent after an answer, and by itself none that is silent before one, sends a
question a byte at a time, or leaves its answer lying. Each holds memory, and one of a bounded number of places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

# How often a connection is looked at; a deadline is passed by no more than this.
_LOOK_S = 0.5


class WatchedConnection(H11Protocol):
    """The server's connection, which ends where a question, or the taking of its answer, lasts too long.

    How long an answer is worked on does not count: that is bounded by whoever works on it.
    """

    def __init__(self, *, question_s: float, taking_s: float, **of_the_server: Any) -> None:
        """Make it as the server does.

        Args:
            question_s: From the connection's begin, or from the last answer, until a whole question is there.
            taking_s: From an answer's begin until the caller has taken all of it.
            of_the_server: What the server gives each connection.
        """
        super().__init__(**of_the_server)
        self._question_s = question_s
        self._taking_s = taking_s
        self._doing: tuple[RequestResponseCycle | None, float | None] = (None, None)
        self._since_s = 0.0
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base has it
        """Begin to look."""
        super().connection_made(transport)
        self._since_s, self._doing = self.loop.time(), (None, self._question_s)
        self._next_look = self.loop.call_later(_LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        now_s, doing = self.loop.time(), (self.cycle, self._deadline_s)
        if doing != self._doing:
            self._doing, self._since_s = doing, now_s
        elif doing[1] is not None and now_s - self._since_s >= doing[1]:
            self.transport.abort()  # not close: that waits until what is written has been taken
            return
        self._next_look = self.loop.call_later(_LOOK_S, self._look)

    @property
    def _deadline_s(self) -> float | None:
        """Return how long what goes on now may last; None: as long as it takes."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # the first question makes one
        under_way = cycle is not None and not cycle.response_complete
        if self.transport.get_write_buffer_size() or (under_way and self.cycle.response_started):
            return self._taking_s
        return None if under_way else self._question_s


def watched(*, question_s: float, taking_s: float) -> Callable[..., asyncio.Protocol]:
    """Return what makes a connection for the server; the arguments are ``WatchedConnection``'s."""

    def make(**of_the_server: Any) -> asyncio.Protocol:
        return WatchedConnection(question_s=question_s, taking_s=taking_s, **of_the_server)

    return make
