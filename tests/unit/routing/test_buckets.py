from __future__ import annotations

import pytest

from processors.routing.buckets import BUCKETS, bucket_named, bucket_of, murmur2, partition_of, placement_key_of

# From Kafka's own test of Utils.murmur2 (org.apache.kafka.common.utils.UtilsTest), signed as in Java.
JAVA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.rule("W3")
@pytest.mark.parametrize(("key", "expected"), JAVA_VECTORS.items())
def test_the_hash_is_that_of_kafkas_java_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


@pytest.mark.rule("W3")
def test_a_partition_is_the_positive_hash_modulo_the_count_for_every_power_of_two() -> None:
    for root in (f"partner-{number}" for number in range(500)):
        positive = murmur2(root.encode()) & 0x7FFFFFFF  # Kafka's Utils.toPositive
        for power in range(17):
            assert partition_of(root, 1 << power) == positive % (1 << power)


@pytest.mark.rule("W3")
def test_a_bucket_lies_in_one_partition_whatever_the_count() -> None:
    roots = [f"u-{number}" for number in range(20_000)]
    by_bucket: dict[int, set[int]] = {}
    for root in roots:
        by_bucket.setdefault(bucket_of(root), set()).add(partition_of(root, 64))

    assert max(by_bucket) < BUCKETS
    assert all(len(partitions) == 1 for partitions in by_bucket.values())


def test_a_unit_names_its_bucket() -> None:
    assert placement_key_of("acme") == f"bucket:{bucket_of('acme')}"


@pytest.mark.rule("W3")
def test_a_buckets_own_placement_key_lies_where_its_roots_lie() -> None:
    roots = [f"u-{number}" for number in range(2_000)]

    assert [bucket_of(placement_key_of(root)) for root in roots] == [bucket_of(root) for root in roots]
    assert [partition_of(placement_key_of(root), 16) for root in roots] == [partition_of(root, 16) for root in roots]
    assert all(bucket_of(f"bucket:{number}") == bucket_named(f"bucket:{number}") == number for number in range(BUCKETS))
    assert placement_key_of("bucket:17") == "bucket:17"


@pytest.mark.rule("W3")
@pytest.mark.parametrize(
    "key",
    ["bucket:", "bucket:-1", "bucket:00", "bucket:017", "bucket:65536", "bucket:100000", "bucket:1 ", "bucket:1\n"],
)
def test_what_is_written_otherwise_names_no_bucket(key: str) -> None:
    assert bucket_named(key) is None
    assert bucket_of(key) == murmur2(key.encode()) & (BUCKETS - 1)


@pytest.mark.rule("W3")
@pytest.mark.parametrize("key", ["bucket", "Bucket:1", "xbucket:1", "bucket:1:2", "17", "bucket:\u0661"])
def test_what_only_looks_like_a_bucket_names_none(key: str) -> None:
    assert bucket_named(key) is None
