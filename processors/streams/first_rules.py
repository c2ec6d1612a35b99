"""The rules with which shards began, as the directory has them (I6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from processors.ledger.rules import Rules
from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_directory
from processors.streams.directory_records import write_records
from processors.wire.directory import first_rules_record


def write_first_rules(address: KafkaAddress, shards: Iterable[str], rules_of: Callable[[str], Rules]) -> list[str]:
    """Write with which rules shards began, where the directory does not say so; return the shards written.

    Args:
        address: The brokers.
        shards: Their ids.
        rules_of: Returns a shard's rules of version 1; asked where the directory does not have them, only.

    Raises:
        Misconfigured: There is no directory.
        Fault: Kafka cannot be reached; do it again.

    Source: I6.
    """
    known = read_directory(address).first_rules
    missing = [shard for shard in shards if shard not in known]
    write_records(address, [first_rules_record(shard, rules_of(shard)) for shard in missing])
    return missing
