"""The rules with which shards began, as the directory has them (I6)."""

from __future__ import annotations

from collections.abc import Mapping

from processors.ledger.rules import Rules
from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_directory
from processors.streams.directory_records import write_records
from processors.wire.directory import first_rules_record


def write_first_rules(address: KafkaAddress, rules: Mapping[str, Rules]) -> list[str]:
    """Write with which rules shards began, where the directory does not say so; return the shards written.

    Args:
        address: The brokers.
        rules: Of version 1, by the shard's id.

    Raises:
        Misconfigured: There is no directory.
        Fault: Kafka cannot be reached; do it again.

    Source: I6.
    """
    known = read_directory(address).first_rules
    missing = [shard for shard in rules if shard not in known]
    write_records(address, [first_rules_record(shard, rules[shard]) for shard in missing])
    return missing
