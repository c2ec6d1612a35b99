from __future__ import annotations

import pytest

from processors.faults import Undecodable
from processors.stores.packing import compress, decompress, pack_headers, unpack_headers


@pytest.mark.rule("M1")
def test_a_parked_record_may_have_a_header_without_a_value() -> None:
    packed = pack_headers([("trace", None), ("signature", b"k1 00")])

    assert unpack_headers(packed) == [("trace", b""), ("signature", b"k1 00")]


def test_what_was_compressed_comes_back_up_to_a_limit() -> None:
    value = bytes(range(256)) * 4

    assert decompress(compress(value), bytes_max=1_024) == value
    with pytest.raises(Undecodable, match="a zstd frame of 1024 bytes, and not of 1 to 1023"):
        decompress(compress(value), bytes_max=1_023)


@pytest.mark.parametrize("harm", [bytes(9), b"", compress(b"results")[:-3]], ids=["none", "nothing", "cut"])
def test_what_is_no_frame_is_told(harm: bytes) -> None:
    with pytest.raises(Undecodable):
        decompress(harm, bytes_max=1_024)
