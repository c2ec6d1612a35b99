"""Connections of the read API that do not get on are closed: one that sends nothing, and one that takes no answer.

The server closes a connection that is silent after an answer, and by itself none that is silent before one, sends a
question a byte at a time, or leaves its answer lying. Each holds memory, and one of a bounded number of places. Where
these run out, who has asked nothing makes room: nobody keeps others out by connections alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ssl import SSLContext
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

# How often a connection is looked at; a deadline is passed by no more than this.
_LOOK_S = 0.5


class WatchedConnection(H11Protocol):
    """The server's connection, which ends where a question, or the taking of its answer, lasts too long.

    How long an answer is worked on does not count: that is bounded by whoever works on it.
    """

    def __init__(self, *, question_s: float, taking_s: float, places: int, **of_the_server: Any) -> None:
        """Make it as the server does.

        Args:
            question_s: From the connection's begin, or from the last answer, until a whole question is there.
            taking_s: From an answer's begin until the caller has taken all of it.
            places: How many connections there may be; one more ends that which has asked nothing for longest.
            of_the_server: What the server gives each connection.
        """
        super().__init__(**of_the_server)
        self._question_s = question_s
        self._taking_s = taking_s
        self._places = places
        self._doing: tuple[RequestResponseCycle | None, float | None] = (None, None)
        self._since_s = 0.0
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base has it
        """Begin to look, and make room."""
        super().connection_made(transport)
        self._since_s, self._doing = self.loop.time(), (None, self._question_s)
        self._next_look = self.loop.call_later(_LOOK_S, self._look)
        if len(self.connections) > self._places:
            others = cast("set[WatchedConnection]", self.connections - {self})
            silent = [each for each in others if each.asks_nothing]
            if silent:
                min(silent, key=lambda each: each._since_s).transport.abort()

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
    def asks_nothing(self) -> bool:
        """Say whether no whole question is there, and no answer is left to be taken."""
        return self._deadline_s == self._question_s and not self.transport.is_closing()

    @property
    def _deadline_s(self) -> float | None:
        """Return how long what goes on now may last; None: as long as it takes."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # the first question makes one
        under_way = cycle is not None and not cycle.response_complete
        if self.transport.get_write_buffer_size() or (under_way and self.cycle.response_started):
            return self._taking_s
        return None if under_way else self._question_s


class PromptLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers wait no longer for a TLS handshake than they are told: by itself it waits 60 s.

    Until the handshake is done there is no connection that could be watched.
    """

    def __init__(self, handshake_s: float) -> None:
        """Make one."""
        super().__init__()
        self._handshake_s = handshake_s

    async def create_server(  # type: ignore[override] # of its many arguments, one
        self, *arguments: Any, ssl: SSLContext | None = None, **more: Any
    ) -> asyncio.Server:
        """Listen."""
        deadline_s = None if ssl is None else self._handshake_s
        return await super().create_server(*arguments, ssl=ssl, ssl_handshake_timeout=deadline_s, **more)


def watched(*, question_s: float, taking_s: float, places: int) -> Callable[..., asyncio.Protocol]:
    """Return what makes a connection for the server; the arguments are ``WatchedConnection``'s."""

    def make(**of_the_server: Any) -> asyncio.Protocol:
        return WatchedConnection(question_s=question_s, taking_s=taking_s, places=places, **of_the_server)

    return make
