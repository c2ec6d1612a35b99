"""Headers that producers add: whatever they are, the router forwards the record, and none of them (W2)."""

from __future__ import annotations

import ctypes
import tracemalloc
from pathlib import Path

import confluent_kafka
import pytest

from processors.streams.connection import KafkaAddress
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.route import ROUTE_HEADER
from tests.integration.ingress import Running, forwarded, letters, make_service, root_in
from tests.kafka_log import KafkaLog


def write_with_raw_header(address: KafkaAddress, key: bytes, value: bytes) -> None:
    """Write a record as clients in C, Go or Java can, and Python's cannot: with a header's name that is no text."""
    library = next((Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*.so*"))
    kafka = ctypes.CDLL(str(library))
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(kafka, function).restype = ctypes.c_void_p
    why, size = ctypes.create_string_buffer(512), ctypes.c_size_t
    options = ctypes.c_void_p(kafka.rd_kafka_conf_new())
    kafka.rd_kafka_conf_set(options, b"bootstrap.servers", address.bootstrap_servers.encode(), why, size(512))
    producer = ctypes.c_void_p(kafka.rd_kafka_new(0, options, why, size(512)))
    headers = ctypes.c_void_p(kafka.rd_kafka_headers_new(size(1)))
    kafka.rd_kafka_header_add(headers, b"\xff\xfe", ctypes.c_ssize_t(2), b"x", ctypes.c_ssize_t(1))
    # Each argument is named by a number of librdkafka's rd_kafka_vtype_t.
    named = (
        (1, (address.topic_prefix + COMMANDS_TOPIC).encode()),
        (3, ctypes.c_int32(0)),
        (4, value, size(len(value))),
        (5, key, size(len(key))),
        (10, headers),
    )
    flat = [argument for number, *rest in named for argument in (ctypes.c_int(number), *rest)]
    assert kafka.rd_kafka_producev(producer, *flat, ctypes.c_int(0)) == 0
    assert kafka.rd_kafka_flush(producer, 30_000) == 0
    kafka.rd_kafka_destroy(producer)


@pytest.mark.rule("W2")
@pytest.mark.parametrize("headers", [[("h", b"")] * 33, [("h", b"x" * 900_000)]], ids=["many", "large"])
def test_a_good_record_is_forwarded_whatever_headers_its_producer_adds(
    address: KafkaAddress, log: KafkaLog, headers: list[tuple[str, bytes]]
) -> None:
    make_service(address)
    log.write(COMMANDS_TOPIC, [b"payload"], key=root_in(0).encode(), headers=headers)

    with Running(address) as router:
        router.forward(1)

    assert letters(log) == []
    (went,) = forwarded(log)
    assert [name for name, _ in went.headers] == [ROUTE_HEADER]


@pytest.mark.rule("W2")
def test_of_records_with_a_hundred_thousand_headers_each_one_at_a_time_is_in_memory(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    records, a_records_headers = 10, [("h", b"")] * 100_000
    log.write(COMMANDS_TOPIC, [b"payload"] * records, key=root_in(0).encode(), headers=a_records_headers)

    with Running(address) as router:
        tracemalloc.start()
        try:
            router.forward(records)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert len(forwarded(log)) == records
    # A list of pairs with the name and the value of each is 8 bytes, 56 of the pair and 50 of the name.
    assert peak < 3 * len(a_records_headers) * (8 + 56 + 50)


@pytest.mark.rule("W2")
def test_a_record_with_a_header_whose_name_is_no_text_is_forwarded_without_it(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_service(address)
    root = root_in(0).encode()
    log.write(COMMANDS_TOPIC, [b"before"] * 100, key=root, headers=[("trace", b"t")])
    write_with_raw_header(address, root, b"poison")
    log.write(COMMANDS_TOPIC, [b"next"], key=root)

    with Running(address) as router:
        router.forward(102)

    assert letters(log) == []
    went = forwarded(log)
    assert [record.value for record in went] == [b"before"] * 100 + [b"poison", b"next"]
    assert {name for record in went for name, _ in record.headers} == {ROUTE_HEADER}
