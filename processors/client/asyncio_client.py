"""The client for asyncio programs."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from processors.client.client import Client, ClientConfig, deadline_of
from processors.client.desk import TOO_MANY, NoAnswer
from processors.ledger.commands import Command
from processors.wire.results import Result


class AsyncClient:
    """``Client`` for asyncio: ``async with AsyncClient(config) as client: result = await client.send(command)``."""

    def __init__(self, config: ClientConfig) -> None:
        """Prepare; ``async with`` connects."""
        self._config = config
        self._client: Client | None = None
        # Of what is on its way, as in the client; held until the client's own room is free again, so that submit never
        # makes the loop wait, also where whoever sent was cancelled.
        self._room = asyncio.Semaphore(config.in_flight_max)

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(Client, self._config)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    def new_id(self) -> bytes:
        """Return a new command id; see ``Client.new_id``."""
        return self._connected().new_id()

    async def send(self, command: Command, *, until_final: bool = False, deadline_ms: int | None = None) -> Result:
        """Send a command and wait for its result; see ``Client.send``. Cancelling it does not take the command back."""
        client = self._connected()
        ends_s = deadline_of(self._config, deadline_ms)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ends_s - time.monotonic()):
                await self._room.acquire()
        except TimeoutError:
            raise NoAnswer(command.command_id, TOO_MANY, sent=False) from None
        try:
            left_ms = max(0, int((ends_s - time.monotonic()) * 1_000))
            future = client.submit(command, until_final=until_final, deadline_ms=left_ms)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._room.release))
        return await asyncio.wrap_future(future)

    def _connected(self) -> Client:
        assert self._client is not None, "use it as `async with AsyncClient(config) as client`"
        return self._client
