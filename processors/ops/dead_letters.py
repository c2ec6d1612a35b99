"""Dead letters for people: the latest ones, a page at a time, and what their sender has most likely done."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from processors.ops import addresses, counts
from processors.settings import Settings
from processors.streams.connection import KafkaAddress
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, TopicAdmin
from processors.wire.causes import Cause
from processors.wire.dead_letters import DeadLetter, decode_dead_letter

_OFFSETS_A_RECORD = 3  # one ends each transaction, and now and then one is aborted

# docs/rejections.md, Dead letters, says the same, more at length.
MISTAKES: Mapping[Cause, str] = {
    Cause.EMPTY: "sent without a payload: a tombstone, or a producer whose serializer returned nothing",
    Cause.TOO_LARGE: "sent above 64 KiB: metadata that is too long, or not a command at all",
    Cause.UNKNOWN_SCHEMA: "not encoded as Avro single objects (JSON, or a registry's five bytes that nobody "
    "announced), or by a schema that these workers do not know yet",
    Cause.MALFORMED: "encoded by another schema than the one that its first bytes name",
    Cause.TRAILING_BYTES: "something was added behind the last field, such as a line break",
    Cause.NOT_CANONICAL: "encoded by a library that writes a value in more than one way",
    Cause.BAD_KEY: "keyed by something else than the address up to its first colon",
    Cause.WRONG_PARTITION: "partitioned by something else than murmur2 of the key",
    Cause.BAD_ROUTE: "a header balance-route that only the router writes",
    Cause.MISSING_ROUTE: "written to a shard's topic, past the router",
    Cause.UNEXPECTED_ROUTE: "one of the service's own records, sent to balance.commands by somebody else",
    Cause.BAD_SIGNATURE: "signed with a key that was ended, is not known here, or by somebody who has none",
    Cause.UNEXPECTED_GENERATION: "nobody's: it is proven that it cannot happen; tell whoever maintains the service",
}
_BY_CRC32 = "partitioned by librdkafka's default: set its partitioner to murmur2_random"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterSeen:
    """A dead letter at its place in the topic; ``mistake`` says what its sender has most likely done."""

    partition: int
    offset: int
    letter: DeadLetter
    mistake: str

    @property
    def name(self) -> str:
        """Return how `balance dead-letters show` calls it."""
        return f"{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersPage:
    """Dead letters, the newest first; ``before`` is where the next page begins in each partition, empty at the end."""

    letters: list[LetterSeen]
    before: Mapping[int, int]


def letters_page(settings: Settings, before: Mapping[int, int], letters_max: int) -> LettersPage:
    """Return the latest dead letters of all partitions together.

    Args:
        settings: Of the whole service.
        before: By partition, only those before this offset; a partition that is missing is read from its end.
        letters_max: At most so many.

    Raises:
        Fault: Kafka cannot be reached.
    """
    address = addresses.kafka_address(settings)
    counted = counts.of_directory(settings, address)
    found: list[LetterSeen] = []
    left: dict[int, int] = {}  # where a page that shows nothing of a partition leaves it
    firsts: dict[int, int] = {}
    for partition in range(counted.topics.dead_letters_partitions):
        first, end = TopicAdmin(address).bounds(DEAD_LETTERS_TOPIC, partition)
        end = min(end, before.get(partition, end))
        start = max(first, end - letters_max * _OFFSETS_A_RECORD)
        firsts[partition], left[partition] = first, end
        some = _read(address, partition, start, end, counted.topics.commands_partitions)[-letters_max:]
        if not some:
            left[partition] = start
        found += some
    found.sort(key=lambda each: (each.letter.timestamp_ms, each.partition, each.offset), reverse=True)
    shown = found[:letters_max]
    for each in shown:
        left[each.partition] = min(left[each.partition], each.offset)
    more = any(left[partition] > first for partition, first in firsts.items())
    return LettersPage(letters=shown, before=left if more else {})


def _read(address: KafkaAddress, partition: int, start: int, end: int, commands_partitions: int) -> list[LetterSeen]:
    records = chain.from_iterable(read_range(address, DEAD_LETTERS_TOPIC, partition, start, end))
    return [
        LetterSeen(
            partition=partition,
            offset=record.offset,
            letter=letter,
            mistake=likely_mistake(letter, commands_partitions),
        )
        for record in records
        for letter in [decode_dead_letter(record.value or b"")]
    ]


def likely_mistake(letter: DeadLetter, commands_partitions: int) -> str:
    """Say what whoever sent a record has most likely done.

    Args:
        letter: The dead letter.
        commands_partitions: Of ``balance.commands``.
    """
    fits_crc32 = len(letter.key) == letter.key_size and zlib.crc32(letter.key) % commands_partitions == letter.partition
    if letter.cause == Cause.WRONG_PARTITION and letter.topic.endswith(COMMANDS_TOPIC) and fits_crc32:
        return _BY_CRC32
    return MISTAKES[Cause(letter.cause)] if letter.cause in set(Cause) else ""
