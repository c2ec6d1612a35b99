"""Changes results in a shard's chunks, as damage would."""

from __future__ import annotations

from collections.abc import Callable

from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.packing import compress, decompress
from processors.wire.journal_chunk import CHUNK_BYTES_MAX, decode_chunk, encode_chunk


def change_result(address: MysqlAddress, number: int, lane: int, offset: int, change: Callable[[bytes], bytes]) -> None:
    """Change the results of a record in a slice."""
    session = Session(address, lane=False)
    chunks = session.query(
        f"SELECT first_offset, first_index, results FROM journal_chunk WHERE slice = {number} AND lane = {lane}",
        "reading chunks",
    )
    for first_offset, first_index, blob in chunks:
        rows = decode_chunk(decompress(blob, bytes_max=CHUNK_BYTES_MAX))
        changed = [(at, index, change(result) if at == offset else result) for at, index, result in rows]
        if changed != rows:
            session.execute(
                f"UPDATE journal_chunk SET results = X'{compress(encode_chunk(changed)).hex()}' WHERE slice = {number} "
                f"AND lane = {lane} AND first_offset = {first_offset} AND first_index = {first_index}",
                "changing a result",
            )
    session.close()
