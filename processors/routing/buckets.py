"""Where a root belongs: its bucket, and from the bucket every partition and lane (W3).

Partition counts are powers of two and a partition is the bucket's low bits, so a bucket lies in one ingress partition
and, per shard, in one lane. The hash is that of Kafka's default partitioner, so that any producer that uses it agrees.
"""

from __future__ import annotations

import re
from functools import lru_cache

BUCKETS = 65_536
_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
# The roots of one process's books are what is worth remembering.
_ROOTS_MAX = 200_000
_NUMBER = re.compile("bucket:(0|[1-9][0-9]{0,4})", re.ASCII)


def murmur2(key: bytes) -> int:
    """Return the 32-bit hash that Kafka's Java clients, and librdkafka's ``murmur2_random``, give a key.

    Source: Kafka's ``org.apache.kafka.common.utils.Utils.murmur2``; here unsigned.

    >>> murmur2(b"21") - 2**32
    -973932308
    """
    length = len(key)
    digest = _SEED ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        digest = (digest * _M & _MASK) ^ word
    if whole < length:
        digest = (digest ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    digest = (digest ^ digest >> 13) * _M & _MASK
    return digest ^ digest >> 15


@lru_cache(maxsize=_ROOTS_MAX)
def bucket_of(key: str) -> int:
    """Return the bucket of a root, the hash's low 16 bits, or of a bucket's own placement key: 0 to 65,535 (W3).

    >>> bucket_of("bucket:17")
    17
    """
    named = bucket_named(key)
    return murmur2(key.encode()) & (BUCKETS - 1) if named is None else named


def bucket_named(key: str) -> int | None:
    """Return the number in a bucket's placement key, written as ``key_of_bucket`` writes it; None for any other key.

    >>> [bucket_named(key) for key in ("bucket:0", "bucket:65535", "bucket:65536", "bucket:017", "acme")]
    [0, 65535, None, None, None]
    """
    match = _NUMBER.fullmatch(key)
    number = BUCKETS if match is None else int(match[1])
    return number if number < BUCKETS else None


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a root or a bucket's placement key in a topic with ``partitions`` partitions (W3).

    Args:
        key: A root, or a bucket's placement key: all roots of a bucket are in its partition.
        partitions: A power of two up to 65,536.
    """
    return bucket_of(key) & (partitions - 1)


def placement_key_of(root: str) -> str:
    """Return the placement key of a root that is not placed by hand, its bucket (R2); a bucket's is itself."""
    return key_of_bucket(bucket_of(root))


def key_of_bucket(number: int) -> str:
    """Return a bucket's placement key; ``bucket_named`` reads it.

    >>> key_of_bucket(17)
    'bucket:17'
    """
    return f"bucket:{number}"
