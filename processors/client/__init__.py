"""For Python programs that send commands and wait for their results.

    with Client(ClientConfig(kafka=KafkaAddress(bootstrap_servers="localhost:9092"))) as client:
        command = Pay(command_id=client.new_id(), address="acme:vn", currency="USD", amount_minor=1250)
        result = client.send(command)

The same id again is safe: within the window (6 hours by default) a command that was decided is answered again and
changes nothing. So after ``NoAnswer`` send *the same command* again, never one with a new id.

A refund of an archived payment is OPEN first. Sent again, it is answered OPEN with ``duplicate_of`` set, also when it
ended long ago: its final result is published once, perhaps before this client began to read. So nobody waits on that
answer; what became of the refund is read from the stores (``balance tx get ID``).

How it works: ``client`` is what a program calls; ``desk`` knows who waits for what; ``sender`` writes, ``reader`` reads
results, each in its own thread; ``asyncio_client`` is the same for asyncio.
"""

from processors.client.asyncio_client import AsyncClient
from processors.client.client import Client, ClientConfig
from processors.client.command_ids import CommandIds
from processors.client.deduplication import Deduplication
from processors.client.desk import NoAnswer

__all__ = ["AsyncClient", "Client", "ClientConfig", "CommandIds", "Deduplication", "NoAnswer"]
